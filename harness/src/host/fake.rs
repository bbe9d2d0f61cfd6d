//! Made-up hosts for tests: directories with the files of /proc and /sys, and what the CPU would answer.

use std::fs;
use std::io::ErrorKind;

use vtax_workloads::Features;

use super::{
    kvm::{Kvm, KvmTrouble},
    probes::{CounterTrouble, Probes},
    root::HostRoot,
};

/// A temporary tree of files.
pub struct Tree(tempfile::TempDir);

impl Tree {
    /// A tree with these files; a path that ends in `/` is an empty directory.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            tree.write(path, text);
        }
        tree
    }

    /// Adds or replaces a file.
    pub fn write(&self, path: &str, text: &str) {
        let full = self.0.path().join(path);
        if path.ends_with('/') {
            fs::create_dir_all(full).unwrap();
        } else {
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(full, text).unwrap();
        }
    }

    /// Puts a directory in the file's place: it is there, but reading it fails, for root too.
    pub fn make_unreadable(&self, path: &str) {
        let full = self.0.path().join(path);
        fs::remove_file(&full).unwrap();
        fs::create_dir(full).unwrap();
    }

    /// The tree as a host.
    pub fn root(&self) -> HostRoot {
        HostRoot::at(self.0.path())
    }
}

const INTEL_CPU: &str = "vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 106\n\
    model name\t: Intel(R) Xeon(R) Gold 6330\nstepping\t: 6\nmicrocode\t: 0xd0003b9\n\
    flags\t\t: fpu tsc constant_tsc nonstop_tsc vmx\n";

const AMD_CPU: &str = "vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 1\n\
    model name\t: AMD EPYC 7543\nstepping\t: 1\nmicrocode\t: 0xa0011d5\n\
    flags\t\t: fpu tsc constant_tsc nonstop_tsc svm\n";

