//! Going on with a run that was killed or interrupted (`vtax run --resume`).
//!
//! ```text
//! run.json, events.jsonl ──find──► the same vtax, image and host? ──► finished boots, boots that were cut short
//!                                                    ──take_up──► logs without the latter, a campaign with the former
//! ```
//!
//! Repetitions of experiments are kept in the same way. A boot is finished when the audit log says that its guest has stopped, all its blocks are on disk, and it has every round
//! of the plan: what a signal cut short would vary more than others. Which boots are measured anew thus depends on when
//! the run was cut short, never on what they said. Block sizes, checksums, the clock's rate and the bound on clocks are those
//! of the first session, and the second stage is sized by the pilot and the time that is left, as ever: boots of before and
//! after are alike.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vtax_reports::record::{HostFingerprint, Marks, Reading, RunRecord, Sample, Session};
use vtax_reports::store::{self, Event, StoreError};
use vtax_reports::trials::Trial;
use vtax_scenarios::plan::Plan;
use vtax_scenarios::units::duration_text;

use crate::campaign::Campaign;
use crate::guest::image::{Image, ImageError};
use crate::host::fingerprint::fingerprint;
use crate::host::root::HostRoot;
use crate::host::tsc::now_raw_nanos;
use crate::measure::boot::Known;
use crate::notebook::Notebook;
use crate::rig::Rig;
use crate::run::{Job, RunError};

/// Facts of a host that are never the same twice, or that other users of it change all the time.
const MOMENTARY: [&str; 8] = [
    "hugepages_1g",
    "hugepages_2m",
    "ksm",
    "load_average",
    "memory_available",
    "other_runnable_tasks",
    "swap",
    "uptime",
];

/// What the audit log says of a boot's end: enough to tell whether all of it is on disk, and to go on after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// When the boot began, in nanoseconds since the run started.
    pub since_nanos: u64,
    /// Its rows in `samples.csv`.
    pub blocks: usize,
    /// Its rows in `counters.csv`.
    pub counted: usize,
    /// What further boots of the cell need not find out.
    pub known: Known,
}

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// There is no run, or it cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The image in this binary is broken.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Another vtax measured it.
    #[error("{}: {what} {theirs} measured it, this is {ours}: resume it with the vtax that began it, or start a new run", .dir.display())]
    Program {
        /// The run directory.
        dir: PathBuf,
        /// What differs.
        what: &'static str,
        /// In the record.
        theirs: String,
        /// Of this binary.
        ours: String,
    },
    /// The host is another one, or is set in another way.
    #[error(
        "{}: this host is not as it was when the run began: {differences}; boots of before and after would not be alike: undo \
         that, or start a new run", .dir.display()
    )]
    Host {
        /// The run directory.
        dir: PathBuf,
        /// Which facts, with what they were and are.
        differences: String,
    },
    /// The budget can only grow.
    #[error("--budget {}: the run was planned with {}; a resumed run's budget can be extended, not cut", duration_text(*.asked), duration_text(*.planned))]
    Budget {
        /// What was asked for, in nanoseconds.
        asked: u64,
        /// The plan's.
        planned: u64,
    },
}

impl ResumeError {
    /// Whether it is this host that is to blame.
    #[must_use]
    pub fn is_of_host(&self) -> bool {
        matches!(self, Self::Host { .. })
    }
}

/// A run that was cut short, checked to be this vtax's and this host's.
#[derive(Debug)]
pub struct Unfinished {
    record: RunRecord,
}

impl Unfinished {
    /// The run in `dir`; `None` if it is finished. `budget_nanos` extends the plan's.
    ///
    /// # Errors
    /// [`ResumeError`]; nothing has been changed then.
    pub fn find(dir: &Path, budget_nanos: Option<u64>) -> Result<Option<Self>, ResumeError> {
        let mut record = store::read_record(dir)?;
        if record.finished.is_some() && !record.interrupted {
            return Ok(None);
        }
        same_program_and_host(dir, &record.vtax_version, &record.host)?;
        let sha256 = Image::embedded()?.sha256();
        if record.payload_sha256 != sha256 {
            return Err(other_program(dir, "image", &record.payload_sha256, &sha256));
        }
        if let Some(asked) = budget_nanos {
            let planned = record.plan.budget_nanos;
            if asked < planned {
                return Err(ResumeError::Budget { asked, planned });
            }
            record.plan.budget_nanos = asked;
        }
        Ok(Some(Self { record }))
    }

