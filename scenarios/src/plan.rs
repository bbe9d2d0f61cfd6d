//! The plan: what will be measured, resolved to the last default, in the order in which it will be measured.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vtax_workloads::MAX_PARAMS;

pub use crate::claim::{Bound, Claim, Compare, Form, MetricClaim, Premise, What};
pub use crate::experiment::{Entry, Experiment, ExperimentKind, Metric, Scale, Unit};
pub use crate::knobs::{HostSettings, Knob, KnobFact, Obstacle};
pub use crate::memory::{
    MEMORY_STEP_BYTES, MIN_MEMORY_BYTES, SHARED_BYTES, arena_bytes, arena_start, memory_for_arenas,
    reserved_bytes,
};
pub use crate::neighbour::{
    Content, DISK_BYTES, Neighbour, NeighbourDisk, NeighbourPinning, Work, neighbours_text,
};
pub use crate::order::{BlockKind, child_seed, round_order};
pub use crate::scheduling::Scheduling;

/// What backs guest memory (or the native baseline's memory) on the host.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum Backing {
    /// 4 KiB pages; transparent huge pages are refused (`MADV_NOHUGEPAGE`).
    #[serde(rename = "4k")]
    Small,
    /// Anonymous memory that asks for transparent huge pages (`MADV_HUGEPAGE`).
    #[serde(rename = "thp")]
    Thp,
    /// 2 MiB pages from hugetlbfs.
    #[serde(rename = "2M")]
    Huge2M,
    /// 1 GiB pages from hugetlbfs.
    #[serde(rename = "1G")]
    Huge1G,
}

/// Page size of the guest's own page tables.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum PageSize {
    /// 4 KiB.
    #[serde(rename = "4k")]
    Size4K,
    /// 2 MiB.
    #[serde(rename = "2M")]
    Size2M,
    /// 1 GiB, where the CPU allows it.
    #[serde(rename = "1G")]
    Size1G,
}

/// On which host CPUs the vCPU threads may run. Native blocks run on the same threads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pinning {
    /// Wherever the scheduler puts them.
    None,
    /// vCPU *i* on the *i*-th CPU that this process may use.
    OneToOne,
    /// vCPU *i* on the *i*-th CPU of this list.
    List(Vec<u32>),
    /// All vCPUs on this one CPU.
    AllOn(u32),
}

/// How the guest's vCPUs appear to the guest (CPUID leaf 0xB).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Topology {
    /// Sockets.
    pub sockets: u32,
    /// Cores per socket.
    pub cores: u32,
    /// Threads per core.
    pub threads: u32,
}

/// How a guest sees its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskDevice {
    /// virtio-blk over MMIO: queues in shared memory, one kick for many requests.
    VirtioBlk,
    /// An emulated ATA disk that is driven by port I/O, a sector at a time.
    AtaPio,
}

impl DiskDevice {
    /// As a scenario names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::VirtioBlk => "virtio-blk",
            Self::AtaPio => "ata-pio",
        }
    }
}

/// What holds a disk's data on the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskBacking {
    /// Memory of the harness: no device behind it, so that the way to it is all that is measured.
    Memory,
    /// A file that vtax makes in the run directory, and removes.
    Scratch,
    /// A file or block device that the user names.
    Path {
        /// Its path.
        path: String,
        /// Whether the user lets vtax overwrite it.
        overwrite: bool,
    },
}

/// How a guest learns that its disk has answered.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Completion {
    /// By an interrupt; it halts until then.
    Interrupt,
    /// By looking, all the time.
    Poll,
}

/// A guest's disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Disk {
    /// How the guest sees it.
    pub device: DiskDevice,
    /// What holds its data.
    pub backing: DiskBacking,
    /// Its size in bytes, a multiple of 1 MiB; `None`: all that is at the path.
    pub bytes: Option<u64>,
    /// Whether a file or block device is accessed past the host's page cache (`O_DIRECT`).
    pub direct: bool,
    /// Number of queues, each with an I/O thread; vCPU *i* uses queue *i*.
    pub queues: u16,
    /// How the guest learns of an answer.
    pub completion: Completion,
    /// How long an I/O thread looks for further requests before it sleeps, in nanoseconds.
    pub poll_nanos: u64,
    /// The host CPU of each queue's I/O thread; empty: wherever the scheduler puts them.
    pub io_cpus: Vec<u32>,
    /// Whether the guest may only read.
    pub read_only: bool,
}

/// What a guest's network link is made of on the host. All of it lies in a network namespace of its own.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum NetLink {
    /// The guest's tap alone: its peer is at the tap's other end. The native twin has a veth pair.
    Namespace,
    /// A bridge between the guest's tap, the native twin's veth pair and the peer's.
    Bridge,
}

