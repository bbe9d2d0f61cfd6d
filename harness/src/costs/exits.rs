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
    let (exit, emulation) = bench.within_kvm()?;
    costs.insert(CostOf::KernelExit, exit);
    costs.insert(CostOf::Emulation, emulation);
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

    /// Exits that KVM answers itself, and instructions that it emulates meanwhile. CPUID is the plain exit; where it does
    /// not leave the guest, an ioeventfd kick is, less the store that KVM emulates for it. The way to ring 0 and an MSR
    /// write there are exits and, where KVM emulates ring 0, instructions beside them.
    fn within_kvm(&mut self) -> Result<(UnitCost, UnitCost), RigError> {
        let mut emulations = Vec::new();
        let mut how = "CPUID; what CPUID itself takes is part of it";
        let exits = batches(|| {
            let msr = self.within("lat-msr")?;
            let mut plain = self.within("lat-cpuid")?;
            if plain.exits < 1.0 {
                plain = self.within("lat-kick")?;
                how = "ioeventfd kicks, less the store that KVM emulates for each";
            }
            let prices = Prices::of(plain, msr);
            emulations.extend(prices.and_then(|prices| prices.emulation));
            Ok::<_, RigError>(prices.map(|prices| prices.exit))
        })?;
        if exits.is_empty() {
            let why = match self.kvm {
                Some(_) => "this KVM counts neither CPUID nor kicks as exits",
                None => "this KVM does not count exits",
            };
            let unavailable = UnitCost::Unavailable(why.to_owned());
            return Ok((unavailable.clone(), unavailable));
        }
        let emulation = if emulations.is_empty() {
            let why =
                "this KVM does not emulate ring 0: what it emulates is part of the exits' price";
            UnitCost::Unavailable(why.to_owned())
        } else {
            measured(
                emulations,
                format!(
                    "batches of {EXITS} MSR writes with the way to ring 0 and back, less their exits, over the \
                     instructions that KVM emulated"
                ),
            )
        };
        Ok((
            measured(exits, format!("batches of {EXITS} {how}")),
            emulation,
        ))
    }

    /// What an operation that KVM answers itself takes, and what KVM counts for it.
    fn within(&mut self, workload: &str) -> Result<Within, RigError> {
        let (nanos, _, counts) = self.ask(On::Guest, workload, EXITS)?;
        let each = |counter| {
            counts
                .get(counter)
                .map_or(0.0, |it| it as f64 / EXITS as f64)
        };
        Ok(Within {
            nanos: nanos / EXITS as f64,
            exits: each(Counter::KvmExits),
            emulations: each(Counter::KvmEmulations),
        })
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

/// An operation that KVM answers itself.
#[derive(Clone, Copy)]
struct Within {
    nanos: f64,
    exits: f64,
    emulations: f64,
}

/// What an exit costs, and an emulated instruction where there are any.
#[derive(Clone, Copy)]
struct Prices {
    exit: f64,
    emulation: Option<f64>,
}

impl Prices {
    /// From two operations that differ in how many instructions are emulated for an exit: two equations, two unknowns.
    /// `None` where exits are not counted.
    fn of(plain: Within, other: Within) -> Option<Self> {
        if plain.exits < 1.0 {
            return None;
        }
        // More of them by exit than the plain operation has: without that the two equations are one.
        let more = other.emulations * plain.exits - plain.emulations * other.exits;
        if more < 1.0 {
            return Some(Self {
                exit: plain.nanos / plain.exits,
                emulation: None,
            });
        }
        let emulation = (other.nanos * plain.exits - plain.nanos * other.exits) / more;
        Some(Self {
            exit: (plain.nanos - plain.emulations * emulation) / plain.exits,
            emulation: Some(emulation),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_operations_tell_what_an_exit_and_an_emulation_cost() {
        let within = |exits: f64, emulations: f64| Within {
            nanos: exits * 6_000.0 + emulations * 1_200.0,
            exits,
            emulations,
        };
        let prices = Prices::of(within(1.0, 1.0), within(2.0, 9.0)).unwrap();
        assert!((prices.exit - 6_000.0).abs() < 1e-6);
        assert!((prices.emulation.unwrap() - 1_200.0).abs() < 1e-6);
        // Hardware runs ring 0 itself.
        let prices = Prices::of(within(1.0, 0.0), within(1.0, 0.0)).unwrap();
        assert_eq!((prices.exit, prices.emulation), (6_000.0, None));
        assert!(Prices::of(within(0.0, 0.0), within(2.0, 9.0)).is_none());
    }
}
