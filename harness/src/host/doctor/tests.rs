use std::io::ErrorKind;

use vtax_workloads::Features;

use super::*;
use crate::host::{
    fake,
    kvm::KvmTrouble,
    probes::{CounterTrouble, Probes},
};

fn examined(tree: &fake::Tree, probes: Probes) -> Examination {
    examine_host(&Host::new(tree.root(), probes))
}

fn find<'a>(examination: &'a Examination, subject: &str) -> &'a Finding {
    let mut findings = examination.findings.iter();
    findings
        .find(|finding| finding.subject.starts_with(subject))
        .unwrap_or_else(|| panic!("no finding on {subject}"))
}

/// Subjects whose status is not `Ok`.
fn remarks(examination: &Examination) -> Vec<&str> {
    let findings = examination.findings.iter();
    findings
        .filter(|finding| finding.status != Status::Ok)
        .map(|finding| finding.subject)
        .collect()
}

#[test]
fn an_intel_server_with_everything() {
    let (tree, probes) = fake::intel_metal();
    let examination = examined(&tree, probes);
    assert!(examination.kvm_usable);
    assert_eq!(
        remarks(&examination),
        [
            "KSM",
            "NUMA balancing",
            "frequency governor",
            "turbo",
            "SMT"
        ]
    );
    assert_eq!(
        find(&examination, "SR-IOV").found,
        "0000:41:00.0 (4 of 64 functions)"
    );
    assert_eq!(find(&examination, "IOMMU").found, "dmar0; 2 groups");
    assert_eq!(
        find(&examination, "turbo").remedy.as_deref(),
        Some("echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo")
    );
    assert_eq!(
        find(&examination, "cpu-97").found,
        "all 10 cells can be measured here"
    );
    let found = &find(&examination, "many-guests").found;
    assert!(
        found.ends_with("experiments can be measured here"),
        "{found}"
    );
}

#[test]
fn an_amd_server_with_shadow_paging_and_no_isolation() {
    let (tree, probes) = fake::amd_metal();
    tree.write("sys/module/kvm_amd/parameters/npt", "0\n");
    let examination = examined(&tree, probes);
    assert_eq!(find(&examination, "KVM technique").found, "kvm_amd (SVM)");
    let paging = find(&examination, "EPT/NPT");
    assert_eq!(
        (paging.status, paging.found.as_str()),
        (Status::Limited, "npt off: shadow paging")
    );
    assert_eq!(
        paging.remedy.as_deref(),
        Some("sudo modprobe -r kvm_amd && sudo modprobe kvm_amd npt=1")
    );
    assert_eq!(
        find(&examination, "isolated").remedy.as_deref(),
        Some("boot with isolcpus=1-3 nohz_full=1-3 rcu_nocbs=1-3 and pin to these CPUs")
    );
    assert_eq!(find(&examination, "frequency").status, Status::Ok);
}

#[test]
fn a_bare_virtual_machine_can_measure_nothing_and_is_told_why() {
    let (tree, probes) = fake::bare_vm();
    let examination = examined(&tree, probes);
    assert!(!examination.kvm_usable);
    let device = find(&examination, "/dev/kvm");
    assert_eq!(device.status, Status::Missing);
    assert_eq!(
        device.remedy.as_deref(),
        Some(
            "enable nested virtualization in the hypervisor under this host (VMware), or use a host on bare metal"
        )
    );
    for finding in &examination.findings {
        if finding.area == Area::Scenarios {
            assert_eq!(finding.found, "not testable here", "{finding:?}");
        }
    }
    for (subject, status, found) in [
        (
            "under",
            Status::Limited,
            "this host is itself a virtual machine, under VMware",
        ),
        (
            "TSC",
            Status::Limited,
            "the CPU promises neither a constant rate nor that it never stops",
        ),
        ("clock source", Status::Limited, "hpet"),
        ("steal", Status::Limited, "5.00 % of busy time since boot"),
        ("memory lock", Status::Limited, "64 KiB"),
        ("IOMMU", Status::Missing, "no IOMMU in use"),
        (
            "hardware PMU",
            Status::Missing,
            "this machine offers no hardware PMU",
        ),
        ("CPUs for", Status::Limited, "0"),
    ] {
        let finding = find(&examination, subject);
        assert_eq!((finding.status, finding.found.as_str()), (status, found));
    }
}

