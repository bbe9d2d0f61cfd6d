//! `mem-random-update`: independent read-modify-writes at random places.

use super::{KIB, MIB, settling_accesses, size};
use crate::catalogue::{baseline, unlimited};
use crate::mix::{fold, mix, words};
use crate::{Body, Direction, Family, Latencies, MAX_PARAMS, Metric, Prepare, Workload};

const UPDATES: u64 = 64;

/// One iteration does 64 updates.
pub(crate) const ENTRY: Workload = Workload {
    name: "mem-random-update",
    family: Family::Memory,
    title: "Random updates (GUPS)",
    stresses: "Memory and address translation with many misses in flight: independent exclusive-or updates of random \
               words of a table.",
    source: "RandomAccess of the HPC Challenge suite: Luszczek et al., Introduction to the HPC Challenge Benchmark \
             Suite, 2005; but that any size of table will do, and that updates change the lower half of a word",
    metric: Metric {
        unit: "ns/update",
        direction: Direction::LowerIsBetter,
        amount_per_iteration: UPDATES as f64,
    },
    params: &[size(
        64 * MIB,
        16 * KIB,
        "size of the table, in whole 8-byte words",
    )],
    requires: baseline,
    footprint: |params| params[0] / 8 * 8,
    prepare: Prepare::Nothing,
    max_iterations: unlimited,
    settles_after: |params| settling_accesses(params[0]) / UPDATES,
    latencies: false,
    body: Body::Shared { setup, run },
};

/// The upper half of a table word keeps the word's index, the lower half is what updates change.
const LOW: u64 = 0xffff_ffff;

/// The primitive polynomial over GF(2) of the source's random sequence.
const POLY: u64 = 7;

/// The table, and behind it where the random sequence stands.
fn layout<'a>(
    arena: &'a mut [u8],
    params: &[u64; MAX_PARAMS],
) -> Option<(&'a mut [u64], &'a mut u64)> {
    let len = (params[0] / 8) as usize;
    let (random, table) = words(arena, len).split_last_mut()?;
    Some((table, random))
}

fn setup(arena: &mut [u8], params: &[u64; MAX_PARAMS], seed: u64) {
    let Some((table, random)) = layout(arena, params) else {
        return;
    };
    for (index, word) in (0u64..).zip(table) {
        *word = (index << 32) | (mix(index ^ seed) & LOW);
    }
    *random = first(seed);
}

/// Where the sequence starts: anywhere but at 0, which it would never leave.
fn first(seed: u64) -> u64 {
    mix(seed).max(1)
}

/// Updates the table and returns a hash of how many iterations found, with their last update, the index that belongs to its
/// place.
fn run(
    arena: &mut [u8],
    params: &[u64; MAX_PARAMS],
    iterations: u64,
    seed: u64,
    _latencies: &mut Latencies<'_>,
) -> u64 {
    let Some((table, random)) = layout(arena, params) else {
        return 0;
    };
    let mut state = *random;
    let mut found = 0u64;
    for _ in 0..iterations {
        let mut last = 0;
        for _ in 0..UPDATES {
            state = next(state);
            last = place(state, table.len());
            table[last] ^= state & LOW;
        }
        found += u64::from(table[last] >> 32 == last as u64);
    }
    *random = state;
    fold(mix(seed), found)
}

/// The next number of the sequence.
#[inline]
fn next(state: u64) -> u64 {
    (state << 1) ^ ((state.cast_signed() >> 63).cast_unsigned() & POLY)
}

/// The word that it updates.
#[inline]
fn place(random: u64, len: usize) -> usize {
    // Multiply and shift instead of a division: Lemire, Fast Random Integer Generation in an Interval, 2019.
    ((u128::from(random) * len as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rig;
    use std::collections::HashMap;

    const PARAMS: [u64; MAX_PARAMS] = [MIB, 0, 0, 0];

    #[test]
    fn the_table_is_as_a_map_of_all_changes_says() {
        let mut rig = Rig::new(&ENTRY, PARAMS, 31);
        let mut expected = rig.words().to_vec();
        let checksum = rig.run(500);
        assert_eq!(checksum, rig.run(500));
        assert_eq!(checksum, fold(mix(31), 500));

        let len = expected.len() - 1;
        let mut changes: HashMap<usize, u64> = HashMap::new();
        let mut state = first(31);
        for _ in 0..1000 * UPDATES {
            state = next(state);
            *changes.entry(place(state, len)).or_default() ^= state & LOW;
        }
        for (index, change) in changes {
            expected[index] ^= change;
        }
        expected[len] = state;
        assert!(rig.words() == expected);
    }

    #[test]
    fn a_damaged_table_shows_in_the_checksum() {
        let mut rig = Rig::new(&ENTRY, PARAMS, 31);
        let last = (0..UPDATES).fold(first(31), |state, _| next(state));
        rig.words()[place(last, (MIB / 8 - 1) as usize)] ^= 1 << 40;
        assert_ne!(rig.run(10), fold(mix(31), 10));
    }

    #[test]
    fn the_sequence_is_the_source_s() {
        // HPCC_starts(n) of the suite: the n-th number from 1 on.
        let mut state = 1;
        for _ in 0..64 {
            state = next(state);
        }
        assert_eq!(state, POLY);
        assert_ne!(next(1 << 63), 0);
    }

    #[test]
    fn updates_reach_all_parts_of_the_table_alike() {
        let mut bins = [0u32; 64];
        let mut state = first(5);
        for _ in 0..64_000 {
            state = next(state);
            bins[place(state, 6400) / 100] += 1;
        }
        // Expected 1000 each, standard deviation 31.4 of independent numbers.
        assert!(bins.iter().all(|n| (840..1160).contains(n)), "{bins:?}");
    }
}
