//! A guest whose CPU time is capped beside one whose is not, on one CPU that both want.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use vtax_scenarios::plan::{Experiment, Neighbour, Work};

use super::{ExperimentError, Outcome, guests};
use crate::rig::Rig;

/// Lets them compete for a while.
pub(super) fn repeat(
    rig: &Rig,
    experiment: &Experiment,
    seed: u64,
    stop: &AtomicBool,
) -> Result<Outcome, ExperimentError> {
    let quota = experiment.param("percent") as f64 / 100.0;
    let ring = guests::ring(rig)?;
    let plans = [Some(quota), None].map(|cpu_quota| Neighbour {
        cpu_quota,
        pinning: ring.clone(),
        ..guests::of(Work::Cpu)
    });
    let mut crowd = guests::start(rig, &plans, seed)?;
    let window = Duration::from_nanos(experiment.param("window"));
    let (done, nanos) = guests::watch(&mut crowd, window, stop)?;
    let [capped, free] = done.as_slice() else {
        return Err(ExperimentError::Aborted);
    };
    Ok(Outcome {
        values: vec![
            ("used", capped.cpu_nanos / nanos / quota),
            ("left", free.cpu_nanos / nanos / (1.0 - quota)),
        ],
        ..Outcome::default()
    })
}
