//! Neighbours on real KVM: processes of vtax beside this one.

// Helpers of tests are tests: what fails here fails the test.
#![allow(clippy::unwrap_used)]

#[path = "common/kvm.rs"]
mod kvm;
#[path = "common/skip.rs"]
mod skip;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use kvm::has_kvm;
use skip::skip;
use vtax::host::affinity::allowed_cpus;
use vtax::host::cgroups::{Cgroups, Controller};
use vtax::host::root::HostRoot;
use vtax::measure::boot::{Baseline, Spec, boot};
use vtax::measure::plant::Planted;
use vtax::neighbours::{Around, Crowd, CrowdError, Progress};
use vtax::rig::Rig;
use vtax_reports::record::Marks;
use vtax_scenarios::plan::{Cell, Neighbour, Work};
use vtax_scenarios::{Overrides, parse};

/// Longer than any neighbour takes to do something, on any host.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the test where the host has what it needs.
fn with_cgroups(test: impl FnOnce(&Cgroups)) {
    if !has_kvm() {
        return;
    }
    let cgroups = Cgroups::of(&HostRoot::default()).unwrap();
    if !cgroups.has(Controller::Cpu) {
        return skip("no control group for CPU time may be made here");
    }
    test(&cgroups);
}

fn start(plans: &[Neighbour], cgroups: &Cgroups) -> Result<Crowd, CrowdError> {
    start_with(plans, cgroups, &std::env::temp_dir())
}

fn start_with(plans: &[Neighbour], cgroups: &Cgroups, scratch: &Path) -> Result<Crowd, CrowdError> {
    let cpus = allowed_cpus().unwrap();
    let around = Around {
        program: Path::new(env!("CARGO_BIN_EXE_vtax")),
        cgroups,
        guest_cpus: &cpus[..1],
        scratch,
        seed: 1,
    };
    Crowd::start(plans, &around)
}

/// The cell of a scenario with these neighbours.
fn cell(neighbours: &str) -> Cell {
    let text = format!(
        "schema = 1\nname = \"crowd\"\n{neighbours}\n[guest]\nmemory = \"16MiB\"\n[measure]\nrounds = 5\n\
         [[workload]]\nname = \"mem-random-update\"\nparams = {{ size = \"1MiB\" }}\n"
    );
    let loaded = parse("crowd.toml", &text, &Overrides::default());
    loaded.unwrap().plan.cells.into_iter().next().unwrap()
}

fn plans(neighbours: &str) -> Vec<Neighbour> {
    cell(neighbours).neighbours
}