    /// The record, as the run left it but for its budget.
    #[must_use]
    pub fn record(&self) -> &RunRecord {
        &self.record
    }

    /// Makes the directory ready to go on in, and counts what it holds. Sets the rig's clock and its bound to those of the
    /// record, and its time to where the run was cut short.
    ///
    /// # Errors
    /// The host's clock has another rate now, or the directory cannot be read or written.
    pub fn take_up<'a>(
        self,
        rig: &mut Rig,
        job: &Job<'a>,
    ) -> Result<(Notebook, Campaign<'a>), RunError> {
        let mut record = self.record;
        let (was, is) = (record.nanos_per_tick, rig.clock.nanos_per_tick);
        if (is / was - 1.0).abs() > record.clock_bound.relative {
            return Err(RunError::Resume(ResumeError::Host {
                dir: job.dir.to_owned(),
                differences: format!("a TSC tick took {was} ns and takes {is} ns"),
            }));
        }
        rig.clock.nanos_per_tick = was;
        rig.bound = record.clock_bound;

        let events = store::events(job.dir)?;
        let run = store::read(job.dir)?;
        let at_nanos = time_so_far(&events, &run.samples);
        let counted = |cell, boot| run.counters.boot(cell, boot).len();
        let (finished, dropped) = sort(&record.plan, &events, &run.samples, counted);
        let tried = tried(&events, &run.trials);
        store::cut(job.dir, &dropped, &tried)?;

        rig.run_start = now_raw_nanos().wrapping_sub(at_nanos);
        record.finished = None;
        record.interrupted = false;
        record.resumed.push(Session {
            started: jiff::Timestamp::now().to_string(),
            at_nanos,
            command: job.command.clone(),
            boots_kept: finished.len() as u64,
            boots_dropped: dropped.len() as u64,
        });
        let mut run = store::read(job.dir)?;
        run.notes = record.sessions_text();
        run.record = record;
        let mut campaign = Campaign::new(job.plan, &run.record.not_measured);
        for blocks in run.samples.chunk_by(|a, b| boot_of(a) == boot_of(b)) {
            if let Some((first, cell)) = blocks.first().and_then(|first| {
                let cell = job.plan.cells.get(first.cell as usize)?;
                Some((first, cell))
            }) && let Some((end_nanos, ending)) = finished.get(&boot_of(first))
            {
                let nanos = end_nanos.saturating_sub(ending.since_nanos);
                campaign.add(cell, blocks, ending.known, nanos);
            }
        }
        Ok((Notebook::resume(job.dir, at_nanos, run)?, campaign))
    }
}

/// Whether `dir` was begun by this version of vtax, on this host as it is now.
///
/// # Errors
/// [`ResumeError::Program`] or [`ResumeError::Host`], with what differs.
pub fn same_program_and_host(
    dir: &Path,
    version: &str,
    host: &HostFingerprint,
) -> Result<(), ResumeError> {
    let ours = env!("CARGO_PKG_VERSION");
    if version != ours {
        return Err(other_program(dir, "vtax", version, ours));
    }
    let differences = differences(host, &fingerprint(&HostRoot::default()));
    if differences.is_empty() {
        return Ok(());
    }
    Err(ResumeError::Host {
        dir: dir.to_owned(),
        differences: differences.join(", "),
    })
}

fn other_program(dir: &Path, what: &'static str, theirs: &str, ours: &str) -> ResumeError {
    ResumeError::Program {
        dir: dir.to_owned(),
        what,
        theirs: theirs.to_owned(),
        ours: ours.to_owned(),
    }
}

/// Cell and number of a boot.
type Boot = (u32, u32);

fn boot_of(sample: &Sample) -> Boot {
    (sample.cell, sample.boot)
}

