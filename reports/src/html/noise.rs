//! What the figures cannot tell from nothing, and which blocks are not in them.

use std::collections::BTreeMap;

use super::words::{ends, share};
use crate::export::figures::{NONE, floor, nanos};
use crate::result::{CellResult, Results};
use crate::store::Run;

/// Most cells; the table of all cells has the others.
const MOST: usize = 40;

/// The section.
pub(super) struct Noise<'a> {
    pub bound: String,
    pub reasons: Vec<Reason<'a>>,
    pub rows: Vec<Row<'a>>,
    pub more: usize,
}

/// Why blocks were left out, how many, and how such blocks are treated.
pub(super) struct Reason<'a> {
    pub name: &'a str,
    pub blocks: u64,
    pub meaning: &'static str,
    pub treatment: &'static str,
}

/// One cell's noise.
pub(super) struct Row<'a> {
    pub label: &'a str,
    pub floor: String,
    pub control: String,
    pub control_ends: String,
    pub share: String,
    pub share_ends: String,
    pub all_rounds: String,
    pub all_rounds_ends: String,
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
        let bound = run.record.clock_bound;
        Self {
            bound: format!(
                "{} % of the block plus {}",
                super::head::trimmed(bound.relative * 100.0),
                nanos(bound.absolute_nanos as f64)
            ),
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
                    control: share(cell.control.as_ref()),
                    control_ends: ends(cell.control.as_ref()),
                    share: share(cell.ratio.as_ref()),
                    share_ends: ends(cell.ratio.as_ref()),
                    all_rounds: share(cell.ratio_all_rounds.as_ref()),
                    all_rounds_ends: ends(cell.ratio_all_rounds.as_ref()),
                    rounds: cell.rounds,
                    left_out: left_out(cell),
                })
                .collect(),
        }
    }
}

impl<'a> Reason<'a> {
    fn new(name: &'a str, blocks: u64) -> Self {
        const NEVER: &str = "void: never in an estimate";
        const SPOILED: &str =
            "spoiled: its round is left out; the ratio with all rounds stands beside";
        let (meaning, treatment) = match name {
            "warmup" => (
                "before the steady state was reached",
                "kept in samples.csv, never in an estimate",
            ),
            "clock" => (
                "the payload's clock and the harness's clock disagree",
                NEVER,
            ),
            "checksum" => ("the work's checksum is not the reference's", NEVER),
            "interrupted" => ("a signal interrupted the block", NEVER),
            "migration" => ("the thread changed its CPU", SPOILED),
            "preempted" => ("the kernel gave the CPU to another task", SPOILED),
            "steal" => ("the hypervisor under this host took the CPU away", SPOILED),
            _ => (
                "a block of a round that is incomplete without its marked blocks",
                "left out",
            ),
        };
        Self {
            name,
            blocks,
            meaning,
            treatment,
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