#[test]
fn software_kvm_is_named_and_explained() {
    let (_, mut probes) = fake::intel_metal();
    let (tree, _) = fake::bare_vm();
    tree.write("sys/module/kvm_pvm/parameters/pvm_native", "Y\n");
    probes.hypervisor = Some("KVM".to_owned());
    let examination = examined(&tree, probes);
    assert!(examination.kvm_usable);
    let technique = find(&examination, "KVM technique");
    assert_eq!(technique.status, Status::Limited);
    assert_eq!(technique.found, "kvm_pvm (neither VT-x nor SVM)");
    assert!(technique.means.as_ref().unwrap().contains("ring 3"));
    assert_eq!(
        find(&examination, "EPT/NPT").found,
        "none: kvm_pvm uses shadow paging"
    );
    let huge = find(&examination, "hugepages");
    assert_eq!(huge.status, Status::Limited);
    assert!(
        huge.means.as_ref().unwrap().contains("huge pages of 2MiB"),
        "{huge:?}"
    );
}

#[test]
fn each_trouble_with_kvm_has_its_remedy() {
    for (trouble, remedy) in [
        (KvmTrouble::Denied, "usermod -aG kvm $USER"),
        (KvmTrouble::Absent, "modprobe kvm_intel"),
        (KvmTrouble::NoModule, "modprobe kvm_intel"),
    ] {
        let (tree, mut probes) = fake::intel_metal();
        probes.kvm = Err(trouble);
        let examination = examined(&tree, probes);
        let device = find(&examination, "/dev/kvm");
        assert!(
            device.remedy.as_ref().unwrap().contains(remedy),
            "{device:?}"
        );
        assert!(!examination.kvm_usable);
    }
}

#[test]
fn a_scenario_is_judged_by_the_check_of_a_run() {
    let (tree, mut probes) = fake::intel_metal();
    probes.features = Features::BITS.union(Features::AES);
    probes.affinity = Ok(vec![0]);
    let examination = examined(&tree, probes);
    let status = |name| find(&examination, name).status;
    // Cells with wide vectors need AVX; one of three pinnings needs two CPUs; the others fit one plain CPU.
    assert_eq!(status("quick"), Status::Limited);
    assert_eq!(status("pinning"), Status::Limited);
    assert_eq!(status("rate-all-cores"), Status::Ok);
    assert_eq!(status("memory-latency"), Status::Ok);
}

#[test]
fn one_cpu_is_a_matter_of_affinity_or_of_the_machine() {
    let (tree, mut probes) = fake::intel_metal();
    probes.affinity = Ok(vec![2]);
    let bound = examined(&tree, probes.clone());
    let remedy = find(&bound, "CPUs for").remedy.as_deref();
    assert!(remedy.unwrap().starts_with("taskset"));
    let (small, _) = fake::bare_vm();
    let alone = examined(&small, probes);
    let remedy = find(&alone, "CPUs for").remedy.as_deref();
    assert_eq!(remedy, Some("a host with two or more CPUs"));
}

#[test]
fn a_forbidden_pmu_is_not_an_absent_one() {
    let (tree, mut probes) = fake::intel_metal();
    tree.write("proc/sys/kernel/perf_event_paranoid", "4\n");
    probes.instructions_counter = Err(CounterTrouble::Denied);
    let remedy = find(&examined(&tree, probes), "hardware PMU")
        .remedy
        .clone();
    assert!(remedy.unwrap().contains("now 4"));
}

#[test]
fn modules_are_offered_only_where_the_kernel_loads_them() {
    let (tree, probes) = fake::bare_vm();
    let with_modules = examined(&tree, probes.clone());
    let fixed = fake::Tree::new(&[]);
    let without = examined(&fixed, probes);
    assert_eq!(
        find(&with_modules, "vhost").remedy.as_deref(),
        Some("sudo modprobe vhost_net")
    );
    assert_eq!(
        find(&without, "vhost").remedy.as_deref(),
        Some("a kernel with vhost_net built in: this one loads no modules")
    );
}

#[test]
fn a_device_that_may_not_be_opened_is_not_an_absent_one() {
    let (tree, mut probes) = fake::intel_metal();
    let examination = examined(&tree, probes.clone());
    for subject in ["TAP", "vhost-net", "io_uring"] {
        assert_eq!(find(&examination, subject).status, Status::Ok, "{subject}");
    }
    probes.vhost_net = Err(ErrorKind::PermissionDenied);
    probes.tun = Err(ErrorKind::NotFound);
    probes.io_uring = Err(ErrorKind::PermissionDenied);
    let examination = examined(&tree, probes);
    let vhost = find(&examination, "vhost-net");
    assert_eq!(vhost.found, "/dev/vhost-net may not be opened");
    assert!(vhost.remedy.as_ref().unwrap().contains("setfacl"));
    let tap = find(&examination, "TAP");
    assert_eq!(tap.status, Status::Missing);
    assert_eq!(tap.remedy.as_deref(), Some("sudo modprobe tun"));
    let rings = find(&examination, "io_uring");
    assert_eq!(rings.found, "may not be used");
    assert!(rings.remedy.as_ref().unwrap().contains("io_uring_disabled"));
}

