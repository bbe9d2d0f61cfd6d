//! The forest plot: every ratio with its interval and noise floor against the threshold.

use vtax_scenarios::plan::Form;

use super::attention::by_worry;
use super::head::trimmed;
use super::scale::{Axis, Tick, place};
use super::words::{Badge, confidence, ends, share};
use crate::export::figures::{NONE, floor, percent_interval};
use crate::result::{CellResult, Interval, Results};
use crate::store::Run;
use crate::verdict::words;

/// Most rows; the table of all cells has the others.
const MOST: usize = 60;
/// Ratios beyond these stretch the axis only when they are more than a third of all.
const USUAL: (f64, f64) = (0.7, 1.15);

/// The plot.
pub(super) struct Forest<'a> {
    pub rows: Vec<Row<'a>>,
    /// Measured cells that are not among `rows`.
    pub more: usize,
    /// Whether the claim is about these ratios, so that its threshold belongs beside them.
    pub claimed: bool,
    pub ticks: Vec<Tick>,
    pub threshold: String,
    pub threshold_label: String,
    pub one: String,
    pub confidence: String,
    /// Whether some row goes beyond the axis.
    pub clipped: bool,
}

/// One ratio.
pub(super) struct Row<'a> {
    pub label: &'a str,
    pub badge: Badge,
    pub share: String,
    pub ends: String,
    pub floor: String,
    pub words: String,
    pub low: String,
    pub high: String,
    pub value: String,
    pub floor_low: String,
    pub floor_width: String,
    pub beyond_low: bool,
    pub beyond_high: bool,
}

impl<'a> Forest<'a> {
    /// The plot of the measured cells: in plan order where they fit, else the most worrying of them.
    pub fn new(run: &Run, results: &'a Results) -> Self {
        let measured = |cells: Vec<&'a CellResult>| -> Vec<(&'a CellResult, Interval)> {
            cells
                .into_iter()
                .filter_map(|cell| cell.ratio.map(|ratio| (cell, ratio)))
                .collect()
        };
        let mut cells = measured(results.cells.iter().collect());
        let more = cells.len().saturating_sub(MOST);
        if more > 0 {
            cells = measured(by_worry(results));
            cells.truncate(MOST);
        }
        let threshold = results.headline.threshold;
        let axis = axis(&cells, threshold);
        let rows: Vec<Row<'_>> = cells
            .iter()
            .map(|(cell, ratio)| Row::new(cell, ratio, threshold, &axis))
            .collect();
        Self {
            clipped: rows.iter().any(|row| row.beyond_low || row.beyond_high),
            rows,
            more,
            claimed: run.record.plan.claim.form == Form::Share
                && !run.record.plan.asks_of_settings(),
            ticks: axis
                .ticks(6)
                .into_iter()
                .map(|tick| Tick {
                    at: place(axis.at(tick)),
                    label: trimmed(tick * 100.0),
                })
                .collect(),
            threshold: place(axis.at(threshold)),
            threshold_label: words::threshold(threshold),
            one: place(axis.at(1.0)),
            confidence: cells
                .first()
                .map_or(String::new(), |(_, ratio)| confidence(ratio)),
        }
    }
}

impl<'a> Row<'a> {
    fn new(cell: &'a CellResult, ratio: &Interval, threshold: f64, axis: &Axis) -> Self {
        let noise = cell.noise_floor.unwrap_or_default();
        let (floor_low, floor_high) = (axis.at(1.0 - noise), axis.at(1.0 + noise));
        let badge = Badge::of(cell);
        let floor = cell.noise_floor.map_or(NONE.to_owned(), floor);
        Self {
            label: &cell.label,
            badge,
            share: share(Some(ratio), threshold),
            ends: ends(Some(ratio), threshold),
            words: format!(
                "{}: {} of native, {} interval, noise floor {floor}: {}",
                cell.label,
                percent_interval(ratio, threshold),
                confidence(ratio),
                badge.word
            ),
            floor,
            low: place(axis.at(ratio.low)),
            high: place(axis.at(ratio.high)),
            value: place(axis.at(ratio.value)),
            floor_low: place(floor_low),
            floor_width: place(floor_high - floor_low),
            beyond_low: !axis.holds(ratio.low),
            beyond_high: !axis.holds(ratio.high),
        }
    }
}

/// From the lowest to the highest end, but a few extremes do not squeeze all others.
fn axis(cells: &[(&CellResult, Interval)], threshold: f64) -> Axis {
    let beyond = cells
        .iter()
        .filter(|(_, ratio)| ratio.low < USUAL.0 || ratio.high > USUAL.1)
        .count();
    let (floor, ceiling) = if beyond * 3 > cells.len() {
        // An interval that says nothing may reach far beyond every value.
        let largest = cells.iter().map(|(_, ratio)| ratio.value);
        (0.0, (2.0 * largest.fold(0.0, f64::max)).max(USUAL.1))
    } else {
        USUAL
    };
    let low = cells
        .iter()
        .map(|(_, ratio)| ratio.low.max(floor))
        .fold(threshold.min(1.0), f64::min);
    let high = cells
        .iter()
        .map(|(_, ratio)| ratio.high.min(ceiling))
        .fold(threshold.max(1.0), f64::max);
    let room = ((high - low) * 0.04).max(0.002);
    Axis::linear(low - room, high + room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_extreme_does_not_squeeze_the_others() {
        let cell = CellResult {
            id: 0,
            scenario: String::new(),
            label: String::new(),
            parameters: std::collections::BTreeMap::new(),
            workload: String::new(),
            unit: String::new(),
            direction: crate::result::Direction::Higher,
            native: None,
            guest: None,
            ratio: None,
            typical: None,
            stalls: None,
            carry_over: Default::default(),
            cost: None,
            cost_ticks: None,
            control: None,
            noise_floor: None,
            boots: 0,
            rounds: 0,
            blocks: 0,
            voided: std::collections::BTreeMap::new(),
            anomaly: None,
            quantiles: Vec::new(),
            cpu: None,
            net_backend: None,
            native_disk: None,
            on_cpus: Vec::new(),
            frequency: None,
            lost_frames: None,
            ledger: None,
            verdict: crate::result::Verdict::Holds,
            reason: String::new(),
            failed: false,
        };
        let at = |value: f64| Interval {
            value,
            low: value - 0.01,
            high: value + 0.01,
            confidence: 0.95,
        };
        let good = (&cell, at(0.98));
        let bad = (&cell, at(0.2));
        assert!(!axis(&[good, good, good, bad], 0.97).holds(0.2));
        assert!(axis(&[good, bad, bad], 0.97).holds(0.2));
    }
}
