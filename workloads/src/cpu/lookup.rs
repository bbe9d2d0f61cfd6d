//! `cpu-lookup`: the probe side of a hash join.

use crate::catalogue::{at_once, baseline, unlimited};
use crate::mix::{fill, fold, mix, words};
use crate::{Body, Direction, Family, Latencies, MAX_PARAMS, Metric, Prepare, Workload};

const SLOT_BITS: u32 = 15;
const SLOTS: usize = 1 << SLOT_BITS;
const ROWS: usize = SLOTS / 2;
const PROBES: usize = 8192;
const BATCH: usize = 32;

/// One iteration probes the table with 32 keys, half of which are in it.
pub(crate) const ENTRY: Workload = Workload {
    name: "cpu-lookup",
    family: Family::Cpu,
    title: "Hash join probe",
    stresses: "Independent random reads in a 512 KiB hash table (in L2) with unpredictable hits and misses, as in a \
               database's join.",
    source: "Balkesen et al., Main-Memory Hash Joins on Multi-Core CPUs, ICDE 2013",
    metric: Metric {
        unit: "ns/probe",
        direction: Direction::LowerIsBetter,
        amount_per_iteration: BATCH as f64,
    },
    params: &[],
    requires: baseline,
    footprint: |_| (SLOTS * 16 + PROBES * 8) as u64,
    prepare: Prepare::Nothing,
    max_iterations: unlimited,
    settles_after: at_once,
    latencies: false,
    body: Body::Shared { setup, run },
};

/// A key and its payload; key 0 marks an empty slot. A row's key is never 0.
type Slot = [u64; 2];

/// The hash table and the keys to probe it with.
fn layout(arena: &mut [u8]) -> Option<(&mut [Slot; SLOTS], &mut [u64; PROBES])> {
    let (table, rest) = words(arena, SLOTS * 2 + PROBES).split_at_mut_checked(SLOTS * 2)?;
    Some((
        table.as_chunks_mut().0.first_chunk_mut()?,
        rest.first_chunk_mut()?,
    ))
}

/// The key of a row of the build side, `row` below [`ROWS`]; of a key that is not there otherwise.
fn key(row: u64, seed: u64) -> u64 {
    mix(seed.wrapping_add(row)).max(1)
}

fn setup(arena: &mut [u8], _params: &[u64; MAX_PARAMS], seed: u64) {
    let Some((table, probes)) = layout(arena) else {
        return;
    };
    table.fill([0, 0]);
    for row in 0..ROWS as u64 {
        let key = key(row, seed);
        let slot = find(table, key);
        table[slot] = [key, mix(row)];
    }
    fill(probes, seed, 1);
    for probe in probes {
        // Twice as many row numbers as rows: every other key misses.
        *probe = key(*probe % (2 * ROWS as u64), seed);
    }
}

fn run(
    arena: &mut [u8],
    _params: &[u64; MAX_PARAMS],
    iterations: u64,
    seed: u64,
    _latencies: &mut Latencies<'_>,
) -> u64 {
    let Some((table, probes)) = layout(arena) else {
        return 0;
    };
    let (batches, _) = probes.as_chunks::<BATCH>();
    batches
        .iter()
        .cycle()
        .take(iterations as usize)
        .fold(seed, |checksum, batch| fold(checksum, join(table, batch)))
}

/// The sum of the payloads that the keys find.
#[inline]
fn join(table: &[Slot; SLOTS], keys: &[u64; BATCH]) -> u64 {
    let mut sum = 0u64;
    for &key in keys {
        let [found, payload] = table[find(table, key)];
        if found == key {
            sum = sum.wrapping_add(payload);
        }
    }
    sum
}

/// The slot that holds `key`, or the empty one where it would go: linear probing. The table is half empty, so this ends.
#[inline]
fn find(table: &[Slot; SLOTS], key: u64) -> usize {
    let mut slot = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOT_BITS)) as usize;
    while table[slot][0] != key && table[slot][0] != 0 {
        slot = (slot + 1) % SLOTS;
    }
    slot
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rig;
    use std::collections::HashMap;

    #[test]
    fn agrees_with_a_hash_map() {
        let seed = 11;
        let mut rig = Rig::new(&ENTRY, [0; MAX_PARAMS], seed);
        let rows: HashMap<u64, u64> = (0..ROWS as u64)
            .map(|row| (key(row, seed), mix(row)))
            .collect();
        assert_eq!(rows.len(), ROWS);
        let probes = &rig.words()[SLOTS * 2..];
        let expected = probes.chunks(BATCH).take(200).fold(seed, |sum, batch| {
            let payloads = batch.iter().filter_map(|key| rows.get(key));
            fold(
                sum,
                payloads.fold(0, |total: u64, payload| total.wrapping_add(*payload)),
            )
        });
        let hits = probes.iter().filter(|key| rows.contains_key(key)).count();
        assert!(
            (PROBES * 2 / 5..PROBES * 3 / 5).contains(&hits),
            "{hits} hits"
        );
        assert_eq!(rig.run(200), expected);
    }
}
