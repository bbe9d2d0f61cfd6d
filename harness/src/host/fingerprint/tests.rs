use super::*;
use crate::host::fake;

fn value<'a>(fingerprint: &'a HostFingerprint, key: &str) -> &'a str {
    match &fingerprint.facts[key] {
        Reading::Value(text) => text,
        Reading::Unavailable(reason) => panic!("{key}: {reason}"),
    }
}

fn reason<'a>(fingerprint: &'a HostFingerprint, key: &str) -> &'a str {
    match &fingerprint.facts[key] {
        Reading::Value(text) => panic!("{key} is {text}"),
        Reading::Unavailable(reason) => reason,
    }
}

#[test]
fn an_intel_server_with_everything() {
    let (tree, probes) = fake::intel_metal();
    let facts = describe(&Host::new(tree.root(), probes));
    assert_eq!(facts.nested_under, None);
    for (key, expected) in [
        ("cpu_vendor", "GenuineIntel"),
        ("cpu_signature", "family 6 model 106 stepping 6"),
        ("cpus", "0-3"),
        ("sockets", "1"),
        ("cores", "2"),
        ("threads", "4"),
        ("caches", "L1d 48K, L2 1280K, L3 36864K"),
        ("smt", "on"),
        ("governor", "performance (CPU 0-2), powersave (CPU 3)"),
        ("turbo", "on"),
        ("tsc", "constant_tsc nonstop_tsc"),
        ("isolated_cpus", "2-3"),
        ("nohz_full", "none"),
        (
            "mitigations",
            "retbleed: Vulnerable | spectre_v2: Mitigation: Enhanced IBRS | not affected by 1 more",
        ),
        ("memory_total", "16384 MiB"),
        ("memory_available", "12288 MiB"),
        ("memory_limit", "none"),
        ("swap", "256 MiB of 1024 MiB in use"),
        ("thp", "madvise"),
        ("hugepages_2m", "512 free of 520"),
        ("hugepages_1g", "4 free of 4"),
        ("ksm", "on, 77 pages saved"),
        ("numa_nodes", "0"),
        ("memory_lock_limit", "unlimited"),
        ("distribution", "Debian GNU/Linux 12 (bookworm)"),
        ("kernel_command_line", "BOOT_IMAGE=/vmlinuz ro quiet"),
        ("load_average", "0.10 0.20 0.30"),
        ("other_runnable_tasks", "2"),
        ("aslr", "on"),
        ("cgroup_version", "v2"),
        ("cpu_quota", "none"),
        ("hypervisor", "none: bare metal"),
        ("kvm_flavour", "kvm_intel (VT-x)"),
        ("kvm_two_dimensional_paging", "ept on"),
        ("kvm_nested", "on"),
        ("pmu", "counts instructions"),
        ("iommu", "dmar0"),
    ] {
        assert_eq!(value(&facts, key), expected, "{key}");
    }
}

#[test]
fn a_virtual_machine_names_what_is_under_it() {
    let (tree, mut probes) = fake::amd_metal();
    probes.hypervisor = Some("KVM".to_owned());
    let facts = describe(&Host::new(tree.root(), probes.clone()));
    assert_eq!(facts.nested_under.unwrap(), "KVM (ACME Server 7)");
    let (bare, _) = fake::bare_vm();
    let facts = describe(&Host::new(bare.root(), probes));
    assert_eq!(facts.nested_under.unwrap(), "KVM");
}

#[test]
fn a_host_that_shows_nothing_says_so_for_every_fact() {
    let (_, probes) = fake::bare_vm();
    let empty = fake::Tree::new(&[]);
    let facts = describe(&Host::new(empty.root(), probes));
    assert_eq!(
        reason(&facts, "thp"),
        "/sys/kernel/mm/transparent_hugepage/enabled does not exist on this host"
    );
    assert_eq!(reason(&facts, "kvm"), "/dev/kvm does not exist");
    let from_probes = ["kernel", "affinity", "hypervisor", "memory_lock_limit"];
    for (key, reading) in &facts.facts {
        let known = matches!(reading, Reading::Value(_));
        assert_eq!(
            known,
            from_probes.contains(&key.as_str()),
            "{key}: {reading:?}"
        );
    }
}

#[test]
fn keys_are_unique_and_stable_in_form() {
    let (tree, probes) = fake::bare_vm();
    let facts = describe(&Host::new(tree.root(), probes)).facts;
    let lists = [
        cpu::FACTS,
        memory::FACTS,
        kernel::FACTS,
        virtualization::FACTS,
    ];
    assert_eq!(facts.len(), lists.concat().len());
    for key in facts.keys() {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(key.chars().all(plain), "{key}");
    }
}

#[test]
fn this_machine_has_a_model_and_a_kernel() {
    let facts = fingerprint(&HostRoot::default());
    assert!(!value(&facts, "cpu_model").is_empty());
    assert!(!value(&facts, "kernel").is_empty());
}
