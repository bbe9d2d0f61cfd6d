//! What a control group is to enforce, and the files by which it is told, in both versions.
//!
//! Sources: Linux, admin-guide/cgroup-v2.rst ("Controllers"); for version 1 scheduler/sched-bwc.rst, and cpusets.rst,
//! memory.rst in admin-guide/cgroup-v1.

use super::io_weight::IoWeight;
use super::root::format_list;

/// What version 1 calls a weight of 100.
const SHARES_OF_100: u64 = 1024;

/// The period of a quota in microseconds, the kernel's default.
const PERIOD_MICROS: f64 = 100_000.0;

/// The kernel takes no smaller quota.
const LEAST_QUOTA_MICROS: f64 = 1000.0;

/// A part of the kernel that enforces limits on groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Weighs and caps CPU time.
    Cpu,
    /// Confines processes to CPUs.
    Cpuset,
    /// Limits memory.
    Memory,
    /// Weighs I/O of block devices.
    Io,
}

impl Controller {
    /// All that vtax makes use of.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Cpuset, Self::Memory, Self::Io];

    /// Its name in version 2.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
            Self::Io => "io",
        }
    }

    /// Its name in version 1.
    pub(super) const fn legacy_name(self) -> &'static str {
        match self {
            Self::Io => "blkio",
            _ => self.name(),
        }
    }
}

/// What a group is to enforce.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Weight, from 1 to 10,000, where 100 is that of any new group.
    pub cpu_weight: Option<u32>,
    /// CPU time per wall-clock time, in CPUs.
    pub cpu_quota: Option<f64>,
    /// The CPUs that processes may run on, ascending.
    pub cpus: Option<Vec<u32>>,
    /// Most bytes of memory.
    pub memory: Option<u64>,
    /// Weight for a block device.
    pub io_weight: Option<IoWeight>,
}

impl Limits {
    /// What is written to which file of a group, and the controller that the file belongs to.
    pub(super) fn files(&self, unified: bool) -> Vec<(Controller, &'static str, String)> {
        let mut files = Vec::new();
        if let Some(weight) = self.cpu_weight {
            let shares = (u64::from(weight) * SHARES_OF_100 / 100).max(2);
            files.push(match unified {
                true => (Controller::Cpu, "cpu.weight", weight.to_string()),
                false => (Controller::Cpu, "cpu.shares", shares.to_string()),
            });
        }
        if let Some(quota) = self.cpu_quota {
            let micros = (quota * PERIOD_MICROS).round().max(LEAST_QUOTA_MICROS);
            let period = PERIOD_MICROS.to_string();
            match unified {
                true => files.push((Controller::Cpu, "cpu.max", format!("{micros} {period}"))),
                false => files.extend([
                    (Controller::Cpu, "cpu.cfs_period_us", period),
                    (Controller::Cpu, "cpu.cfs_quota_us", micros.to_string()),
                ]),
            }
        }
        if let Some(cpus) = &self.cpus {
            files.push((Controller::Cpuset, "cpuset.cpus", format_list(cpus)));
        }
        if let Some(bytes) = self.memory {
            let name = match unified {
                true => "memory.max",
                false => "memory.limit_in_bytes",
            };
            files.push((Controller::Memory, name, bytes.to_string()));
        }
        if let Some(IoWeight { sharer, weight }) = self.io_weight {
            files.push((Controller::Io, sharer.file(unified), weight.to_string()));
        }
        files
    }
}
