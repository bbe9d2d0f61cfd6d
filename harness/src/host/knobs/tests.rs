//! Each knob on a fake host.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use vtax_scenarios::plan::{HostSettings, Knob};

use super::*;
use crate::host::fake::{self, Tree};
use crate::host::journal::{Journal, Origin};
use crate::host::prepared::{Audit, KnobError, Prepared, difference};
use crate::host::root::ReadError;

const NODES: &str = "sys/devices/system/node";
const CPUS: &str = "sys/devices/system/cpu";
const POLICIES: &str = "sys/devices/system/cpu/cpufreq";

/// Where the longest wake-up of a CPU is.
fn limit_of(cpu: u32) -> String {
    format!("{CPUS}/cpu{cpu}/power/pm_qos_resume_latency_us")
}

/// A host with everything, on which nothing is the kernel's: what is written stays as it was written.
fn full() -> Tree {
    let (tree, _) = fake::intel_metal();
    for (path, text) in [
        ("proc/sys/kernel/random/boot_id", "b1\n"),
        ("proc/sys/kernel/nmi_watchdog", "1\n"),
        ("proc/irq/default_smp_affinity", "f\n"),
        ("proc/irq/9/smp_affinity_list", "0-3\n"),
        ("proc/irq/24/smp_affinity_list", "1\n"),
        ("sys/devices/system/node/has_memory", "0-1\n"),
        ("sys/kernel/mm/ksm/run", "0\n"),
        ("sys/kernel/mm/ksm/pages_to_scan", "100\n"),
        ("sys/kernel/mm/ksm/sleep_millisecs", "20\n"),
        ("sys/kernel/mm/ksm/merge_across_nodes", "1\n"),
        ("sys/kernel/mm/ksm/advisor_mode", "none\n"),
        ("sys/module/kvm/parameters/halt_poll_ns_grow", "2\n"),
        (
            "sys/module/kvm/parameters/halt_poll_ns_grow_start",
            "10000\n",
        ),
        ("sys/module/kvm/parameters/halt_poll_ns_shrink", "0\n"),
    ] {
        tree.write(path, text);
    }
    for node in ["node0", "node1"] {
        for pages in ["hugepages-2048kB", "hugepages-1048576kB"] {
            tree.write(
                &format!("{NODES}/{node}/hugepages/{pages}/nr_hugepages"),
                "2\n",
            );
        }
    }
    for cpu in 0..4 {
        tree.write(&format!("{CPUS}/cpu{cpu}/cpuidle/state0/latency"), "0\n");
        tree.write(&limit_of(cpu), "0\n");
    }
    for policy in ["policy0", "policy1"] {
        tree.write(
            &format!("{POLICIES}/{policy}/scaling_governor"),
            "powersave\n",
        );
        tree.write(
            &format!("{POLICIES}/{policy}/scaling_available_governors"),
            "performance powersave\n",
        );
    }
    tree
}

fn prepared(tree: &Tree) -> Prepared {
    let journals = tree.root().path("journals");
    let journal = Journal::at(&tree.root(), &journals, Origin::Run).unwrap();
    let audit = Audit::of_host(&journal);
    Prepared::new(tree.root(), journal, audit)
}

fn wanted(knob: Knob, value: &str) -> HostSettings {
    [(knob, value.to_owned())].into()
}