/// Waits until `done` says so of what neighbour 0 has done.
#[track_caller]
fn wait_for(crowd: &mut Crowd, what: &str, done: impl Fn(&Progress) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done(&crowd.progress()[0]) {
        crowd.check().unwrap();
        assert!(Instant::now() < deadline, "{what}: {:?}", crowd.progress());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_running(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

#[test]
fn each_kind_does_its_work_in_a_group_of_its_own_and_leaves_nothing() {
    with_cgroups(|cgroups| {
        for work in Work::ALL {
            let text = format!(
                "[[neighbour]]\nwork = \"{}\"\nmemory = \"16MiB\"",
                work.name()
            );
            let mut crowd = start(&plans(&text), cgroups).unwrap();
            match work {
                Work::Idle => wait_for(&mut crowd, "idle", |it| it.starts == 1),
                _ if work.dies() => {
                    // One read and one write at least.
                    wait_for(&mut crowd, work.name(), |it| {
                        it.faults >= 3 && it.starts >= 3
                    });
                }
                _ => {
                    let before = crowd.progress()[0].units;
                    wait_for(&mut crowd, work.name(), |it| it.units > before);
                }
            }
            assert_eq!(crowd.progress()[0].escapes, 0);
            let process = crowd.pids()[0];
            let groups = crowd.members()[0].cgroups();
            assert!(!groups.is_empty());
            let of = std::fs::read_to_string(groups[0].join("cgroup.procs")).unwrap();
            let mut of = of.lines();
            assert_eq!(of.next(), Some(&*process.to_string()), "{work:?}");
            // A process that is killed again and again stays with the one that kills it.
            assert!(work == Work::Killed || of.next().is_none(), "{work:?}");
            drop(crowd);
            assert!(!is_running(process));
            assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
        }
    });
}

#[test]
fn an_idle_guest_takes_next_to_no_cpu_time() {
    with_cgroups(|cgroups| {
        let crowd = start(&plans("[[neighbour]]\nwork = \"idle\""), cgroups).unwrap();
        let before = crowd.progress()[0].cpu_nanos.unwrap();
        std::thread::sleep(Duration::from_millis(500));
        let spent = crowd.progress()[0].cpu_nanos.unwrap() - before;
        assert!(spent < 50_000_000, "{spent} ns of 500 ms");
    });
}

#[test]
fn two_burners_on_one_cpu_share_it_by_their_weights() {
    with_cgroups(|cgroups| {
        let text = "[[neighbour]]\nwork = \"cpu\"\nname = \"a\"\npinning = \"with-vcpus\"\ncpu-weight = 200\n\
                    [[neighbour]]\nwork = \"cpu\"\nname = \"b\"\npinning = \"with-vcpus\"\ncpu-weight = 100";
        let crowd = start(&plans(text), cgroups).unwrap();
        let spent = || -> Vec<f64> {
            let all = crowd.progress();
            all.iter().map(|it| it.cpu_nanos.unwrap() as f64).collect()
        };
        // Repetitions long enough for dozens of the scheduler's turns.
        let ratios: Vec<f64> = (0..8)
            .map(|_| {
                let before = spent();
                std::thread::sleep(Duration::from_millis(300));
                let after = spent();
                ((after[0] - before[0]) / (after[1] - before[1])).ln()
            })
            .collect();
        let n = ratios.len() as f64;
        let mean = ratios.iter().sum::<f64>() / n;
        let variance = ratios.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / (n - 1.0);
        // Student's t for 99.9 % and 7 degrees of freedom.
        let half = 5.408 * (variance / n).sqrt();
        let (low, high) = ((mean - half).exp(), (mean + half).exp());
        assert!(
            low <= 2.2 && high >= 1.8,
            "{low:.2} to {high:.2}, should be 2"
        );
        assert!(low > 1.0, "{low:.2} to {high:.2}: the weights do nothing");
    });
}

#[test]
fn a_quota_caps_a_burner() {
    with_cgroups(|cgroups| {
        let text = "[[neighbour]]\nwork = \"cpu\"\ncpu-quota = \"20%\"";
        let crowd = start(&plans(text), cgroups).unwrap();
        let before = crowd.progress()[0].cpu_nanos.unwrap();
        let start = Instant::now();
        std::thread::sleep(Duration::from_secs(1));
        let spent = crowd.progress()[0].cpu_nanos.unwrap() - before;
        // A period more than its quota may be left over from before.
        let most = 0.2 * (start.elapsed().as_secs_f64() + 0.2);
        assert!((spent as f64) < most * 1e9, "{spent} ns in a second");
    });
}

/// The CPUs that a process may run on, as the kernel lists them.
fn allowed_list(process: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let mut lines = status.lines();
    let list = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.unwrap().trim().to_owned()
}

#[test]
fn a_cpuset_confines_every_thread_and_leaves_nothing() {
    with_cgroups(|cgroups| {
        if !cgroups.has(Controller::Cpuset) {
            return skip("no control group with a cpuset may be made here");
        }
        let cpus = allowed_cpus().unwrap();
        let last = *cpus.last().unwrap();
        let text = format!(
            "[[neighbour]]\nwork = \"cpu\"\ncpuset = [{last}]\n\
             [[neighbour]]\nwork = \"killed\"\nperiod = \"5ms\"\ncpuset = [{last}]\n\
             [[neighbour]]\nwork = \"idle\""
        );
        let crowd = start(&plans(&text), cgroups).unwrap();
        let pids = crowd.pids();
        for &process in &pids[..2] {
            for thread in std::fs::read_dir(format!("/proc/{process}/task")).unwrap() {
                let thread = thread.unwrap().file_name().into_string().unwrap();
                assert_eq!(allowed_list(thread.parse().unwrap()), last.to_string());
            }
        }
        assert_eq!(allowed_list(pids[2]), allowed_list(std::process::id()));
        let groups: Vec<_> = crowd.members().iter().map(|it| it.cgroups()).collect();
        let cpusets = groups.iter().flatten().filter(|path| {
            std::fs::read_to_string(path.join("cpuset.cpus"))
                .is_ok_and(|text| text.trim() == last.to_string())
        });
        assert_eq!(cpusets.count(), 2, "{groups:?}");
        drop(crowd);
        assert!(groups.iter().flatten().all(|path| !path.exists()));
    });
}

#[test]
fn a_weight_of_io_is_refused_where_no_device_heeds_it() {
    with_cgroups(|cgroups| {
        let text = "[[neighbour]]\nwork = \"io\"\ndisk-backing = \"scratch\"\nio-weight = 200";
        // Memory is no block device.
        let scratch = Path::new("/dev/shm");
        let error = start_with(&plans(text), cgroups, scratch).unwrap_err();
        assert!(error.is_lack(), "{error:?}");
        assert!(error.to_string().contains("/dev/shm"), "{error}");
    });
}

#[test]
fn one_that_is_killed_ends_alone_and_one_that_dies_is_told() {
    with_cgroups(|cgroups| {
        let text = "[[neighbour]]\nwork = \"cpu\"\ncount = 2\nmemory = \"16MiB\"";
        let mut crowd = start(&plans(text), cgroups).unwrap();
        let pids = crowd.pids();
        crowd.kill(0).unwrap();
        assert!(!is_running(pids[0]) && is_running(pids[1]));
        crowd.check().unwrap();
        assert_eq!(crowd.progress()[0].cpu_nanos, None);
        let other = rustix::process::Pid::from_raw(i32::try_from(pids[1]).unwrap()).unwrap();
        rustix::process::kill_process(other, rustix::process::Signal::ABORT).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let error = loop {
            match crowd.check() {
                Err(error) => break error.to_string(),
                Ok(()) => assert!(Instant::now() < deadline, "nobody noticed"),
            }
        };
        assert!(error.contains("neighbour cpu"), "{error}");
        assert!(error.contains("killed by signal 6"), "{error}");
    });
}

#[test]
fn what_it_lacks_is_told_in_its_own_words_and_nothing_is_left() {
    with_cgroups(|cgroups| {
        let text = "[[neighbour]]\nwork = \"idle\"\n[[neighbour]]\nwork = \"cpu\"\nname = \"far\"\npinning = [1000]";
        let error = start(&plans(text), cgroups).unwrap_err();
        assert!(matches!(error, CrowdError::Lacking { .. }), "{error:?}");
        let error = error.to_string();
        assert!(
            error.contains("far") && error.contains("CPU 1000"),
            "{error}"
        );
    });
}

#[test]
fn memory_is_filled_before_it_is_at_work_and_the_vmm_takes_little_more() {
    with_cgroups(|cgroups| {
        let text = "[[neighbour]]\nwork = \"idle\"\nmemory = \"64MiB\"\nmergeable = true\n\
                    content = { zero = \"10%\", common = \"40%\" }\n\
                    [[neighbour]]\nwork = \"idle\"\nname = \"empty\"\nmemory = \"64MiB\"";
        let crowd = start(&plans(text), cgroups).unwrap();
        let found: Vec<_> = crowd.memory().into_iter().map(Result::unwrap).collect();
        assert!(found[0].guest >= 54 << 20, "{:?}", found[0]);
        assert!(found[1].guest < 8 << 20, "{:?}", found[1]);
        for it in &found {
            assert!(it.private_overhead > 0 && it.overhead < 5 << 20, "{it:?}");
        }
    });
}

#[test]
fn sixty_four_at_once() {
    with_cgroups(|cgroups| {
        let text = "[[neighbour]]\nwork = \"idle\"\ncount = 64\nmemory = \"16MiB\"";
        let mut crowd = start(&plans(text), cgroups).unwrap();
        crowd.check().unwrap();
        let progress = crowd.progress();
        assert_eq!(progress.len(), 64);
        assert!(progress.iter().all(|it| it.starts == 1));
        let pids = crowd.pids();
        drop(crowd);
        assert!(!pids.into_iter().any(is_running));
    });
}

#[test]
fn misbehaving_neighbours_leave_the_measured_guest_s_data_as_they_were() {
    with_cgroups(|cgroups| {
        let rig = Rig::prepare().unwrap();
        let cell = cell(
            "[[neighbour]]\nwork = \"triple-fault\"\nperiod = \"5ms\"\n\
             [[neighbour]]\nwork = \"wild\"\nperiod = \"5ms\"\n\
             [[neighbour]]\nwork = \"killed\"\nperiod = \"5ms\"\n\
             [[neighbour]]\nwork = \"exit-storm\"\n",
        );
        let mut crowd = start(&cell.neighbours, cgroups).unwrap();
        let before = crowd.progress();
        let outcome = boot(
            &rig,
            &Spec {
                cell: &cell,
                boot: 0,
                seed: 1,
                known: None,
                planted: Planted::Nothing,
                baseline: Baseline::Native,
                stop: &AtomicBool::new(false),
            },
        )
        .unwrap();
        let after = crowd.progress();
        crowd.check().unwrap();
        assert!(after[0].faults > before[0].faults, "{after:?}");
        assert!(after[1].faults > before[1].faults, "{after:?}");
        assert!(after[2].faults > before[2].faults, "{after:?}");
        assert!(after[3].units > before[3].units, "{after:?}");
        assert!(outcome.samples.len() >= 15);
        for sample in &outcome.samples {
            assert!(!sample.marks.intersects(Marks::CHECKSUM), "{sample:?}");
        }
    });
}
