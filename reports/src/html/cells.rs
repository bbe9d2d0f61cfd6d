//! The table of all cells.

use super::noise::left_out;
use super::words::{Badge, ends, mean, reason, share};
use crate::export::figures::{Multiple, NONE, cost, floor};
use crate::result::{CellResult, Results};

/// One row; the keys sort it where the text would not.
pub(super) struct Row<'a> {
    pub id: u32,
    pub label: &'a str,
    pub badge: Badge,
    pub share: String,
    pub share_key: String,
    pub ends: String,
    pub typical: String,
    pub typical_key: String,
    pub native: String,
    pub guest: String,
    pub unit: String,
    pub floor: String,
    pub floor_key: String,
    pub boots: u32,
    pub rounds: u32,
    pub left_out: u64,
    pub left_out_words: String,
    pub reason: &'a str,
}

/// A reason that at least so many cells share stands above the table, once.
const SHARED: usize = 4;

/// Every cell, in plan order, and the reasons that many of them share, each with the number of its cells.
pub(super) fn rows(results: &Results) -> (Vec<Row<'_>>, Vec<(usize, &str)>) {
    let threshold = results.headline.threshold;
    let mut rows: Vec<Row<'_>> = results
        .cells
        .iter()
        .map(|cell| Row::new(cell, threshold))
        .collect();
    let mut common: Vec<(usize, &str)> = Vec::new();
    for row in &rows {
        match common.iter_mut().find(|(_, reason)| *reason == row.reason) {
            Some((count, _)) => *count += 1,
            None => common.push((1, row.reason)),
        }
    }
    common.retain(|(count, _)| *count >= SHARED);
    for row in &mut rows {
        if common.iter().any(|(_, reason)| *reason == row.reason) {
            row.reason = "";
        }
    }
    (rows, common)
}

impl<'a> Row<'a> {
    fn new(cell: &'a CellResult, threshold: f64) -> Self {
        let larger = cell.native.iter().chain(&cell.guest).map(|side| side.mean);
        let unit = Multiple::of(&cell.unit, larger.fold(0.0, f64::max));
        Self {
            id: cell.id,
            label: &cell.label,
            badge: Badge::of(cell),
            share: match &cell.cost {
                Some(of) => cost(of, &cell.unit),
                None => share(cell.ratio.as_ref(), threshold),
            },
            share_key: key(cell.ratio.map(|ratio| ratio.value)),
            ends: ends(cell.ratio.as_ref(), threshold),
            typical: share(cell.typical.as_ref(), threshold),
            typical_key: key(cell.typical.map(|typical| typical.value)),
            native: mean(cell.native.as_ref(), &unit),
            guest: mean(cell.guest.as_ref(), &unit),
            unit: unit.name,
            floor: cell.noise_floor.map_or(NONE.to_owned(), floor),
            floor_key: key(cell.noise_floor),
            boots: cell.boots,
            rounds: cell.rounds,
            left_out: cell.voided.values().sum(),
            left_out_words: left_out(cell),
            reason: reason(cell),
        }
    }
}

/// What was not measured sorts behind everything.
fn key(value: Option<f64>) -> String {
    value.map_or("Infinity".to_owned(), |value| format!("{value:.6}"))
}
