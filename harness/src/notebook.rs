//! What a run writes down while it goes on: the directory on disk, and the same in memory for the estimate at its end.

use std::ops::Range;
use std::path::Path;

use vtax_reports::counters::{CounterLog, CounterRow};
use vtax_reports::estimate::whole as estimate;
use vtax_reports::html;
use vtax_reports::native_disk::NativeDisk;
use vtax_reports::record::{NotMeasured, RunRecord, Sample, Side};
use vtax_reports::result::Results;
use vtax_reports::store::{Event, LatencyLog, REPORT_FILE, Run, StoreError, Writer, replace_file};
use vtax_reports::trials::Trial;
use vtax_scenarios::plan::{Cell, Experiment};

use crate::measure::boot::Outcome;
use crate::neighbours::Told;
use crate::resume::Ending;
use crate::run::RunError;
use crate::whole::whole;

/// An open run directory and all that went into it.
#[derive(Debug)]
pub struct Notebook {
    writer: Writer,
    run: Run,
}

impl Notebook {
    /// Makes the run directory and writes the head of the record.
    ///
    /// # Errors
    /// The directory holds a run already, or cannot be written.
    pub fn open(dir: &Path, record: RunRecord) -> Result<Self, StoreError> {
        let mut writer = Writer::create(dir, &record)?;
        let user = rustix::process::getuid().as_raw();
        writer.event(&Event::now(0, "run-started").with("uid", user))?;
        Ok(Self {
            writer,
            run: Run {
                record,
                samples: Vec::new(),
                latencies: LatencyLog::default(),
                counters: CounterLog::default(),
                trials: Vec::new(),
                notes: Vec::new(),
            },
        })
    }

