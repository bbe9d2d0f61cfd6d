//! Disks and links: a line for each kind of work, a column for each device.

use std::collections::{BTreeMap, BTreeSet};

use vtax_scenarios::plan::{Cell, NetBackend};
use vtax_workloads::Family;

use super::words::Badge;
use crate::devices::{Comparison, others};
use crate::export::figures::{NONE, Outcome, figure, measured, nanos};
use crate::native_disk::NativeDisk;
use crate::result::{CellResult, Direction, Interval, LostFrames, Results, SideSummary};
use crate::store::Run;

/// The table.
pub(super) struct Devices {
    /// The devices, by their names in scenarios.
    pub columns: Vec<&'static str>,
    pub rows: Vec<Row>,
    /// Whether some line sets a paravirtual device against an emulated one.
    pub compared: bool,
    pub claim: f64,
    /// Whether some line sends frames.
    pub frames: bool,
}

/// One kind of work.
pub(super) struct Row {
    pub title: String,
    pub native: Figure,
    pub devices: Vec<Figure>,
    /// Frames that were lost on the host and on each device, in words; `None` where none were counted.
    pub lost: Option<String>,
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

impl Devices {
    /// The table of all measured cells whose workload is on a disk or a link.
    pub fn new(run: &Run, results: &Results) -> Self {
        type Work<'a> = (&'a str, BTreeMap<&'a str, &'a str>);
        let mut groups: BTreeMap<Work<'_>, Vec<(&'static str, &CellResult)>> = BTreeMap::new();
        let mut columns = BTreeSet::new();
        for (cell, result) in run.record.plan.cells.iter().zip(&results.cells) {
            let Some(device) = device(cell).filter(|_| result.guest.is_some()) else {
                continue;
            };
            columns.insert(device);
            groups
                .entry((&result.workload, others(&result.parameters)))
                .or_default()
                .push((device, result));
        }
        // The paravirtual device first: `virtio-…` sorts behind `ata-…`.
        let columns: Vec<&'static str> = columns.into_iter().rev().collect();
        let rows: Vec<Row> = groups
            .iter()
            .map(|((workload, others), cells)| {
                let comparison = results
                    .comparisons
                    .iter()
                    .find(|it| cells.iter().any(|(_, cell)| cell.id == it.virtio));
                Row::new(workload, others, cells, &columns, comparison)
            })
            .collect();
        Self {
            frames: rows.iter().any(|row| row.lost.is_some()),
            compared: rows.iter().any(|row| row.speed.is_some()),
            claim: crate::devices::CLAIM,
            columns,
            rows,
        }
    }
}

/// The device that the cell's work is done on, as a scenario names it.
fn device(cell: &Cell) -> Option<&'static str> {
    match vtax_workloads::find(&cell.workload.name)?.1.family {
        Family::Block => Some(cell.guest.disk.as_ref()?.device.name()),
        Family::Network => Some(match cell.guest.net.as_ref()?.backend {
            NetBackend::Vhost => "virtio-net by vhost-net",
            NetBackend::Auto | NetBackend::Vmm => "virtio-net by the VMM",
        }),
        _ => None,
    }
}

impl Row {
    fn new(
        workload: &str,
        others: &BTreeMap<&str, &str>,
        cells: &[(&str, &CellResult)],
        columns: &[&str],
        comparison: Option<&Comparison>,
    ) -> Self {
        let guest = |column: &&str| {
            let cell = cells.iter().find(|(device, _)| device == column);
            cell.map_or_else(Figure::none, |(_, cell)| {
                let p99 = quantile(cell, |row| Some(row.guest));
                let cpu = cell.cpu.as_ref().map(|cpu| cpu.guest);
                Figure::new(cell, cell.guest.as_ref(), p99, cpu)
            })
        };
        // All cells of a line do the same on the host; the first tells it.
        let native = cells.first().map_or_else(Figure::none, |(_, cell)| {
            let p99 = quantile(cell, |row| row.native);
            let cpu = cell.cpu.as_ref().map(|cpu| cpu.native);
            let figure = Figure::new(cell, cell.native.as_ref(), p99, cpu);
            let had = cell.native_disk.iter().map(had);
            Figure {
                more: figure.more.into_iter().chain(had).collect(),
                ..figure
            }
        });
        Self {
            title: others
                .iter()
                .fold(workload.to_owned(), |title, (name, value)| {
                    format!("{title} {name}={value}")
                }),
            native,
            devices: columns.iter().map(guest).collect(),
            lost: lost(cells, columns.len() > 1),
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

/// What the native side had for its disk: `CPU 0–1, polls for 32 µs, then sleeps`.
fn had(disk: &NativeDisk) -> String {
    let cpus: Vec<String> = disk.cpus.iter().map(u32::to_string).collect();
    let several = if cpus.len() == 1 { "" } else { "s" };
    format!("CPU{several} {}; {}", cpus.join(", "), disk.waiting.text())
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
            .then(|| format!("{} per second", figure(1e9 / side.mean)));
        Self {
            rate: measured(side.mean, &cell.unit),
            more: per_second.into_iter().chain(p99).chain(cpu).collect(),
        }
    }
}

/// The lost frames of a line; with several devices each count names its own.
fn lost(cells: &[(&str, &CellResult)], several: bool) -> Option<String> {
    let counts: Vec<(&str, LostFrames)> = cells
        .iter()
        .filter_map(|(device, cell)| Some((*device, cell.lost_frames?)))
        .collect();
    if counts.is_empty() {
        return None;
    }
    let native: u64 = counts.iter().map(|(_, lost)| lost.native).sum();
    let guests = counts.iter().map(|(device, lost)| match several {
        true => format!("{device} {}", lost.guest),
        false => format!("guest {}", lost.guest),
    });
    let all: Vec<String> = [format!("native {native}")]
        .into_iter()
        .chain(guests)
        .collect();
    Some(all.join(", "))
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