/// The facts that were other ones, in words.
fn differences(was: &HostFingerprint, is: &HostFingerprint) -> Vec<String> {
    let text = |reading: Option<&Reading>| match reading {
        Some(Reading::Value(text)) => format!("{text:?}"),
        Some(Reading::Unavailable(_)) | None => "unknown".to_owned(),
    };
    let keys: BTreeSet<&String> = was.facts.keys().chain(is.facts.keys()).collect();
    let mut found: Vec<String> = keys
        .into_iter()
        .filter(|key| !MOMENTARY.contains(&key.as_str()))
        .map(|key| (key, text(was.facts.get(key)), text(is.facts.get(key))))
        .filter(|(_, was, is)| was != is)
        .map(|(key, was, is)| format!("{key} was {was} and is {is}"))
        .collect();
    if was.nested_under != is.nested_under {
        found.push("it runs under another hypervisor".to_owned());
    }
    found
}

/// Nanoseconds from the run's start to the last that is known of it.
fn time_so_far(events: &[Event], samples: &[Sample]) -> u64 {
    let events = events.iter().map(|event| event.at_nanos);
    let blocks = samples
        .iter()
        .map(|block| block.at_nanos.saturating_add(block.outer_nanos));
    events.chain(blocks).max().unwrap_or(0)
}

/// The boots that are finished, each with its end and what is known of it, and those that left something and are not.
fn sort(
    plan: &Plan,
    events: &[Event],
    samples: &[Sample],
    counted: impl Fn(u32, u32) -> usize,
) -> (BTreeMap<Boot, (u64, Ending)>, BTreeSet<Boot>) {
    let mut endings = BTreeMap::new();
    let mut dropped = BTreeSet::new();
    for event in events {
        let number = |name| u32::try_from(event.fields.get(name)?.as_u64()?).ok();
        let (Some(cell), Some(boot)) = (number("cell"), number("boot")) else {
            continue;
        };
        if event.event == "guest-created" {
            // A boot is measured anew after one that was cut short: what was said of that holds no more.
            endings.remove(&(cell, boot));
            dropped.insert((cell, boot));
        } else if event.event == "guest-failed" {
            // That cost its cell, and left nothing.
            dropped.remove(&(cell, boot));
        } else if event.event == "guest-stopped"
            && let Some(ending) = event.fields.get("ending")
            && let Ok(ending) = Ending::deserialize(ending)
        {
            endings.insert((cell, boot), (event.at_nanos, ending));
        }
    }
    let mut rows: BTreeMap<Boot, (usize, u32)> = BTreeMap::new();
    for sample in samples {
        let (blocks, rounds) = rows.entry(boot_of(sample)).or_default();
        *blocks += 1;
        if !sample.marks.intersects(Marks::WARMUP) {
            *rounds = (*rounds).max(sample.round.saturating_add(1));
        }
    }
    endings.retain(|&(cell, boot), (_, ending)| {
        let planned = plan
            .cells
            .get(cell as usize)
            .map(|cell| cell.measure.rounds);
        let whole = rows
            .get(&(cell, boot))
            .is_some_and(|&(blocks, rounds)| blocks == ending.blocks && Some(rounds) == planned);
        whole && counted(cell, boot) == ending.counted
    });
    dropped.extend(rows.into_keys());
    dropped.retain(|boot| !endings.contains_key(boot));
    (endings, dropped)
}

/// The repetitions of experiments that are finished: experiment and number.
fn tried(events: &[Event], trials: &[Trial]) -> BTreeSet<(u32, u32)> {
    let finished = events
        .iter()
        .filter(|event| event.event == "experiment-finished");
    finished
        .filter_map(|event| {
            let number = |name| event.fields.get(name)?.as_u64();
            let of = |name| u32::try_from(number(name)?).ok();
            let (experiment, repetition) = (of("experiment")?, of("repetition")?);
            let rows = trials
                .iter()
                .filter(|trial| (trial.experiment, trial.repetition) == (experiment, repetition));
            (rows.count() as u64 == number("rows")?).then_some((experiment, repetition))
        })
        .collect()
}

#[cfg(test)]
#[path = "resume_tests.rs"]
mod tests;
