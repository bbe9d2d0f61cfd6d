//! Single latencies: one histogram per cell, side and boot, in the V2 interval log format of HdrHistogram, which its
//! own tools read too (<https://hdrhistogram.org>).

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};

use super::{StoreError, read_lines, side_name, side_named};
use crate::record::Side;

/// Precision of the histograms in significant decimal digits.
const DIGITS: u8 = 3;

/// The latencies of a run in nanoseconds, to three significant digits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatencyLog {
    histograms: BTreeMap<(u32, Side, u32), Histogram<u64>>,
}

impl LatencyLog {
    /// An empty histogram of the precision that logs have; it grows with what is recorded in it.
    #[must_use]
    pub fn histogram() -> Histogram<u64> {
        Histogram::new(DIGITS).expect("three digits are within HdrHistogram's 0 to 5")
    }

    /// Records one latency of `cell`'s `side` in its `boot`.
    pub fn record(&mut self, cell: u32, side: Side, boot: u32, nanos: u64) {
        self.histograms
            .entry((cell, side, boot))
            .or_insert_with(Self::histogram)
            .record(nanos)
            .expect("a growing histogram takes every u64");
    }

    /// Puts a whole boot's histogram in its place.
    pub fn insert(&mut self, cell: u32, side: Side, boot: u32, histogram: Histogram<u64>) {
        self.histograms.insert((cell, side, boot), histogram);
    }

    /// The boots of `cell`'s `side` in order, each with its number.
    pub fn boots(&self, cell: u32, side: Side) -> impl Iterator<Item = (u32, &Histogram<u64>)> {
        self.histograms
            .range((cell, side, 0)..=(cell, side, u32::MAX))
            .map(|(&(_, _, boot), histogram)| (boot, histogram))
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.histograms.is_empty()
    }
}

/// Appends one boot to the log of `cell` and `side` in `dir`.
pub(super) fn append(
    dir: &Path,
    base: SystemTime,
    (cell, side, boot): (u32, Side, u32),
    span_nanos: Range<u64>,
    histogram: &Histogram<u64>,
) -> Result<(), StoreError> {
    let path = dir.join(format!("latency-{cell}-{}.hlog", side_name(side)));
    let encoding = |what: String| StoreError::Histogram {
        path: path.clone(),
        what,
    };
    let mut log = IntervalLogWriterBuilder::new();
    if !path.exists() {
        log.add_comment("[Histogram log format version 1.3]")
            .add_comment("Latencies in nanoseconds, one interval per boot")
            .with_base_time(base);
    }
    let tag = format!("boot-{boot}");
    let mut text = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    log.begin_log_with(&mut text, &mut serializer)
        .map_err(|error| encoding(error.to_string()))?
        .write_histogram(
            histogram,
            Duration::from_nanos(span_nanos.start),
            Duration::from_nanos(span_nanos.end.saturating_sub(span_nanos.start)),
            Tag::new(&tag),
        )
        .map_err(|error| encoding(error.to_string()))?;
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(&text))
        .map_err(StoreError::io("append to", &path))
}

/// Reads every latency log of `dir`; notes which of them had a torn last line.
pub(super) fn read(dir: &Path, notes: &mut Vec<String>) -> Result<LatencyLog, StoreError> {
    let mut log = LatencyLog::default();
    for (path, cell, side) in files(dir)? {
        let bytes = read_lines(&path, notes)?;
        let damaged = |interval: u64, what: String| StoreError::Line {
            path: path.clone(),
            line: interval,
            what,
        };
        for (index, entry) in (1..).zip(IntervalLogIterator::new(&bytes)) {
            let entry = entry.map_err(|error| damaged(index, format!("{error:?}")))?;
            let LogEntry::Interval(interval) = entry else {
                continue;
            };
            let boot = interval
                .tag()
                .and_then(|tag| tag.as_str().strip_prefix("boot-")?.parse().ok())
                .ok_or_else(|| damaged(index, "an interval without the tag of its boot".into()))?;
            let histogram = STANDARD
                .decode(interval.encoded_histogram())
                .map_err(|error| damaged(index, error.to_string()))
                .and_then(|binary| {
                    Deserializer::new()
                        .deserialize(&mut binary.as_slice())
                        .map_err(|error| damaged(index, error.to_string()))
                })?;
            log.insert(cell, side, boot, histogram);
        }
    }
    Ok(log)
}

/// The latency logs of `dir`, in the order of their names.
pub(super) fn files(dir: &Path) -> Result<Vec<(PathBuf, u32, Side)>, StoreError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(StoreError::io("list", dir))? {
        let path = entry.map_err(StoreError::io("list", dir))?.path();
        let named = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix("latency-")?.strip_suffix(".hlog"))
            .and_then(|name| name.split_once('-'))
            .and_then(|(cell, side)| Some((cell.parse().ok()?, side_named(side.as_bytes())?)));
        if let Some((cell, side)) = named {
            found.push((path, cell, side));
        }
    }
    found.sort();
    Ok(found)
}
