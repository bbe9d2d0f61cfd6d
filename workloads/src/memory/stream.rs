//! `mem-stream`: the four STREAM kernels.

use core::arch::asm;

use super::{KIB, MIB, size};
use crate::catalogue::{baseline, unlimited};
use crate::mix::{fold, mix, words};
use crate::{
    Body, Direction, Family, Latencies, MAX_PARAMS, Metric, Param, ParamKind, Prepare, Workload,
};

const COPY: u64 = 0;
const SCALE: u64 = 1;
const ADD: u64 = 2;

const SCALAR: f64 = 3.0;

/// Bytes that one iteration reads and writes together, as STREAM counts them (without write-allocation).
const TRAFFIC_BYTES: usize = 96 << 10;
const LINE: usize = 8;
/// The arrays repeat after so many values, and chunks are multiples of it: so the checksum does not depend on the
/// chunk with which a run begins.
const PERIOD: usize = 2048;
/// Space behind each array, in values: not a multiple of a page, or the arrays' current elements would share their low
/// address bits and loads would wait for unrelated stores.
const GAP: usize = 17 * LINE;

/// After so much traffic, or a pass over smaller arrays, the page tables are those of the side that streams.
const SETTLED_BYTES: u64 = 64 * MIB;

/// One iteration streams through 96 KiB: two chunks of 48 KiB, or three of 32 KiB.
pub(crate) const ENTRY: Workload = Workload {
    name: "mem-stream",
    family: Family::Memory,
    title: "STREAM",
    stresses: "Memory bandwidth with sequential access. For figures that compare with others', give each array at \
               least four times the last-level cache.",
    source: "McCalpin, STREAM: Sustainable Memory Bandwidth in High Performance Computers, version 5.10",
    metric: Metric {
        unit: "GB/s",
        direction: Direction::HigherIsBetter,
        amount_per_iteration: TRAFFIC_BYTES as f64,
    },
    params: &[
        Param {
            name: "kernel",
            kind: ParamKind::Choice(&["copy", "scale", "add", "triad"]),
            default: 3,
            min: 0,
            max: 3,
            help: "c = a, c = 3a, c = a + b, or c = a + 3b",
        },
        size(
            32 * MIB,
            256 * KIB,
            "size of each of the three arrays, in whole 64-byte lines",
        ),
    ],
    requires: baseline,
    footprint: |params| (3 * (values(params) + GAP) * size_of::<f64>()) as u64,
    prepare: Prepare::Nothing,
    max_iterations: unlimited,
    settles_after: |params| (3 * params[1]).min(SETTLED_BYTES) / TRAFFIC_BYTES as u64,
    latencies: false,
    body: Body::Shared { setup, run },
};

type Line = [f64; LINE];

/// Values in each array.
fn values(params: &[u64; MAX_PARAMS]) -> usize {
    params[1] as usize / size_of::<Line>() * LINE
}

struct Layout<'a> {
    a: &'a mut [f64],
    b: &'a mut [f64],
    c: &'a mut [f64],
    /// The chunk that comes next, in the last gap.
    cursor: &'a mut u64,
}

fn layout<'a>(arena: &'a mut [u8], params: &[u64; MAX_PARAMS]) -> Option<Layout<'a>> {
    let values = values(params);
    let (all, rest) =
        words(arena, 3 * (values + GAP)).split_at_mut_checked(3 * values + 2 * GAP)?;
    // SAFETY: every bit pattern is a valid f64, and both types are aligned alike.
    let (_, all, _) = unsafe { all.align_to_mut::<f64>() };
    let (a, all) = all.split_at_mut_checked(values + GAP)?;
    let (b, c) = all.split_at_mut_checked(values + GAP)?;
    Some(Layout {
        a: &mut a[..values],
        b: &mut b[..values],
        c,
        cursor: rest.first_mut()?,
    })
}