/// Who serves the queues of a guest's network card.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum NetBackend {
    /// The host's kernel where it can, else the VMM. Settled before a run, so no record has it.
    Auto,
    /// The host's kernel (vhost-net).
    Vhost,
    /// An I/O thread of the VMM.
    Vmm,
}

impl NetBackend {
    /// What runs were served by before there was a choice.
    const fn of_older_runs() -> Self {
        Self::Vmm
    }
}

/// A guest's network link, a virtio-net device with one pair of queues.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Net {
    /// What it is made of.
    pub link: NetLink,
    /// Who serves its queues.
    #[serde(default = "NetBackend::of_older_runs")]
    pub backend: NetBackend,
    /// How the guest learns of a frame.
    pub completion: Completion,
    /// How long the thread that serves them looks for further frames before it sleeps, in nanoseconds.
    pub poll_nanos: u64,
    /// The host CPU of that thread; `None`: wherever the scheduler puts it.
    pub io_cpu: Option<u32>,
}

/// The guest of one cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guest {
    /// Number of vCPUs; equals sockets × cores × threads.
    pub vcpus: u32,
    /// Their topology.
    pub topology: Topology,
    /// Where they run.
    pub pinning: Pinning,
    /// Guest RAM in bytes, a multiple of 2 MiB, at least 16 MiB.
    pub memory: u64,
    /// What backs it on the host.
    pub backing: Backing,
    /// Whether the host populates what of it the workload uses before the guest starts.
    pub prefault: bool,
    /// Whether KSM may merge it (`MADV_MERGEABLE`).
    #[serde(default)]
    pub mergeable: bool,
    /// NUMA node to bind it to.
    pub numa_node: Option<u32>,
    /// Page size of the guest's own page tables.
    pub page_size: PageSize,
    /// How long KVM polls for a wake-up of a halted vCPU before its thread sleeps, in nanoseconds; `None`: as the host is
    /// set.
    #[serde(default)]
    pub halt_poll_nanos: Option<u64>,
    /// How the host schedules its vCPU threads; `None`: as vtax itself.
    #[serde(default)]
    pub scheduling: Option<Scheduling>,
    /// Its disk.
    #[serde(default)]
    pub disk: Option<Disk>,
    /// Its network link.
    #[serde(default)]
    pub net: Option<Net>,
}

impl Guest {
    /// The CPU out of `allowed` that a vCPU is bound to; `None`: wherever the scheduler puts it.
    #[must_use]
    pub fn cpu_of(&self, vcpu: u32, allowed: &[u32]) -> Option<u32> {
        let place = vcpu as usize;
        match &self.pinning {
            Pinning::None => None,
            Pinning::OneToOne => allowed.get(place).copied(),
            Pinning::List(list) => list.get(place).copied(),
            Pinning::AllOn(cpu) => Some(*cpu),
        }
    }

    /// The CPUs that vCPUs are bound to, out of `allowed`.
    #[must_use]
    pub fn measured_cpus(&self, allowed: &[u32]) -> Vec<u32> {
        let mut cpus: Vec<u32> = (0..self.vcpus)
            .filter_map(|vcpu| self.cpu_of(vcpu, allowed))
            .collect();
        cpus.sort_unstable();
        cpus.dedup();
        cpus
    }

    /// The CPU that a vCPU's partner thread is bound to ([`vtax_workloads::Task::needs_partner`]): the next one that no vCPU
    /// is bound to. `None`: wherever the scheduler puts it, or there is no such CPU.
    #[must_use]
    pub fn partner_cpu(&self, vcpu: u32, allowed: &[u32]) -> Option<u32> {
        if self.pinning == Pinning::None {
            return None;
        }
        let taken: Vec<u32> = (0..self.vcpus)
            .filter_map(|vcpu| self.cpu_of(vcpu, allowed))
            .collect();
        let free = allowed.iter().filter(|cpu| !taken.contains(cpu));
        free.copied().nth(vcpu as usize)
    }
}

/// How a cell is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Wanted half-width of the ratio's interval, relative: 0.005 is ±0.5 %.
    pub precision: f64,
    /// Confidence of the interval, such as 0.95.
    pub confidence: f64,
    /// Length that a block aims at, in nanoseconds; at least 10 ms.
    pub block_nanos: u64,
    /// Rounds per boot; a round holds one native, one guest and one control block, in random order.
    pub rounds: u32,
    /// Boots of the pilot stage, whose variance sizes the run (Stein's two-stage rule).
    pub pilot_boots: u32,
    /// Most boots of one cell.
    pub max_boots: u32,
}

