//! The pointer chase: one random cycle through nodes at a fixed stride, each load's address the last load's result, with
//! nothing to compute in between, as in lat_mem_rd of lmbench (McVoy, Staelin, USENIX ATC 1996).

use super::permutation::Permutation;
use crate::mix::{fold, mix, words};

/// Loads of one iteration.
pub(super) const LOADS: u64 = 32;

const LINE_BYTES: u64 = 64;

/// Words of a node, which is one cache line: the next node's address, and this node's place in the cycle.
const NEXT: usize = 0;
const RANK: usize = 1;
/// In the first node alone: the address of the node where the last run stopped.
const CURSOR: usize = 7;

/// `nodes` nodes, one to each `stride` bytes.
pub(super) struct Chase {
    /// More than [`LOADS`].
    pub(super) nodes: u64,
    /// A multiple of 64.
    pub(super) stride: u64,
}

impl Chase {
    /// Writes the cycle. Its order is a random permutation of the nodes, so it is one cycle by construction.
    pub(super) fn lay_out(&self, arena: &mut [u8], seed: u64) {
        let words = self.words(arena);
        let base = words.as_ptr().expose_provenance() as u64;
        let address = |node| base + 8 * self.place(node) as u64;
        let order = Permutation::new(self.nodes, seed);
        for node in 0..self.nodes {
            let rank = order.backward(node);
            let after = if rank + 1 == self.nodes { 0 } else { rank + 1 };
            let place = self.place(node);
            words[place + NEXT] = address(order.forward(after));
            words[place + RANK] = rank;
        }
        words[self.place(0) + CURSOR] = address(0);
    }

    /// Follows the cycle for `iterations` × [`LOADS`] loads and returns a hash of how many places it moved on, as the
    /// nodes' ranks tell.
    ///
    /// A guest may have written other addresses: those outside of the arena are not followed.
    #[inline]
    pub(super) fn follow(&self, arena: &mut [u8], iterations: u64, seed: u64) -> u64 {
        let words = self.words(arena);
        let cursor = self.place(0) + CURSOR;
        let base = words.as_ptr().expose_provenance() as u64;
        // A node ends with its rank.
        let last = 8 * (words.len() - 1 - RANK) as u64;
        let inside = |at: u64| at.wrapping_sub(base) <= last;
        let rank_of = |at: u64| {
            let place = (at.wrapping_sub(base) / 8) as usize;
            words.get(place + RANK).copied().unwrap_or(0)
        };
        let mut at = words[cursor];
        let mut rank = rank_of(at);
        let mut moved = 0u64;
        'blocks: for _ in 0..iterations {
            for _ in 0..LOADS {
                // Predicted, so it is no part of the chain of loads.
                if !inside(at) {
                    break 'blocks;
                }
                // SAFETY: eight bytes from there on lie in `words`, whose address was exposed above and which nothing
                // writes meanwhile; any bits are a u64.
                at = unsafe {
                    core::ptr::with_exposed_provenance::<u64>(at as usize).read_unaligned()
                };
            }
            let reached = rank_of(at);
            let wrap = if reached < rank { self.nodes } else { 0 };
            moved = moved.wrapping_add(reached.wrapping_add(wrap).wrapping_sub(rank));
            rank = reached;
        }
        words[cursor] = at;
        fold(mix(seed), moved)
    }

    fn words<'a>(&self, arena: &'a mut [u8]) -> &'a mut [u64] {
        words(arena, (self.nodes * self.stride / 8) as usize)
    }

    /// The word index of a node. Within its stride a node takes a random line, or nodes a page apart would all compete
    /// for the same cache sets.
    fn place(&self, node: u64) -> usize {
        let line = mix(node) % (self.stride / LINE_BYTES);
        ((node * self.stride + line * LINE_BYTES) / 8) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Arena;
    use std::vec;

    /// The word index of the node behind the one at this word index.
    fn next(words: &[u64], at: usize) -> usize {
        (words[at] as usize - words.as_ptr().addr()) / 8
    }

    fn arena(chase: &Chase) -> Arena {
        let mut arena = Arena::new((chase.nodes * chase.stride) as usize);
        chase.lay_out(arena.bytes(), 77);
        arena
    }

    #[test]
    fn the_cycle_visits_every_node_once() {
        for chase in [
            Chase {
                nodes: 1000,
                stride: 64,
            },
            Chase {
                nodes: 300,
                stride: 4096,
            },
        ] {
            let mut arena = arena(&chase);
            let words = chase.words(arena.bytes());
            let mut seen = vec![false; chase.nodes as usize];
            let mut at = chase.place(0);
            for _ in 0..chase.nodes {
                let node = at * 8 / chase.stride as usize;
                assert!(!seen[node]);
                seen[node] = true;
                at = next(words, at);
            }
            assert_eq!(at, chase.place(0));
        }
    }

    #[test]
    fn a_run_goes_on_where_the_last_one_stopped() {
        let chase = Chase {
            nodes: 1000,
            stride: 64,
        };
        let mut arena = arena(&chase);
        let mut expected = chase.place(0);
        for iterations in [3, 20, 1] {
            let checksum = chase.follow(arena.bytes(), iterations, 8);
            assert_eq!(checksum, fold(mix(8), iterations * LOADS));
            let words = chase.words(arena.bytes());
            for _ in 0..iterations * LOADS {
                expected = next(words, expected);
            }
            assert_eq!(next(words, chase.place(0) + CURSOR), expected);
        }
    }

    #[test]
    fn a_broken_cycle_shows_in_the_checksum() {
        let chase = Chase {
            nodes: 1000,
            stride: 64,
        };
        let mut arena = arena(&chase);
        let words = chase.words(arena.bytes());
        let start = chase.place(0);
        let second = next(words, start);
        // A shortcut past one node.
        words[start] = words[second];
        assert_ne!(chase.follow(arena.bytes(), 4, 8), fold(mix(8), 4 * LOADS));
    }

    #[test]
    fn an_address_outside_of_the_arena_is_not_followed() {
        let chase = Chase {
            nodes: 1000,
            stride: 64,
        };
        let mut arena = arena(&chase);
        let words = chase.words(arena.bytes());
        let base = words.as_ptr().addr() as u64;
        let end = base + 64 * 1000;
        for wild in [0, 8, base - 8, end - 8, end, u64::MAX, u64::MAX - 7] {
            let second = next(words, chase.place(0));
            let kept = std::mem::replace(&mut words[second], wild);
            assert_ne!(
                chase.follow(bytes(words), 40, 8),
                fold(mix(8), 40 * LOADS),
                "{wild:#x}"
            );
            words[second] = kept;
            words[chase.place(0) + CURSOR] = base + 8 * chase.place(0) as u64;
        }
    }

    fn bytes(words: &mut [u64]) -> &mut [u8] {
        // SAFETY: words are bytes without padding.
        unsafe { words.align_to_mut().1 }
    }
}
