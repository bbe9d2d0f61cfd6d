//! Neighbours: guests beside the measured one, each in a process of its own that is this very binary.
//!
//! ```text
//! Crowd::start ──orders on stdin──► vtax neighbour (process) ──► guest: its VMM, its work, block by block
//!      ▲                                  │
//!      ├──── "ready" on stderr, or why not ┤
//!      └──── progress in a shared page ────┘        killed, or the parent gone: it ends
//! ```
//!
//! All are started at once and awaited together. A crowd stays on the thread that started it: the kernel ends each process
//! with that thread (`PR_SET_PDEATHSIG`), so that none outlives a vtax that is killed.

pub mod beside;
mod content;
pub mod footprint;
mod guest;
mod killed;
pub mod member;
mod page;
pub mod process;

use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vtax_scenarios::plan::{Neighbour, Work, child_seed};
use vtax_workloads::machine::DEVICES_BYTES;

use crate::host::cgroups::{CgroupError, Cgroups};
pub use beside::Told;
use footprint::{Footprint, FootprintError};
use member::Member;

/// Keeps the neighbours' seeds apart from the plan's other random choices.
const NEIGHBOUR_STREAM: u64 = 17;

/// What a neighbour's process is told, as one line of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Orders {
    /// What to be.
    pub plan: Neighbour,
    /// The host CPU to stay on; `None`: wherever the scheduler puts it.
    pub cpu: Option<u32>,
    /// Files through which it joins its control group.
    pub entrances: Vec<PathBuf>,
    /// Where its scratch disk lies.
    pub scratch: PathBuf,
    /// Seed of what all neighbours have in common.
    pub common_seed: u64,
    /// Seed of what it has alone.
    pub own_seed: u64,
    /// The process that it must not outlive.
    pub parent: u32,
}

/// Why neighbours could not be had, or what has become of one.
#[derive(Debug, thiserror::Error)]
pub enum CrowdError {
    /// A control group.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A process could not be started or heard.
    #[error("starting neighbour {name}: {source}")]
    Process {
        /// Which.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// The host lacks something that it needs.
    #[error("neighbour {name} cannot run here: {reason}")]
    Lacking {
        /// Which.
        name: String,
        /// In its own words.
        reason: String,
    },
    /// It has ended, or never got to work.
    #[error("neighbour {name} (process {process}) ended: {reason}")]
    Ended {
        /// Which.
        name: String,
        /// Its process.
        process: u32,
        /// In its own words, or by what signal.
        reason: String,
    },
    /// It is silent.
    #[error("neighbour {name} (process {process}) was not ready within {seconds} s")]
    Silent {
        /// Which.
        name: String,
        /// Its process.
        process: u32,
        /// How long it had.
        seconds: u64,
    },
}

impl CrowdError {
    /// Whether the host lacks something, rather than that anything failed.
    #[must_use]
    pub fn is_lack(&self) -> bool {
        match self {
            Self::Lacking { .. } => true,
            Self::Cgroup(error) => error.is_lack(),
            _ => false,
        }
    }
}

/// What neighbours are started with, apart from their plans.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// This binary, or in tests and benchmarks vtax.
    pub program: &'a Path,
    /// Where their control groups can be made.
    pub cgroups: &'a Cgroups,
    /// The CPUs of the measured guest's vCPUs, in their order.
    pub guest_cpus: &'a [u32],
    /// The directory of scratch disks.
    pub scratch: &'a Path,
    /// The plan's seed.
    pub seed: u64,
}

/// What a neighbour has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Units of its work, in whole blocks of about 10 ms: iterations of its workload, or exits of a storm.
    pub units: u64,
    /// CPU time of its process in nanoseconds, and of those that it has killed on purpose; `None` once that is gone.
    pub cpu_nanos: Option<u64>,
    /// Times that its guest died on purpose and was stopped by its VMM, or was killed together with it.
    pub faults: u64,
    /// Times that its guest was started.
    pub starts: u64,
    /// Times that a guest's access beyond its memory had an effect. Never, if guests are isolated.
    pub escapes: u64,
}

/// Neighbours at work. Dropped, they are killed and their groups removed.
#[derive(Debug)]
pub struct Crowd {
    members: Vec<Member>,
    _this_thread_only: PhantomData<*const ()>,
}

impl Crowd {
    /// Starts all copies of these neighbours and returns once every one is at work: its memory filled, its guest running.
    ///
    /// # Errors
    /// [`CrowdError`]; then none is left.
    pub fn start(plans: &[Neighbour], around: &Around<'_>) -> Result<Self, CrowdError> {
        let copies = plans
            .iter()
            .flat_map(|plan| (0..plan.count).map(move |copy| (plan, copy)));
        let mut crowd = Self {
            members: Vec::new(),
            _this_thread_only: PhantomData,
        };
        for (number, (plan, copy)) in (0..).zip(copies) {
            let own_seed = child_seed(around.seed, &[NEIGHBOUR_STREAM, number]);
            crowd
                .members
                .push(Member::spawn(plan, copy, own_seed, around)?);
        }
        for member in &mut crowd.members {
            member.await_ready()?;
        }
        Ok(crowd)
    }

