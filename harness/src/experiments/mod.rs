//! Experiments: what is tried as a whole, again and again. A file for each kind.
//!
//! ```text
//! plan::Experiment ──repeat──► Outcome: a value for each metric ──notebook──► trials.csv
//! ```
//!
//! Repetitions of all experiments take turns, so that drift of the host reaches all alike.

mod boot;
mod density;
mod energy;
mod growth;
mod guests;
mod idle;
mod isolation;
mod ksm;
mod quota;
mod weights;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use vtax_reports::trials::Trial;
use vtax_scenarios::plan::{Experiment, ExperimentKind, Plan, child_seed};

use crate::guest::Failure;
use crate::guest::embedded::VmError;
use crate::guest::embedded::devices::DeviceError;
use crate::guest::mailbox::MailboxError;
use crate::guest::ram::RamError;
use crate::host::affinity::AffinityError;
use crate::host::prepared::{KnobError, Prepared};
use crate::host::root::ReadError;
use crate::lack::Lack as _;
use crate::neighbours::CrowdError;
use crate::neighbours::footprint::FootprintError;
use crate::notebook::Notebook;
use crate::progress::Progress;
use crate::rig::{Rig, RigError};
use crate::run::RunError;

/// Why an experiment is over before its time.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// This host cannot do it; says what is missing, and the remedy.
    #[error("{0}")]
    NotTestable(String),
    /// No memory for a guest.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// A guest could not be made.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// A small guest could not be made, or failed.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// A guest failed.
    #[error(transparent)]
    Guest(#[from] Failure),
    /// A guest answered, but not as it should.
    #[error(transparent)]
    Mailbox(#[from] MailboxError),
    /// A guest's devices could not be made, or one has stopped.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A thread cannot have its CPU.
    #[error(transparent)]
    Affinity(#[from] AffinityError),
    /// A guest did something else than it was asked to.
    #[error("{what}: {found} in the place of {wanted}")]
    Unlike {
        /// What.
        what: &'static str,
        /// How much it was.
        found: u64,
        /// How much it should have been.
        wanted: u64,
    },
    /// A thread or a file of the kernel.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// Guests in processes of their own.
    #[error(transparent)]
    Crowd(#[from] CrowdError),
    /// What one of them takes of the host's memory.
    #[error(transparent)]
    Footprint(#[from] FootprintError),
    /// The host cannot be set as the experiment needs it.
    #[error(transparent)]
    Knob(#[from] KnobError),
    /// The host does not tell.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Other processes did something that cannot be told apart from what the guests did: the repetition does not count.
    #[error("{0}; this repetition does not count")]
    Disturbed(&'static str),
    /// It does not come to an end.
    #[error("{what} did not come to an end within {seconds} s")]
    Silent {
        /// What.
        what: &'static str,
        /// How long it had.
        seconds: u64,
    },
    /// Another guest of the same repetition failed first.
    #[error("another guest failed")]
    Aborted,
}

/// Keeps the seeds of experiments apart from those of cells.
const EXPERIMENT_STREAM: u64 = 20;

/// What one repetition brought.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// The metrics' values, in their units.
    pub values: Vec<(&'static str, f64)>,
    /// Points of series: metric, nanoseconds since the repetition began (or what else the kind's series go over), value.
    pub series: Vec<(&'static str, u64, f64)>,
    /// Metrics that this host does not have: why.
    pub unavailable: Vec<(&'static str, String)>,
}

/// Tries an experiment once. `seed`: of all that is random in this repetition.
///
/// # Errors
/// [`ExperimentError`]: it concerns this experiment alone.
pub fn repeat(
    rig: &Rig,
    experiment: &Experiment,
    seed: u64,
    host: &mut Prepared,
    stop: &AtomicBool,
) -> Result<Outcome, ExperimentError> {
    match experiment.kind {
        ExperimentKind::Boot => boot::repeat(rig, experiment, seed, stop),
        ExperimentKind::Idle => idle::repeat(rig, experiment, stop),
        ExperimentKind::Weights => weights::repeat(rig, experiment, seed, stop),
        ExperimentKind::Quota => quota::repeat(rig, experiment, seed, stop),
        ExperimentKind::Isolation => isolation::repeat(rig, experiment, seed, stop),
        ExperimentKind::Ksm => ksm::repeat(rig, experiment, seed, host, stop),
        ExperimentKind::Growth => growth::repeat(rig, experiment, stop),
        ExperimentKind::Density => density::repeat(rig, experiment, seed, stop),
    }
}

/// Tries all experiments of the plan as often as they want, or until the plan's time is up.
///
/// # Errors
/// The run directory or the journal of the host cannot be written. An experiment that fails is no error: it costs its own
/// results.
pub fn run(
    rig: &Rig,
    plan: &Plan,
    host: &mut Prepared,
    stop: &AtomicBool,
    notebook: &mut Notebook,
    progress: &Progress,
) -> Result<(), RunError> {
    let most = plan.experiments.iter().map(|it| it.repetitions).max();
    let in_turn = (0..most.unwrap_or(0)).flat_map(|repetition| {
        let experiments = plan.experiments.iter();
        let wanting = experiments.filter(move |experiment| repetition < experiment.repetitions);
        wanting.map(move |experiment| (experiment, repetition))
    });
    let wanted: Vec<_> = in_turn
        .filter(|&(experiment, repetition)| !notebook.has_tried(experiment, repetition))
        .collect();
    if stop.load(Ordering::Relaxed) {
        return Ok(());
    }
    progress.start(wanted.len() as u64);
    for (left, (experiment, repetition)) in (1..=wanted.len() as u64).rev().zip(wanted) {
        if stop.load(Ordering::Relaxed) || rig.elapsed() >= plan.budget_nanos {
            break;
        }
        // It may have failed meanwhile.
        if notebook.has_tried(experiment, repetition) {
            continue;
        }
        progress.boot(&experiment.label, left);
        notebook.experiment_started(rig.elapsed(), experiment, repetition)?;
        let seed = child_seed(
            plan.seed,
            &[EXPERIMENT_STREAM, experiment.id.into(), repetition.into()],
        );
        match repeat(rig, experiment, seed, host, stop) {
            // What cannot be written down must not be done, in this experiment or in another.
            Err(ExperimentError::Knob(KnobError::Journal(error))) => return Err(error.into()),
            Err(ExperimentError::Knob(KnobError::Audit(error))) => return Err(error.into()),
            // What was cut short says nothing, nor does what came of cutting it short.
            _ if stop.load(Ordering::Relaxed) => {}
            Ok(outcome) => {
                if !outcome.unavailable.is_empty() {
                    notebook.metrics_unavailable(experiment, &outcome.unavailable)?;
                }
                let trials = trials(experiment, repetition, &outcome);
                notebook.trials(rig.elapsed(), experiment, repetition, &trials)?;
            }
            // As if it had not been tried.
            Err(error @ ExperimentError::Disturbed(_)) => {
                progress.failed(&experiment.label, &error);
            }
            Err(error) => {
                progress.failed(&experiment.label, &error);
                notebook.experiment_failed(
                    rig.elapsed(),
                    experiment,
                    repetition,
                    error.not_measured(),
                )?;
            }
        }
    }
    progress.finish();
    Ok(())
}

/// How often it is looked whether the user wants to stop. Rare enough to disturb no measurement.
const LOOK: Duration = Duration::from_millis(250);

/// Sleeps, in pieces, so that a user who wants to stop does not wait.
fn pause(window: Duration, stop: &AtomicBool) {
    let end = Instant::now() + window;
    while Instant::now() < end && !stop.load(Ordering::Relaxed) {
        sleep(LOOK.min(end.saturating_duration_since(Instant::now())));
    }
}

fn trials(experiment: &Experiment, repetition: u32, outcome: &Outcome) -> Vec<Trial> {
    let trial = |metric: &str, at_nanos, value| Trial {
        experiment: experiment.id,
        repetition,
        metric: metric.to_owned(),
        at_nanos,
        value,
    };
    let values = outcome.values.iter();
    let values = values.map(|&(metric, value)| trial(metric, None, value));
    let points = outcome.series.iter();
    values
        .chain(points.map(|&(metric, at, value)| trial(metric, Some(at), value)))
        .collect()
}
