//! One timed block on one side, by two clocks.

use vtax_reports::counters::Counts;
use vtax_reports::record::{ClockBound, Marks, Sample, Side};

use super::BootError;
use crate::counters::Counters;
use crate::guest::mailbox::{Answer, Mailbox, Request};
use crate::guest::{Completion, Executor};
use crate::host::disturbance::DisturbanceProbe;
use crate::host::tsc::{TscClock, now_raw_nanos};

/// What a block needs besides the side it runs on.
#[derive(Debug)]
pub struct Stopwatch {
    /// What took the CPU away.
    pub probe: DisturbanceProbe,
    /// What else is counted.
    pub counters: Counters,
    /// Rate of the payload's clock, as measured on the host.
    pub clock: TscClock,
    /// How far the clocks may differ.
    pub bound: ClockBound,
    /// CLOCK_MONOTONIC_RAW at the start of the run.
    pub run_start: u64,
}

/// A block that was carried out.
#[derive(Clone, Debug)]
pub struct Block {
    /// What it says; cell, boot, round, position, side and vCPU are the caller's to fill in.
    pub sample: Sample,
    /// What was counted meanwhile.
    pub counts: Counts,
    /// What the payload answered.
    pub answer: Answer,
}

impl Stopwatch {
    /// Carries out `request` on `executor`, in the guest or on the host, and times it from outside.
    ///
    /// # Errors
    /// The guest failed or the payload refused.
    pub fn time(
        &mut self,
        in_guest: bool,
        executor: &mut dyn Executor,
        mailbox: Mailbox<'_>,
        request: &Request,
    ) -> Result<Block, BootError> {
        mailbox.put(request)?;
        let (counted, exits) = (self.counters.begin(), executor.exits());
        let before = self.probe.begin();
        let start = now_raw_nanos();
        let completion = executor.execute()?;
        let end = now_raw_nanos();
        let disturbance = self.probe.end(&before);
        let exits = executor.exits().since(exits);
        let counts = self.counters.end(&counted, &disturbance, exits);
        let answer = mailbox.take()?;

        let outer_nanos = end - start;
        let mut marks = disturbance.marks();
        if completion == Completion::Interrupted {
            marks = marks.union(Marks::INTERRUPTED);
        }
        let entry = if in_guest { self.bound.entry_nanos } else { 0 };
        let inner = answer.run_in_ticks.wrapping_add(answer.ticks);
        if self.clocks_disagree(inner, outer_nanos, entry) {
            marks = marks.union(Marks::CLOCK);
        }
        Ok(Block {
            sample: Sample {
                cell: 0,
                boot: 0,
                round: 0,
                position: 0,
                side: Side::Native,
                vcpu: 0,
                cpu: u16::try_from(disturbance.cpu).unwrap_or(u16::MAX),
                iterations: request.iterations,
                ticks: answer.ticks,
                latency_ticks: 0,
                run_in_ticks: u32::try_from(answer.run_in_ticks).unwrap_or(u32::MAX),
                outer_nanos,
                marks,
                at_nanos: start.wrapping_sub(self.run_start),
            },
            counts,
            answer,
        })
    }

    /// The payload's own time lies inside the time around it; what comes between is entering and leaving the guest.
    fn clocks_disagree(&self, ticks: u64, outer_nanos: u64, entry_nanos: u64) -> bool {
        let inner = self.clock.nanos(ticks);
        let outer = outer_nanos as f64;
        let allowed = self.bound.relative * outer + self.bound.absolute_nanos as f64;
        (outer - entry_nanos as f64 - inner).abs() > allowed
    }
}
