//! Neighbours as the guests of an experiment.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use vtax_scenarios::memory::MIN_MEMORY_BYTES;
use vtax_scenarios::plan::{Backing, Neighbour, NeighbourDisk, NeighbourPinning, Work};

use super::{ExperimentError, pause};
use crate::neighbours::beside::PROGRAM;
use crate::neighbours::{Around, Crowd, Progress};
use crate::rig::Rig;

/// How long guests that compete for a CPU are left alone before they are watched: several slices of each.
pub(super) const SETTLING: Duration = Duration::from_millis(100);

/// A guest that does this: small, without limits, wherever the scheduler puts it. One that dies on purpose is started anew
/// at once.
pub(super) fn of(work: Work) -> Neighbour {
    Neighbour {
        name: work.name().to_owned(),
        work,
        count: 1,
        memory: MIN_MEMORY_BYTES,
        backing: Backing::Small,
        pinning: NeighbourPinning::None,
        cpu_weight: None,
        cpu_quota: None,
        memory_limit: None,
        cpuset: None,
        io_weight: None,
        mergeable: false,
        content: None,
        disk: NeighbourDisk::Memory,
        period_nanos: 0,
    }
}

/// Starts them; they are at work then.
pub(super) fn start(rig: &Rig, plans: &[Neighbour], seed: u64) -> Result<Crowd, ExperimentError> {
    Ok(Crowd::start(
        plans,
        &Around {
            program: Path::new(PROGRAM),
            cgroups: &rig.cgroups,
            guest_cpus: &[],
            scratch: &std::env::temp_dir(),
            seed,
        },
    )?)
}

/// The CPU on which guests compete with one another: the last, since the first ones have most interrupts.
pub(super) fn ring(rig: &Rig) -> Result<NeighbourPinning, ExperimentError> {
    let cpu = rig.cpus.last().copied();
    let none = || ExperimentError::NotTestable("vtax may run on no CPU".to_owned());
    Ok(NeighbourPinning::List(vec![cpu.ok_or_else(none)?]))
}

/// What a guest did in a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    /// CPU time in nanoseconds.
    pub cpu_nanos: f64,
    /// Units of its work.
    pub units: f64,
}

/// Watches guests for about `window`: what each did, and how long it was in nanoseconds.
pub(super) fn watch(
    crowd: &mut Crowd,
    window: Duration,
    stop: &AtomicBool,
) -> Result<(Vec<Done>, f64), ExperimentError> {
    pause(SETTLING, stop);
    let (start, before) = (Instant::now(), crowd.progress());
    pause(window, stop);
    let (elapsed, after) = (start.elapsed(), crowd.progress());
    // One that has ended has no CPU time: why it has comes first.
    crowd.check()?;
    let done = |(before, after): (&Progress, &Progress)| Done {
        cpu_nanos: after
            .cpu_nanos
            .unwrap_or(0)
            .saturating_sub(before.cpu_nanos.unwrap_or(0)) as f64,
        units: after.units.saturating_sub(before.units) as f64,
    };
    let done = before.iter().zip(&after).map(done).collect();
    Ok((done, elapsed.as_nanos() as f64))
}
