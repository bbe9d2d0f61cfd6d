//! The account of the gap on real KVM: a planted loss is named and counted. Sizes are compared with what the same run
//! measured; how well they agree is the benchmark's to print.

// Helpers of tests are tests: what fails here fails the test.
#![allow(clippy::unwrap_used)]

#[path = "common/kvm.rs"]
mod kvm;
#[path = "../benches/common/planted.rs"]
mod planted;
#[path = "common/skip.rs"]
mod skip;

use std::sync::{Mutex, PoisonError};

use kvm::has_kvm;
use planted::measure;
use skip::skip;
use vtax::measure::plant::{Planted, Rival};
use vtax::rig::Rig;
use vtax_reports::ledger::Cause;

/// Guest RAM has one fixed address per process, so these tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// What this host needs for a measurement; says so and returns where there is no KVM.
fn with_rig(test: impl FnOnce(&Rig)) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if has_kvm() {
        test(&Rig::prepare().unwrap());
    }
}

#[test]
fn planted_exits_are_counted_to_the_last_and_named_as_port_exits() {
    with_rig(|rig| {
        const EXITS: u64 = 150;
        let outcome = measure(rig, Planted::Exits(EXITS)).unwrap();
        let ports = outcome.entry(Cause::PortExits).unwrap();
        let counted = ports.events.value * outcome.block_iterations as f64;
        assert!((counted - EXITS as f64).abs() < 1e-6, "{counted}");
        assert!(ports.loss.value > 0.0 && ports.loss.low <= ports.loss.value);
        // Exits that the VMM answers are not exits within KVM as well: what is left of those are a few of the host's.
        if let Some(kernel) = outcome.entry(Cause::KernelExits) {
            let counted = kernel.events.value * outcome.block_iterations as f64;
            assert!(counted < EXITS as f64 / 2.0, "{counted}");
        }
        assert_eq!(
            outcome.entry(Cause::MmioExits).unwrap().events.value,
            0.0,
            "nobody planted MMIO"
        );
    });
}

#[test]
fn a_rival_s_cpu_time_is_found_again_as_waiting_for_a_cpu() {
    with_rig(|rig| {
        let rival = Rival::on(rig.cpus[0], 0.3).unwrap();
        let outcome = measure(rig, Planted::Rival(&rival)).unwrap();
        let Some(waiting) = outcome.entry(Cause::RunDelay) else {
            let told = |it: &&vtax_reports::ledger::Unaccounted| it.cause == Cause::RunDelay;
            let untold = outcome.ledger.unaccounted.iter().find(told).unwrap();
            skip(&untold.reason);
            return;
        };
        assert!(waiting.loss.value > 0.0, "{waiting:?}");
        assert_eq!(
            outcome.ledger.causes[0].cause,
            Cause::RunDelay,
            "{outcome:?}"
        );
        let switches = outcome.entry(Cause::ContextSwitches).unwrap();
        assert!(switches.events.value > 0.0, "{switches:?}");
    });
}