/// Files that any Linux shows.
const COMMON: &[(&str, &str)] = &[
    (
        "etc/os-release",
        "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
    ),
    (
        "proc/cmdline",
        "BOOT_IMAGE=/vmlinuz ro quiet -- --token x\n",
    ),
    ("proc/loadavg", "0.10 0.20 0.30 3/140 4711\n"),
    (
        "proc/meminfo",
        "MemTotal: 16777216 kB\nMemFree: 9437184 kB\nMemAvailable: 12582912 kB\nBuffers: 1 kB\n\
         Cached: 1 kB\nSwapCached: 0 kB\nActive: 1 kB\nInactive: 1 kB\nSwapTotal: 1048576 kB\n\
         SwapFree: 786432 kB\nDirty: 0 kB\nWriteback: 0 kB\nMapped: 1 kB\nSlab: 1 kB\n\
         Committed_AS: 1 kB\nVmallocTotal: 1 kB\nVmallocUsed: 1 kB\nVmallocChunk: 0 kB\n",
    ),
    ("proc/modules", "ext4 1 0 - Live 0x0\n"),
    ("proc/self/cgroup", "0::/\n"),
    (
        "sys/fs/cgroup/cgroup.subtree_control",
        "cpuset cpu io memory\n",
    ),
    (
        "proc/self/mountinfo",
        "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    ),
    (
        "proc/self/status",
        "Name:\tvtax\nCapEff:\t0000000000000000\n",
    ),
    (
        "proc/stat",
        "cpu  900 0 50 8000 5 0 0 50 0 0\ncpu0 900 0 50 8000 5 0 0 50 0 0\n",
    ),
    ("proc/sys/kernel/perf_event_paranoid", "2\n"),
    ("proc/sys/kernel/randomize_va_space", "2\n"),
    ("proc/uptime", "1000.12 3000.00\n"),
    (
        "sys/devices/system/clocksource/clocksource0/current_clocksource",
        "tsc\n",
    ),
    ("sys/devices/system/cpu/isolated", "\n"),
    ("sys/devices/system/cpu/nohz_full", "(null)\n"),
    ("sys/devices/system/cpu/smt/control", "on\n"),
    (
        "sys/devices/system/cpu/vulnerabilities/meltdown",
        "Not affected\n",
    ),
    (
        "sys/devices/system/cpu/vulnerabilities/retbleed",
        "Vulnerable\n",
    ),
    (
        "sys/devices/system/cpu/vulnerabilities/spectre_v2",
        "Mitigation: Enhanced IBRS\n",
    ),
    ("sys/devices/system/node/has_memory", "0\n"),
    ("sys/kernel/mm/ksm/run", "1\n"),
    ("sys/kernel/mm/ksm/pages_sharing", "77\n"),
    ("sys/kernel/mm/ksm/pages_to_scan", "100\n"),
    ("sys/kernel/mm/ksm/sleep_millisecs", "20\n"),
    (
        "sys/kernel/mm/transparent_hugepage/defrag",
        "always defer [madvise] never\n",
    ),
    (
        "sys/kernel/mm/transparent_hugepage/enabled",
        "always [madvise] never\n",
    ),
];

/// What a server on bare metal has besides.
const METAL: &[(&str, &str)] = &[
    ("dev/kvm", ""),
    ("dev/vfio/vfio", ""),
    ("proc/sys/kernel/numa_balancing", "1\n"),
    ("sys/bus/pci/devices/0000:41:00.0/sriov_totalvfs", "64\n"),
    ("sys/bus/pci/devices/0000:41:00.0/sriov_numvfs", "4\n"),
    ("sys/class/dmi/id/product_name", "Server 7\n"),
    ("sys/dev/block/8:0/dev", "8:0\n"),
    ("sys/dev/block/8:0/queue/scheduler", "none [bfq]\n"),
    ("sys/class/dmi/id/sys_vendor", "ACME\n"),
    ("sys/kernel/iommu_groups/0/", ""),
    ("sys/kernel/iommu_groups/1/", ""),
    (
        "sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages",
        "4\n",
    ),
    (
        "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages",
        "4\n",
    ),
    (
        "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
        "512\n",
    ),
    (
        "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
        "520\n",
    ),
    ("sys/module/kvm/parameters/halt_poll_ns", "200000\n"),
];

/// A two-core, four-thread server with VT-x and all that vtax can use.
pub fn intel_metal() -> (Tree, Probes) {
    let tree = metal(INTEL_CPU);
    tree.write("sys/class/iommu/dmar0/", "");
    tree.write("sys/devices/system/cpu/intel_pstate/no_turbo", "0\n");
    tree.write("sys/devices/system/cpu/isolated", "2-3\n");
    tree.write(
        "sys/devices/system/cpu/cpu3/cpufreq/scaling_governor",
        "powersave\n",
    );
    for (index, level, kind, size) in [
        (0, 1, "Data", "48K"),
        (1, 2, "Unified", "1280K"),
        (2, 3, "Unified", "36864K"),
    ] {
        let cache = format!("sys/devices/system/cpu/cpu0/cache/index{index}");
        tree.write(&format!("{cache}/level"), &format!("{level}\n"));
        tree.write(&format!("{cache}/type"), kind);
        tree.write(&format!("{cache}/size"), size);
    }
    tree.write("sys/module/kvm_intel/parameters/ept", "Y\n");
    tree.write("sys/module/kvm_intel/parameters/nested", "Y\n");
    (tree, metal_probes())
}

/// The same with SVM; kvm_intel is built into its kernel and does not serve it.
pub fn amd_metal() -> (Tree, Probes) {
    let tree = metal(AMD_CPU);
    tree.write("sys/class/iommu/ivhd0/", "");
    tree.write("sys/devices/system/cpu/cpufreq/boost", "1\n");
    tree.write("sys/module/kvm_amd/parameters/npt", "1\n");
    tree.write("sys/module/kvm_amd/parameters/nested", "1\n");
    tree.write("sys/module/kvm_intel/parameters/ept", "Y\n");
    (tree, metal_probes())
}

/// A virtual machine without nested virtualization, for a user without privileges.
pub fn bare_vm() -> (Tree, Probes) {
    let tree = Tree::new(COMMON);
    write_cpus(
        &tree,
        &INTEL_CPU.replace("constant_tsc nonstop_tsc vmx", "hypervisor"),
        1,
    );
    tree.write(
        "sys/devices/system/clocksource/clocksource0/current_clocksource",
        "hpet\n",
    );
    let probes = Probes {
        hypervisor: Some("VMware".to_owned()),
        features: Features::NONE,
        affinity: Ok(vec![0]),
        memory_lock: Some(64 << 10),
        kernel: "6.1.0-13-amd64".to_owned(),
        kvm: Err(KvmTrouble::Absent),
        io_uring: Err(ErrorKind::PermissionDenied),
        vhost_net: Err(ErrorKind::NotFound),
        tun: Err(ErrorKind::NotFound),
        instructions_counter: Err(CounterTrouble::NoPmu),
    };
    (tree, probes)
}

fn metal(cpu: &str) -> Tree {
    let tree = Tree::new(COMMON);
    for (path, text) in METAL {
        tree.write(path, text);
    }
    write_cpus(&tree, cpu, 4);
    tree
}

/// CPUs in pairs of hardware threads.
fn write_cpus(tree: &Tree, cpu: &str, count: u32) {
    let cpuinfo: Vec<String> = (0..count)
        .map(|number| format!("processor\t: {number}\n{cpu}"))
        .collect();
    tree.write("proc/cpuinfo", &cpuinfo.join("\n"));
    tree.write(
        "sys/devices/system/cpu/online",
        &format!("0-{}\n", count - 1),
    );
    for number in 0..count {
        let directory = format!("sys/devices/system/cpu/cpu{number}");
        let core = number / 2;
        for (file, text) in [
            ("topology/physical_package_id", 0),
            ("topology/die_id", 0),
            ("topology/core_id", core),
        ] {
            tree.write(&format!("{directory}/{file}"), &format!("{text}\n"));
        }
        if count > 1 {
            tree.write(
                &format!("{directory}/cpufreq/scaling_driver"),
                "acpi-cpufreq\n",
            );
            tree.write(
                &format!("{directory}/cpufreq/scaling_governor"),
                "performance\n",
            );
        }
    }
}

fn metal_probes() -> Probes {
    Probes {
        hypervisor: None,
        features: Features::AVX512
            .union(Features::AVX2)
            .union(Features::AES)
            .union(Features::BITS),
        affinity: Ok(vec![0, 1, 2, 3]),
        memory_lock: None,
        kernel: "6.1.0-13-amd64".to_owned(),
        kvm: Ok(Kvm {
            api_version: 12,
            max_vcpus: 1024,
            guest_1g_pages: true,
            statistics: true,
            halt_poll: true,
        }),
        io_uring: Ok(()),
        vhost_net: Ok(()),
        tun: Ok(()),
        instructions_counter: Ok(()),
    }
}
