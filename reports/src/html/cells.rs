//! The table of all cells.

use super::noise::left_out;
use super::words::{Badge, ends, mean, reason, share};
use crate::export::figures::{NONE, cost, floor};
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
    pub unit: &'a str,
    pub floor: String,
    pub floor_key: String,
    pub boots: u32,
    pub rounds: u32,
    pub left_out: u64,
    pub left_out_words: String,
    pub reason: &'a str,
}

/// Every cell, in plan order.
pub(super) fn rows(results: &Results) -> Vec<Row<'_>> {
    let threshold = results.headline.threshold;
    results
        .cells
        .iter()
        .map(|cell| Row::new(cell, threshold))
        .collect()
}

impl<'a> Row<'a> {
    fn new(cell: &'a CellResult, threshold: f64) -> Self {
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
            native: mean(cell.native.as_ref()),
            guest: mean(cell.guest.as_ref()),
            unit: &cell.unit,
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