    /// Goes on with a run that was cut short: `run` is what is on disk of it, with a record that says so.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn resume(dir: &Path, at_nanos: u64, run: Run) -> Result<Self, StoreError> {
        let mut writer = Writer::resume(dir, &run.record)?;
        let user = rustix::process::getuid().as_raw();
        writer.event(&Event::now(at_nanos, "run-resumed").with("uid", user))?;
        Ok(Self { writer, run })
    }

    /// The record as it stands.
    #[must_use]
    pub fn record(&self) -> &RunRecord {
        &self.run.record
    }

    /// A guest is about to be created.
    ///
    /// # Errors
    /// The event cannot be written.
    pub fn guest_started(
        &mut self,
        at_nanos: u64,
        cell: &Cell,
        boot: u32,
    ) -> Result<(), StoreError> {
        self.writer
            .event(&event(at_nanos, "guest-created", cell, boot))
    }

    /// The guest's neighbours are at work.
    ///
    /// # Errors
    /// An event cannot be written.
    pub fn neighbours_started(
        &mut self,
        at_nanos: u64,
        cell: &Cell,
        boot: u32,
        neighbours: &[Told],
    ) -> Result<(), StoreError> {
        neighbours.iter().try_for_each(|told| {
            let event = neighbour(at_nanos, "neighbour-started", cell, boot, told)
                .with("work", told.work)
                .with("cpu", told.cpu)
                .with("cgroups", told.cgroups.clone());
            self.writer.event(&event)
        })
    }

    /// The guest's neighbours are gone.
    ///
    /// # Errors
    /// An event cannot be written.
    pub fn neighbours_stopped(
        &mut self,
        at_nanos: u64,
        cell: &Cell,
        boot: u32,
        neighbours: &[Told],
    ) -> Result<(), StoreError> {
        neighbours.iter().try_for_each(|told| {
            let event = neighbour(at_nanos, "neighbour-stopped", cell, boot, told)
                .with("merged_pages", told.merged_pages);
            self.writer.event(&event)
        })
    }

    /// A guest has ended; its blocks and latencies go to disk.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn guest_stopped(
        &mut self,
        span: Range<u64>,
        cell: &Cell,
        boot: u32,
        outcome: &Outcome,
    ) -> Result<(), StoreError> {
        self.writer.samples(&outcome.samples)?;
        self.writer.counters(&outcome.counters)?;
        self.latencies(&span, cell, boot, outcome)?;
        let ending = Ending {
            since_nanos: span.start,
            blocks: outcome.samples.len(),
            counted: outcome.counters.len(),
            known: outcome.known,
        };
        self.writer.event(
            &event(span.end, "guest-stopped", cell, boot)
                .with("settled", outcome.settled)
                .with("ending", serde_json::json!(ending)),
        )
    }

    fn latencies(
        &mut self,
        span: &Range<u64>,
        cell: &Cell,
        boot: u32,
        outcome: &Outcome,
    ) -> Result<(), StoreError> {
        for (side, ticks) in &outcome.latencies {
            for &ticks in ticks {
                let nanos = self.nanos(ticks);
                self.run.latencies.record(cell.id, *side, boot, nanos);
            }
        }
        for side in [Side::Native, Side::Guest, Side::Control] {
            let all = self.run.latencies.boots(cell.id, side);
            for (_, histogram) in all.filter(|(of, _)| *of == boot) {
                self.writer
                    .latencies(cell.id, side, boot, span.clone(), histogram)?;
            }
        }
        Ok(())
    }

    fn nanos(&self, ticks: u32) -> u64 {
        whole((f64::from(ticks) * self.run.record.nanos_per_tick).round())
    }

    /// What the native side of a cell has for its disk work. The first boot's word stands.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn native_disk(&mut self, cell: &Cell, disk: NativeDisk) -> Result<(), StoreError> {
        let known = &mut self.run.record.native_disks;
        if known.contains_key(&cell.id) {
            return Ok(());
        }
        known.insert(cell.id, disk);
        self.writer.record(&self.run.record)
    }

    /// Keeps blocks that are on disk for the estimate, and what was counted around them.
    pub fn keep(&mut self, samples: Vec<Sample>, counters: Vec<CounterRow>) {
        self.run.samples.extend(samples);
        self.run.counters.extend(counters);
    }

    /// A cell is over before its time.
    ///
    /// # Errors
    /// The record or the event cannot be written.
    pub fn cell_failed(
        &mut self,
        at_nanos: u64,
        cell: &Cell,
        boot: u32,
        why: NotMeasured,
    ) -> Result<(), StoreError> {
        let (NotMeasured::Failed(reason) | NotMeasured::NotTestable(reason)) = &why;
        self.writer
            .event(&event(at_nanos, "guest-failed", cell, boot).with("reason", reason.as_str()))?;
        self.run.record.not_measured.insert(cell.id, why);
        self.writer.record(&self.run.record)
    }

    /// A repetition of an experiment begins.
    ///
    /// # Errors
    /// The event cannot be written.
    pub fn experiment_started(
        &mut self,
        at_nanos: u64,
        experiment: &Experiment,
        repetition: u32,
    ) -> Result<(), StoreError> {
        self.writer.event(&tried(
            at_nanos,
            "experiment-started",
            experiment,
            repetition,
        ))
    }

    /// A repetition of an experiment has ended; what it brought goes to disk.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn trials(
        &mut self,
        at_nanos: u64,
        experiment: &Experiment,
        repetition: u32,
        trials: &[Trial],
    ) -> Result<(), StoreError> {
        self.writer.trials(trials)?;
        self.run.trials.extend_from_slice(trials);
        let event = tried(at_nanos, "experiment-finished", experiment, repetition);
        self.writer.event(&event.with("rows", trials.len()))
    }

    /// Whether this repetition need not be tried: it was, before the run was cut short, or the experiment is over.
    #[must_use]
    pub fn has_tried(&self, experiment: &Experiment, repetition: u32) -> bool {
        let run = &self.run;
        let over = &run.record.experiments_not_measured;
        over.contains_key(&experiment.id)
            || run
                .trials
                .iter()
                .any(|trial| (trial.experiment, trial.repetition) == (experiment.id, repetition))
    }

    /// This host has no such metrics. Said once.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn metrics_unavailable(
        &mut self,
        experiment: &Experiment,
        metrics: &[(&str, String)],
    ) -> Result<(), StoreError> {
        let known = self
            .run
            .record
            .metrics_unavailable
            .entry(experiment.id)
            .or_default();
        let before = known.len();
        for (metric, why) in metrics {
            known
                .entry((*metric).to_owned())
                .or_insert_with(|| why.clone());
        }
        if known.len() == before {
            return Ok(());
        }
        self.writer.record(&self.run.record)
    }

    /// An experiment is over before its time.
    ///
    /// # Errors
    /// The record or the event cannot be written.
    pub fn experiment_failed(
        &mut self,
        at_nanos: u64,
        experiment: &Experiment,
        repetition: u32,
        why: NotMeasured,
    ) -> Result<(), StoreError> {
        let (NotMeasured::Failed(reason) | NotMeasured::NotTestable(reason)) = &why;
        let event = tried(at_nanos, "experiment-failed", experiment, repetition);
        self.writer.event(&event.with("reason", reason.as_str()))?;
        self.run
            .record
            .experiments_not_measured
            .insert(experiment.id, why);
        self.writer.record(&self.run.record)
    }

    /// Ends the run: estimates, report, final record.
    ///
    /// # Errors
    /// Something cannot be written; the samples are on disk all the same.
    pub fn close(mut self, at_nanos: u64, interrupted: bool) -> Result<Results, RunError> {
        self.run.record.finished = Some(jiff::Timestamp::now().to_string());
        self.run.record.interrupted = interrupted;
        let results = estimate(&self.run);
        let report = html::render(&self.run, &results)?;
        replace_file(&self.writer.dir().join(REPORT_FILE), report.as_bytes())?;
        self.writer
            .event(&Event::now(at_nanos, "run-finished").with("interrupted", interrupted))?;
        self.writer.finish(&self.run.record, &results)?;
        Ok(results)
    }
}

fn event(at_nanos: u64, name: &str, cell: &Cell, boot: u32) -> Event {
    Event::now(at_nanos, name)
        .with("cell", cell.id)
        .with("label", cell.label.as_str())
        .with("boot", boot)
        .with("uid", rustix::process::getuid().as_raw())
}

/// A neighbour with what it has done up to now: the difference of its two events is what it did beside the guest.
fn neighbour(at_nanos: u64, name: &str, cell: &Cell, boot: u32, told: &Told) -> Event {
    event(at_nanos, name, cell, boot)
        .with("neighbour", told.name.as_str())
        .with("copy", told.copy)
        .with("process", told.process)
        .with("units", told.progress.units)
        .with("cpu_nanos", told.progress.cpu_nanos)
        .with("faults", told.progress.faults)
}

fn tried(at_nanos: u64, name: &str, experiment: &Experiment, repetition: u32) -> Event {
    Event::now(at_nanos, name)
        .with("experiment", experiment.id)
        .with("label", experiment.label.as_str())
        .with("repetition", repetition)
}
