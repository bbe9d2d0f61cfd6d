//! A guest that sleeps, and wakes now and then by its timer: what it takes of the host.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vtax_scenarios::plan::Experiment;
use vtax_workloads::abi::LATENCY_SLOTS;

use super::energy::Meter;
use super::{ExperimentError, Outcome, pause};
use crate::guest::embedded;
use crate::guest::small::SmallGuest;
use crate::host::cpu_time::thread_cpu_nanos;
use crate::host::root::HostRoot;
use crate::rig::Rig;

/// What the guest sleeps by.
const WORKLOAD: &str = "lat-timer";

/// Watches the host without the guest, then with it.
pub(super) fn repeat(
    rig: &Rig,
    experiment: &Experiment,
    stop: &AtomicBool,
) -> Result<Outcome, ExperimentError> {
    let window = Duration::from_nanos(experiment.param("window"));
    let root = HostRoot::default();
    let meter = Meter::find(&root);
    let watts = |work: &mut dyn FnMut()| match &meter {
        Ok(meter) => meter.watts(work),
        Err(reason) => {
            work();
            Err(reason.clone())
        }
    };
    let mut outcome = Outcome::default();
    let without = match meter {
        Ok(_) => watts(&mut || pause(window, stop)),
        Err(ref reason) => Err(reason.clone()),
    };
    let second = 1_000_000_000;
    let period = second / experiment.param("wake-ups").max(1);
    let wakes = (experiment.param("window") / period.max(1)).clamp(1, LATENCY_SLOTS as u64);
    if stop.load(Ordering::Relaxed) {
        return Err(ExperimentError::Aborted);
    }
    let (share, with) = SmallGuest::with_interrupts(&embedded::open()?, &rig.image, |guest| {
        // A sleep of a millisecond is the guest's warm-up: it takes its pages then.
        guest.run(WORKLOAD, second / 1000, 1)?;
        let mut share = Ok(0.0);
        let with = watts(&mut || {
            let (start, used) = (Instant::now(), thread_cpu_nanos());
            share = guest.run(WORKLOAD, period, wakes).map(|()| {
                let used = thread_cpu_nanos().saturating_sub(used);
                used as f64 / start.elapsed().as_nanos() as f64
            });
        });
        Ok((share?, with))
    })?;
    outcome.values.push(("cpu", share));
    match without.and_then(|without| Ok(with? - without)) {
        Ok(watts) => outcome.values.push(("energy", watts)),
        Err(reason) => outcome.unavailable.push(("energy", reason)),
    }
    Ok(outcome)
}
