//! Latency quantiles of both sides, for workloads that time each operation.

use super::scale::{Axis, Tick, place};
use crate::export::figures::{NONE, nanos};
use crate::result::{CellResult, Interval, QuantileRow, Results};

/// Most plots.
const MOST: usize = 12;

/// How far the axis goes beyond the first and the last quantile, in nines.
const MARGIN: f64 = 0.1;

/// The plots.
pub(super) struct Quantiles<'a> {
    pub plots: Vec<Plot<'a>>,
    pub more: usize,
}

/// One cell.
pub(super) struct Plot<'a> {
    pub label: &'a str,
    pub words: String,
    /// Whether there is a native side to compare with.
    pub compared: bool,
    pub x_ticks: Vec<Tick>,
    pub y_ticks: Vec<Tick>,
    pub native_path: String,
    pub guest_path: String,
    pub points: Vec<Point>,
    pub rows: Vec<Row>,
}

/// A quantile with its interval.
pub(super) struct Point {
    pub class: &'static str,
    pub x: String,
    pub y: String,
    pub low: String,
    pub high: String,
    pub words: String,
}

/// A quantile, for the table.
pub(super) struct Row {
    pub name: String,
    pub native: String,
    pub native_range: String,
    pub guest: String,
    pub guest_range: String,
    pub added: String,
}

impl<'a> Quantiles<'a> {
    /// One plot for each cell that has quantiles.
    pub fn new(results: &'a Results) -> Self {
        let timed = || {
            results
                .cells
                .iter()
                .filter(|cell| !cell.quantiles.is_empty())
        };
        Self {
            plots: timed().take(MOST).map(Plot::new).collect(),
            more: timed().count().saturating_sub(MOST),
        }
    }
}

impl<'a> Plot<'a> {
    fn new(cell: &'a CellResult) -> Self {
        let rows = &cell.quantiles;
        let tail = rows.iter().filter(|row| row.quantile < 1.0);
        let tail = tail.map(|row| nines(row.quantile)).fold(0.0, f64::max);
        // The maximum has no number of nines; it stands half a step behind the rarest quantile.
        let depth = |row: &QuantileRow| {
            if row.quantile < 1.0 {
                nines(row.quantile)
            } else {
                tail + 0.5
            }
        };
        let x = Axis::linear(
            rows.iter().map(depth).fold(f64::INFINITY, f64::min) - MARGIN,
            rows.iter().map(depth).fold(0.0, f64::max) + MARGIN,
        );
        let intervals = || {
            rows.iter()
                .flat_map(|row| row.native.into_iter().chain([row.guest]))
        };
        let compared = rows.iter().any(|row| row.native.is_some());
        let low = intervals().map(|i| i.low).fold(f64::INFINITY, f64::min);
        let high = intervals().map(|i| i.high).fold(0.0, f64::max);
        let y = Axis::log(low.max(0.1) / 1.3, high * 1.3);
        let path = |side: fn(&QuantileRow) -> Option<Interval>| {
            let points: Vec<String> = rows
                .iter()
                .filter_map(|row| Some((depth(row), side(row)?)))
                .map(|(depth, side)| format!("{:.2} {:.2}", x.at(depth), y.down(side.value)))
                .collect();
            if points.is_empty() {
                String::new()
            } else {
                format!("M{}", points.join("L"))
            }
        };
        let point = |row: &QuantileRow, class, side: Interval| Point {
            class,
            x: place(x.at(depth(row))),
            y: place(y.down(side.value)),
            low: place(y.down(side.low)),
            high: place(y.down(side.high)),
            words: format!(
                "{class}, {}: {} {}",
                name(row.quantile),
                nanos(side.value),
                range(&side)
            ),
        };
        Self {
            label: &cell.label,
            words: format!(
                "Latency quantiles of {}, {}; the figures are in the table below",
                cell.label,
                if compared {
                    "native and guest"
                } else {
                    "guest"
                }
            ),
            compared,
            x_ticks: rows
                .iter()
                .map(|row| Tick {
                    at: place(x.at(depth(row))),
                    label: name(row.quantile),
                })
                .collect(),
            y_ticks: y
                .ticks(6)
                .into_iter()
                .map(|tick| Tick {
                    at: place(y.down(tick)),
                    label: short(tick),
                })
                .collect(),
            native_path: path(|row| row.native),
            guest_path: path(|row| Some(row.guest)),
            points: rows
                .iter()
                .flat_map(|row| {
                    row.native
                        .map(|native| point(row, "native", native))
                        .into_iter()
                        .chain([point(row, "guest", row.guest)])
                })
                .collect(),
            rows: rows.iter().map(Row::new).collect(),
        }
    }
}

impl Row {
    fn new(row: &QuantileRow) -> Self {
        let added = row.native.map(|native| row.guest.value - native.value);
        Self {
            name: name(row.quantile),
            native: row
                .native
                .map_or(NONE.to_owned(), |native| nanos(native.value)),
            native_range: row.native.as_ref().map_or(String::new(), range),
            guest: nanos(row.guest.value),
            guest_range: range(&row.guest),
            added: added.map_or(NONE.to_owned(), |added| {
                let sign = if added < 0.0 { "−" } else { "+" };
                format!("{sign}{}", nanos(added.abs()))
            }),
        }
    }
}

/// How many nines a quantile has: 0.99 has two. Equal distances on this axis show a tail as it is.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).max(1e-9).log10()
}

/// `p50`, `p99.9`, `max`.
fn name(quantile: f64) -> String {
    if quantile >= 1.0 {
        return "max".to_owned();
    }
    let percent = (quantile * 1e6).round() / 1e4;
    format!("p{percent}")
}

fn range(interval: &Interval) -> String {
    format!("[{}, {}]", nanos(interval.low), nanos(interval.high))
}

/// A round figure without needless digits: `5 µs`.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        v if v < 1e3 => (v, "ns"),
        v if v < 1e6 => (v / 1e3, "µs"),
        v if v < 1e9 => (v / 1e6, "ms"),
        v => (v / 1e9, "s"),
    };
    format!("{} {unit}", (value * 100.0).round() / 100.0)
}
