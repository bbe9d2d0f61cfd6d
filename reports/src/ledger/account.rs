//! One boot's account: time and events per unit of work on both sides, over the rounds that count.

use super::Cause;
use crate::counters::{Counter, CounterRow};
use crate::record::{Marks, Sample, Side};

/// The account of one boot.
#[derive(Clone, Debug, PartialEq)]
pub struct BootAccount {
    /// Time per unit of work in the guest; with several vCPUs, per vCPU.
    pub guest_nanos: f64,
    /// The same on the host, over native and control blocks.
    pub native_nanos: f64,
    /// CPU time per unit of work of the vCPU's thread and all I/O threads; `None` where it was not counted.
    pub guest_cpu_nanos: Option<f64>,
    /// CPU time per unit of work of the thread on the host.
    pub native_cpu_nanos: Option<f64>,
    /// For each [`Cause`], the events per unit of work that the guest has more than the host; `None` where a block has
    /// no value.
    pub events: Vec<Option<f64>>,
}

impl BootAccount {
    /// The account over the rounds `counting` (ascending) of a boot; `None` where nothing was counted or a side is
    /// missing. `per_side`: each side does the work in its own way.
    #[must_use]
    pub fn new(
        samples: &[Sample],
        counters: &[CounterRow],
        counting: &[u32],
        nanos_per_tick: f64,
        per_side: bool,
    ) -> Option<Self> {
        let counts = |round: u32| counting.binary_search(&round).is_ok();
        let [mut guest, mut native] = [Work::default(); 2];
        for sample in samples {
            if counts(sample.round) && !sample.marks.intersects(Marks::WARMUP) {
                let side = if is_guest(sample.side) {
                    &mut guest
                } else {
                    &mut native
                };
                let iterations = sample.iterations as f64;
                side.nanos += sample.cost() * iterations * nanos_per_tick;
                side.iterations += iterations;
                // What is counted is counted over the run-in too.
                let run_in = f64::from(sample.run_in_ticks) / sample.ticks as f64;
                side.counted += iterations * (1.0 + run_in);
            }
        }
        let rows: Vec<&CounterRow> = counters.iter().filter(|row| counts(row.round)).collect();
        if rows.is_empty() || guest.iterations == 0.0 || native.iterations == 0.0 {
            return None;
        }
        let events = |cause: &Cause| {
            let mut more = 0.0;
            for row in &rows {
                // What the host does in its own way is no part of the guest's time; code that both share is.
                let left_out = is_guest(row.side) || !per_side;
                if *cause == Cause::HostWork && left_out {
                    continue;
                }
                let events = cause.events(&row.counts)?;
                more += if is_guest(row.side) {
                    events / guest.counted
                } else {
                    -events / native.counted
                };
            }
            Some(more)
        };
        let cpu = |row: &CounterRow| {
            let own = row.counts.get(Counter::CpuTime)?;
            // The I/O threads serve all vCPUs, and each vCPU's block has them once.
            let served = match (is_guest(row.side), row.vcpu) {
                (true, 0) => row.counts.get(Counter::IoCpuTime)?,
                _ => 0,
            };
            Some((own + served) as f64)
        };
        let cpu_of = |guest: bool| -> Option<f64> {
            rows.iter()
                .filter(|row| is_guest(row.side) == guest)
                .map(|row| cpu(row))
                .sum()
        };
        Some(Self {
            guest_cpu_nanos: cpu_of(true).map(|nanos| nanos / guest.counted),
            native_cpu_nanos: cpu_of(false).map(|nanos| nanos / native.counted),
            guest_nanos: guest.nanos / guest.iterations,
            native_nanos: native.nanos / native.iterations,
            events: Cause::ALL.iter().map(events).collect(),
        })
    }

    /// What the guest takes longer for a unit of work.
    #[must_use]
    pub fn loss_nanos(&self) -> f64 {
        self.guest_nanos - self.native_nanos
    }
}

#[derive(Clone, Copy, Default)]
struct Work {
    nanos: f64,
    iterations: f64,
    /// Units of work over which events are counted.
    counted: f64,
}

fn is_guest(side: Side) -> bool {
    match side {
        Side::Guest => true,
        Side::Native | Side::Control => false,
    }
}
