//! `samples.csv`: one row per block and vCPU.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::{StoreError, side_name, side_named, whole_lines};
use crate::record::{Marks, Sample};

/// The columns. `inner_nanos` is `ticks` in nanoseconds, for readers other than vtax. Older runs lack the last one or the
/// last two; without `latency_ticks`, `ticks` is that median times `iterations` where single latencies make the figure.
pub(crate) const COLUMNS: [&str; 15] = [
    "cell",
    "boot",
    "round",
    "position",
    "side",
    "vcpu",
    "cpu",
    "iterations",
    "ticks",
    "inner_nanos",
    "outer_nanos",
    "at_nanos",
    "marks",
    "run_in_ticks",
    "latency_ticks",
];

/// So many of the columns have always been there.
const OLDEST: usize = 13;

/// The first line.
pub(super) fn header() -> String {
    COLUMNS.join(",") + "\n"
}

/// Appends rows to `text`. No field can hold a comma, a quote or a line break, so none is quoted.
pub(super) fn format(text: &mut Vec<u8>, samples: &[Sample], nanos_per_tick: f64) {
    for sample in samples {
        let Sample {
            cell,
            boot,
            round,
            position,
            vcpu,
            cpu,
            iterations,
            ticks,
            outer_nanos,
            at_nanos,
            run_in_ticks,
            latency_ticks,
            ..
        } = sample;
        let side = side_name(sample.side);
        let inner_nanos = *ticks as f64 * nanos_per_tick;
        write!(
            text,
            "{cell},{boot},{round},{position},{side},{vcpu},{cpu},{iterations},{ticks},{inner_nanos:.1},\
             {outer_nanos},{at_nanos},"
        )
        .expect("a vector takes every write");
        let mut names = Marks::NAMES
            .iter()
            .filter(|(mark, _)| sample.marks.intersects(*mark))
            .map(|(_, name)| name.as_bytes());
        text.extend_from_slice(names.next().unwrap_or_default());
        for name in names {
            text.push(b'+');
            text.extend_from_slice(name);
        }
        writeln!(text, ",{run_in_ticks},{latency_ticks}").expect("a vector takes every write");
    }
}

/// Reads all rows; notes a torn last line. A file that is not there, or ends in its header, holds none.
pub(super) fn read(path: &Path, notes: &mut Vec<String>) -> Result<Vec<Sample>, StoreError> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.map_err(StoreError::io("open", path))?,
    };
    let length = length_of_whole_lines(&mut file, notes).map_err(StoreError::io("read", path))?;
    if length == 0 {
        return Ok(Vec::new());
    }
    let mut rows = csv::ReaderBuilder::new()
        .buffer_capacity(1 << 18)
        .from_reader(file.take(length));
    let damaged = |line: u64, what: String| StoreError::Line {
        path: path.to_owned(),
        line,
        what,
    };
    let header = rows
        .byte_headers()
        .map_err(|error| damaged(1, error.to_string()))?;
    if !(OLDEST..=COLUMNS.len()).any(|count| header == COLUMNS[..count]) {
        return Err(damaged(
            1,
            format!("the columns are not {}", COLUMNS.join(",")),
        ));
    }
    // A row has some 90 bytes; the guess saves regrowth, and with it twice the memory.
    let mut samples = Vec::with_capacity(usize::try_from(length / 90).unwrap_or_default());
    let mut row = csv::ByteRecord::new();
    while rows
        .read_byte_record(&mut row)
        .map_err(|error| damaged(line_of(error.position()), error.to_string()))?
    {
        let sample = parse(&row).ok_or_else(|| {
            damaged(
                line_of(row.position()),
                "not a row of numbers, a side and marks".into(),
            )
        })?;
        samples.push(sample);
    }
    Ok(samples)
}

fn line_of(position: Option<&csv::Position>) -> u64 {
    position.map_or(0, csv::Position::line)
}

/// Length of the file up to its last line break; leaves the file at its start.
fn length_of_whole_lines(file: &mut File, notes: &mut Vec<String>) -> std::io::Result<u64> {
    /// No row is longer than this.
    const TAIL: u64 = 4096;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    BufReader::new(&mut *file).read_to_end(&mut tail)?;
    file.rewind()?;
    let (whole, torn) = whole_lines(&tail);
    if torn {
        notes.push(
            "The last line of samples.csv was torn when the run was killed; that block is left out."
                .to_owned(),
        );
    }
    Ok(start + whole.len() as u64)
}

fn parse(row: &csv::ByteRecord) -> Option<Sample> {
    Some(Sample {
        cell: number(&row[0])?,
        boot: number(&row[1])?,
        round: number(&row[2])?,
        position: number(&row[3])?,
        side: side_named(&row[4])?,
        vcpu: number(&row[5])?,
        cpu: number(&row[6])?,
        iterations: number(&row[7])?,
        ticks: number(&row[8])?,
        outer_nanos: number(&row[10])?,
        at_nanos: number(&row[11])?,
        marks: marks(&row[12])?,
        run_in_ticks: row.get(13).map_or(Some(0), number)?,
        latency_ticks: row.get(14).map_or(Some(0), number)?,
    })
}

fn number<T: TryFrom<u64>>(field: &[u8]) -> Option<T> {
    if field.is_empty() {
        return None;
    }
    let value = field.iter().try_fold(0_u64, |value, &byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit <= 9)
            .then(|| value.checked_mul(10)?.checked_add(u64::from(digit)))
            .flatten()
    })?;
    T::try_from(value).ok()
}

fn marks(field: &[u8]) -> Option<Marks> {
    if field.is_empty() {
        return Some(Marks::CLEAN);
    }
    field
        .split(|&byte| byte == b'+')
        .try_fold(Marks::CLEAN, |marks, word| {
            let (mark, _) = Marks::NAMES
                .iter()
                .find(|(_, name)| name.as_bytes() == word)?;
            Some(marks.union(*mark))
        })
}
