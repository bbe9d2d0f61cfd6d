//! A small guest that is tried before the first measurement: does the image run here, what does entering a guest cost,
//! and does the guest's clock keep the host's time?

use kvm_ioctls::Kvm;
use vtax_reports::counters::{Counter, Counts};
use vtax_workloads::abi::Op;
use vtax_workloads::{CATALOGUE, Task};

use crate::guest::embedded;
use crate::guest::image::Image;
use crate::guest::small::{On, SmallGuest};
use crate::host::tsc::TscClock;
use crate::rig::RigError;
use crate::whole::whole;

/// How many requests that do nothing the shortest is taken of.
const EMPTY_REQUESTS: u32 = 32;

/// The cost of entering a guest that works is the median of this many stretches of work.
const STRETCHES: usize = 15;

/// Length of such a stretch, as that of a short block: a host that has been away from a guest for longer pays more for
/// coming back than one which only looked in.
const STRETCH_NANOS: f64 = 3e6;

/// How long the guest's clock is compared with the host's: long enough that a rate which differs by a tenth of a per
/// cent stands out from what entering the guest costs.
const COMPARISON_NANOS: f64 = 200e6;

/// The comparison is the best of this many: an interruption can only make clocks differ more.
const COMPARISONS: u32 = 3;

/// By how much the rates may differ, a tenth of the smallest effect that users ask about; in addition, entering the
/// guest may cost as much again as a request that does nothing.
const RATE_BOUND: f64 = 0.001;

/// Iterations whose length tells that of all others.
const SAMPLE: u64 = 10_000;

/// A workload that lives in the core's caches.
const WORKLOAD: &str = "cpu-hash";

/// Operations of an exit workload, over which its exits are counted.
const OPERATIONS: u64 = 100;

/// What the trial found.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Nanoseconds from the harness into the guest and back around a request that does nothing: the shortest of several.
    pub empty_nanos: u64,
    /// The same around some milliseconds of work, beyond what the guest itself saw: the median of several.
    pub entry_nanos: u64,
}

/// Runs the trial.
///
/// # Errors
/// No guest, a guest that does not work, or one whose clock runs at another rate.
pub fn run(kvm: &Kvm, image: &Image, clock: TscClock) -> Result<Trial, RigError> {
    SmallGuest::with(kvm, image, |guest| {
        let empty_nanos = empty_nanos(guest)?;
        guest.ask(On::Guest, Op::Setup, WORKLOAD, 0)?;
        let sample = guest.ask(On::Guest, Op::Run, WORKLOAD, SAMPLE)?;
        let nanos = clock.nanos(sample.answer.ticks).max(1.0);
        let iterations = |length: f64| SAMPLE.saturating_mul(whole((length / nanos).ceil()));
        let entry_nanos = entry_nanos(guest, iterations(STRETCH_NANOS), clock)?;
        let trial = Trial {
            empty_nanos,
            entry_nanos,
        };
        compare_clocks(guest, iterations(COMPARISON_NANOS), trial, clock)?;
        Ok(trial)
    })
}

/// The exit workloads of which neither KVM nor the VMM counts one exit for each operation here ([`Task::is_exit`]). None
/// where KVM does not count, and where no guest can be had: that is another matter. `hypercalls`: whether a guest may try
/// them.
#[must_use]
pub fn without_exit(hypercalls: bool) -> Vec<String> {
    let tried = |task: Task| task.is_exit() && (hypercalls || task != Task::Hypercall);
    let names = (CATALOGUE.iter())
        .filter(|workload| workload.task().is_some_and(tried))
        .map(|workload| workload.name);
    let silent = || -> Result<Vec<String>, RigError> {
        let (kvm, image) = (embedded::open()?, Image::embedded()?);
        let mut silent = Vec::new();
        for name in names {
            let leaves =
                SmallGuest::with_interrupts(&kvm, &image, |guest| leaves_guest(guest, name))?;
            if !leaves {
                silent.push(name.to_owned());
            }
        }
        Ok(silent)
    };
    silent().unwrap_or_default()
}

fn leaves_guest(guest: &mut SmallGuest<'_>, workload: &str) -> Result<bool, RigError> {
    let Ok(mut statistics) = guest.vcpu.statistics() else {
        return Ok(true);
    };
    let mut count = || {
        let mut counts = Counts::NONE;
        statistics.read(&mut counts);
        counts
    };
    let before = count();
    let answered = guest.ask(On::Guest, Op::Run, workload, OPERATIONS)?.exits;
    let counted = count().since(&before).get(Counter::KvmExits);
    Ok(one_for_each(counted, answered.port + answered.mmio))
}

/// Whether there was an exit for each operation: by KVM's count, where it has one, or by what the VMM answered.
fn one_for_each(counted: Option<u64>, answered: u64) -> bool {
    counted.is_none_or(|counted| counted.max(answered) >= OPERATIONS)
}

fn empty_nanos(guest: &mut SmallGuest<'_>) -> Result<u64, RigError> {
    let mut best = u64::MAX;
    for _ in 0..EMPTY_REQUESTS {
        let done = guest.ask(On::Guest, Op::Touch, WORKLOAD, 0)?;
        best = best.min(done.outer_nanos);
    }
    Ok(best)
}

fn entry_nanos(
    guest: &mut SmallGuest<'_>,
    iterations: u64,
    clock: TscClock,
) -> Result<u64, RigError> {
    let mut around = Vec::new();
    for _ in 0..STRETCHES {
        let done = guest.ask(On::Guest, Op::Run, WORKLOAD, iterations)?;
        let inner = whole(clock.nanos(done.answer.ticks));
        around.push(done.outer_nanos.saturating_sub(inner));
    }
    around.sort_unstable();
    Ok(around[STRETCHES / 2])
}

/// Lets the guest time a long stretch of work, and times it from outside.
fn compare_clocks(
    guest: &mut SmallGuest<'_>,
    iterations: u64,
    trial: Trial,
    clock: TscClock,
) -> Result<(), RigError> {
    let (mut best, mut length) = (f64::INFINITY, 0);
    for _ in 0..COMPARISONS {
        let done = guest.ask(On::Guest, Op::Run, WORKLOAD, iterations)?;
        let outer = done.outer_nanos.saturating_sub(trial.entry_nanos) as f64;
        let gap = (outer - clock.nanos(done.answer.ticks)) / outer;
        if gap.abs() < best.abs() {
            (best, length) = (gap, done.outer_nanos);
        }
    }
    if best.abs() > RATE_BOUND + trial.empty_nanos as f64 / length as f64 {
        return Err(RigError::GuestClock {
            gap: best,
            nanos: length,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_one_where_someone_counts_it() {
        assert!(one_for_each(Some(OPERATIONS), 0));
        assert!(one_for_each(Some(0), OPERATIONS));
        assert!(one_for_each(None, 0));
        assert!(!one_for_each(Some(OPERATIONS / 10), 0));
    }
}
