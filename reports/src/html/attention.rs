//! The cells that deserve a look, the most worrying first.

use super::words::{Badge, ends, reason, share};
use crate::export::figures::Outcome;
use crate::result::{CellResult, Results};

/// Most cells to name; the table of all cells has the others.
const MOST: usize = 12;

/// In place of a reason that a cell above has too.
const AS_ABOVE: &str = "For the reason given above.";

/// What deserves a look.
pub(super) struct Attention<'a> {
    pub items: Vec<Item<'a>>,
    pub more: usize,
}

/// One cell of them.
pub(super) struct Item<'a> {
    pub badge: Badge,
    pub label: &'a str,
    pub share: String,
    pub ends: String,
    pub reason: &'a str,
}

impl<'a> Attention<'a> {
    /// Every cell that does not simply hold, up to [`MOST`].
    pub fn new(results: &'a Results) -> Self {
        let worrying = || {
            by_worry(results)
                .into_iter()
                .filter(|cell| !matches!(Outcome::of(cell), Outcome::Holds | Outcome::Cost))
        };
        let mut told: Vec<&str> = Vec::new();
        let mut once = |reason: &'a str| {
            let new = !told.contains(&reason);
            told.push(reason);
            if new { reason } else { AS_ABOVE }
        };
        Self {
            items: worrying()
                .take(MOST)
                .map(|cell| Item {
                    badge: Badge::of(cell),
                    label: &cell.label,
                    share: share(cell.ratio.as_ref(), results.headline.threshold),
                    ends: ends(cell.ratio.as_ref(), results.headline.threshold),
                    reason: once(reason(cell)),
                })
                .collect(),
            more: worrying().count().saturating_sub(MOST),
        }
    }
}

/// All cells: the worst outcome first, and within it the lowest ratio.
pub(super) fn by_worry(results: &Results) -> Vec<&CellResult> {
    let ratio = |cell: &CellResult| cell.ratio.map_or(f64::INFINITY, |ratio| ratio.value);
    let mut cells: Vec<&CellResult> = results.cells.iter().collect();
    cells.sort_by(|a, b| {
        (Outcome::of(a).cmp(&Outcome::of(b)))
            .then(ratio(a).total_cmp(&ratio(b)))
            .then(a.id.cmp(&b.id))
    });
    cells
}
