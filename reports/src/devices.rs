//! One device against another: cells whose guests differ in their disk's device alone.
//!
//! ```text
//! cells of a workload on disks ──► pairs (virtio, emulated) ──► how many times faster, how many times less CPU time
//! ```

use schemars::JsonSchema;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vtax_scenarios::plan::{Cell, DiskDevice, What};
use vtax_workloads::Family;

use crate::compare::{Measured, Quotient};
use crate::result::{Interval, Verdict};
use crate::verdict::position;

/// The matrix keys by which a scenario chooses a device.
const CHOICES: [&str; 2] = ["guest.disk", "guest.net-backend"];

/// The published claim: paravirtual devices are this many times as good as emulated ones.
pub const CLAIM: f64 = 1.5;

/// A paravirtual disk against an emulated one, at the same work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The workload.
    pub workload: String,
    /// All parameters that both cells have in common.
    pub parameters: BTreeMap<String, String>,
    /// Cell id of the paravirtual disk.
    pub virtio: u32,
    /// Cell id of the emulated one.
    pub emulated: u32,
    /// How many times as fast the paravirtual disk is.
    pub speed: Interval,
    /// The verdict on [`CLAIM`] for it.
    pub speed_verdict: Verdict,
    /// How many times the paravirtual disk's CPU time per operation the emulated one takes, vCPU and I/O threads
    /// together; `None` where CPU time was not counted.
    pub cpu: Option<Interval>,
    /// The verdict on [`CLAIM`] for it.
    pub cpu_verdict: Option<Verdict>,
}

/// All pairs, in the order of their paravirtual cells.
pub(crate) fn compare(cells: &[Measured<'_>]) -> Vec<Comparison> {
    let on = |device| {
        cells.iter().filter(move |it| {
            let disk = it.cell.guest.disk.as_ref();
            is_on_disk(it.cell) && disk.is_some_and(|disk| disk.device == device)
        })
    };
    on(DiskDevice::VirtioBlk)
        .filter_map(|virtio| {
            let emulated = on(DiskDevice::AtaPio).find(|it| same_work(it.cell, virtio.cell))?;
            pair(virtio, emulated)
        })
        .collect()
}

/// Whether the cell's work is done on a disk.
pub(crate) fn is_on_disk(cell: &Cell) -> bool {
    vtax_workloads::find(&cell.workload.name)
        .is_some_and(|(_, workload)| workload.family == Family::Block)
}

/// The parameters without the device.
pub(crate) fn others(parameters: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    parameters
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| !CHOICES.contains(name))
        .collect()
}

fn same_work(one: &Cell, other: &Cell) -> bool {
    one.workload == other.workload && others(&one.parameters) == others(&other.parameters)
}

fn pair(virtio: &Measured<'_>, emulated: &Measured<'_>) -> Option<Comparison> {
    let confidence = virtio.cell.measure.confidence;
    let speed = Quotient::new(virtio, emulated, What::Rate)
        .ok()?
        .interval(confidence);
    let cpu = Quotient::new(emulated, virtio, What::CpuTime);
    let cpu = cpu.ok().map(|it| it.interval(confidence));
    Some(Comparison {
        workload: virtio.cell.workload.name.clone(),
        parameters: others(&virtio.cell.parameters)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        virtio: virtio.cell.id,
        emulated: emulated.cell.id,
        speed,
        speed_verdict: position(&speed, CLAIM),
        cpu_verdict: cpu.map(|cpu| position(&cpu, CLAIM)),
        cpu,
    })
}
