//! How guests stumble: blocks far longer than the others, what they cost, and what could not be seen.

use super::scale::{Axis, place};
use crate::export::figures::{NONE, nanos};
use crate::result::{CellResult, Results};
use crate::stats::stalls::{EXCLUDED_WITH, Stalls};
use crate::stats::transitions::CarryOver;
use crate::verdict::words::percent;

/// Most rows.
const MOST: usize = 24;

/// The section.
pub(super) struct Stumbles<'a> {
    /// Cells whose blocks stalled on either side, those that lose most by it first.
    pub rows: Vec<Row<'a>>,
    pub more: usize,
    /// What is excluded of all cells together, in words; empty where nothing was compared.
    pub excluded: String,
    /// What taking turns costs, in words; empty where it is not known.
    pub carry_over: String,
}

/// One cell.
pub(super) struct Row<'a> {
    pub label: &'a str,
    pub stumbles: bool,
    pub guest: String,
    pub native: String,
    pub every: String,
    pub excess: String,
    pub cost: String,
    pub range: String,
    pub share: String,
    /// The interval of the cost and its estimate, in percent of the plot's width.
    pub zero: String,
    pub low: String,
    pub width: String,
    pub value: String,
}

impl<'a> Stumbles<'a> {
    /// From all cells with a share of native.
    pub fn new(results: &'a Results) -> Self {
        let of = |cell: &'a CellResult| cell.stalls.as_ref().map(|stalls| (cell, stalls));
        let all: Vec<(&CellResult, &Stalls)> = results.cells.iter().filter_map(of).collect();
        let mut stalled: Vec<_> = all
            .iter()
            .copied()
            .filter(|(_, stalls)| stalls.guest + stalls.native > 0)
            .collect();
        stalled.sort_by(|(_, one), (_, other)| {
            (other.stumbles, other.cost_low)
                .partial_cmp(&(one.stumbles, one.cost_low))
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        let more = stalled.len().saturating_sub(MOST);
        stalled.truncate(MOST);
        let ends = |end: fn(&Stalls) -> f64| stalled.iter().map(move |(_, it)| end(it));
        let axis = Axis::linear(
            ends(|it| it.cost_low).fold(0.0, f64::min),
            ends(|it| it.cost_high).fold(0.0, f64::max),
        );
        let seen: f64 = all.iter().map(|(_, it)| it.excluded_nanos).sum();
        Self {
            excluded: if all.is_empty() {
                String::new()
            } else {
                format!(
                    "Over all cells together, stalls of any length more often than every {} of the guest's work are excluded with {} %; rarer ones are not.",
                    nanos(seen),
                    100.0 * EXCLUDED_WITH
                )
            },
            carry_over: carry_over(&results.carry_over),
            rows: stalled
                .iter()
                .map(|(cell, it)| Row::new(cell, it, axis))
                .collect(),
            more,
        }
    }
}

impl<'a> Row<'a> {
    fn new(cell: &'a CellResult, stalls: &Stalls, axis: Axis) -> Self {
        let (low, high) = (axis.at(stalls.cost_low), axis.at(stalls.cost_high));
        Self {
            label: &cell.label,
            stumbles: stalls.stumbles,
            guest: format!("{} of {}", stalls.guest, stalls.guest_blocks),
            native: format!("{} of {}", stalls.native, stalls.native_blocks),
            every: stalls.every_nanos.map_or(NONE.to_owned(), nanos),
            excess: stalls
                .excess_nanos
                .map_or(NONE.to_owned(), |excess| excess.map(nanos).join(" / ")),
            cost: format!("{} %", percent(stalls.cost)),
            range: format!(
                "[{}, {}]",
                percent(stalls.cost_low),
                percent(stalls.cost_high)
            ),
            share: stalls
                .share_of_loss
                .filter(|_| stalls.stumbles)
                .map_or(NONE.to_owned(), |share| format!("{:.0} %", 100.0 * share)),
            zero: place(axis.at(0.0)),
            low: place(low),
            width: place(high - low),
            value: place(axis.at(stalls.cost)),
        }
    }
}

/// What taking turns costs a block of either side.
pub(super) fn carry_over(found: &CarryOver) -> String {
    let sides = [("the host", found.native), ("the guest", found.guest)];
    let words: Vec<String> = sides
        .into_iter()
        .filter_map(|(side, interval)| {
            let it = interval?;
            Some(format!(
                "{side} {:+.2} % [{:+.2}, {:+.2}]",
                100.0 * it.value,
                100.0 * it.low,
                100.0 * it.high
            ))
        })
        .collect();
    if words.is_empty() {
        return String::new();
    }
    let verdict = if found.shows() {
        "Taking turns shows: a block takes longer or shorter after one of the other side than after one of its own, and ratios carry that"
    } else {
        "Taking turns does not show: a block takes as long after one of the other side as after one of its own"
    };
    format!(
        "{verdict} ({}, over all cells, with 99 % confidence).",
        words.join(", ")
    )
}
