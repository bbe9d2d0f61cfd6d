//! What holds for every entry of the catalogue, and for the dispatcher.

use std::collections::HashSet;
use std::format;
use std::vec::Vec;

use crate::abi::{LATENCY_SLOTS, Mailbox, Op, Status, fnv1a};
use crate::testing::{Arena, Rig, empty_mailbox, host_has};
use crate::{
    Body, CATALOGUE, Family, MAX_PARAMS, ParamKind, Prepare, Workload, default_params, find,
};

/// Every entry that may run here with every choice of its parameters, sizes at their smallest.
fn cases() -> Vec<(&'static Workload, [u64; MAX_PARAMS])> {
    let mut cases = Vec::new();
    for workload in CATALOGUE {
        if workload.family == Family::Diagnostic || matches!(workload.body, Body::PerSide(_)) {
            continue;
        }
        let mut variants = Vec::from([[0; MAX_PARAMS]]);
        for (place, param) in workload.params.iter().enumerate() {
            let values = match param.kind {
                ParamKind::Choice(words) => 0..words.len() as u64,
                ParamKind::Bytes | ParamKind::Count | ParamKind::Duration => {
                    param.min..param.min + 1
                }
            };
            variants = variants
                .into_iter()
                .flat_map(|params| {
                    values.clone().map(move |value| {
                        let mut params = params;
                        params[place] = value;
                        params
                    })
                })
                .collect();
        }
        cases.extend(variants.into_iter().map(|params| (workload, params)));
    }
    cases.retain(|(workload, params)| host_has((workload.requires)(params)));
    assert!(cases.len() > 10);
    cases
}

#[test]
fn a_run_repeated_returns_the_same_checksum() {
    for (workload, params) in cases() {
        let mut rig = Rig::new(workload, params, 1);
        let first = rig.run(50);
        assert_eq!(first, rig.run(50), "{} {params:?}", workload.name);
        rig.run(70);
        assert_eq!(
            first,
            rig.run(50),
            "{} {params:?} after a longer run",
            workload.name
        );
        assert_eq!(
            first,
            Rig::new(workload, params, 1).run(50),
            "{} {params:?} in another arena",
            workload.name
        );
    }
}

#[test]
fn other_work_gives_another_checksum() {
    for (workload, params) in cases() {
        let counts = [0, 1, 2, 49, 50, 51, 64, 128, 256];
        let mut sums = HashSet::new();
        for seed in [1, 2] {
            let mut rig = Rig::new(workload, params, seed);
            sums.extend(counts.map(|iterations| rig.run(iterations)));
        }
        assert_eq!(sums.len(), 2 * counts.len(), "{} {params:?}", workload.name);
    }
}

#[test]
fn nothing_is_written_behind_the_footprint() {
    for (workload, params) in cases() {
        let mut rig = Rig::new(workload, params, 1);
        rig.run(256);
        assert!(rig.canaries_live(), "{} {params:?}", workload.name);
    }
}

#[test]
fn bodies_take_an_arena_larger_than_their_footprint() {
    // The harness computes its reference checksum with whatever arena it has.
    for (workload, params) in cases() {
        let mut exact = Rig::new(workload, params, 1);
        let footprint = exact.arena().len();
        let mut arena = Arena::new(footprint + (1 << 20));
        let Body::Shared { setup, run } = workload.body else {
            continue;
        };
        setup(arena.bytes(), &params, 1);
        let mut mailbox = empty_mailbox();
        let mut latencies = mailbox.recorder();
        // Enough to come round to the beginning of every buffer.
        let iterations = 5000.min((workload.max_iterations)(&params));
        let sum = run(arena.bytes(), &params, iterations, 1, &mut latencies);
        assert_eq!(sum, exact.run(iterations), "{} {params:?}", workload.name);
    }
}

