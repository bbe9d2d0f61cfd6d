//! Both sides against the working set: where caches and TLBs end, and where the guest begins to pay.

use std::collections::BTreeMap;

use super::scale::{Axis, Tick, place};
use super::words::{bytes, parse_bytes, share};
use crate::export::figures::figure;
use crate::result::{CellResult, Direction, Results, SideSummary};
use crate::store::Run;

/// The parameter that is a working set.
const SIZE: &str = "size";
/// Fewest sizes that make a curve.
const FEWEST: usize = 3;
/// Most plots.
const MOST: usize = 12;
/// Most labels on the axis of sizes: a phone has no room for more.
const LABELS: usize = 6;

/// Factor by which the axis of sizes goes beyond the first and the last.
const MARGIN: f64 = 1.4;

/// The plots.
pub(super) struct Curves<'a> {
    pub plots: Vec<Plot<'a>>,
    pub more: usize,
}

/// One workload, and one combination of all other parameters.
pub(super) struct Plot<'a> {
    pub title: String,
    pub unit: &'a str,
    pub better: &'static str,
    pub words: String,
    pub x_ticks: Vec<SizeTick>,
    pub y_ticks: Vec<Tick>,
    pub native_path: String,
    pub guest_path: String,
    pub points: Vec<Point>,
    pub rows: Vec<Row>,
}

/// A size on the axis, with the ratio below it.
pub(super) struct SizeTick {
    pub at: String,
    pub label: String,
    pub share: String,
}

/// A median with the range of its boots.
pub(super) struct Point {
    pub class: &'static str,
    pub x: String,
    pub y: String,
    pub min: String,
    pub max: String,
    pub words: String,
}

/// One size, for the table.
pub(super) struct Row {
    pub size: String,
    pub native: String,
    pub guest: String,
    pub share: String,
}

/// A workload, and all its parameters but the size.
type Group<'a> = (&'a str, Vec<(&'a str, &'a str)>);

/// A cell with its working set and its two sides.
struct Sized<'a> {
    bytes: u64,
    cell: &'a CellResult,
    native: &'a SideSummary,
    guest: &'a SideSummary,
}

impl<'a> Curves<'a> {
    /// One plot for each group of cells that differ in their size alone.
    pub fn new(run: &Run, results: &'a Results) -> Self {
        let mut groups: BTreeMap<Group<'a>, Vec<Sized<'a>>> = BTreeMap::new();
        for cell in &results.cells {
            let (Some(bytes), Some(native), Some(guest)) =
                (working_set(run, cell), &cell.native, &cell.guest)
            else {
                continue;
            };
            let others = cell
                .parameters
                .iter()
                .filter(|(name, _)| *name != SIZE)
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            groups
                .entry((&cell.workload, others))
                .or_default()
                .push(Sized {
                    bytes,
                    cell,
                    native,
                    guest,
                });
        }
        groups.retain(|_, cells| {
            cells.sort_by_key(|sized| sized.bytes);
            cells.dedup_by_key(|sized| sized.bytes);
            cells.len() >= FEWEST
        });
        Self {
            more: groups.len().saturating_sub(MOST),
            plots: groups
                .into_iter()
                .take(MOST)
                .map(|((workload, others), cells)| {
                    Plot::new(workload, &others, &cells, results.headline.threshold)
                })
                .collect(),
        }
    }
}

/// The working set as the user wrote it, or the workload's own where nothing was written.
fn working_set(run: &Run, cell: &CellResult) -> Option<u64> {
    if let Some(text) = cell.parameters.get(SIZE) {
        return parse_bytes(text);
    }
    let (_, workload) = vtax_workloads::find(&cell.workload)?;
    let index = workload.params.iter().position(|param| {
        param.name == SIZE && matches!(param.kind, vtax_workloads::ParamKind::Bytes)
    })?;
    let planned = run.record.plan.cells.get(usize::try_from(cell.id).ok()?)?;
    planned.workload.params.get(index).copied()
}

