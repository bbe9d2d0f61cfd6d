//! `cpu-hash`: integer multiply, rotate and add, over a buffer that fits the L2 cache.

use crate::catalogue::{at_once, baseline, unlimited};
use crate::mix::{fill, words};
use crate::{Body, Direction, Family, Latencies, MAX_PARAMS, Metric, Prepare, Workload};

const BLOCK_BYTES: usize = 4096;
const BLOCK_WORDS: usize = BLOCK_BYTES / 8;
const BLOCKS: usize = 64;

/// One iteration hashes one 4 KiB block; each block's hash seeds the next.
pub(crate) const ENTRY: Workload = Workload {
    name: "cpu-hash",
    family: Family::Cpu,
    title: "Integer hashing",
    stresses: "64-bit multiply, rotate and add in four independent lanes, fed from a 256 KiB buffer.",
    source: "XXH64: Y. Collet, xxHash fast digest algorithm, specification 0.1.1",
    metric: Metric {
        unit: "GB/s",
        direction: Direction::HigherIsBetter,
        amount_per_iteration: BLOCK_BYTES as f64,
    },
    params: &[],
    requires: baseline,
    footprint: |_| (BLOCKS * BLOCK_BYTES) as u64,
    prepare: Prepare::Nothing,
    max_iterations: unlimited,
    settles_after: at_once,
    latencies: false,
    body: Body::Shared { setup, run },
};

fn setup(arena: &mut [u8], _params: &[u64; MAX_PARAMS], seed: u64) {
    fill(words(arena, BLOCKS * BLOCK_WORDS), seed, 0);
}

fn run(
    arena: &mut [u8],
    _params: &[u64; MAX_PARAMS],
    iterations: u64,
    seed: u64,
    _latencies: &mut Latencies<'_>,
) -> u64 {
    let (blocks, _) = words(arena, BLOCKS * BLOCK_WORDS).as_chunks::<BLOCK_WORDS>();
    blocks
        .iter()
        .cycle()
        .take(iterations as usize)
        .fold(seed, |digest, block| xxh64(block, digest))
}

const PRIME_1: u64 = 0x9e37_79b1_85eb_ca87;
const PRIME_2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const PRIME_3: u64 = 0x1656_67b1_9e37_79f9;
const PRIME_4: u64 = 0x85eb_ca77_c2b2_ae63;

#[inline]
fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIME_2))
        .rotate_left(31)
        .wrapping_mul(PRIME_1)
}

/// XXH64 of one block; its length is a multiple of 32 bytes, so there is no tail.
#[inline]
fn xxh64(block: &[u64; BLOCK_WORDS], seed: u64) -> u64 {
    let mut lanes = [
        seed.wrapping_add(PRIME_1).wrapping_add(PRIME_2),
        seed.wrapping_add(PRIME_2),
        seed,
        seed.wrapping_sub(PRIME_1),
    ];
    for stripe in block.as_chunks::<4>().0 {
        for (lane, &word) in lanes.iter_mut().zip(stripe) {
            *lane = round(*lane, word);
        }
    }
    let mut hash = lanes[0]
        .rotate_left(1)
        .wrapping_add(lanes[1].rotate_left(7))
        .wrapping_add(lanes[2].rotate_left(12))
        .wrapping_add(lanes[3].rotate_left(18));
    for lane in lanes {
        hash = (hash ^ round(0, lane))
            .wrapping_mul(PRIME_1)
            .wrapping_add(PRIME_4);
    }
    hash = hash.wrapping_add(BLOCK_BYTES as u64);
    hash = (hash ^ (hash >> 33)).wrapping_mul(PRIME_2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(PRIME_3);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rig;
    use twox_hash::XxHash64;

    #[test]
    fn agrees_with_another_implementation() {
        let mut rig = Rig::new(&ENTRY, [0; MAX_PARAMS], 61);
        let blocks = BLOCKS + 10;
        let expected = rig
            .arena()
            .chunks(BLOCK_BYTES)
            .cycle()
            .take(blocks)
            .fold(61, XxHash64::oneshot);
        assert_eq!(rig.run(blocks as u64), expected);
    }
}
