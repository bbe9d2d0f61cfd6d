//! Clock reads: what asking for the time costs where no kernel is in between.

use core::arch::x86_64::__rdtscp;

use crate::catalogue::{at_once, baseline, unlimited};
use crate::mix::mix;
use crate::tsc::unordered;
use crate::{Body, Direction, Family, Metric, Param, ParamKind, Prepare, Workload};

const RDTSCP: u64 = 1;

pub(crate) const ENTRY: Workload = Workload {
    name: "lat-clock",
    family: Family::Latency,
    title: "Clock read",
    stresses: "Reads the time-stamp counter again and again: what every timestamp costs, unless the hypervisor intercepts \
               it.",
    source: "Intel SDM volume 2, RDTSC and RDTSCP; kvm-unit-tests, x86/vmexit.c (rd_tsc)",
    metric: Metric {
        unit: "ns/read",
        direction: Direction::LowerIsBetter,
        amount_per_iteration: 1.0,
    },
    params: &[Param {
        name: "instruction",
        kind: ParamKind::Choice(&["rdtsc", "rdtscp"]),
        default: 0,
        min: 0,
        max: 1,
        help: "the instruction that reads the clock",
    }],
    requires: baseline,
    footprint: |_| 0,
    prepare: Prepare::Nothing,
    max_iterations: unlimited,
    settles_after: at_once,
    latencies: false,
    body: Body::Shared {
        setup: |_, _, _| {},
        run: |_, params, iterations, seed, _| {
            let back = if params[0] == RDTSCP {
                count_steps_back(iterations, || {
                    let mut aux = 0;
                    // SAFETY: every x86-64 CPU that runs KVM has RDTSCP, and ring 3 may read the TSC.
                    unsafe { __rdtscp(&raw mut aux) }
                })
            } else {
                count_steps_back(iterations, unordered)
            };
            mix(seed ^ iterations.rotate_left(32) ^ params[0]).wrapping_add(back)
        },
    },
};

/// Reads the clock this often and counts how often it went backwards: never on a clock, so a checksum that includes it
/// depends on every reading and still is the same each time.
fn count_steps_back(reads: u64, read: impl Fn() -> u64) -> u64 {
    let mut before = 0;
    let mut back = 0;
    for _ in 0..reads {
        let now = read();
        back += u64::from(now < before);
        before = now;
    }
    back
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_runs_backwards_is_noticed() {
        use core::cell::Cell;
        let readings = [5, 6, 4, 7, 7];
        let place = Cell::new(0);
        let back = count_steps_back(5, || {
            place.set(place.get() + 1);
            readings[place.get() - 1]
        });
        assert_eq!(back, 1);
    }
}