#[test]
fn control_groups_are_told_by_what_vtax_may_do_with_them() {
    let (tree, probes) = fake::intel_metal();
    let group = |tree: &fake::Tree| {
        let examination = examined(tree, probes.clone());
        find(&examination, "control groups").clone()
    };
    assert_eq!(group(&tree).found, "v2: cpu, cpuset, memory, io");
    tree.write("sys/fs/cgroup/cgroup.subtree_control", "cpu memory\n");
    let some = group(&tree);
    assert_eq!(
        (some.status, some.found.as_str()),
        (Status::Limited, "v2: cpu, memory")
    );
    assert!(some.means.unwrap().ends_with("the controllers cpuset, io"));
    tree.write("sys/fs/cgroup/cgroup.subtree_control", "\n");
    let none = group(&tree);
    assert_eq!(none.status, Status::Missing);
    assert!(none.remedy.unwrap().contains("Delegate=yes"));
}

#[test]
fn a_disk_is_shared_by_weight_or_the_way_to_it_is_told() {
    let (tree, probes) = fake::intel_metal();
    let weights = |tree: &fake::Tree| {
        let examination = examined(tree, probes.clone());
        find(&examination, "weights of I/O").clone()
    };
    assert_eq!(weights(&tree).status, Status::Ok);
    tree.write("sys/dev/block/8:0/queue/scheduler", "[none] mq-deadline\n");
    let missing = weights(&tree);
    assert_eq!(missing.status, Status::Missing);
    let remedy = missing.remedy.unwrap();
    assert!(
        remedy.starts_with("sudo modprobe bfq; echo bfq"),
        "{remedy}"
    );
    tree.write("sys/block/sda/queue/scheduler", "[none] mq-deadline bfq\n");
    let remedy = weights(&tree).remedy.unwrap();
    assert!(remedy.starts_with("echo bfq"), "{remedy}");
}

#[test]
fn cap_ipc_lock_lifts_the_limit() {
    let (tree, mut probes) = fake::intel_metal();
    probes.memory_lock = Some(8 << 20);
    let limited = examined(&tree, probes.clone());
    assert_eq!(find(&limited, "memory lock").status, Status::Limited);
    tree.write("proc/self/status", "CapEff:\t0000000000004000\n");
    let lifted = examined(&tree, probes);
    assert_eq!(find(&lifted, "memory lock").status, Status::Ok);
}

#[test]
fn what_cannot_be_read_is_reported_with_the_reason() {
    let (tree, probes) = fake::intel_metal();
    for path in [
        "sys/kernel/mm/transparent_hugepage/enabled",
        "sys/kernel/mm/ksm/run",
        "sys/devices/system/cpu/smt/control",
        "proc/loadavg",
    ] {
        tree.make_unreadable(path);
    }
    let examination = examined(&tree, probes);
    for subject in ["transparent", "KSM", "SMT", "load"] {
        let finding = find(&examination, subject);
        assert_eq!(finding.status, Status::Missing, "{finding:?}");
    }
    let reason = &find(&examination, "KSM").found;
    assert!(
        reason.starts_with("/sys/kernel/mm/ksm/run could not be read"),
        "{reason}"
    );
}

#[test]
fn every_remark_says_what_it_means() {
    let hosts = [fake::intel_metal(), fake::amd_metal(), fake::bare_vm()];
    let empty = (fake::Tree::new(&[]), fake::bare_vm().1);
    for (tree, probes) in hosts.into_iter().chain([empty]) {
        for finding in examined(&tree, probes).findings {
            assert!(!finding.found.is_empty(), "{finding:?}");
            let explained = finding.status == Status::Ok || finding.means.is_some();
            assert!(explained, "{finding:?}");
        }
    }
}

#[test]
fn this_machine_can_be_examined() {
    let examination = examine(&HostRoot::default());
    let kvm = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm");
    assert_eq!(examination.kvm_usable, kvm.is_ok());
}