#[test]
fn setup_writes_every_page_that_a_run_does_not_want_fresh() {
    for (workload, params) in cases() {
        if workload.prepare == Prepare::Discard {
            continue;
        }
        let mut rig = Rig::bare(workload, params, 1);
        rig.arena().fill(0x5a);
        rig.set_up();
        for (number, page) in rig.arena().chunks(4096).enumerate() {
            assert!(
                page.iter().any(|&byte| byte != 0x5a),
                "{} page {number}",
                workload.name
            );
        }
    }
}

#[test]
fn the_catalogue_is_consistent() {
    let names: HashSet<&str> = CATALOGUE.iter().map(|workload| workload.name).collect();
    assert_eq!(names.len(), CATALOGUE.len());
    for (index, workload) in CATALOGUE.iter().enumerate() {
        let name = workload.name;
        assert_eq!(find(name).map(|(found, _)| found), Some(index));
        let prefix = match workload.family {
            Family::Cpu => "cpu-",
            Family::Memory => "mem-",
            Family::Latency => "lat-",
            Family::Block => "block-",
            Family::Network => "net-",
            Family::Diagnostic => "fault-",
        };
        assert!(name.starts_with(prefix), "{name}");
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        );
        assert!(workload.params.len() <= MAX_PARAMS);
        assert!(workload.metric.amount_per_iteration > 0.0);
        for param in workload.params {
            let context = format!("{name} {}", param.name);
            assert!(
                (param.min..=param.max).contains(&param.default),
                "{context}"
            );
            if let ParamKind::Choice(words) = param.kind {
                assert_eq!(
                    (param.min, param.max),
                    (0, words.len() as u64 - 1),
                    "{context}"
                );
            }
        }
        let params = default_params(workload);
        assert!((workload.max_iterations)(&params) > 0);
        if workload.family == Family::Cpu {
            assert!(
                (workload.footprint)(&params) <= 1 << 20,
                "{name} does not stay in L2"
            );
        }
    }
    assert!(find("cpu").is_none());
}

#[test]
fn sizes_that_are_no_multiple_of_anything_work() {
    for (workload, mut params) in cases() {
        for (place, param) in workload.params.iter().enumerate() {
            if param.kind == ParamKind::Bytes {
                params[place] = param.min + 12_345;
            }
        }
        let mut rig = Rig::new(workload, params, 1);
        let sum = rig.run(200);
        assert_eq!(sum, rig.run(200), "{} {params:?}", workload.name);
        assert!(rig.canaries_live(), "{} {params:?}", workload.name);
    }
}

/// A request for `cpu-hash` that would be accepted, but for `change`.
fn status_with(op: Op, change: impl FnOnce(&mut Mailbox)) -> u64 {
    let (_, workload) = find("cpu-hash").unwrap();
    Rig::new(workload, [0; MAX_PARAMS], 1)
        .execute(op, change)
        .status
}

#[test]
fn sound_requests_are_done_and_others_rejected() {
    const DONE: u64 = Status::Done as u64;
    const REJECTED: u64 = Status::Rejected as u64;
    for op in [Op::Setup, Op::Run, Op::Touch, Op::Identity] {
        assert_eq!(status_with(op, |_| {}), DONE);
    }
    assert_eq!(status_with(Op::Run, |m| m.op = 0), REJECTED);
    assert_eq!(status_with(Op::Run, |m| m.op = 99), REJECTED);
    for op in [Op::Setup, Op::Run] {
        assert_eq!(
            status_with(op, |m| m.workload = CATALOGUE.len() as u64),
            REJECTED
        );
        assert_eq!(status_with(op, |m| m.workload = u64::MAX), REJECTED);
        assert_eq!(status_with(op, |m| m.arena_len -= 1), REJECTED);
    }
    // The payload has no code for what each side does in its own way.
    let (per_side, _) = find("lat-port").unwrap();
    for op in [Op::Setup, Op::Run] {
        assert_eq!(status_with(op, |m| m.workload = per_side as u64), REJECTED);
    }
    for op in [Op::Setup, Op::Run, Op::Touch] {
        assert_eq!(status_with(op, |m| m.arena = 0), REJECTED);
        assert_eq!(status_with(op, |m| m.arena += 8), REJECTED);
        assert_eq!(status_with(op, |m| m.arena_len = u64::MAX), REJECTED);
        assert_eq!(status_with(op, |m| m.arena = 1 << 63), REJECTED);
    }
}