    /// All of them, in the order of their plans, killed ones included.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// What each has done so far.
    #[must_use]
    pub fn progress(&self) -> Vec<Progress> {
        self.members.iter().map(Member::progress).collect()
    }

    /// Their processes.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().map(Member::process).collect()
    }

    /// What each one's process takes of the host's memory.
    #[must_use]
    pub fn memory(&self) -> Vec<Result<Footprint, FootprintError>> {
        let of = |member: &Member| Footprint::of(member.process(), member.plan().memory);
        self.members.iter().map(of).collect()
    }

    /// Kills number `index` by SIGKILL, and waits for its end: it dies in whatever it was doing.
    ///
    /// # Errors
    /// It has no such number, or is gone already.
    pub fn kill(&mut self, index: usize) -> io::Result<()> {
        self.members
            .get_mut(index)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?
            .kill()
    }

    /// Whether all are still at work, those apart that [`Crowd::kill`] has ended.
    ///
    /// # Errors
    /// The first that has ended by itself, with its reason; or a guest that reached beyond its memory.
    pub fn check(&mut self) -> Result<(), CrowdError> {
        self.members.iter_mut().try_for_each(Member::check)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // All are killed before the first is waited for: they end side by side.
        self.members.iter_mut().for_each(Member::strike);
    }
}

/// The workload that a neighbour's guest runs, with its first parameters. `arena` is what it has to work on in bytes,
/// `cache` the size of the host's last-level cache.
fn workload(work: Work, arena: u64, cache: u64) -> (&'static str, Vec<u64>) {
    const LINE: u64 = 64;
    const PAGE: u64 = 4096;
    // The arrays of mem-stream lie a little apart.
    const GAPS: u64 = 64 << 10;
    const TRIAD: u64 = 3;
    const DEPTH: u64 = 32;
    const BLOCK_4_KIB: u64 = 3;
    const READ: u64 = 0;
    const MOST: u64 = 4 << 30;
    let arena = arena.min(MOST);
    match work {
        Work::Cpu | Work::Killed => ("cpu-hash", Vec::new()),
        Work::Memory => ("mem-stream", vec![TRIAD, (arena - GAPS) / 3 / LINE * LINE]),
        Work::Cache => ("mem-random-update", vec![arena.min(cache) / LINE * LINE]),
        Work::Io => ("block-random", vec![READ, DEPTH, BLOCK_4_KIB]),
        Work::Dirty => ("mem-first-touch", vec![arena / PAGE * PAGE]),
        Work::Idle => ("fault-halt", Vec::new()),
        Work::TripleFault => ("fault-triple", Vec::new()),
        Work::ExitStorm => ("lat-port", Vec::new()),
        // Writes, at a place that is not its own.
        Work::Wild => ("mem-first-touch", vec![DEVICES_BYTES]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vtax_scenarios::memory::{MIN_MEMORY_BYTES, arena_bytes};

    #[test]
    fn every_work_fits_into_every_arena() {
        for memory in [MIN_MEMORY_BYTES, 64 << 20, 16 << 30] {
            let arena = arena_bytes(memory, 1);
            for work in Work::ALL {
                let (name, given) = workload(work, arena, 32 << 20);
                let (_, workload) = vtax_workloads::find(name).unwrap();
                let mut params = vtax_workloads::default_params(workload);
                for ((value, param), given) in params.iter_mut().zip(workload.params).zip(given) {
                    assert!((param.min..=param.max).contains(&given), "{name}: {given}");
                    *value = given;
                }
                assert!((workload.footprint)(&params) <= arena, "{name}");
            }
        }
    }

    #[test]
    fn orders_survive_json() {
        let text = "schema = 1\nname = \"s\"\n[[neighbour]]\nwork = \"cpu\"\ncpu-quota = \"50%\"\n\
                    [[workload]]\nname = \"cpu-hash\"";
        let loaded = vtax_scenarios::parse("s.toml", text, &Default::default()).unwrap();
        let orders = Orders {
            plan: loaded.plan.cells[0].neighbours[0].clone(),
            cpu: Some(1),
            entrances: vec!["/sys/fs/cgroup/cpu/vtax-1-0/tasks".into()],
            scratch: "/tmp".into(),
            common_seed: u64::MAX,
            own_seed: 2,
            parent: 3,
        };
        let json = serde_json::to_string(&orders).unwrap();
        assert!(!json.contains('\n'));
        assert_eq!(serde_json::from_str::<Orders>(&json).unwrap(), orders);
    }
}
