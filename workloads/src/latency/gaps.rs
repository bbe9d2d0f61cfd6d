//! Scheduling gaps: spin on the clock and record whenever it jumps.

use crate::catalogue::{at_once, baseline, unlimited};
use crate::mix::mix;
use crate::tsc::unordered;
use crate::{Body, Direction, Family, Metric, Param, ParamKind, Prepare, Workload};

pub(crate) const ENTRY: Workload = Workload {
    name: "lat-gaps",
    family: Family::Latency,
    title: "Gaps",
    stresses: "Spins on the time-stamp counter and records every jump: who takes the CPU away, how often and for how long. \
               The quantiles are those of the gaps; the ratio is that of all the spinning, gaps included.",
    source: "rt-tests, oslat",
    metric: Metric {
        unit: "ns/turn",
        direction: Direction::LowerIsBetter,
        amount_per_iteration: 1.0,
    },
    params: &[Param {
        name: "threshold",
        kind: ParamKind::Count,
        default: 3000,
        min: 100,
        max: 1_000_000_000,
        help: "a jump of more TSC ticks than this is a gap; 3000 are about a microsecond",
    }],
    requires: baseline,
    footprint: |_| 0,
    prepare: Prepare::Nothing,
    max_iterations: unlimited,
    settles_after: at_once,
    latencies: true,
    body: Body::Shared {
        setup: |_, _, _| {},
        run: |_, params, iterations, seed, latencies| {
            spin(iterations, params[0], unordered, |gap| {
                latencies.record(gap)
            });
            mix(seed ^ iterations.rotate_left(32) ^ params[0])
        },
    },
};

/// Reads the clock this often, and hands out each step of more than `threshold`.
fn spin(turns: u64, threshold: u64, read: impl Fn() -> u64, mut gap: impl FnMut(u64)) {
    let mut before = read();
    for _ in 0..turns {
        let now = read();
        let step = now.wrapping_sub(before);
        if step > threshold {
            gap(step);
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    #[test]
    fn jumps_beyond_the_threshold_are_gaps() {
        let readings = [10, 20, 130, 230, 331, 340];
        let place = Cell::new(0);
        let read = || {
            place.set(place.get() + 1);
            readings[place.get() - 1]
        };
        let mut gaps = std::vec::Vec::new();
        spin(5, 100, read, |gap| gaps.push(gap));
        assert_eq!(gaps, [110, 101]);
    }
}
