//! Guests that read and write beyond the end of their memory, where the VMM has memory of its own: each try must end the
//! guest, without an effect on that memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use vtax_scenarios::plan::{Experiment, Work};

use super::{ExperimentError, Outcome, guests};
use crate::rig::Rig;

/// A guest takes a few milliseconds from its start to its end: so long may each try take at most.
const PATIENCE: Duration = Duration::from_millis(200);

/// Has one process start such guests, one after the other, until they have tried often enough.
pub(super) fn repeat(
    rig: &Rig,
    experiment: &Experiment,
    seed: u64,
    stop: &AtomicBool,
) -> Result<Outcome, ExperimentError> {
    let wanted = experiment.param("attempts");
    let mut crowd = guests::start(rig, &[guests::of(Work::Wild)], seed)?;
    let start = Instant::now();
    let patience = PATIENCE.saturating_mul(u32::try_from(wanted).unwrap_or(u32::MAX));
    let (escapes, stopped) = loop {
        // An escape may end the process. Looked at in this order, what one that has ended did is seen whole.
        let there = crowd.check();
        let done = crowd.progress().into_iter().next().unwrap_or_default();
        if done.escapes > 0 || done.faults >= wanted || stop.load(Ordering::Relaxed) {
            break (done.escapes, done.faults.saturating_sub(done.escapes));
        }
        there?;
        if start.elapsed() > patience {
            return Err(ExperimentError::Silent {
                what: "a guest that reaches beyond its memory",
                seconds: start.elapsed().as_secs(),
            });
        }
        sleep(Duration::from_millis(1));
    };
    let tries = [(escapes, 1.0), (stopped, 0.0)]
        .into_iter()
        .flat_map(|(count, value)| (0..count).map(move |_| ("escape", value)));
    Ok(Outcome {
        values: tries.collect(),
        ..Outcome::default()
    })
}