/// Knob, value, file, what it holds before and what it holds then.
const SETTINGS: &str = "
smt off sys/devices/system/cpu/smt/control on off
halt-poll 50us sys/module/kvm/parameters/halt_poll_ns 200000 50000
halt-poll-grow 4 sys/module/kvm/parameters/halt_poll_ns_grow 2 4
halt-poll-grow-start 20us sys/module/kvm/parameters/halt_poll_ns_grow_start 10000 20000
halt-poll-shrink 2 sys/module/kvm/parameters/halt_poll_ns_shrink 0 2
governor performance sys/devices/system/cpu/cpufreq/policy1/scaling_governor powersave performance
c-state-latency 10us sys/devices/system/cpu/cpu3/power/pm_qos_resume_latency_us 0 10
c-state-latency 0us sys/devices/system/cpu/cpu0/power/pm_qos_resume_latency_us 0 n/a
turbo off sys/devices/system/cpu/intel_pstate/no_turbo 0 1
hugepages-2m 7 sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages 2 4
hugepages-2m 7 sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages 2 3
hugepages-2m [1,5] sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages 2 5
hugepages-1g 1 sys/devices/system/node/node1/hugepages/hugepages-1048576kB/nr_hugepages 2 0
thp-defrag defer sys/kernel/mm/transparent_hugepage/defrag madvise defer
thp never sys/kernel/mm/transparent_hugepage/enabled madvise never
ksm-merge-across-nodes off sys/kernel/mm/ksm/merge_across_nodes 1 0
ksm-advisor scan-time sys/kernel/mm/ksm/advisor_mode none scan-time
ksm-pages-to-scan 5000 sys/kernel/mm/ksm/pages_to_scan 100 5000
ksm-sleep 5ms sys/kernel/mm/ksm/sleep_millisecs 20 5
ksm unmerge sys/kernel/mm/ksm/run 0 2
numa-balancing off proc/sys/kernel/numa_balancing 1 0
nmi-watchdog off proc/sys/kernel/nmi_watchdog 1 0
irqs-away on proc/irq/9/smp_affinity_list 0-3 0,2-3
irqs-away on proc/irq/24/smp_affinity_list 1 0,2-3
irqs-away on proc/irq/default_smp_affinity f d
";

#[test]
fn every_knob_is_set_and_put_back() {
    let mut seen = Vec::new();
    for line in SETTINGS.lines().filter(|line| !line.is_empty()) {
        let fields: Vec<&str> = line.split(' ').collect();
        let [name, value, file, before, after] = fields[..] else {
            panic!("{line}");
        };
        let mut all = Knob::ALL.into_iter();
        let knob = all.find(|knob| knob.name() == name).unwrap();
        seen.push(knob);
        let tree = full();
        let host = tree.root();
        let mut prepared = prepared(&tree);
        assert_eq!(Part::file(file).read(&host).unwrap(), before, "{knob}");
        prepared.set(&wanted(knob, value), &[1]).unwrap();
        assert_eq!(host.text(file).unwrap(), after, "{knob} = {value}");
        // To set it again is to change nothing.
        let parts = prepared.changes().to_vec();
        prepared.set(&wanted(knob, value), &[1]).unwrap();
        assert_eq!(prepared.changes(), parts, "{knob}");
        let restored = prepared.restore();
        assert_eq!(Part::file(file).read(&host).unwrap(), before, "{knob}");
        assert_eq!(restored.troubles().count(), 0, "{restored:?}");
        assert!(!host.exists("journals/run.journal"));
    }
    // Which takes a module that can be loaded anew.
    seen.push(Knob::TwoDimensionalPaging);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, Knob::ALL);
}

#[test]
fn a_choice_is_read_by_its_brackets() {
    let tree = full();
    let facts = facts(&tree.root());
    let thp = &facts[&Knob::Thp];
    assert_eq!(thp.present.as_deref(), Some("madvise"));
    assert_eq!(thp.choices, ["always", "madvise", "never"]);
    assert_eq!(thp.obstacle, None);
    let governor = &facts[&Knob::Governor];
    assert_eq!(governor.choices, ["performance", "powersave"]);
    assert_eq!(facts[&Knob::Turbo].present.as_deref(), Some("on"));
    assert_eq!(facts[&Knob::HaltPoll].present.as_deref(), Some("200us"));
    assert_eq!(facts[&Knob::CStateLatency].present.as_deref(), Some("any"));
    assert_eq!(facts[&Knob::Hugepages2m].present.as_deref(), Some("[2, 2]"));
    assert_eq!(
        facts[&Knob::TwoDimensionalPaging].present.as_deref(),
        Some("on")
    );
}

#[test]
fn a_host_without_anything_says_so_of_each_knob() {
    let tree = Tree::new(&[("proc/cpuinfo", "vendor_id : GenuineIntel\n")]);
    for (knob, fact) in facts(&tree.root()) {
        assert_eq!(fact.present, None, "{knob}");
        let obstacle = fact.obstacle.unwrap();
        assert!(
            obstacle.reason.contains("this host has no"),
            "{knob}: {obstacle}"
        );
        assert!(!obstacle.remedy.is_empty(), "{knob}");
    }
}

