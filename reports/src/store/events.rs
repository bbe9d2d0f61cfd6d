//! `events.jsonl`: the audit log.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{EVENTS_FILE, StoreError};

/// Something that was done to a guest or to the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Wall-clock time, RFC 3339, UTC.
    pub time: String,
    /// CLOCK_MONOTONIC_RAW in nanoseconds since the run started, like
    /// [`Sample::at_nanos`](crate::record::Sample::at_nanos).
    pub at_nanos: u64,
    /// What happened: `guest-created`, `knob-applied`, …
    pub event: String,
    /// The particulars, by name.
    #[serde(flatten)]
    pub fields: BTreeMap<String, serde_json::Value>,
}

impl Event {
    /// An event at this very moment of the wall clock.
    #[must_use]
    pub fn now(at_nanos: u64, event: &str) -> Self {
        Self {
            time: jiff::Timestamp::now().to_string(),
            at_nanos,
            event: event.to_owned(),
            fields: BTreeMap::new(),
        }
    }

    /// The same event with one more particular.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }
}

/// An open audit log. Each event reaches the kernel before the call returns, in one write.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    file: File,
}

impl EventLog {
    /// Opens the audit log of run directory `dir` to append to it.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(EVENTS_FILE);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(StoreError::io("open", &path))?;
        Ok(Self { path, file })
    }

    /// Appends one event.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&mut self, event: &Event) -> Result<(), StoreError> {
        let mut line = serde_json::to_vec(event).map_err(|source| StoreError::Json {
            path: self.path.clone(),
            source,
        })?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .map_err(StoreError::io("append to", &self.path))
    }

    /// Forces what was appended to the disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file
            .sync_all()
            .map_err(StoreError::io("sync", &self.path))
    }
}
