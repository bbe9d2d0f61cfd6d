//! `mem-tlb`: one load per page, so that nearly every load needs a translation that the TLB does not hold.

use super::chase::{Chase, LOADS};
use super::{MIB, settling_accesses, size};
use crate::catalogue::{baseline, unlimited};
use crate::{Body, Direction, Family, Latencies, MAX_PARAMS, Metric, Prepare, Workload};

const PAGE_BYTES: u64 = 4096;

/// One iteration follows 32 loads.
pub(crate) const ENTRY: Workload = Workload {
    name: "mem-tlb",
    family: Family::Memory,
    title: "TLB misses",
    stresses: "The TLBs and the page walk, which has two dimensions in a guest with EPT or NPT: dependent loads of one \
               line per 4 KiB page in one random cycle.",
    source: "Bhargava et al., Accelerating Two-Dimensional Page Walks for Virtualized Systems, ASPLOS 2008",
    metric: Metric {
        unit: "ns/load",
        direction: Direction::LowerIsBetter,
        amount_per_iteration: LOADS as f64,
    },
    params: &[size(256 * MIB, MIB, "memory covered, in whole 4 KiB pages")],
    requires: baseline,
    footprint: |params| chase(params).nodes * PAGE_BYTES,
    prepare: Prepare::Nothing,
    max_iterations: unlimited,
    settles_after: |params| settling_accesses((chase(params).nodes) * PAGE_BYTES) / LOADS,
    latencies: false,
    body: Body::Shared { setup, run },
};

fn chase(params: &[u64; MAX_PARAMS]) -> Chase {
    Chase {
        nodes: params[0] / PAGE_BYTES,
        stride: PAGE_BYTES,
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
