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
             Suite, 2005; with SplitMix64 for its shift register",
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

/// The table, and behind it the number of updates done since setup: where the random sequence stands.
fn layout<'a>(
    arena: &'a mut [u8],
    params: &[u64; MAX_PARAMS],
) -> Option<(&'a mut [u64], &'a mut u64)> {
    let len = (params[0] / 8) as usize;
    let (done, table) = words(arena, len).split_last_mut()?;
    Some((table, done))
}

fn setup(arena: &mut [u8], params: &[u64; MAX_PARAMS], seed: u64) {
    let Some((table, done)) = layout(arena, params) else {
        return;
    };
    for (index, word) in (0u64..).zip(table) {
        *word = (index << 32) | (mix(index ^ seed) & LOW);
    }
    *done = 0;
}

/// Updates the table and returns a hash of how many updates found the index that belongs to their place.
fn run(
    arena: &mut [u8],
    params: &[u64; MAX_PARAMS],
    iterations: u64,
    seed: u64,
    _latencies: &mut Latencies<'_>,
) -> u64 {
    let Some((table, done)) = layout(arena, params) else {
        return 0;
    };
    let stream = mix(seed);
    let mut found = 0u64;
    for _ in 0..iterations {
        for _ in 0..UPDATES {
            let (index, change) = draw(stream.wrapping_add(*done), table.len());
            let word = &mut table[index];
            found += u64::from(*word >> 32 == index as u64);
            *word ^= change;
            *done = done.wrapping_add(1);
        }
    }
    fold(mix(seed), found)
}

/// The place and the change of one update, from different bits of the same random number.
#[inline]
fn draw(counter: u64, len: usize) -> (usize, u64) {
    let random = mix(counter);
    // Multiply and shift instead of a division: Lemire, Fast Random Integer Generation in an Interval, 2019.
    let index = (u128::from(random) * len as u128) >> 64;
    (index as usize, random & LOW)
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
        assert_eq!(checksum, fold(mix(31), 500 * UPDATES));

        let len = expected.len() - 1;
        let mut changes: HashMap<usize, u64> = HashMap::new();
        for counter in 0..1000 * UPDATES {
            let (index, change) = draw(mix(31).wrapping_add(counter), len);
            *changes.entry(index).or_default() ^= change;
        }
        for (index, change) in changes {
            expected[index] ^= change;
        }
        expected[len] = 1000 * UPDATES;
        assert!(rig.words() == expected);
    }

    #[test]
    fn a_damaged_table_shows_in_the_checksum() {
        let mut rig = Rig::new(&ENTRY, PARAMS, 31);
        let (index, _) = draw(mix(31), (MIB / 8 - 1) as usize);
        rig.words()[index] ^= 1 << 40;
        assert_ne!(rig.run(10), fold(mix(31), 10 * UPDATES));
    }

    #[test]
    fn updates_reach_all_parts_of_the_table_alike() {
        let mut bins = [0u32; 64];
        for counter in 0..64_000 {
            bins[draw(counter, 6400).0 / 100] += 1;
        }
        // Expected 1000 each, standard deviation 31.4.
        assert!(bins.iter().all(|n| (840..1160).contains(n)), "{bins:?}");
    }
}
