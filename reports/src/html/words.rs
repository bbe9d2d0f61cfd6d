//! Words and figures that several sections share.

use crate::export::figures::{self, Multiple, NONE, Outcome};
use crate::result::{CellResult, Interval, SideSummary};
use crate::verdict::words;

/// An outcome as a reader sees it: sign, word and colour.
#[derive(Clone, Copy)]
pub(super) struct Badge {
    /// CSS class.
    pub class: &'static str,
    /// Sign that needs no colour.
    pub sign: &'static str,
    /// In words.
    pub word: &'static str,
}

impl Badge {
    /// The badge of `outcome`.
    pub const fn new(outcome: Outcome) -> Self {
        Self {
            class: match outcome {
                Outcome::Failed => "failed",
                Outcome::Anomaly => "anomaly",
                Outcome::Refuted => "refuted",
                Outcome::Undecided => "undecided",
                Outcome::NotTestable => "untestable",
                Outcome::Holds => "holds",
                Outcome::Cost => "cost",
            },
            sign: outcome.sign(),
            word: outcome.word(),
        }
    }

    /// The badge of `cell`.
    pub const fn of(cell: &CellResult) -> Self {
        Self::new(Outcome::of(cell))
    }
}

/// Why a cell has its outcome, in words.
pub(super) fn reason(cell: &CellResult) -> &str {
    cell.anomaly.as_deref().unwrap_or(&cell.reason)
}

/// `99.6 %`, or a dash; rounded so that it does not contradict its verdict against `threshold`.
pub(super) fn share(ratio: Option<&Interval>, threshold: f64) -> String {
    ratio.map_or(NONE.to_owned(), |ratio| figures::share(ratio, threshold))
}

/// `[99.2, 100.0]`, or nothing.
pub(super) fn ends(ratio: Option<&Interval>, threshold: f64) -> String {
    ratio.map_or(String::new(), |ratio| words::ends(ratio, threshold))
}

/// Work per time on a side to four digits, in this unit, or a dash.
pub(super) fn mean(side: Option<&SideSummary>, unit: &Multiple) -> String {
    side.map_or(NONE.to_owned(), |side| unit.show(side.mean))
}

/// `95 %`.
pub(super) fn confidence(interval: &Interval) -> String {
    let percent = interval.confidence * 100.0;
    // 99.9 keeps its digit, 95 gets none.
    format!("{} %", (percent * 100.0).round() / 100.0)
}

/// A size as people write it: `16KiB`, `1GiB`, `1000B`.
pub(super) fn bytes(bytes: u64) -> String {
    [(30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift)
        .map_or_else(
            || format!("{bytes}B"),
            |(shift, unit)| format!("{}{unit}", bytes >> shift),
        )
}

/// The bytes of a size as people write it.
pub(super) fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_go_there_and_back() {
        for text in ["0B", "1000B", "16KiB", "3MiB", "1GiB"] {
            assert_eq!(bytes(parse_bytes(text).unwrap()), text);
        }
        assert_eq!(parse_bytes("4k"), None);
        assert_eq!(parse_bytes(""), None);
    }
}
