//! `counters.csv`: one row per block that is not warm-up, and vCPU. A counter without a value is an empty field.

use std::io::Write;
use std::path::Path;

use super::{StoreError, read_lines, side_name, side_named};
use crate::counters::{Counter, CounterLog, CounterRow, Counts};

/// The columns that say which block it is.
pub(crate) const KEYS: [&str; 5] = ["cell", "boot", "round", "side", "vcpu"];

/// The first line.
pub(super) fn header() -> String {
    let names = Counter::ALL.iter().map(|counter| counter.name());
    KEYS.into_iter().chain(names).collect::<Vec<_>>().join(",") + "\n"
}

/// Appends rows to `text`. No field can hold a comma, a quote or a line break, so none is quoted.
pub(super) fn format(text: &mut Vec<u8>, rows: &[CounterRow]) {
    for row in rows {
        let CounterRow {
            cell,
            boot,
            round,
            vcpu,
            ..
        } = row;
        let side = side_name(row.side);
        write!(text, "{cell},{boot},{round},{side},{vcpu}").expect("a vector takes every write");
        for &counter in Counter::ALL {
            text.push(b',');
            if let Some(value) = row.counts.get(counter) {
                write!(text, "{value}").expect("a vector takes every write");
            }
        }
        text.push(b'\n');
    }
}

/// Reads all rows; notes a torn last line. A run without the file counted nothing, and a column that this version does
/// not know is passed over.
pub(super) fn read(path: &Path, notes: &mut Vec<String>) -> Result<CounterLog, StoreError> {
    let mut log = CounterLog::default();
    if !path.exists() {
        return Ok(log);
    }
    let bytes = read_lines(path, notes)?;
    let damaged = |line: u64, what: String| StoreError::Line {
        path: path.to_owned(),
        line,
        what,
    };
    let mut rows = csv::Reader::from_reader(bytes.as_slice());
    let header = rows
        .headers()
        .map_err(|error| damaged(1, error.to_string()))?;
    if !bytes.is_empty() && !header.iter().take(KEYS.len()).eq(KEYS) {
        return Err(damaged(
            1,
            format!("the columns do not begin with {}", KEYS.join(",")),
        ));
    }
    let columns: Vec<Option<Counter>> = header
        .iter()
        .skip(KEYS.len())
        .map(|name| Counter::ALL.iter().copied().find(|it| it.name() == name))
        .collect();
    let mut row = csv::StringRecord::new();
    while rows.read_record(&mut row).map_err(|error| {
        damaged(
            error.position().map_or(0, csv::Position::line),
            error.to_string(),
        )
    })? {
        let line = row.position().map_or(0, csv::Position::line);
        let what = || "not a block and its counters".to_owned();
        log.push(parse(&row, &columns).ok_or_else(|| damaged(line, what()))?);
    }
    Ok(log)
}

fn parse(row: &csv::StringRecord, columns: &[Option<Counter>]) -> Option<CounterRow> {
    let mut counts = Counts::NONE;
    for (field, column) in row.iter().skip(KEYS.len()).zip(columns) {
        if let (Some(counter), false) = (column, field.is_empty()) {
            counts.set(*counter, Some(field.parse().ok()?));
        }
    }
    Some(CounterRow {
        cell: row[0].parse().ok()?,
        boot: row[1].parse().ok()?,
        round: row[2].parse().ok()?,
        side: side_named(row[3].as_bytes())?,
        vcpu: row[4].parse().ok()?,
        counts,
    })
}
