//! Neighbours: guests beside the measured one, each in a process and a control group of its own. They run during all of
//! a boot's blocks, native ones as well as the guest's.
//!
//! ```text
//! [[neighbour]] ──spec──► Neighbour (in every cell's plan) ──host──► what this host lacks for it
//! ```

pub(crate) mod host;
pub(crate) mod spec;

use serde::{Deserialize, Serialize};

use crate::plan::{Backing, Cell};

/// What a neighbour's guest does.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Computes (`cpu-hash`): all the CPU time that it can get, next to no memory.
    Cpu,
    /// Streams through all its memory (`mem-stream`).
    Memory,
    /// Updates random words of a table as large as the host's last-level cache (`mem-random-update`).
    Cache,
    /// Reads a disk of its own in random order, 32 requests at once (`block-random`).
    Io,
    /// Writes one word of each page of its memory, over and over (`mem-first-touch` on pages that are there).
    Dirty,
    /// Halts, and nothing wakes it.
    Idle,
    /// Shuts down by a triple fault; its process starts it anew each `period`.
    TripleFault,
    /// Leaves for the VMM all the time (`lat-port`).
    ExitStorm,
    /// Reads and writes beyond the end of its memory; its process starts it anew each `period`.
    Wild,
    /// Computes as `cpu` does; its process is killed by SIGKILL, and another started, each `period`.
    Killed,
}

impl Work {
    /// All of them, in the order of their description.
    pub const ALL: [Self; 10] = [
        Self::Cpu,
        Self::Memory,
        Self::Cache,
        Self::Io,
        Self::Dirty,
        Self::Idle,
        Self::TripleFault,
        Self::ExitStorm,
        Self::Wild,
        Self::Killed,
    ];

    /// As a scenario names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Cache => "cache",
            Self::Io => "io",
            Self::Dirty => "dirty",
            Self::Idle => "idle",
            Self::TripleFault => "triple-fault",
            Self::ExitStorm => "exit-storm",
            Self::Wild => "wild",
            Self::Killed => "killed",
        }
    }

    /// Whether its guest dies on purpose, again and again, and is started anew.
    #[must_use]
    pub const fn dies(self) -> bool {
        matches!(self, Self::TripleFault | Self::Wild | Self::Killed)
    }

    /// Whether it leaves most of each page of its memory as it was filled.
    #[must_use]
    pub const fn keeps_content(self) -> bool {
        matches!(self, Self::Cpu | Self::Dirty | Self::Idle)
    }
}

/// On which host CPUs neighbours may run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NeighbourPinning {
    /// Wherever the scheduler puts them.
    None,
    /// Copy *i* on the CPU of the measured guest's vCPU *i*, from the first again when there are more copies.
    WithVcpus,
    /// Copy *i* on the *i*-th CPU of this list, from the first again when there are more copies.
    List(Vec<u32>),
}

/// What a neighbour's memory is filled with before it starts: shares from 0 to 1. What is left is unique to each copy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// Pages of zeros.
    pub zero: f64,
    /// Pages that all neighbours of one seed have alike, as guests have their kernel's text and shared libraries.
    pub common: f64,
}

/// What holds the data of an `io` neighbour's disk.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum NeighbourDisk {
    /// Memory of the neighbour's process.
    Memory,
    /// A file without a name in the run directory, read past the page cache.
    Scratch,
}

/// Neighbours of one kind, one vCPU each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its name in the matrix and in the events.
    pub name: String,
    /// What it does.
    pub work: Work,
    /// How many of them; 0 is none.
    pub count: u32,
    /// Guest RAM of each in bytes, a multiple of 2 MiB, at least 16 MiB.
    pub memory: u64,
    /// What backs it on the host.
    pub backing: Backing,
    /// Where they run.
    pub pinning: NeighbourPinning,
    /// Weight of each one's control group, from 1 to 10,000; 100 is what a group has by default (cgroup v2's `cpu.weight`).
    pub cpu_weight: Option<u32>,
    /// CPU time that each may have, as a share of one CPU.
    pub cpu_quota: Option<f64>,
    /// Most bytes of memory of each process.
    pub memory_limit: Option<u64>,
    /// The host CPUs that each one's control group is confined to, ascending; `None`: no other ones than vtax itself.
    pub cpuset: Option<Vec<u32>>,
    /// Weight of each one's control group for block devices, from 1 to 10,000; 100 is what a group has by default (cgroup
    /// v2's `io.weight`).
    pub io_weight: Option<u32>,
    /// Whether KSM may merge its memory (`MADV_MERGEABLE`).
    pub mergeable: bool,
    /// What its memory holds; `None`: whatever its work leaves there.
    pub content: Option<Content>,
    /// The disk of an `io` neighbour.
    pub disk: NeighbourDisk,
    /// From one start of a guest that dies on purpose to the next, in nanoseconds.
    pub period_nanos: u64,
}