#[test]
fn what_the_kernel_does_not_let_be_changed_is_told_before() {
    let tree = full();
    let file = tree.root().path("proc/sys/kernel/nmi_watchdog");
    fs::set_permissions(&file, Permissions::from_mode(0o444)).unwrap();
    let fact = &facts(&tree.root())[&Knob::NmiWatchdog];
    assert_eq!(fact.present.as_deref(), Some("on"));
    let obstacle = fact.obstacle.as_ref().unwrap().to_string();
    assert!(
        obstacle.contains("/proc/sys/kernel/nmi_watchdog cannot be changed"),
        "{obstacle}"
    );

    tree.write("sys/devices/system/cpu/smt/control", "notsupported\n");
    let smt = &facts(&tree.root())[&Knob::Smt];
    assert!(
        smt.obstacle
            .as_ref()
            .unwrap()
            .reason
            .contains("this CPU has no SMT")
    );
}

#[test]
fn an_interrupt_that_cannot_be_moved_is_left_out() {
    let tree = full();
    let file = tree.root().path("proc/irq/9/smp_affinity_list");
    fs::set_permissions(&file, Permissions::from_mode(0o444)).unwrap();
    let parts = difference(&tree.root(), None, Knob::IrqsAway, "on", &[1]).unwrap();
    let names: Vec<String> = parts.iter().map(|part| part.part.to_string()).collect();
    assert_eq!(
        names,
        [
            "/proc/irq/24/smp_affinity_list",
            "/proc/irq/default_smp_affinity"
        ]
    );
}

#[test]
fn interrupts_need_a_cpu_that_is_not_measured() {
    let tree = full();
    let error = difference(&tree.root(), None, Knob::IrqsAway, "on", &[0, 1, 2, 3]).unwrap_err();
    assert!(
        error.to_string().contains("every CPU is measured"),
        "{error}"
    );
}

#[test]
fn a_number_for_each_node_must_suit_the_nodes() {
    let tree = full();
    let error = difference(&tree.root(), None, Knob::Hugepages2m, "[1, 2, 3]", &[]).unwrap_err();
    assert!(
        error.to_string().contains("3 NUMA nodes, this host has 2"),
        "{error}"
    );
}

#[test]
fn a_module_that_is_built_in_or_in_use_is_not_loaded_anew() {
    let tree = full();
    let obstacle = || {
        let fact = &facts(&tree.root())[&Knob::TwoDimensionalPaging];
        fact.obstacle
            .clone()
            .map_or(String::new(), |obstacle| obstacle.to_string())
    };
    assert!(
        obstacle().contains("kvm_intel is built into this kernel"),
        "{}",
        obstacle()
    );
    tree.write("sys/module/kvm_intel/initstate", "live\n");
    tree.write("sys/module/kvm_intel/refcnt", "3\n");
    if rustix::process::geteuid().is_root() {
        assert!(obstacle().contains("in use (3 times)"), "{}", obstacle());
    }
    let part = Part::parameter("kvm_intel", "ept");
    let knob = of(Knob::TwoDimensionalPaging);
    let write = |part: &Part| knob.write(&tree.root(), part, "N", &Originals::new());
    let error = write(&part).unwrap_err();
    assert!(error.to_string().contains("in use (3 times)"), "{error}");
    for part in [
        Part::parameter("vfat", "x"),
        Part::parameters("vfat"),
        Part::parameter("kvm_intel", "nested"),
    ] {
        let error = write(&part).unwrap_err();
        assert!(matches!(error, PartError::Unknown(_)), "{error}");
    }
}

/// The module's other parameters go with it: they must be on disk before.
#[test]
fn a_module_that_is_loaded_anew_carries_its_other_parameters() {
    let tree = full();
    let [part] = &of(Knob::TwoDimensionalPaging).carried(&tree.root())[..] else {
        panic!("all parameters of one module");
    };
    assert_eq!(part.to_string(), "parameters of the module kvm_intel");
    assert_eq!(part.read(&tree.root()).unwrap(), "ept=Y, nested=Y");
    let none = Tree::new(&[("proc/cpuinfo", "vendor_id : GenuineIntel\n")]);
    assert!(matches!(part.read(&none.root()), Err(ReadError::Absent(_))));
}

#[test]
fn what_no_knob_is_made_of_is_not_written() {
    let tree = full();
    tree.write("etc/passwd", "root\n");
    for path in ["etc/passwd", "sys/../etc/passwd", "module:vfat:x"] {
        let error = Part::file(path).write(&tree.root(), "x").unwrap_err();
        assert!(matches!(error, PartError::Unknown(_)), "{error}");
    }
}

