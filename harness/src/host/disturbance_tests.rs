use std::{fs, hint, thread};

use super::*;
use crate::host::affinity::{Pinned, allowed_cpus};

const STAT: &[u8] = b"cpu  75 0 30 1668 5 0 7 30 0 0\n\
                      cpu1 40 0 19 8245 5 0 6 11 0 0\n\
                      cpu10 35 0 11 8438 4 0 1 22 0 0\nintr 22 0\n";

fn start() -> Snapshot {
    Snapshot {
        cpu: 1,
        usage: Usage {
            involuntary: 5,
            voluntary: 7,
            ..Usage::default()
        },
        run_delay_nanos: Some(1_000),
        steal_ticks: Some(3),
        wall_nanos: 1_000_000_000,
        cpu_nanos: 500_000_000,
    }
}

/// The state after 10 ms in which nothing happened.
fn quiet() -> Snapshot {
    Snapshot {
        wall_nanos: 1_010_000_000,
        cpu_nanos: 510_000_000,
        ..start()
    }
}

fn marks(end: Snapshot) -> Marks {
    Disturbance::between(&start(), &end, true).marks()
}

#[test]
fn steal_is_read_from_the_line_of_that_cpu() {
    assert_eq!(steal_of(STAT, 1), Some(11));
    assert_eq!(steal_of(STAT, 10), Some(22));
    assert_eq!(steal_of(STAT, 0), None);
    assert_eq!(steal_of(b"cpu1 1 2 3\n", 1), None);
}

#[test]
fn a_quiet_block_is_clean() {
    assert_eq!(marks(quiet()), Marks::CLEAN);
}

#[test]
fn each_disturbance_has_its_mark() {
    let end = Snapshot { cpu: 0, ..quiet() };
    assert_eq!(marks(end), Marks::MIGRATION);

    // Switched away for no time that counts.
    let mut end = quiet();
    end.usage.involuntary += 1;
    assert_eq!(marks(end), Marks::CLEAN);

    // 0.3 % of the block on the run queue.
    let end = Snapshot {
        run_delay_nanos: Some(31_000),
        cpu_nanos: 509_970_000,
        ..quiet()
    };
    assert_eq!(marks(end), Marks::PREEMPTED);

    // 0.3 % gone without a trace in the scheduler.
    let end = Snapshot {
        cpu_nanos: 509_970_000,
        ..quiet()
    };
    assert_eq!(marks(end), Marks::STEAL);

    // A tick of which the thread's own time knows nothing went to something else.
    let end = Snapshot {
        steal_ticks: Some(4),
        ..quiet()
    };
    assert_eq!(marks(end), Marks::CLEAN);
}

#[test]
fn where_the_kernel_does_not_say_how_long_counts_stand_for_it() {
    let mut end = Snapshot {
        run_delay_nanos: None,
        ..quiet()
    };
    assert_eq!(marks(end), Marks::CLEAN);
    end.usage.involuntary += 1;
    assert_eq!(marks(end), Marks::PREEMPTED);
    let ticked = Snapshot {
        run_delay_nanos: None,
        steal_ticks: Some(4),
        ..quiet()
    };
    assert_eq!(marks(ticked), Marks::STEAL);
}

#[test]
fn what_has_other_causes_is_not_called_steal() {
    let idle = Snapshot {
        cpu_nanos: 505_000_000,
        ..quiet()
    };
    let mut slept = idle;
    slept.usage.voluntary += 1;
    assert_eq!(marks(slept), Marks::CLEAN);
    let bare_metal = Disturbance::between(&start(), &idle, false);
    assert_eq!(bare_metal.missing_nanos, None);
    let moved = Snapshot {
        cpu: 0,
        steal_ticks: Some(99),
        ..quiet()
    };
    assert_eq!(marks(moved), Marks::MIGRATION);
}

#[test]
fn missing_sources_are_named_and_never_zero() {
    let tree = tempfile::tempdir().unwrap();
    let root = HostRoot::at(tree.path());
    fs::create_dir_all(root.path("proc")).unwrap();
    fs::write(root.path("proc/cpuinfo"), "flags : fpu hypervisor\n").unwrap();
    let mut probe = DisturbanceProbe::for_this_thread(&root);
    let names: Vec<_> = probe.unavailable().iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["run delay", "steal"]);
    let start = probe.begin();
    let disturbance = probe.end(&start);
    assert_eq!(disturbance.run_delay_nanos, None);
    assert_eq!(disturbance.steal_ticks, None);
    assert_eq!(disturbance.missing_nanos, None);
}

#[test]
fn bare_metal_has_no_steal_and_does_not_miss_it() {
    let tree = tempfile::tempdir().unwrap();
    let root = HostRoot::at(tree.path());
    fs::create_dir_all(root.path("proc/thread-self")).unwrap();
    fs::write(root.path("proc/cpuinfo"), "flags : fpu vmx\n").unwrap();
    fs::write(root.path("proc/thread-self/schedstat"), "10 20 3\n").unwrap();
    let probe = DisturbanceProbe::for_this_thread(&root);
    assert!(probe.unavailable().is_empty(), "{:?}", probe.unavailable());
}

#[test]
fn a_competitor_on_the_same_cpu_is_noticed() {
    let cpu = *allowed_cpus().unwrap().last().unwrap();
    let block = Duration::from_millis(30);
    let spin = |until: Instant| {
        while Instant::now() < until {
            hint::spin_loop();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let _pinned = Pinned::to(&[cpu]).unwrap();
            spin(Instant::now() + 10 * block);
        });
        let _pinned = Pinned::to(&[cpu]).unwrap();
        let mut probe = DisturbanceProbe::for_this_thread(&HostRoot::default());
        let noticed = (0..5).any(|_| {
            let start = probe.begin();
            spin(Instant::now() + block);
            probe.end(&start).marks().intersects(Marks::PREEMPTED)
        });
        assert!(noticed);
    });
}

#[test]
fn a_migration_is_noticed() {
    let cpus = allowed_cpus().unwrap();
    let (first, last) = (cpus[0], *cpus.last().unwrap());
    let _first = Pinned::to(&[first]).unwrap();
    let mut probe = DisturbanceProbe::for_this_thread(&HostRoot::default());
    let start = probe.begin();
    let _last = Pinned::to(&[last]).unwrap();
    let disturbance = probe.end(&start);
    assert_eq!(disturbance.cpu, last);
    assert_eq!(disturbance.migrated, first != last);
}
