//! What the figures cannot tell from nothing, and which blocks are not in them.

use std::collections::BTreeMap;

use super::words::{ends, share};
use crate::export::figures::{NONE, floor, nanos};
use crate::result::{CellResult, Results};
use crate::stats::boot::TREATMENT;
use crate::store::Run;

/// Most cells; the table of all cells has the others.
const MOST: usize = 40;

/// The section.
pub(super) struct Noise<'a> {
    pub bound: String,
    pub treatment: &'static str,
    /// What part of all blocks was left out, in words.
    pub left_out: String,
    pub reasons: Vec<Reason<'a>>,
    pub rows: Vec<Row<'a>>,
    pub more: usize,
}

/// Why blocks were left out, how many, and what kind of reason it is.
pub(super) struct Reason<'a> {
    pub name: &'a str,
    pub blocks: u64,
    pub meaning: &'static str,
    pub kind: &'static str,
}

/// One cell's noise.
pub(super) struct Row<'a> {
    pub label: &'a str,
    pub floor: String,
    pub control: String,
    pub control_ends: String,
    pub share: String,
    pub share_ends: String,
    pub typical: String,
    pub typical_ends: String,
    pub rounds: u32,
    pub left_out: String,
}

impl<'a> Noise<'a> {
    /// The noise of all cells, the noisiest first.
    pub fn new(run: &Run, results: &'a Results) -> Self {
        let mut noisy: Vec<(&CellResult, f64)> = results
            .cells
            .iter()
            .filter_map(|cell| cell.noise_floor.map(|floor| (cell, floor)))
            .collect();
        noisy.sort_by(|(a, one), (b, other)| other.total_cmp(one).then(a.id.cmp(&b.id)));
        let mut blocks: BTreeMap<&str, u64> = BTreeMap::new();
        for (reason, count) in results.cells.iter().flat_map(|cell| &cell.voided) {
            *blocks.entry(reason).or_default() += count;
        }
        let threshold = results.headline.threshold;
        let bound = run.record.clock_bound;
        Self {
            bound: format!(
                "{} % of the block plus {}, after {} for entering and leaving the guest is taken off",
                super::head::trimmed(bound.relative * 100.0),
                nanos(bound.absolute_nanos as f64),
                nanos(bound.entry_nanos as f64)
            ),
            treatment: TREATMENT,
            left_out: {
                let all: u64 = results.cells.iter().map(|cell| cell.blocks).sum();
                let out: u64 = blocks.values().sum();
                format!(
                    "{out} of {all} blocks ({:.1} %) were left out.",
                    100.0 * out as f64 / all.max(1) as f64
                )
            },
            reasons: blocks
                .into_iter()
                .map(|(name, blocks)| Reason::new(name, blocks))
                .collect(),
            more: noisy.len().saturating_sub(MOST),
            rows: noisy
                .into_iter()
                .take(MOST)
                .map(|(cell, noise)| Row {
                    label: &cell.label,
                    floor: floor(noise),
                    control: share(cell.control.as_ref(), 1.0),
                    control_ends: ends(cell.control.as_ref(), 1.0),
                    share: share(cell.ratio.as_ref(), threshold),
                    share_ends: ends(cell.ratio.as_ref(), threshold),
                    typical: share(cell.typical.as_ref(), threshold),
                    typical_ends: ends(cell.typical.as_ref(), threshold),
                    rounds: cell.rounds,
                    left_out: left_out(cell),
                })
                .collect(),
        }
    }
}

impl<'a> Reason<'a> {
    fn new(name: &'a str, blocks: u64) -> Self {
        let (meaning, kind) = match name {
            "clock" => (
                "the payload's clock and the harness's clock disagree",
                "void",
            ),
            "checksum" => ("the work's checksum is not the reference's", "void"),
            "interrupted" => ("a signal interrupted the block", "void"),
            "empty" => ("no work was done, or no time passed", "void"),
            "incomplete" => ("the round lacks a side", "round left out"),
            "paired" => (
                "nothing wrong but with another block of its round",
                "round left out",
            ),
            "warmup" => ("before the steady state was reached", "warm-up"),
            _ => ("a reason that this vtax does not know", "left out"),
        };
        Self {
            name,
            blocks,
            meaning,
            kind,
        }
    }
}

/// `3 preempted, 1 clock`, or a dash.
pub(super) fn left_out(cell: &CellResult) -> String {
    if cell.voided.is_empty() {
        return NONE.to_owned();
    }
    cell.voided
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect::<Vec<_>>()
        .join(", ")
}
