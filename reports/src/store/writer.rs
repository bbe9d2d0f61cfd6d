//! Writing a run directory while the run goes on.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{
    COUNTERS_FILE, Event, EventLog, RECORD_FILE, RESULTS_FILE, SAMPLES_FILE, StoreError,
    TRIALS_FILE, counters, latency, samples, trials,
};
use crate::counters::CounterRow;
use crate::record::{RunRecord, Sample, Side};
use crate::result::Results;
use crate::trials::Trial;

/// An open run directory. Whatever a call was given has reached the kernel when it returns, so a killed process loses
/// nothing; [`Writer::finish`] forces all of it to the disk.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    samples: File,
    counters: File,
    /// Where the plan has experiments.
    trials: Option<File>,
    events: EventLog,
    base: SystemTime,
    nanos_per_tick: f64,
    text: Vec<u8>,
}

impl Writer {
    /// Creates `dir` (and its parents) and writes the head of the run into it.
    ///
    /// # Errors
    /// When `dir` already holds a run, or cannot be written to, or `head.started` is no RFC 3339 time.
    pub fn create(dir: &Path, head: &RunRecord) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(StoreError::io("create", dir))?;
        if dir.join(RECORD_FILE).exists() {
            return Err(StoreError::Occupied(dir.to_owned()));
        }
        Self::open(dir, head)
    }

    /// Goes on in a run directory, with a record that says so. Its logs hold whole lines alone ([`super::cut`]).
    ///
    /// # Errors
    /// When `dir` cannot be written to, or `record.started` is no RFC 3339 time.
    pub fn resume(dir: &Path, record: &RunRecord) -> Result<Self, StoreError> {
        Self::open(dir, record)
    }

    fn open(dir: &Path, record: &RunRecord) -> Result<Self, StoreError> {
        let base = record
            .started
            .parse::<jiff::Timestamp>()
            .map_err(|source| StoreError::Started {
                value: record.started.clone(),
                source,
            })?;
        replace_json(&dir.join(RECORD_FILE), record)?;
        let samples = table(&dir.join(SAMPLES_FILE), &samples::header())?;
        let counters = table(&dir.join(COUNTERS_FILE), &counters::header())?;
        let trials = (!record.plan.experiments.is_empty())
            .then(|| table(&dir.join(TRIALS_FILE), &trials::header()))
            .transpose()?;
        Ok(Self {
            dir: dir.to_owned(),
            samples,
            counters,
            trials,
            events: EventLog::open(dir)?,
            base: base.into(),
            nanos_per_tick: record.nanos_per_tick,
            text: Vec::new(),
        })
    }

    /// The run directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Appends the blocks of a boot.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn samples(&mut self, samples: &[Sample]) -> Result<(), StoreError> {
        self.text.clear();
        samples::format(&mut self.text, samples, self.nanos_per_tick);
        self.samples
            .write_all(&self.text)
            .map_err(StoreError::io("append to", &self.dir.join(SAMPLES_FILE)))
    }

    /// Appends the counters of a boot's blocks.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn counters(&mut self, rows: &[CounterRow]) -> Result<(), StoreError> {
        self.text.clear();
        counters::format(&mut self.text, rows);
        self.counters
            .write_all(&self.text)
            .map_err(StoreError::io("append to", &self.dir.join(COUNTERS_FILE)))
    }

    /// Appends what a repetition of an experiment brought.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn trials(&mut self, trials: &[Trial]) -> Result<(), StoreError> {
        let Some(file) = &mut self.trials else {
            return Ok(());
        };
        self.text.clear();
        trials::format(&mut self.text, trials);
        file.write_all(&self.text)
            .map_err(StoreError::io("append to", &self.dir.join(TRIALS_FILE)))
    }

    /// Appends one event to the audit log.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn event(&mut self, event: &Event) -> Result<(), StoreError> {
        self.events.append(event)
    }

    /// Appends a boot's latencies in nanoseconds. `span_nanos` is the boot's time since the run started.
    ///
    /// # Errors
    /// When they cannot be encoded or written.
    pub fn latencies(
        &mut self,
        cell: u32,
        side: Side,
        boot: u32,
        span_nanos: Range<u64>,
        histogram: &Histogram<u64>,
    ) -> Result<(), StoreError> {
        latency::append(
            &self.dir,
            self.base,
            (cell, side, boot),
            span_nanos,
            histogram,
        )
    }

    /// Replaces the record, such as after a cell that could not be measured.
    ///
    /// # Errors
    /// When it cannot be written; the old record then stands.
    pub fn record(&mut self, record: &RunRecord) -> Result<(), StoreError> {
        replace_json(&self.dir.join(RECORD_FILE), record)
    }

    /// Writes the results and the final record, and forces everything to the disk. The record comes last: a record
    /// that says `finished` stands for a complete directory.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn finish(mut self, record: &RunRecord, results: &Results) -> Result<(), StoreError> {
        self.samples
            .sync_all()
            .map_err(StoreError::io("sync", &self.dir.join(SAMPLES_FILE)))?;
        self.counters
            .sync_all()
            .map_err(StoreError::io("sync", &self.dir.join(COUNTERS_FILE)))?;
        if let Some(trials) = &self.trials {
            trials
                .sync_all()
                .map_err(StoreError::io("sync", &self.dir.join(TRIALS_FILE)))?;
        }
        self.events.sync()?;
        replace_json(&self.dir.join(RESULTS_FILE), results)?;
        self.record(record)
    }
}

/// A file to append to, with its first line where it is new.
fn table(path: &Path, header: &str) -> Result<File, StoreError> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(StoreError::io("create", path))?;
    let length = file.metadata().map_err(StoreError::io("read", path))?.len();
    if length == 0 {
        file.write_all(header.as_bytes())
            .map_err(StoreError::io("append to", path))?;
    }
    Ok(file)
}

/// [`replace_file`] with a value as JSON.
///
/// # Errors
/// As there.
pub fn replace_json(path: &Path, value: &impl Serialize) -> Result<(), StoreError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|source| StoreError::Json {
        path: path.to_owned(),
        source,
    })?;
    text.push(b'\n');
    replace_file(path, &text)
}

/// Puts `contents` in the place of the file at `path` as a whole: whoever reads it, at whatever moment, even after a
/// crash, finds the old contents or the new, never a part.
///
/// # Errors
/// When the file system refuses; the old file then stands.
pub fn replace_file(path: &Path, contents: &[u8]) -> Result<(), StoreError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        // The rename itself is durable only once the directory is.
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(StoreError::io("write", path))
}
