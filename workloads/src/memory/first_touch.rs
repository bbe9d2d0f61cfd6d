//! `mem-first-touch`: what a page costs when it is written for the first time.
//!
//! Planted work ([`crate::abi::Mailbox::planted`]) finds the first pages already there: it cannot stand for slower
//! page population.

use super::{MIB, size};
use crate::catalogue::{at_once, baseline};
use crate::mix::{fold, mix, words};
use crate::tsc;
use crate::{Body, Direction, Family, Latencies, MAX_PARAMS, Metric, Prepare, Workload};

const PAGE_BYTES: u64 = 4096;
const PAGE_WORDS: usize = 512;

/// One iteration writes one word of the next page.
pub(crate) const ENTRY: Workload = Workload {
    name: "mem-first-touch",
    family: Family::Memory,
    title: "First touch",
    stresses: "Page population: each write meets a page that the host has not given yet, since all are given back before \
               each block, whatever `prefault` says. The host finds and zeroes a page and maps it; in the guest KVM maps \
               it besides (in nested or shadow page tables). The guest's own page tables are there already, so no page \
               fault of the guest's system is in it. Each touch is timed; the clock's own time (about 20 ns) is part of \
               it on both sides.",
    source: "page_fault1 of will-it-scale (A. Blanchard); lat_pagefault of lmbench",
    metric: Metric {
        unit: "ns/page",
        direction: Direction::LowerIsBetter,
        amount_per_iteration: 1.0,
    },
    params: &[size(
        64 * MIB,
        MIB,
        "memory to touch, in whole 4 KiB pages; bounds the length of a block",
    )],
    requires: baseline,
    footprint: |params| pages(params) * PAGE_BYTES,
    prepare: Prepare::Discard,
    max_iterations: pages,
    settles_after: at_once,
    latencies: true,
    body: Body::Shared { setup, run },
};

fn pages(params: &[u64; MAX_PARAMS]) -> u64 {
    params[0] / PAGE_BYTES
}

/// Nothing: to lay something out would be the first touch.
fn setup(_arena: &mut [u8], _params: &[u64; MAX_PARAMS], _seed: u64) {}

fn run(
    arena: &mut [u8],
    params: &[u64; MAX_PARAMS],
    iterations: u64,
    seed: u64,
    latencies: &mut Latencies<'_>,
) -> u64 {
    let (pages, _) =
        words(arena, pages(params) as usize * PAGE_WORDS).as_chunks_mut::<PAGE_WORDS>();
    let mut checksum = seed;
    let mut before = tsc::fenced();
    for (number, page) in (0..iterations).zip(pages) {
        page[0] = mix(number ^ seed);
        let after = tsc::fenced();
        latencies.record(after.wrapping_sub(before));
        // The page's last word is 0 if the host gave the page anew, as it should have.
        checksum = fold(checksum, page[0] ^ page[PAGE_WORDS - 1]);
        before = after;
    }
    checksum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rig;

    const PARAMS: [u64; MAX_PARAMS] = [MIB, 0, 0, 0];

    #[test]
    fn it_writes_one_word_of_each_page_it_is_asked_for() {
        let mut rig = Rig::new(&ENTRY, PARAMS, 51);
        rig.run(100);
        for (number, page) in (0u64..).zip(rig.words().chunks(PAGE_WORDS)) {
            let expected = if number < 100 { mix(number ^ 51) } else { 0 };
            assert_eq!(page[0], expected);
            assert!(page[1..].iter().all(|&word| word == 0));
        }
    }

    #[test]
    fn it_hands_back_one_latency_per_page() {
        let mut rig = Rig::new(&ENTRY, PARAMS, 51);
        let mailbox = rig.request(100);
        assert_eq!((mailbox.latencies_len, mailbox.latencies_dropped), (100, 0));
        let sum: u64 = mailbox.latencies[..100]
            .iter()
            .map(|&ticks| u64::from(ticks))
            .sum();
        assert!(mailbox.latencies[..100].iter().all(|&ticks| ticks > 0));
        assert!(sum <= mailbox.tsc_end - mailbox.tsc_start);
    }

    #[test]
    fn a_page_that_is_not_new_shows_in_the_checksum() {
        let mut rig = Rig::new(&ENTRY, PARAMS, 51);
        let fresh = rig.run(10);
        rig.words()[PAGE_WORDS * 4 - 1] = 1;
        assert_ne!(rig.run(10), fresh);
    }
}
