//! The usual protocol: first one side, then the other, and means with a t interval.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use vtax::guest::Executor as _;
use vtax::guest::layout;
use vtax::guest::mailbox::Request;
use vtax::guest::native::{NativeAreas, NativeCpu};
use vtax::guest::ram::{Ram, RamConfig};
use vtax::host::affinity::Pinned;
use vtax::measure::calibrate;
use vtax::rig::Rig;
use vtax_reports::result::Interval;
use vtax_reports::stats::student_t;
use vtax_scenarios::plan::{Cell, arena_bytes};
use vtax_workloads::abi::Op;
use vtax_workloads::machine::RAM_BASE;

use crate::CONFIDENCE;

pub fn interval(rig: &Rig, cell: &Cell, time: Duration) -> anyhow::Result<Interval> {
    let _pinned = Pinned::to(&rig.cpus[..1])?;
    let begin = Instant::now();
    let guest = &cell.guest;
    let ram = Ram::map(&RamConfig {
        address: RAM_BASE,
        len: guest.memory,
        backing: guest.backing,
        numa_node: guest.numa_node,
    })?;
    ram.prefault(0, guest.memory)?;
    let areas = NativeAreas::map(1, guest.backing, guest.numa_node)?;
    let mailbox = areas.mailbox(0);
    let mut native = NativeCpu::new(&rig.image, &areas, 0)?;
    let (workload, _) = vtax_workloads::find(&cell.workload.name).context("no such workload")?;
    let mut ask = |op, iterations| {
        mailbox.put(&Request {
            op,
            workload: workload as u64,
            arena: RAM_BASE + layout::arena(guest.memory, guest.vcpus, 0),
            arena_len: arena_bytes(guest.memory, guest.vcpus),
            iterations,
            run_in: 0,
            planted: 0,
            params: cell.workload.params,
            seed: 1,
        })?;
        native.execute()?;
        Ok(rig.clock.nanos(mailbox.take()?.ticks))
    };
    ask(Op::Setup, 0)?;
    let iterations = calibrate::iterations(cell.measure.block_nanos, u64::MAX, |iterations| {
        ask(Op::Run, iterations)
    })?;

    let mut until = |end: Duration| {
        let mut times = Vec::new();
        while begin.elapsed() < end {
            times.push(ask(Op::Run, iterations)?);
        }
        anyhow::Ok(times)
    };
    let first = Summary::of(&until(time / 2)?)?;
    let second = Summary::of(&until(time)?)?;
    Ok(ratio(&first, &second))
}

/// Mean of a number of times.
struct Summary {
    mean: f64,
    /// Variance of the mean over its square.
    relative_variance: f64,
    degrees_of_freedom: f64,
}

impl Summary {
    fn of(times: &[f64]) -> anyhow::Result<Self> {
        ensure!(times.len() >= 2, "too few blocks");
        let count = times.len() as f64;
        let mean = times.iter().sum::<f64>() / count;
        let squares: f64 = times.iter().map(|time| (time - mean).powi(2)).sum();
        Ok(Self {
            mean,
            relative_variance: squares / (count - 1.0) / count / mean.powi(2),
            degrees_of_freedom: count - 1.0,
        })
    }
}

/// First over second, with the interval of Welch (1947) for the difference of means, relative to them.
fn ratio(first: &Summary, second: &Summary) -> Interval {
    let parts = [first, second];
    let variance: f64 = parts.iter().map(|part| part.relative_variance).sum();
    let spread: f64 = parts
        .iter()
        .map(|part| part.relative_variance.powi(2) / part.degrees_of_freedom)
        .sum();
    let half_width = student_t(variance.powi(2) / spread, CONFIDENCE) * variance.sqrt();
    let value = first.mean / second.mean;
    Interval {
        value,
        low: value * (1.0 - half_width),
        high: value * (1.0 + half_width),
        confidence: CONFIDENCE,
    }
}
