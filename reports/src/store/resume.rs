//! What a run that was cut short needs to go on in its directory: its events, and logs without what is not whole.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{
    COUNTERS_FILE, EVENTS_FILE, Event, SAMPLES_FILE, StoreError, TRIALS_FILE, latency,
    replace_file, whole_lines,
};

/// All events of the run in `dir`, in order, up to the last whole line.
///
/// # Errors
/// When the audit log cannot be read, or a line is no event.
pub fn events(dir: &Path) -> Result<Vec<Event>, StoreError> {
    let path = dir.join(EVENTS_FILE);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(StoreError::io("read", &path))?,
    };
    let (bytes, _) = whole_lines(&bytes);
    (1..)
        .zip(bytes.split_inclusive(|&byte| byte == b'\n'))
        .map(|(line, text)| {
            serde_json::from_slice(text).map_err(|error| StoreError::Line {
                path: path.clone(),
                line,
                what: error.to_string(),
            })
        })
        .collect()
}

/// Cuts torn last lines off all logs of the run in `dir`, and removes what belongs to `boots` (cell and number) from the
/// tables and the latencies, and all trials but those of the repetitions in `tried` (experiment and number), so that the
/// rest can be measured anew. The audit log keeps what it says of them.
///
/// # Errors
/// When a log cannot be read or replaced. Each is replaced as a whole: to do it once more is harmless.
pub fn cut(
    dir: &Path,
    boots: &BTreeSet<(u32, u32)>,
    tried: &BTreeSet<(u32, u32)>,
) -> Result<(), StoreError> {
    for table in [SAMPLES_FILE, COUNTERS_FILE] {
        keep(&dir.join(table), |line| {
            !owner_of_row(line).is_some_and(|boot| boots.contains(&boot))
        })?;
    }
    for (path, cell, _) in latency::files(dir)? {
        keep(&path, |line| {
            !boot_of_interval(line).is_some_and(|boot| boots.contains(&(cell, boot)))
        })?;
    }
    keep(&dir.join(TRIALS_FILE), |line| {
        owner_of_row(line).is_none_or(|repetition| tried.contains(&repetition))
    })?;
    keep(&dir.join(EVENTS_FILE), |_| true)
}

/// Cell and boot, or experiment and repetition, of a row of a table, which begins with them; `None` for the first line.
fn owner_of_row(line: &str) -> Option<(u32, u32)> {
    let mut fields = line.split(',');
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The boot of a line of a latency log, which begins with its tag.
fn boot_of_interval(line: &str) -> Option<u32> {
    line.strip_prefix("Tag=boot-")?
        .split(',')
        .next()?
        .parse()
        .ok()
}

/// Keeps those whole lines of a log that `wanted` takes.
fn keep(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<(), StoreError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        read => read.map_err(StoreError::io("read", path))?,
    };
    let (whole, _) = whole_lines(&bytes);
    let kept: Vec<u8> = whole
        .split_inclusive(|&byte| byte == b'\n')
        .filter(|line| std::str::from_utf8(line).is_ok_and(&wanted))
        .flatten()
        .copied()
        .collect();
    if kept == bytes {
        return Ok(());
    }
    replace_file(path, &kept)
}