/// The workload of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadChoice {
    /// Name in [`vtax_workloads::CATALOGUE`].
    pub name: String,
    /// Values in the order of [`vtax_workloads::Workload::params`].
    pub params: [u64; MAX_PARAMS],
}

/// Which cells decide a scenario's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClaimOver {
    /// Cells whose workload is of the CPU family.
    Cpu,
    /// Cells whose workload is of the memory family.
    Memory,
    /// All cells.
    All,
}

/// One combination of matrix values with one workload: the unit that gets a ratio and a verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Position in [`Plan::cells`].
    pub id: u32,
    /// Unique, readable: `cpu-hash` or `mem-latency size=1MiB / guest.backing=2M`.
    pub label: String,
    /// Matrix values and non-default workload parameters, as the user writes them.
    pub parameters: BTreeMap<String, String>,
    /// The guest.
    pub guest: Guest,
    /// What backs the native side's memory; `None`: the very pages of the guest.
    pub baseline_backing: Option<Backing>,
    /// Guests that run beside it, during native blocks too.
    #[serde(default)]
    pub neighbours: Vec<Neighbour>,
    /// What the host is set to meanwhile; all else is as the host has it.
    #[serde(default)]
    pub host: HostSettings,
    /// What runs.
    pub workload: WorkloadChoice,
    /// How it is measured.
    pub measure: Measure,
}

/// A scenario, resolved. Embedded in every run record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The scenario's name.
    pub scenario: String,
    /// What it is for, in its author's words.
    pub description: String,
    /// The scenario file's text, for reproduction.
    pub source: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// Wall-clock budget of the whole run in nanoseconds.
    pub budget_nanos: u64,
    /// What is claimed.
    pub claim: Claim,
    /// By their paths, the fields that some cells vary and others leave as the scenario's own tables set them: to what these
    /// do, as the user writes it. A field that the tables leave out too is not among them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub base: BTreeMap<String, String>,
    /// What will be measured.
    pub cells: Vec<Cell>,
    /// What will be tried after that, as wholes.
    #[serde(default)]
    pub experiments: Vec<Experiment>,
    /// The text that a label had to contain for its cell or experiment to be among these; `None`: all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// What a plan may need to know of a host; the harness fills it in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    /// CPUs that this process may run on.
    pub cpus: Vec<u32>,
    /// NUMA nodes that have memory.
    pub numa_nodes: Vec<u32>,
    /// Free 2 MiB pages.
    pub free_huge_2m: u64,
    /// Free 1 GiB pages.
    pub free_huge_1g: u64,
    /// Whether transparent huge pages can be had (`always` or `madvise`).
    pub thp: bool,
    /// Whether a guest's page tables may hold 1 GiB pages.
    pub guest_1g_pages: bool,
    /// Most vCPUs of one guest.
    pub max_vcpus: u32,
    /// Bytes of memory that could be had without swapping.
    pub available_memory: u64,
    /// CPU features, as [`vtax_workloads::Features`] bits.
    pub features: u32,
    /// The highest real-time priority that vtax may give a thread; 0: none.
    #[serde(default)]
    pub realtime_priority: u32,
    /// Whether KVM here lets each guest have a halt-polling time of its own (KVM_CAP_HALT_POLL).
    pub halt_poll: bool,
    /// Whether a guest's VMCALL or VMMCALL reaches KVM: with VT-x and SVM it does.
    pub hypercalls: bool,
    /// Workloads whose every operation is there to leave the guest, and of which neither KVM nor the VMM counts one exit for
    /// each: what is below this KVM answers them.
    #[serde(default)]
    pub without_exit: Vec<String>,
    /// Whether vtax may use io_uring, and the kernel's is of Linux 5.11 or later.
    #[serde(default)]
    pub io_uring: bool,
    /// Whether the kernel can serve a guest's network card: /dev/vhost-net can be opened.
    pub vhost_net: bool,
    /// Whether vtax may make control groups that weigh and cap CPU time.
    pub cgroup_cpu: bool,
    /// Whether vtax may make control groups that limit memory.
    pub cgroup_memory: bool,
    /// Whether vtax may make control groups that confine processes to CPUs.
    pub cgroup_cpuset: bool,
    /// Whether vtax may make control groups for block devices.
    pub cgroup_io: bool,
    /// The highest weight by which a block device here is shared among control groups: 1000 with the scheduler bfq, 10,000
    /// with blk-iocost; 0: no device is.
    pub io_weight: u32,
    /// Whether the kernel can merge equal pages.
    pub ksm: bool,
    /// What can be set on the host, and what it is set to.
    #[serde(default)]
    pub knobs: BTreeMap<Knob, KnobFact>,
}
