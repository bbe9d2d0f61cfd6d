//! The run directory: what a run leaves on disk, and how it is read again.
//!
//! ```text
//! run.json      the versioned record; head first, rewritten as a whole at the end
//! samples.csv   every block, appended boot by boot, nothing averaged away
//! counters.csv  what KVM, the VMM, the scheduler and the PMU counted around each block
//! trials.csv    every value of every repetition of an experiment
//! events.jsonl  the audit log: guests created and stopped, host knobs changed
//! latency-<cell>-<side>.hlog   single latencies, one histogram per boot (HdrHistogram V2 interval log)
//! results.json  what `--json` printed
//! ```
//!
//! A run may be killed at any moment. What it had written stays readable: records are replaced as a whole, logs are
//! appended to, and a torn last line is dropped and said so in [`Run::notes`]. Only a run that goes on (`--resume`) takes
//! something out of logs: [`cut`] replaces each as a whole by what it keeps of it, and removes `trials.csv`.

pub(crate) mod counters;
mod events;
mod latency;
mod reader;
mod resume;
pub(crate) mod samples;
pub(crate) mod trials;
mod writer;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::record::Side;

pub use events::{Event, EventLog};
pub use latency::LatencyLog;
pub use reader::{Run, read, read_record, versioned};
pub use resume::{cut, events};
pub use writer::{Writer, replace_file, replace_json};

/// The versioned record.
pub const RECORD_FILE: &str = "run.json";
/// Every block.
pub const SAMPLES_FILE: &str = "samples.csv";
/// The counters of every block.
pub const COUNTERS_FILE: &str = "counters.csv";
/// What experiments brought.
pub const TRIALS_FILE: &str = "trials.csv";
/// The audit log.
pub const EVENTS_FILE: &str = "events.jsonl";
/// The results, as `--json` prints them.
pub const RESULTS_FILE: &str = "results.json";
/// What a suite of claims came to, in the directory above their runs.
pub const CLAIMS_FILE: &str = "claims.json";
/// The plans of a suite of claims, by which it goes on after it was killed.
pub const PLANS_FILE: &str = "plans.json";
/// The report for people.
pub const REPORT_FILE: &str = "report.html";

/// Why a run directory could not be written or read.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A run must not overwrite another.
    #[error("{0} already holds a run: name another directory, or remove this one")]
    Occupied(PathBuf),
    /// There is no record to read.
    #[error("{0} is not a run directory: it holds no run.json")]
    NotARun(PathBuf),
    /// The record is not what the schema says.
    #[error("{path} is damaged: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What serde found.
        source: serde_json::Error,
    },
    /// The record was written by a newer vtax.
    #[error(
        "{path} has schema {found}, and this vtax reads up to {known}: report on it with the vtax that measured it, \
         or a newer one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema that this program knows.
        known: u32,
    },
    /// No vtax ever wrote this schema.
    #[error("{path} has schema {found}, which no vtax ever wrote")]
    UnknownSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
    },
    /// A line in the middle of a log is not what the schema says.
    #[error("{path}:{line} is damaged: {what}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// [`crate::record::RunRecord::started`] is no time.
    #[error("the start of the run, {value:?}, is not an RFC 3339 time: {source}")]
    Started {
        /// What it says.
        value: String,
        /// What is wrong with it.
        source: jiff::Error,
    },
    /// A histogram that cannot be encoded.
    #[error("cannot encode a latency histogram for {path}: {what}")]
    Histogram {
        /// The file.
        path: PathBuf,
        /// Why not.
        what: String,
    },
}

impl StoreError {
    /// For `map_err` after a file operation.
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// What a log holds up to its last line break, and whether anything stood behind it: a line that a killed run tore.
#[must_use]
pub fn whole_lines(bytes: &[u8]) -> (&[u8], bool) {
    let end = bytes
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    (&bytes[..end], end < bytes.len())
}

/// The whole lines of a log; notes that a killed run tore the last one.
fn read_lines(path: &Path, notes: &mut Vec<String>) -> Result<Vec<u8>, StoreError> {
    let mut bytes = std::fs::read(path).map_err(StoreError::io("read", path))?;
    let (whole, torn) = whole_lines(&bytes);
    let len = whole.len();
    if torn {
        notes.push(format!(
            "The last line of {} was torn when the run was killed; it is left out.",
            path.file_name().unwrap_or_default().display()
        ));
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// The word for a side in file names and in `samples.csv`.
const fn side_name(side: Side) -> &'static str {
    match side {
        Side::Native => "native",
        Side::Guest => "guest",
        Side::Control => "control",
    }
}

/// The side of that name.
fn side_named(name: &[u8]) -> Option<Side> {
    match name {
        b"native" => Some(Side::Native),
        b"guest" => Some(Side::Guest),
        b"control" => Some(Side::Control),
        _ => None,
    }
}
