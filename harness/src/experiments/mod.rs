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

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use vtax_reports::record::NotMeasured;
use vtax_reports::store::StoreError;
use vtax_reports::trials::Trial;
use vtax_scenarios::plan::{Experiment, ExperimentKind, Plan};

use crate::guest::Failure;
use crate::guest::embedded::VmError;
use crate::guest::embedded::devices::DeviceError;
use crate::guest::mailbox::MailboxError;
use crate::guest::ram::RamError;
use crate::host::affinity::AffinityError;
use crate::host::cgroups::CgroupError;
use crate::host::prepared::{KnobError, Prepared};
use crate::host::root::ReadError;
use crate::host::tsc::now_raw_nanos;
use crate::neighbours::CrowdError;
use crate::neighbours::footprint::FootprintError;
use crate::notebook::Notebook;
use crate::progress::Progress;
use crate::rig::{Rig, RigError};

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
    /// A guest failed.
    #[error(transparent)]
    Guest(#[from] Failure),
    /// A guest answered, but not as it should.
    #[error(transparent)]
    Mailbox(#[from] MailboxError),
    /// A guest's devices could not be made, or one has stopped.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The small guest that is measured.
    #[error(transparent)]
    Rig(#[from] RigError),
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

impl ExperimentError {
    /// For the record: a host that lacks something cannot test, anything else failed.
    fn why(&self) -> NotMeasured {
        match self {
            Self::NotTestable(_)
            | Self::Ram(_)
            | Self::Crowd(
                CrowdError::Lacking { .. } | CrowdError::Cgroup(CgroupError::NoPlace(_)),
            )
            | Self::Knob(_)
            | Self::Read(_) => NotMeasured::NotTestable(self.to_string()),
            _ => NotMeasured::Failed(self.to_string()),
        }
    }
}

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

/// Tries an experiment once.
///
/// # Errors
/// [`ExperimentError`]: it concerns this experiment alone.
pub fn repeat(
    rig: &Rig,
    experiment: &Experiment,
    host: &mut Prepared,
    stop: &AtomicBool,
) -> Result<Outcome, ExperimentError> {
    match experiment.kind {
        ExperimentKind::Boot => boot::repeat(rig, experiment),
        ExperimentKind::Idle => idle::repeat(rig, experiment, stop),
        ExperimentKind::Weights => weights::repeat(rig, experiment, stop),
        ExperimentKind::Quota => quota::repeat(rig, experiment, stop),
        ExperimentKind::Isolation => isolation::repeat(rig, experiment, stop),
        ExperimentKind::Ksm => ksm::repeat(rig, experiment, host, stop),
        ExperimentKind::Growth => growth::repeat(rig, experiment),
        ExperimentKind::Density => density::repeat(rig, experiment, stop),
    }
}

/// Tries all experiments of the plan as often as they want, or until the time is up at `end_nanos` after the run's start.
///
/// # Errors
/// The run directory cannot be written. An experiment that fails is no error: it costs its own results.
pub fn run(
    rig: &Rig,
    plan: &Plan,
    host: &mut Prepared,
    stop: &AtomicBool,
    end_nanos: u64,
    notebook: &mut Notebook,
    progress: &Progress,
) -> Result<(), StoreError> {
    let repetitions = plan.experiments.iter().map(|it| it.repetitions).max();
    let total: u64 = plan
        .experiments
        .iter()
        .map(|it| u64::from(it.repetitions))
        .sum();
    progress.start(total);
    let mut left = total;
    let mut over = BTreeSet::new();
    for repetition in 0..repetitions.unwrap_or(0) {
        for experiment in &plan.experiments {
            if repetition >= experiment.repetitions || over.contains(&experiment.id) {
                continue;
            }
            let now = || now_raw_nanos() - rig.run_start;
            if stop.load(Ordering::Relaxed) || now() >= end_nanos {
                progress.finish();
                return Ok(());
            }
            progress.boot(&experiment.label, left);
            left -= 1;
            notebook.experiment_started(now(), experiment, repetition)?;
            match repeat(rig, experiment, host, stop) {
                // What was cut short says nothing.
                Ok(_) if stop.load(Ordering::Relaxed) => {}
                Ok(outcome) => {
                    notebook.trials(
                        now(),
                        experiment,
                        repetition,
                        &trials(experiment, repetition, &outcome),
                    )?;
                    if !outcome.unavailable.is_empty() {
                        notebook.metrics_unavailable(experiment, &outcome.unavailable)?;
                    }
                }
                Err(error) => {
                    over.insert(experiment.id);
                    progress.failed(&experiment.label, &error);
                    notebook.experiment_failed(now(), experiment, repetition, error.why())?;
                }
            }
        }
    }
    progress.finish();
    Ok(())
}

/// Sleeps, in pieces, so that a user who wants to stop does not wait.
fn pause(window: Duration, stop: &AtomicBool) {
    let end = Instant::now() + window;
    while Instant::now() < end && !stop.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(50).min(end.saturating_duration_since(Instant::now())));
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
