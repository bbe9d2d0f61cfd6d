//! What a plan needs to know of this host.

use procfs::Meminfo;
use vtax_scenarios::plan::HostFacts;

use super::{
    cgroup::Cgroup,
    cgroups::{Cgroups, Controller},
    io_weight::Sharer,
    knobs,
    kvm::Flavour,
    probes::Probes,
    root::HostRoot,
    scheduling,
};

/// The facts of the real machine. Where one cannot be had the host counts as one that lacks it: no free huge pages,
/// no THP, no vCPUs. Why it is so, [`super::fingerprint`] and `vtax doctor` tell.
#[must_use]
pub fn host_facts(root: &HostRoot) -> HostFacts {
    facts(root, &Probes::take())
}

pub(super) fn facts(root: &HostRoot, probes: &Probes) -> HostFacts {
    let free_huge = |size| {
        root.number(&format!(
            "sys/kernel/mm/hugepages/hugepages-{size}kB/free_hugepages"
        ))
        .unwrap_or(0)
    };
    // A host that does not tell is one that has none.
    let cgroups = Cgroups::of(root).unwrap_or_default();
    HostFacts {
        cpus: probes.affinity.clone().unwrap_or_default(),
        numa_nodes: numa_nodes(root),
        free_huge_2m: free_huge(2048),
        free_huge_1g: free_huge(1_048_576),
        thp: root
            .selected("sys/kernel/mm/transparent_hugepage/enabled")
            .is_ok_and(|choice| choice != "never"),
        guest_1g_pages: probes.kvm.as_ref().is_ok_and(|kvm| kvm.guest_1g_pages),
        max_vcpus: probes.kvm.as_ref().map_or(0, |kvm| kvm.max_vcpus),
        available_memory: available_memory(root).unwrap_or(0),
        features: probes.features.0,
        realtime_priority: scheduling::realtime_priority(root),
        halt_poll: probes.kvm.as_ref().is_ok_and(|kvm| kvm.halt_poll),
        hypercalls: matches!(Flavour::of(root), Flavour::Vmx | Flavour::Svm),
        // Only a guest tells.
        without_exit: Vec::new(),
        io_uring: probes.io_uring.is_ok(),
        vhost_net: probes.vhost_net.is_ok(),
        cgroup_cpu: cgroups.has(Controller::Cpu),
        cgroup_memory: cgroups.has(Controller::Memory),
        cgroup_cpuset: cgroups.has(Controller::Cpuset),
        cgroup_io: cgroups.has(Controller::Io),
        io_weight: Sharer::best(root).map_or(0, Sharer::most),
        ksm: root.exists("sys/kernel/mm/ksm/run"),
        knobs: knobs::facts(root),
    }
}

/// NUMA nodes that have memory. A kernel without NUMA shows no nodes and has one.
fn numa_nodes(root: &HostRoot) -> Vec<u32> {
    root.list("sys/devices/system/node/has_memory")
        .unwrap_or_else(|_| vec![0])
}

/// Bytes that could be had without swapping, within the control group's limit.
pub(super) fn available_memory(root: &HostRoot) -> Option<u64> {
    let meminfo: Meminfo = root.parsed("proc/meminfo", "memory figures").ok()?;
    let left = Cgroup::of(root).ok().and_then(|cgroup| cgroup.memory_left);
    Some(meminfo.mem_available?.min(left.unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake;

    #[test]
    fn a_server_with_everything() {
        let (tree, probes) = fake::amd_metal();
        let facts = facts(&tree.root(), &probes);
        let expected = HostFacts {
            cpus: vec![0, 1, 2, 3],
            numa_nodes: vec![0],
            free_huge_2m: 512,
            free_huge_1g: 4,
            thp: true,
            guest_1g_pages: true,
            max_vcpus: 1024,
            available_memory: 12 << 30,
            features: probes.features.0,
            realtime_priority: scheduling::realtime_priority(&tree.root()),
            halt_poll: true,
            hypercalls: true,
            without_exit: Vec::new(),
            io_uring: true,
            vhost_net: true,
            cgroup_cpu: true,
            cgroup_memory: true,
            cgroup_cpuset: true,
            cgroup_io: true,
            io_weight: 1000,
            ksm: true,
            knobs: knobs::facts(&tree.root()),
        };
        assert_eq!(facts, expected);
    }

    #[test]
    fn a_host_without_anything_has_nothing() {
        let (tree, probes) = fake::bare_vm();
        tree.write(
            "sys/kernel/mm/transparent_hugepage/enabled",
            "always madvise [never]",
        );
        let facts = facts(&tree.root(), &probes);
        assert_eq!((facts.free_huge_2m, facts.free_huge_1g), (0, 0));
        assert_eq!((facts.thp, facts.max_vcpus), (false, 0));
        assert!(!facts.vhost_net && !facts.io_uring);
        assert_eq!(facts.io_weight, 0);
    }

    #[test]
    fn the_control_group_bounds_memory() {
        let (tree, probes) = fake::intel_metal();
        tree.write("proc/self/cgroup", "0::/job\n");
        tree.write("sys/fs/cgroup/job/memory.max", "1073741824\n");
        tree.write("sys/fs/cgroup/job/memory.current", "73741824\n");
        let facts = facts(&tree.root(), &probes);
        assert_eq!(facts.available_memory, 1_000_000_000);
    }

    #[test]
    fn this_machine_has_a_cpu_and_memory() {
        let facts = host_facts(&HostRoot::default());
        assert!(!facts.cpus.is_empty());
        assert!(facts.available_memory > 0);
        assert!(!facts.numa_nodes.is_empty());
    }
}
