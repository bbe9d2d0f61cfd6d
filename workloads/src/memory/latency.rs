//! `mem-latency`: how long one dependent load takes, by working-set size.

use super::chase::{Chase, LOADS};
use super::{KIB, MIB, settling_accesses, size};
use crate::catalogue::{baseline, unlimited};
use crate::{Body, Direction, Family, Latencies, MAX_PARAMS, Metric, Prepare, Workload};

const LINE_BYTES: u64 = 64;

/// One iteration follows 32 loads.
pub(crate) const ENTRY: Workload = Workload {
    name: "mem-latency",
    family: Family::Memory,
    title: "Load latency",
    stresses: "The latency of each cache level, of memory and of address translation: a chain of dependent loads \
               through all lines of the working set in one random cycle.",
    source: "lat_mem_rd: McVoy, Staelin, lmbench: Portable Tools for Performance Analysis, USENIX ATC 1996",
    metric: Metric {
        unit: "ns/load",
        direction: Direction::LowerIsBetter,
        amount_per_iteration: LOADS as f64,
    },
    params: &[size(
        64 * MIB,
        16 * KIB,
        "working set, in whole 64-byte lines",
    )],
    requires: baseline,
    footprint: |params| chase(params).nodes * LINE_BYTES,
    prepare: Prepare::Nothing,
    max_iterations: unlimited,
    settles_after: |params| settling_accesses((chase(params).nodes) * LINE_BYTES) / LOADS,
    latencies: false,
    body: Body::Shared { setup, run },
};

fn chase(params: &[u64; MAX_PARAMS]) -> Chase {
    Chase {
        nodes: params[0] / LINE_BYTES,
        stride: LINE_BYTES,
    }
}

fn setup(arena: &mut [u8], params: &[u64; MAX_PARAMS], seed: u64) {
    chase(params).lay_out(arena, seed);
}

fn run(
    arena: &mut [u8],
    params: &[u64; MAX_PARAMS],
    iterations: u64,
    seed: u64,
    _latencies: &mut Latencies<'_>,
) -> u64 {
    chase(params).follow(arena, iterations, seed)
}