#[test]
fn parameters_and_iterations_out_of_range_are_rejected() {
    let (_, workload) = find("mem-first-touch").unwrap();
    let param = &workload.params[0];
    let params = [param.min, 0, 0, 0];
    let pages = (workload.max_iterations)(&params);
    let mut rig = Rig::new(workload, params, 1);
    let mut status = |change: fn(&mut Mailbox, u64), value| {
        rig.execute(Op::Run, |m| {
            (m.iterations, m.planted, m.params) = (0, 0, params);
            change(m, value);
        })
        .status
    };
    assert_eq!(status(|m, n| m.iterations = n, pages), Status::Done as u64);
    assert_eq!(
        status(|m, n| m.iterations = n, pages + 1),
        Status::Rejected as u64
    );
    assert_eq!(
        status(|m, n| m.planted = n, pages + 1),
        Status::Rejected as u64
    );
    assert_eq!(
        status(|m, n| m.params[0] = n, param.min - 1),
        Status::Rejected as u64
    );
    assert_eq!(
        status(|m, n| m.params[0] = n, param.max + 1),
        Status::Rejected as u64
    );
}

#[test]
fn planted_work_takes_time_but_leaves_no_other_trace() {
    let (_, workload) = find("mem-first-touch").unwrap();
    let mut rig = Rig::new(workload, default_params(workload), 1);
    let plain = rig.request(50);
    let (checksum, len) = (plain.checksum, plain.latencies_len);
    let planted = rig.execute(Op::Run, |m| (m.iterations, m.planted) = (50, 9000));
    assert_eq!((planted.checksum, planted.latencies_len), (checksum, len));
    assert_eq!(planted.latencies_dropped, 0);

    let (_, workload) = find("cpu-divide").unwrap();
    let mut rig = Rig::new(workload, [0; MAX_PARAMS], 1);
    let mut ticks = |planted| {
        let answer = rig.execute(Op::Run, |m| (m.iterations, m.planted) = (1000, planted));
        answer.tsc_end - answer.tsc_start
    };
    // Ten times the work, side by side: a busy machine slows both.
    let pairs: Vec<(u64, u64)> = (0..20).map(|_| (ticks(0), ticks(9000))).collect();
    let least = |side: fn(&(u64, u64)) -> u64| pairs.iter().map(side).min();
    let (without, with) = (least(|pair| pair.0).unwrap(), least(|pair| pair.1).unwrap());
    assert!(
        with > 2 * without,
        "{with} ticks with nine times as much planted, {without} without"
    );
}

#[test]
fn identity_reports_code_and_address() {
    let (_, workload) = find("cpu-hash").unwrap();
    let mut rig = Rig::new(workload, [0; MAX_PARAMS], 1);
    let answer = rig.execute(Op::Identity, |_| {});
    assert_eq!(
        (answer.checksum, answer.code_address),
        (fnv1a(b"code"), 0x1234)
    );
    // From the FNV authors' test vectors.
    assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
}

#[test]
fn latencies_saturate_and_count_what_they_drop() {
    let mut mailbox = empty_mailbox();
    let mut latencies = mailbox.recorder();
    latencies.record(u64::MAX);
    for ticks in 1..LATENCY_SLOTS as u64 + 3 {
        latencies.record(ticks);
    }
    assert_eq!(mailbox.latencies[..2], [u32::MAX, 1]);
    assert_eq!(mailbox.latencies_len, LATENCY_SLOTS as u64);
    assert_eq!(mailbox.latencies_dropped, 3);
}
