//! Memory workloads: bound by caches, TLBs, page tables or memory, by a `size` parameter.
//!
//! A block must not meet what the block before left in the caches, so bodies go on where the last block stopped: their
//! cursor lies in the arena. Their checksums are made so that they do not depend on where a block began.

mod chase;
pub(crate) mod first_touch;
pub(crate) mod latency;
mod permutation;
pub(crate) mod random_update;
pub(crate) mod stream;
pub(crate) mod tlb;

use crate::{Param, ParamKind};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// How many accesses at random to `bytes` of memory bring its page tables back into the caches: four for each cache line of
/// their lowest level (8 entries of 4 KiB each), after which one line in fifty has not been asked for.
const fn settling_accesses(bytes: u64) -> u64 {
    const LINE_COVERS: u64 = 8 * 4 * KIB;
    4 * bytes.div_ceil(LINE_COVERS)
}

/// A `size` parameter, up to 4 GiB.
const fn size(default: u64, min: u64, help: &'static str) -> Param {
    Param {
        name: "size",
        kind: ParamKind::Bytes,
        default,
        min,
        max: 4 * GIB,
        help,
    }
}
