//! `trials.csv`: one row per value of an experiment's metric.

use std::io::Write;
use std::path::Path;

use super::{StoreError, read_lines};
use crate::trials::Trial;

/// The columns. `at_nanos` is empty but for points of time series.
pub(crate) const COLUMNS: [&str; 5] = ["experiment", "repetition", "metric", "at_nanos", "value"];

/// The first line.
pub(super) fn header() -> String {
    COLUMNS.join(",") + "\n"
}

/// Appends rows to `text`. A metric's name holds no comma, so nothing is quoted.
pub(super) fn format(text: &mut Vec<u8>, trials: &[Trial]) {
    for trial in trials {
        let at = trial.at_nanos.map_or(String::new(), |at| at.to_string());
        let Trial {
            experiment,
            repetition,
            metric,
            value,
            ..
        } = trial;
        writeln!(text, "{experiment},{repetition},{metric},{at},{value}")
            .expect("a vector takes every write");
    }
}

/// Reads all rows; notes a torn last line. A run without the file had no experiments.
pub(super) fn read(path: &Path, notes: &mut Vec<String>) -> Result<Vec<Trial>, StoreError> {
    if !path.exists() {
        return Ok(Vec::new());
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
    if !bytes.is_empty() && !header.iter().eq(COLUMNS) {
        let what = format!("the columns are not {}", COLUMNS.join(","));
        return Err(damaged(1, what));
    }
    let mut trials = Vec::new();
    for row in rows.records() {
        let row = row.map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            damaged(line, error.to_string())
        })?;
        let line = row.position().map_or(0, csv::Position::line);
        let trial = parse(&row).ok_or_else(|| damaged(line, "not a trial".to_owned()))?;
        trials.push(trial);
    }
    Ok(trials)
}

fn parse(row: &csv::StringRecord) -> Option<Trial> {
    Some(Trial {
        experiment: row[0].parse().ok()?,
        repetition: row[1].parse().ok()?,
        metric: row[2].to_owned(),
        at_nanos: match &row[3] {
            "" => None,
            at => Some(at.parse().ok()?),
        },
        value: row[4]
            .parse()
            .ok()
            .filter(|value: &f64| value.is_finite())?,
    })
}
