//! `cpu-bits`: the bit-manipulation instructions.

use core::arch::x86_64::{_bzhi_u64, _lzcnt_u64, _pdep_u64, _pext_u64, _popcnt64, _tzcnt_u64};

use crate::catalogue::{at_once, unlimited};
use crate::mix::{fill, fold, words};
use crate::{Body, Direction, Family, Features, Latencies, MAX_PARAMS, Metric, Prepare, Workload};

const PAIRS: usize = 4096;
const BATCH: usize = 32;

/// One iteration does a rank, a select and a compression on each of 32 words.
pub(crate) const ENTRY: Workload = Workload {
    name: "cpu-bits",
    family: Family::Cpu,
    title: "Bit manipulation",
    stresses: "POPCNT, LZCNT, TZCNT, BZHI, PDEP and PEXT, as rank and select on a bit vector use them.",
    source: "Pandey, Bender, Johnson, A Fast x86 Implementation of Select, arXiv:1706.00990",
    metric: Metric {
        unit: "ns/word",
        direction: Direction::LowerIsBetter,
        amount_per_iteration: BATCH as f64,
    },
    params: &[],
    requires: |_| Features::BITS,
    footprint: |_| (PAIRS * 16) as u64,
    prepare: Prepare::Nothing,
    max_iterations: unlimited,
    settles_after: at_once,
    latencies: false,
    body: Body::Shared { setup, run },
};

fn setup(arena: &mut [u8], _params: &[u64; MAX_PARAMS], seed: u64) {
    fill(words(arena, PAIRS * 2), seed, 0);
}

fn run(
    arena: &mut [u8],
    _params: &[u64; MAX_PARAMS],
    iterations: u64,
    seed: u64,
    _latencies: &mut Latencies<'_>,
) -> u64 {
    let (pairs, _) = words(arena, PAIRS * 2).as_chunks::<2>();
    let (batches, _) = pairs.as_chunks::<BATCH>();
    batches
        .iter()
        .cycle()
        .take(iterations as usize)
        .fold(seed, |checksum, batch| {
            // SAFETY: `requires` names these features, and whoever calls `run` has checked them.
            fold(checksum, unsafe { rank_select(batch, checksum) })
        })
}

/// For each word: where is its k-th set bit, how many set bits lie below that, and what does a mask leave of it?
#[target_feature(enable = "popcnt,lzcnt,bmi1,bmi2")]
fn rank_select(batch: &[[u64; 2]; BATCH], start: u64) -> u64 {
    let mut state = start;
    for &[random, mask] in batch {
        let word = random | 1;
        // Below the number of set bits, without a division.
        let nth = (_popcnt64(word as i64) as u64 * (state >> 58)) >> 6;
        let position = _tzcnt_u64(_pdep_u64(1 << nth, word));
        let rank = _popcnt64(_bzhi_u64(word, position as u32) as i64) as u64;
        let compressed = _pext_u64(word ^ state, mask);
        state = state.rotate_left(9) ^ compressed ^ (_lzcnt_u64(compressed) << 40);
        state = state.wrapping_add((position << 8) | rank);
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Rig, host_has};
    use std::vec::Vec;

    fn set_bits(word: u64) -> Vec<u32> {
        (0..64).filter(|bit| word & (1 << bit) != 0).collect()
    }

    fn reference(batch: &[[u64; 2]; BATCH], start: u64) -> u64 {
        batch.iter().fold(start, |state, &[random, mask]| {
            let word = random | 1;
            let bits = set_bits(word);
            let nth = bits.len() * (state / (1 << 58)) as usize / 64;
            let compressed = (0u32..)
                .zip(set_bits(mask))
                .filter(|&(_, from)| (word ^ state) & (1 << from) != 0)
                .map(|(to, _)| 1u64 << to)
                .sum::<u64>();
            let zeros = set_bits(compressed)
                .last()
                .map_or(64, |top| 63 - u64::from(*top));
            let mixed = state.rotate_left(9) ^ compressed ^ (zeros << 40);
            mixed.wrapping_add(u64::from(bits[nth]) * 256 + nth as u64)
        })
    }

    #[test]
    fn agrees_with_bit_by_bit_arithmetic() {
        if !host_has(Features::BITS) {
            return;
        }
        let mut rig = Rig::new(&ENTRY, [0; MAX_PARAMS], 5);
        let expected = rig.words().as_chunks::<2>().0.as_chunks::<BATCH>().0[..100]
            .iter()
            .fold(5, |sum, batch| fold(sum, reference(batch, sum)));
        assert_eq!(rig.run(100), expected);
    }
}
