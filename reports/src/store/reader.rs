//! Reading a run directory, of this version or an older one.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{
    COUNTERS_FILE, LatencyLog, RECORD_FILE, SAMPLES_FILE, StoreError, TRIALS_FILE, counters,
    latency, samples, trials,
};
use crate::counters::CounterLog;
use crate::record::{RunRecord, SCHEMA, Sample};
use crate::trials::Trial;

/// A run, as its directory tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The record.
    pub record: RunRecord,
    /// Every block, in the order in which they were measured.
    pub samples: Vec<Sample>,
    /// Single latencies, where a workload times each operation.
    pub latencies: LatencyLog,
    /// What was counted around each block; empty for runs of versions that did not count.
    pub counters: CounterLog,
    /// What experiments brought, in the order in which they were tried.
    pub trials: Vec<Trial>,
    /// What was amiss with the directory, in sentences: torn lines, a run that never finished.
    pub notes: Vec<String>,
}

/// Reads the run directory `dir`. A run that was killed is read up to its last whole line.
///
/// # Errors
/// When `dir` is no run directory, was written by a newer vtax, or is damaged in another way than by a kill.
pub fn read(dir: &Path) -> Result<Run, StoreError> {
    let record = read_record(dir)?;
    let mut notes = Vec::new();
    if record.finished.is_none() {
        notes.push(
            "This run never finished: what it had measured until then is reported.".to_owned(),
        );
    }
    notes.extend(record.sessions_text());
    Ok(Run {
        samples: samples::read(&dir.join(SAMPLES_FILE), &mut notes)?,
        latencies: latency::read(dir, &mut notes)?,
        counters: counters::read(&dir.join(COUNTERS_FILE), &mut notes)?,
        trials: trials::read(&dir.join(TRIALS_FILE), &mut notes)?,
        record,
        notes,
    })
}

/// Reads the record of run directory `dir` alone.
///
/// # Errors
/// As [`read`].
pub fn read_record(dir: &Path) -> Result<RunRecord, StoreError> {
    let path = dir.join(RECORD_FILE);
    if !path.exists() {
        return Err(StoreError::NotARun(dir.to_owned()));
    }
    versioned(&path)
}

/// Reads a JSON file that begins with the number of its schema.
///
/// # Errors
/// It cannot be read, was written by a newer vtax, or is damaged.
pub fn versioned<T: DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    /// The one field that every version has.
    #[derive(Deserialize)]
    struct Peek {
        schema: u32,
    }

    let text = fs::read(path).map_err(StoreError::io("read", path))?;
    let path = path.to_owned();
    let damaged = |source| StoreError::Json {
        path: path.clone(),
        source,
    };
    let Peek { schema } = serde_json::from_slice(&text).map_err(damaged)?;
    match schema {
        SCHEMA => serde_json::from_slice(&text).map_err(damaged),
        0 => Err(StoreError::UnknownSchema {
            path,
            found: schema,
        }),
        _ => Err(StoreError::Newer {
            path,
            found: schema,
            known: SCHEMA,
        }),
    }
}
