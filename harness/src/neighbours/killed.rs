//! A neighbour that is killed again and again. Its process has no guest: it starts another neighbour, kills it in whatever
//! it is doing, and starts it anew.
//!
//! ```text
//! vtax ──► vtax neighbour (killed) ──► vtax neighbour (cpu) ──SIGKILL──► … ──► vtax neighbour (cpu) ──SIGKILL──► …
//! ```
//!
//! The one that is killed is in the control group of the one that kills, on its CPU, and dies with it.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use vtax_scenarios::plan::{Neighbour, NeighbourPinning, Work};

use super::beside::PROGRAM;
use super::page::{Page, Word};
use super::{Around, Crowd, CrowdError, Orders};
use crate::host::cgroups::Cgroups;

/// Why it goes on no longer.
#[derive(Debug, thiserror::Error)]
pub(super) enum KilledError {
    #[error(transparent)]
    Crowd(#[from] CrowdError),
    #[error("killing a neighbour, or telling the parent: {0}")]
    Io(#[from] io::Error),
}

impl KilledError {
    /// Whether the host lacks something, as opposed to a neighbour that failed.
    pub fn is_lack(&self) -> bool {
        matches!(self, Self::Crowd(CrowdError::Lacking { .. }))
    }
}

/// One after the other; `ready` is called when one is at work.
pub(super) fn go_on(
    orders: &Orders,
    page: &Page,
    ready: &mut dyn FnMut() -> io::Result<()>,
) -> Result<Infallible, KilledError> {
    let period = Duration::from_nanos(orders.plan.period_nanos);
    // What this process has, its child inherits: CPU and control group.
    let plan = Neighbour {
        work: Work::Cpu,
        count: 1,
        pinning: NeighbourPinning::None,
        cpu_weight: None,
        cpu_quota: None,
        memory_limit: None,
        cpuset: None,
        io_weight: None,
        ..orders.plan.clone()
    };
    let around = Around {
        program: Path::new(PROGRAM),
        cgroups: &Cgroups::default(),
        guest_cpus: &[],
        scratch: &orders.scratch,
        seed: orders.own_seed,
    };
    loop {
        let start = Instant::now();
        let mut crowd = Crowd::start(std::slice::from_ref(&plan), &around)?;
        page.add(Word::Starts, 1);
        ready()?;
        sleep(period.saturating_sub(start.elapsed()));
        // One that has ended by itself has not been killed.
        crowd.check()?;
        for progress in crowd.progress() {
            page.add(Word::Units, progress.units);
            page.add(Word::CpuNanos, progress.cpu_nanos.unwrap_or(0));
        }
        crowd.kill(0)?;
        page.add(Word::Faults, 1);
    }
}
