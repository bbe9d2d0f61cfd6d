//! A guest that sleeps, and wakes now and then by its timer: what it takes of the host.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use vtax_scenarios::memory::MIN_MEMORY_BYTES;
use vtax_scenarios::plan::{Backing, Experiment, PageSize};
use vtax_workloads::MAX_PARAMS;
use vtax_workloads::abi::{LATENCY_SLOTS, Op};
use vtax_workloads::machine::RAM_BASE;

use super::energy::Meter;
use super::{ExperimentError, Outcome, pause};
use crate::guest::Executor as _;
use crate::guest::embedded::devices::Devices;
use crate::guest::embedded::{self, Vm, VmConfig};
use crate::guest::layout;
use crate::guest::mailbox::{Mailbox, Request};
use crate::guest::ram::{Ram, RamConfig};
use crate::host::root::HostRoot;
use crate::rig::Rig;
use crate::watchdog::Slot;

/// What the guest sleeps by.
const WORKLOAD: &str = "lat-timer";

/// Watches the host without the guest, then with it.
pub(super) fn repeat(
    rig: &Rig,
    experiment: &Experiment,
    stop: &AtomicBool,
) -> Result<Outcome, ExperimentError> {
    let window = Duration::from_nanos(experiment.param("window"));
    let mut outcome = Outcome::default();
    let root = HostRoot::default();
    let meter = Meter::find(&root);
    let without = match &meter {
        Ok(meter) => meter.watts(|| pause(window, stop)),
        Err(reason) => Err(reason.clone()),
    };
    let mut share = Ok(0.0);
    let mut with = Err(String::new());
    let mut guest = || share = sleeping(rig, experiment);
    match &meter {
        Ok(meter) => with = meter.watts(guest),
        Err(_) => guest(),
    }
    outcome.values.push(("cpu", share?));
    match without.and_then(|without| Ok(with? - without)) {
        Ok(watts) => outcome.values.push(("energy", watts)),
        Err(reason) => outcome.unavailable.push(("energy", reason)),
    }
    Ok(outcome)
}

/// The guest's window: CPU time of its vCPU's thread over the time that passes.
fn sleeping(rig: &Rig, experiment: &Experiment) -> Result<f64, ExperimentError> {
    let second = 1_000_000_000;
    let period = second / experiment.param("wake-ups").max(1);
    let wakes = (experiment.param("window") / period.max(1)).clamp(1, LATENCY_SLOTS as u64);
    let kvm = embedded::open()?;
    let ram = Ram::map(&RamConfig {
        address: RAM_BASE,
        len: MIN_MEMORY_BYTES,
        backing: Backing::Small,
        prefault: false,
        numa_node: None,
    })?;
    let devices = Devices::default();
    let config = VmConfig {
        interrupts: true,
        ..VmConfig::single(PageSize::Size2M)
    };
    let vm = Vm::create(&kvm, &ram, &rig.image, &devices, config)?;
    let mailbox = Mailbox::new(&ram, layout::mailbox(0));
    let mut vcpu = vm.vcpu(0)?;
    vcpu.watched(
        Slot::for_this_thread().map_err(|source| ExperimentError::Io {
            what: "watching a guest",
            source,
        })?,
    );
    let Some((workload, _)) = vtax_workloads::find(WORKLOAD) else {
        let why = "this vtax has no guest that sleeps".to_owned();
        return Err(ExperimentError::NotTestable(why));
    };
    let mut params = [0; MAX_PARAMS];
    let mut share = 0.0;
    // The first sleep, of a millisecond, is the guest's warm-up: it takes its pages then.
    for (wakes, period) in [(1, second / 1000), (wakes, period)] {
        params[0] = period;
        mailbox.put(&Request {
            op: Op::Run,
            workload: workload as u64,
            arena: RAM_BASE + layout::arena(MIN_MEMORY_BYTES, 1, 0),
            arena_len: vtax_scenarios::memory::arena_bytes(MIN_MEMORY_BYTES, 1),
            iterations: wakes,
            planted: 0,
            params,
            seed: 0,
        })?;
        let (start, used) = (Instant::now(), cpu_time());
        vcpu.execute()?;
        let (elapsed, used) = (start.elapsed(), cpu_time().saturating_sub(used));
        mailbox.take()?;
        share = used.as_secs_f64() / elapsed.as_secs_f64();
    }
    Ok(share)
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
