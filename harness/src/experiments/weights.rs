//! Two guests that want all of one CPU, with a weight each: what each gets of it.

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
    let weights = [experiment.param("first"), experiment.param("second")];
    let ring = guests::ring(rig)?;
    let plans = weights.map(|weight| Neighbour {
        cpu_weight: u32::try_from(weight).ok(),
        pinning: ring.clone(),
        ..guests::of(Work::Cpu)
    });
    let mut crowd = guests::start(rig, &plans, seed)?;
    let window = Duration::from_nanos(experiment.param("window"));
    let (done, _) = guests::watch(&mut crowd, window, stop)?;
    let [first, second] = done.as_slice() else {
        return Err(ExperimentError::Aborted);
    };
    let [one, other] = weights.map(|weight| weight as f64);
    let entitled = share(one, other);
    Ok(Outcome {
        values: vec![
            ("share", share(first.cpu_nanos, second.cpu_nanos) / entitled),
            (
                "lesser-share",
                share(second.cpu_nanos, first.cpu_nanos) / (1.0 - entitled),
            ),
            ("work", share(first.units, second.units) / entitled),
        ],
        ..Outcome::default()
    })
}

/// What the first has of what both have.
fn share(first: f64, second: f64) -> f64 {
    first / (first + second)
}
