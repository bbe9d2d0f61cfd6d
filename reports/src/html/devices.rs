//! Disks and links: a line for each kind of work, a column for each device.

use std::collections::{BTreeMap, BTreeSet};

use vtax_workloads::Family;

use super::words::Badge;
use crate::devices::{Comparison, DISK, others};
use crate::export::figures::{NONE, Outcome, figure, nanos};
use crate::result::{CellResult, Direction, Interval, Results, SideSummary};

/// The table.
pub(super) struct Devices<'a> {
    /// The devices, by their names in scenarios.
    pub columns: Vec<&'a str>,
    pub rows: Vec<Row>,
    /// Whether some line sets a paravirtual device against an emulated one.
    pub compared: bool,
    pub claim: f64,
}

/// One kind of work.
pub(super) struct Row {
    pub title: String,
    pub native: Figure,
    pub devices: Vec<Figure>,
    pub speed: Option<Quotient>,
    pub cpu: Option<Quotient>,
}

/// What one side does.
#[derive(Default)]
pub(super) struct Figure {
    pub rate: String,
    /// Its 99th percentile and CPU time per operation, where they are known.
    pub more: Vec<String>,
}

/// How many times as good the paravirtual device is.
pub(super) struct Quotient {
    pub value: String,
    pub ends: String,
    pub badge: Badge,
}

impl<'a> Devices<'a> {
    /// The table of all measured cells whose workload is on a disk or a link.
    pub fn new(results: &'a Results) -> Self {
        type Work<'a> = (&'a str, BTreeMap<&'a str, &'a str>);
        let mut groups: BTreeMap<Work<'_>, Vec<&CellResult>> = BTreeMap::new();
        let mut columns = BTreeSet::new();
        for cell in results.cells.iter().filter(|cell| is_device(cell)) {
            columns.insert(device(cell));
            groups
                .entry((&cell.workload, others(&cell.parameters)))
                .or_default()
                .push(cell);
        }
        // The paravirtual device first: `virtio-…` sorts behind `ata-…`.
        let columns: Vec<&str> = columns.into_iter().rev().collect();
        let rows: Vec<Row> = groups
            .iter()
            .map(|((workload, others), cells)| {
                let comparison = results
                    .comparisons
                    .iter()
                    .find(|it| cells.iter().any(|cell| cell.id == it.virtio));
                Row::new(workload, others, cells, &columns, comparison)
            })
            .collect();
        Self {
            compared: rows.iter().any(|row| row.speed.is_some()),
            claim: crate::devices::CLAIM,
            columns,
            rows,
        }
    }
}

/// Whether the cell was measured, and on a disk or a link.
fn is_device(cell: &CellResult) -> bool {
    let family = vtax_workloads::find(&cell.workload).map(|(_, workload)| workload.family);
    let on_one = matches!(family, Some(Family::Block | Family::Network))
        || cell.parameters.contains_key(DISK);
    on_one && cell.guest.is_some()
}

/// The device as the scenario names it; a scenario that does not vary it has one column.
fn device(cell: &CellResult) -> &str {
    cell.parameters.get(DISK).map_or("guest", String::as_str)
}

impl Row {
    fn new(
        workload: &str,
        others: &BTreeMap<&str, &str>,
        cells: &[&CellResult],
        columns: &[&str],
        comparison: Option<&Comparison>,
    ) -> Self {
        let guest = |column: &&str| {
            let cell = cells.iter().find(|cell| device(cell) == *column);
            cell.map_or_else(Figure::none, |cell| {
                let p99 = quantile(cell, |row| Some(row.guest));
                let cpu = cell.cpu.as_ref().map(|cpu| cpu.guest);
                Figure::new(cell, cell.guest.as_ref(), p99, cpu)
            })
        };
        // All cells of a line do the same on the host; the first tells it.
        let native = cells.first().map_or_else(Figure::none, |cell| {
            let p99 = quantile(cell, |row| row.native);
            let cpu = cell.cpu.as_ref().map(|cpu| cpu.native);
            Figure::new(cell, cell.native.as_ref(), p99, cpu)
        });
        Self {
            title: others
                .iter()
                .fold(workload.to_owned(), |title, (name, value)| {
                    format!("{title} {name}={value}")
                }),
            native,
            devices: columns.iter().map(guest).collect(),
            speed: comparison
                .map(|it| Quotient::new(&it.speed, Outcome::of_verdict(it.speed_verdict))),
            cpu: comparison.and_then(|it| {
                Some(Quotient::new(
                    it.cpu.as_ref()?,
                    Outcome::of_verdict(it.cpu_verdict?),
                ))
            }),
        }
    }
}

impl Figure {
    fn none() -> Self {
        Self {
            rate: NONE.to_owned(),
            more: Vec::new(),
        }
    }

    fn new(
        cell: &CellResult,
        side: Option<&SideSummary>,
        p99: Option<Interval>,
        cpu: Option<Interval>,
    ) -> Self {
        let Some(side) = side else {
            return Self::none();
        };
        let p99 = p99.map(|p99| format!("p99 {}", nanos(p99.value)));
        let cpu = cpu.map(|cpu| format!("CPU {} per operation", nanos(cpu.value)));
        // A time per operation is its own rate.
        let per_second = (cell.direction == Direction::Lower && cell.unit.starts_with("ns"))
            .then(|| format!("{} per second", figure(1e9 / side.median)));
        Self {
            rate: format!("{} {}", figure(side.median), cell.unit),
            more: per_second.into_iter().chain(p99).chain(cpu).collect(),
        }
    }
}

fn quantile(
    cell: &CellResult,
    side: fn(&crate::result::QuantileRow) -> Option<Interval>,
) -> Option<Interval> {
    cell.quantiles
        .iter()
        .find(|row| row.quantile == 0.99)
        .and_then(side)
}

impl Quotient {
    fn new(interval: &Interval, outcome: Outcome) -> Self {
        Self {
            value: format!("{} ×", figure(interval.value)),
            ends: format!("[{}, {}]", figure(interval.low), figure(interval.high)),
            badge: Badge::new(outcome),
        }
    }
}
