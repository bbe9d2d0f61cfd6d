//! The order of a run: seeded, so that the same plan is always measured in the same order, and shuffled, so that no
//! cell and no side meets the host in a privileged moment.
//!
//! The orders are part of what a seed promises: they use ChaCha8 with explicit seeding and a shuffle of our own, both
//! independent of the defaults of any random-number crate.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// What a block measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockKind {
    /// The workload on the host.
    Native,
    /// The workload in the guest.
    Guest,
    /// The workload on the host once more: the A/A control.
    Control,
}

/// Streams that draw from the same seed keep apart by these first path elements.
mod stream {
    pub const SWEEP: u64 = 1;
    pub const ROUND: u64 = 2;
}

/// A seed that depends on `seed` and every element of `path`: for the random choices below one seed.
///
/// The finalizer of SplitMix64 over each element in turn (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
/// Generators", OOPSLA 2014).
#[must_use]
pub fn child_seed(seed: u64, path: &[u64]) -> u64 {
    const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
    fn mix(mut z: u64) -> u64 {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    path.iter().fold(mix(seed), |state, &element| {
        mix(state
            .wrapping_add(GOLDEN_GAMMA)
            .wrapping_add(mix(element.wrapping_add(GOLDEN_GAMMA))))
    })
}

/// The order of the three blocks of a round: one of the six permutations, each as likely as the others.
///
/// `cell` is the id in the plan, `boot` the boot of that cell and `round` the round of that boot, all from 0.
#[must_use]
pub fn round_order(seed: u64, cell: u32, boot: u32, round: u32) -> [BlockKind; 3] {
    let mut order = [BlockKind::Native, BlockKind::Guest, BlockKind::Control];
    let path = [stream::ROUND, cell.into(), boot.into(), round.into()];
    shuffle(&mut order, child_seed(seed, &path));
    order
}

impl Plan {
    /// The ids of all cells in the order in which sweep number `sweep` (from 0) boots them, each once.
    ///
    /// Boots of different cells interleave, so that a slow drift of the host reaches all cells alike.
    #[must_use]
    pub fn sweep(&self, sweep: u32) -> Vec<u32> {
        let mut order: Vec<u32> = self.cells.iter().map(|cell| cell.id).collect();
        shuffle(
            &mut order,
            child_seed(self.seed, &[stream::SWEEP, sweep.into()]),
        );
        order
    }
}

/// Puts `items` in an order that `seed` decides, each as likely as the others.
///
/// Fisher and Yates's shuffle (Knuth, TAOCP vol. 2, algorithm 3.4.2P). Drawing by multiplication favours no position by
/// more than `len / 2^64`.
pub fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    for last in (1..items.len()).rev() {
        let drawn = (u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64;
        // `drawn` is at most `last`, a usize.
        items.swap(last, usize::try_from(drawn).unwrap_or(last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BlockKind::{Control, Guest, Native};
    use std::collections::BTreeMap;

    #[test]
    fn orders_are_what_they_were_in_the_first_release() {
        // A change here breaks the promise that a seed repeats an old run.
        assert_eq!(child_seed(1, &[]), 0x5692_161d_100b_05e5);
        assert_eq!(child_seed(1, &[2, 3]), 0x4673_d081_550f_ff42);
        let orders: Vec<_> = (0..4).map(|round| round_order(1, 0, 0, round)).collect();
        assert_eq!(
            orders,
            [
                [Native, Control, Guest],
                [Native, Control, Guest],
                [Native, Guest, Control],
                [Native, Guest, Control]
            ]
        );
    }

    #[test]
    fn every_permutation_is_as_likely_as_the_others() {
        let mut counts = BTreeMap::new();
        for boot in 0..1000 {
            for round in 0..6 {
                *counts.entry(round_order(7, 3, boot, round)).or_insert(0) += 1;
            }
        }
        // 6,000 draws, 1,000 each expected; the standard deviation is 29.
        assert_eq!(counts.len(), 6);
        assert!(
            counts.values().all(|count| (850..1150).contains(count)),
            "{counts:?}"
        );
    }
}