/// Bytes of an `io` neighbour's disk.
pub const DISK_BYTES: u64 = 64 << 20;

impl Neighbour {
    /// The CPU out of `guest_cpus`, those of the measured guest's vCPUs, or of its own list that a copy is bound to;
    /// `None`: wherever the scheduler puts it.
    #[must_use]
    pub fn cpu_of(&self, copy: u32, guest_cpus: &[u32]) -> Option<u32> {
        let list = match &self.pinning {
            NeighbourPinning::None => return None,
            NeighbourPinning::WithVcpus => guest_cpus,
            NeighbourPinning::List(list) => list,
        };
        let place = (copy as usize).checked_rem(list.len())?;
        list.get(place).copied()
    }

    /// Whether there are any, and they offer their memory to KSM.
    #[must_use]
    pub fn offers_memory(&self) -> bool {
        self.mergeable && self.count > 0
    }

    /// Whether it needs a control group that weighs or caps its CPU time.
    #[must_use]
    pub fn limits_cpu(&self) -> bool {
        self.cpu_weight.is_some() || self.cpu_quota.is_some()
    }

    /// Memory that all copies take together out of `backing`, disks in memory among ordinary pages.
    fn bytes_of(&self, ordinary: bool, backing: Backing) -> u64 {
        let ram = if self.backing == backing {
            self.memory
        } else {
            0
        };
        let disk = if ordinary && self.work == Work::Io && self.disk == NeighbourDisk::Memory {
            DISK_BYTES
        } else {
            0
        };
        ram.saturating_add(disk).saturating_mul(self.count.into())
    }
}

/// Bytes of ordinary memory that a cell's neighbours take.
pub(crate) fn ordinary_bytes(cell: &Cell) -> u64 {
    cell.neighbours
        .iter()
        .map(|it| {
            it.bytes_of(true, Backing::Small)
                .saturating_add(it.bytes_of(false, Backing::Thp))
        })
        .fold(0, u64::saturating_add)
}

/// Bytes of huge pages that a cell's neighbours take.
pub(crate) fn huge_bytes(cell: &Cell, backing: Backing) -> u64 {
    cell.neighbours
        .iter()
        .map(|it| it.bytes_of(false, backing))
        .fold(0, u64::saturating_add)
}

/// The neighbours of a cell in one line, for people; empty where there are none.
#[must_use]
pub fn neighbours_text(neighbours: &[Neighbour]) -> String {
    let texts: Vec<String> = neighbours
        .iter()
        .filter(|it| it.count > 0)
        .map(|it| {
            let mut text = format!("{} × {}", it.count, it.work.name());
            if it.name != it.work.name() {
                text += &format!(" ({})", it.name);
            }
            text += &match &it.pinning {
                NeighbourPinning::None => String::new(),
                NeighbourPinning::WithVcpus => ", with the vCPUs".to_owned(),
                NeighbourPinning::List(cpus) => format!(", on {cpus:?}"),
            };
            if let Some(weight) = it.cpu_weight {
                text += &format!(", weight {weight}");
            }
            if let Some(quota) = it.cpu_quota {
                text += &format!(", quota {}", crate::units::percent_text(quota));
            }
            if let Some(cpus) = &it.cpuset {
                text += &format!(", confined to {cpus:?}");
            }
            if let Some(weight) = it.io_weight {
                text += &format!(", I/O weight {weight}");
            }
            if it.mergeable {
                text += ", mergeable";
            }
            text
        })
        .collect();
    texts.join("; ")
}
