//! What exits and page faults of a guest cost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::thread::{MembarrierCommand, membarrier};
use vtax_reports::counters::{Counter, Counts};
use vtax_reports::record::{CostOf, UnitCost};
use vtax_workloads::abi::Op;

use super::batches;
use crate::counters::kvm::KvmStatistics;
use crate::guest::small::{On, SmallGuest};
use crate::host::affinity::Pinned;
use crate::host::disturbance::DisturbanceProbe;
use crate::host::root::HostRoot;
use crate::host::tsc::TscClock;
use crate::rig::{Rig, RigError};
use crate::whole::whole;

/// Exits of a batch.
const EXITS: u64 = 100;
/// Pages of a batch: the smallest arena of `mem-first-touch`.
const PAGES: u64 = 256;
/// What the core does while interrupts come in.
const BUSY: &str = "cpu-hash";
/// How much of it makes a batch: long enough for some hundred interrupts.
const BUSY_NANOS: f64 = 4e6;
/// Pause between two interrupts.
const BETWEEN_INTERRUPTS: Duration = Duration::from_micros(20);

/// Measures all of them.
pub(super) fn measure(
    guest: &mut SmallGuest<'_>,
    rig: &Rig,
    costs: &mut BTreeMap<CostOf, UnitCost>,
) -> Result<(), RigError> {
    let mut bench = Bench {
        kvm: guest.vcpu.statistics().ok(),
        guest,
        probe: DisturbanceProbe::for_this_thread(&HostRoot::default()),
        clock: rig.clock,
    };
    costs.insert(
        CostOf::PortExit,
        bench.answered("lat-port", |done| done.port)?,
    );
    costs.insert(
        CostOf::MmioExit,
        bench.answered("lat-mmio", |done| done.mmio)?,
    );
    costs.insert(CostOf::KernelExit, bench.kernel_exit()?);
    let (host, guest) = bench.faults()?;
    costs.insert(CostOf::HostFault, host);
    costs.insert(CostOf::GuestFault, guest);
    costs.insert(
        CostOf::InterruptExit,
        bench.interrupt(rig.cpus.get(1).copied())?,
    );
    Ok(())
}

struct Bench<'a, 'g> {
    guest: &'a mut SmallGuest<'g>,
    kvm: Option<KvmStatistics>,
    probe: DisturbanceProbe,
    clock: TscClock,
}

impl Bench<'_, '_> {
    /// Nanoseconds inside the request, waiting for the CPU left out (it is a cause of its own), and what the VMM and KVM counted around it.
    fn ask(
        &mut self,
        on: On,
        workload: &str,
        iterations: u64,
    ) -> Result<(f64, crate::guest::Exits, Counts), RigError> {
        let counted = self.counts();
        let before = self.probe.begin();
        let done = self.guest.ask(on, Op::Run, workload, iterations)?;
        let disturbance = self.probe.end(&before);
        let counts = self.counts().since(&counted);
        let waited =
            disturbance.run_delay_nanos.unwrap_or(0) + disturbance.missing_nanos.unwrap_or(0);
        let nanos = self.clock.nanos(done.answer.ticks) - waited as f64;
        Ok((nanos, done.exits, counts))
    }

    fn counts(&mut self) -> Counts {
        let mut counts = Counts::NONE;
        if let Some(kvm) = &mut self.kvm {
            kvm.read(&mut counts);
        }
        counts
    }

    /// An exit that the VMM answers.
    fn answered(
        &mut self,
        workload: &str,
        exits: fn(crate::guest::Exits) -> u64,
    ) -> Result<UnitCost, RigError> {
        let nanos = batches(|| {
            let (nanos, done, _) = self.ask(On::Guest, workload, EXITS)?;
            Ok::<_, RigError>(Some(nanos / exits(done) as f64))
        })?;
        Ok(measured(
            nanos,
            format!("batches of {EXITS} by {workload}, over the exits that the VMM counted"),
        ))
    }

    /// CPUID, where it exits: an exit that KVM answers itself.
    fn kernel_exit(&mut self) -> Result<UnitCost, RigError> {
        let nanos = batches(|| {
            let (nanos, _, counts) = self.ask(On::Guest, "lat-cpuid", EXITS)?;
            let exits = counts
                .get(Counter::KvmExits)
                .filter(|&exits| exits >= EXITS);
            Ok::<_, RigError>(exits.map(|_| nanos / EXITS as f64))
        })?;
        if nanos.is_empty() {
            return Ok(UnitCost::Unavailable(match self.kvm {
                Some(_) => "CPUID does not leave the guest on this host".to_owned(),
                None => "this KVM does not count exits".to_owned(),
            }));
        }
        Ok(measured(
            nanos,
            format!("batches of {EXITS} CPUID; what CPUID itself takes is part of it"),
        ))
    }