impl<'a> Plot<'a> {
    fn new(workload: &str, others: &[(&str, &str)], cells: &[Sized<'a>], threshold: f64) -> Self {
        let x = Axis::log(
            cells
                .first()
                .map_or(1.0, |sized| sized.bytes as f64 / MARGIN),
            cells
                .last()
                .map_or(2.0, |sized| sized.bytes as f64 * MARGIN),
        );
        let sides = || cells.iter().flat_map(|sized| [sized.native, sized.guest]);
        let low = sides().map(|side| side.min).fold(f64::INFINITY, f64::min);
        let high = sides().map(|side| side.max).fold(0.0, f64::max);
        // Latencies span cache and memory; a bandwidth's axis starts at nothing.
        let y = if low > 0.0 && high / low > 8.0 {
            Axis::log(low / 1.3, high * 1.3)
        } else {
            Axis::linear(0.0, high * 1.08)
        };
        let title = others
            .iter()
            .fold(workload.to_owned(), |title, (name, value)| {
                format!("{title} {name}={value}")
            });
        let unit = cells.first().map_or("", |sized| sized.cell.unit.as_str());
        let every = cells.len().div_ceil(LABELS);
        Self {
            words: summary(&title, unit, cells),
            title,
            unit,
            better: match cells.first().map(|sized| sized.cell.direction) {
                Some(Direction::Lower) => "lower is better",
                _ => "higher is better",
            },
            x_ticks: cells
                .iter()
                .step_by(every)
                .map(|sized| SizeTick {
                    at: place(x.at(sized.bytes as f64)),
                    label: bytes(sized.bytes),
                    share: share(sized.cell.ratio.as_ref(), threshold).replace(" %", ""),
                })
                .collect(),
            y_ticks: y
                .ticks(6)
                .into_iter()
                .map(|tick| Tick {
                    at: place(y.down(tick)),
                    label: format!("{tick}"),
                })
                .collect(),
            native_path: path(cells, x, y, |sized| sized.native),
            guest_path: path(cells, x, y, |sized| sized.guest),
            points: points(cells, threshold, x, y),
            rows: cells
                .iter()
                .map(|sized| Row {
                    size: bytes(sized.bytes),
                    native: figure(sized.native.median),
                    guest: figure(sized.guest.median),
                    share: share(sized.cell.ratio.as_ref(), threshold).replace(" %", ""),
                })
                .collect(),
        }
    }
}

fn summary(title: &str, unit: &str, cells: &[Sized<'_>]) -> String {
    let ends = [cells.first(), cells.last()]
        .into_iter()
        .flatten()
        .map(|sized| {
            format!(
                "at {} native {} and guest {} {unit}",
                bytes(sized.bytes),
                figure(sized.native.median),
                figure(sized.guest.median)
            )
        })
        .collect::<Vec<_>>()
        .join("; ");
    format!("{title} against the working set, native and guest: {ends}")
}

/// A line through the medians, in a view box of 100 × 100.
fn path<'s>(
    cells: &[Sized<'s>],
    x: Axis,
    y: Axis,
    side: impl Fn(&Sized<'s>) -> &'s SideSummary,
) -> String {
    let points: Vec<String> = cells
        .iter()
        .map(|sized| {
            format!(
                "{:.2} {:.2}",
                x.at(sized.bytes as f64),
                y.down(side(sized).median)
            )
        })
        .collect();
    format!("M{}", points.join("L"))
}

fn points(cells: &[Sized<'_>], threshold: f64, x: Axis, y: Axis) -> Vec<Point> {
    let point = |sized: &Sized<'_>, class, side: &SideSummary| Point {
        class,
        x: place(x.at(sized.bytes as f64)),
        y: place(y.down(side.median)),
        min: place(y.down(side.min)),
        max: place(y.down(side.max)),
        words: format!(
            "{class}, {}: {} {}, boots from {} to {}; guest at {} of native",
            bytes(sized.bytes),
            figure(side.median),
            sized.cell.unit,
            figure(side.min),
            figure(side.max),
            share(sized.cell.ratio.as_ref(), threshold),
        ),
    };
    cells
        .iter()
        .flat_map(|sized| {
            [
                point(sized, "native", sized.native),
                point(sized, "guest", sized.guest),
            ]
        })
        .collect()
}