/// Fills all arrays with values in [1, 2), so that no kernel ever meets a denormal.
fn setup(arena: &mut [u8], params: &[u64; MAX_PARAMS], seed: u64) {
    let Some(Layout { a, b, c, cursor }) = layout(arena, params) else {
        return;
    };
    for (array, values) in [a, b, c].into_iter().enumerate() {
        for (index, value) in values.iter_mut().enumerate() {
            let random = mix(seed.wrapping_add((index % PERIOD) as u64) ^ ((array as u64) << 60));
            *value = 1.0 + (random >> 12) as f64 / (1u64 << 52) as f64;
        }
    }
    *cursor = 0;
}

fn run(
    arena: &mut [u8],
    params: &[u64; MAX_PARAMS],
    iterations: u64,
    seed: u64,
    _latencies: &mut Latencies<'_>,
) -> u64 {
    let Some(Layout { a, b, c, cursor }) = layout(arena, params) else {
        return 0;
    };
    let arrays = if params[0] <= SCALE { 2 } else { 3 };
    let chunk = TRAFFIC_BYTES / arrays / size_of::<f64>();
    let chunks = (c.len() / chunk) as u64;
    let mut checksum = seed;
    for iteration in 0..iterations as usize {
        let start = *cursor as usize * chunk;
        let place = start..start + chunk;
        let (Some(a), Some(b), Some(c)) =
            (a.get(place.clone()), b.get(place.clone()), c.get_mut(place))
        else {
            return 0;
        };
        match params[0] {
            COPY => stream(a, b, c, |a, _| a),
            SCALE => stream(a, b, c, |a, _| SCALAR * a),
            ADD => stream(a, b, c, |a, b| a + b),
            _ => stream(a, b, c, |a, b| a + SCALAR * b),
        }
        // Over the iterations of a block the samples cover the whole chunk: the stride is prime.
        checksum = fold(checksum, c[iteration * 1009 % chunk].to_bits());
        *cursor = if *cursor + 1 < chunks { *cursor + 1 } else { 0 };
    }
    checksum
}

/// `c = op(a, b)`, line by line.
#[inline(always)]
fn stream(a: &[f64], b: &[f64], c: &mut [f64], op: impl Fn(f64, f64) -> f64) {
    let sources = a.as_chunks::<LINE>().0.iter().zip(b.as_chunks::<LINE>().0);
    for (target, (a, b)) in c.as_chunks_mut::<LINE>().0.iter_mut().zip(sources) {
        let line: Line = core::array::from_fn(|lane| op(a[lane], b[lane]));
        *target = line;
        // SAFETY: no instruction. It stands for an access to memory, or the compiler would make a copy into a call of
        // memcpy, and so measure whichever way of copying that has.
        unsafe { asm!("", options(nostack, preserves_flags)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rig;

    const SIZE: u64 = MIB;

    #[test]
    fn every_kernel_computes_its_formula_on_all_whole_chunks() {
        for (kernel, chunk) in [(COPY, 6144), (SCALE, 6144), (ADD, 4096), (3, 4096)] {
            let params = [kernel, SIZE, 0, 0];
            let mut rig = Rig::new(&ENTRY, params, 41);
            let chunks = (SIZE / 8) as usize / chunk;
            // In two runs: the second goes on where the first stopped.
            rig.run(5);
            rig.run(chunks as u64 - 5);
            let Layout { a, b, c, cursor } = layout(rig.arena(), &params).unwrap();
            assert_eq!(*cursor, 0);
            for index in 0..chunks * chunk {
                let expected = match kernel {
                    COPY => a[index],
                    SCALE => 3.0 * a[index],
                    ADD => a[index] + b[index],
                    _ => 3.0 * b[index] + a[index],
                };
                assert!(c[index] == expected, "kernel {kernel}, value {index}");
            }
            // What is left over at the end still has the value from setup, which no kernel yields.
            assert!((chunks * chunk..c.len()).all(|index| c[index] < 2.0 && c[index] != a[index]));
        }
    }

    #[test]
    fn the_kernels_differ() {
        let sums = [0, 1, 2, 3].map(|kernel| Rig::new(&ENTRY, [kernel, SIZE, 0, 0], 41).run(3));
        assert!((1..4).all(|n| !sums[..n].contains(&sums[n])), "{sums:x?}");
    }
}