#[test]
fn a_file_that_refuses_is_an_error_and_the_rest_is_put_back() {
    let tree = full();
    let host = tree.root();
    // For root too: a directory cannot be written.
    let second = format!("{POLICIES}/policy1/scaling_governor");
    let mut prepared = prepared(&tree);
    let first = format!("{POLICIES}/policy0/scaling_governor");
    tree.write("proc/sys/kernel/numa_balancing", "1\n");
    prepared
        .set(&wanted(Knob::NumaBalancing, "off"), &[])
        .unwrap();
    tree.make_unreadable(&second);
    let error = prepared
        .set(&wanted(Knob::Governor, "performance"), &[])
        .unwrap_err();
    assert!(
        matches!(
            error,
            KnobError::Part {
                knob: Knob::Governor,
                ..
            }
        ),
        "{error}"
    );
    drop(prepared);
    assert_eq!(host.text(&first).unwrap(), "powersave");
    assert_eq!(host.text("proc/sys/kernel/numa_balancing").unwrap(), "1");
}

/// What the kernel makes of a number is tried on one that any user may write: a timer slack of 0 becomes 50 µs
/// (proc_pid_timerslack_ns(5)), as more huge pages than there is memory for become as many as there is.
#[test]
fn what_the_kernel_makes_of_a_number_is_put_back_at_once() {
    let tree = full();
    let file = format!("{NODES}/node0/hugepages/hugepages-2048kB/nr_hugepages");
    fs::remove_file(tree.root().path(&file)).unwrap();
    symlink("/proc/self/timerslack_ns", tree.root().path(&file)).unwrap();
    tree.write(&file, "7777\n");
    let mut prepared = prepared(&tree);
    let error = prepared
        .set(&wanted(Knob::Hugepages2m, "[0, 2]"), &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("was set to \"0\" and is \"50000\""),
        "{error}"
    );
    assert_eq!(tree.root().text(&file).unwrap(), "7777");
    assert!(prepared.changes().is_empty());
}

/// SIGKILL while the kernel still allocates leaves a number that nobody wrote.
#[test]
fn huge_pages_on_their_way_to_a_number_are_put_back() {
    let file = format!("{NODES}/node0/hugepages/hugepages-2048kB/nr_hugepages");
    for (wanted_pages, found, ours) in [
        ("[60, 2]", "4", true),
        ("[60, 2]", "61", false),
        ("[60, 2]", "1", false),
        ("[0, 2]", "1", true),
    ] {
        let tree = full();
        let mut killed = prepared(&tree);
        killed
            .set(&wanted(Knob::Hugepages2m, wanted_pages), &[])
            .unwrap();
        std::mem::forget(killed);
        tree.write(&file, &format!("{found}\n"));
        let restored = prepared(&tree).restore();
        assert_eq!(restored.foreign.is_empty(), ours, "{found}: {restored:?}");
        let left = if ours { "2" } else { found };
        assert_eq!(tree.root().text(&file).unwrap(), left);
    }
}

/// The kernel shows each limit as it was written, and takes that back.
#[test]
fn the_real_kernel_takes_a_limit_for_idle_states() {
    let real = HostRoot::default();
    let file = limit_of(0);
    if !rustix::process::geteuid().is_root()
        || Part::file(file.as_str()).obstacle(&real, "").is_some()
    {
        eprintln!(
            "SKIPPED the_real_kernel_takes_a_limit_for_idle_states: /{file} cannot be written"
        );
        return;
    }
    // This host may have no idle states at all, so that the knob is tried on a fake one with that file of the real one.
    let tree = full();
    let before = real.text(&file).unwrap();
    fs::remove_file(tree.root().path(&file)).unwrap();
    symlink(real.path(&file), tree.root().path(&file)).unwrap();
    let mut prepared = prepared(&tree);
    for (value, text) in [("20us", "20"), ("0ns", "n/a"), ("any", "0")] {
        prepared
            .set(&wanted(Knob::CStateLatency, value), &[])
            .unwrap();
        assert_eq!(real.text(&file).unwrap(), text, "{value}");
        let parts = of(Knob::CStateLatency).parts(&tree.root()).unwrap();
        let texts: Vec<String> = parts
            .iter()
            .map(|part| part.read(&tree.root()).unwrap())
            .collect();
        assert_eq!(of(Knob::CStateLatency).value(&parts, &texts), value);
    }
    prepared.restore();
    assert_eq!(real.text(&file).unwrap(), before);
}