    /// First touches on the host, and what they take longer in the guest.
    fn faults(&mut self) -> Result<(UnitCost, UnitCost), RigError> {
        let mut host = Vec::new();
        let guest = batches(|| {
            self.guest.discard_arena()?;
            let (native, _, _) = self.ask(On::Host, "mem-first-touch", PAGES)?;
            host.push(native / PAGES as f64);
            self.guest.discard_arena()?;
            let (nanos, _, counts) = self.ask(On::Guest, "mem-first-touch", PAGES)?;
            let fixed = counts
                .get(Counter::KvmPageFaultsFixed)
                .filter(|&fixed| fixed > 0);
            Ok::<_, RigError>(fixed.map(|fixed| (nanos - native) / fixed as f64))
        })?;
        let host = measured(
            host,
            format!("first touches of {PAGES} pages of 4 KiB on the host"),
        );
        if guest.is_empty() {
            let why = "this KVM does not count the page faults that it fixes";
            return Ok((host, UnitCost::Unavailable(why.to_owned())));
        }
        let guest = measured(
            guest,
            format!(
                "first touches of {PAGES} pages of 4 KiB in the guest, less the same on the host, over the faults that \
                 KVM fixed"
            ),
        );
        Ok((host, guest))
    }

    /// Interrupts from another CPU, in the guest and on the host: membarrier(2) sends one to every CPU that runs a thread
    /// of this process.
    fn interrupt(&mut self, other: Option<u32>) -> Result<UnitCost, RigError> {
        let Some(other) = other else {
            let why = "interrupts have to come from a second CPU, and this process may use one";
            return Ok(UnitCost::Unavailable(why.to_owned()));
        };
        if let Err(error) = membarrier(MembarrierCommand::RegisterPrivateExpedited) {
            return Ok(UnitCost::Unavailable(format!("membarrier(2): {error}")));
        }
        self.guest.ask(On::Guest, Op::Setup, BUSY, 0)?;
        const SAMPLE: u64 = 1_000;
        // With all waiting in it: a sample that was disturbed makes a batch shorter, never endless.
        let sample = self.guest.ask(On::Host, Op::Run, BUSY, SAMPLE)?.answer;
        let sample = self.clock.nanos(sample.ticks).max(1e3);
        let iterations = SAMPLE.saturating_mul(whole((BUSY_NANOS / sample).ceil()));
        let stop = AtomicBool::new(false);
        let nanos = std::thread::scope(|scope| {
            scope.spawn(|| interrupt_until(&stop, other));
            let nanos = batches(|| {
                let (native, _, _) = self.ask(On::Host, BUSY, iterations)?;
                let (nanos, _, counts) = self.ask(On::Guest, BUSY, iterations)?;
                let exits = counts.get(Counter::KvmIrqExits).filter(|&exits| exits > 0);
                Ok::<_, RigError>(exits.map(|exits| (nanos - native) / exits as f64))
            });
            stop.store(true, Ordering::Relaxed);
            nanos
        })?;
        if nanos.is_empty() {
            let why = "this KVM counts no exits for interrupts";
            return Ok(UnitCost::Unavailable(why.to_owned()));
        }
        Ok(measured(
            nanos,
            format!(
                "{BUSY} in the guest under interrupts from CPU {other}, less the same on the host, over the exits that KVM counted for interrupts"
            ),
        ))
    }
}

/// Interrupts every CPU that runs a thread of this process, again and again.
fn interrupt_until(stop: &AtomicBool, cpu: u32) {
    // Where it cannot be pinned, it interrupts all the same whenever it runs elsewhere than the guest.
    let _pinned = Pinned::to(&[cpu]);
    while !stop.load(Ordering::Relaxed) {
        if membarrier(MembarrierCommand::PrivateExpedited).is_err() {
            return;
        }
        std::thread::sleep(BETWEEN_INTERRUPTS);
    }
}

fn measured(nanos: Vec<f64>, how: String) -> UnitCost {
    UnitCost::Measured { nanos, how }
}
