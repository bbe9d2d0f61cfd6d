//! The pointer chase: one random cycle through nodes at a fixed stride, each load's address the last load's result.

use super::permutation::Permutation;
use crate::mix::{fold, mix, words};

/// Loads of one iteration.
pub(super) const LOADS: u64 = 32;

const LINE_BYTES: u64 = 64;

/// Words of a node, which is one cache line: the next node's word index, and this node's place in the cycle.
const NEXT: usize = 0;
const RANK: usize = 1;
/// In the first node alone: the word index of the node where the last run stopped.
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
        let order = Permutation::new(self.nodes, seed);
        for node in 0..self.nodes {
            let rank = order.backward(node);
            let after = if rank + 1 == self.nodes { 0 } else { rank + 1 };
            let place = self.place(node);
            words[place + NEXT] = self.place(order.forward(after)) as u64;
            words[place + RANK] = rank;
        }
        let first = self.place(0);
        words[first + CURSOR] = first as u64;
    }

    /// Follows the cycle for `iterations` × [`LOADS`] loads and returns a hash of how many places it moved on, as the
    /// nodes' ranks tell.
    #[inline]
    pub(super) fn follow(&self, arena: &mut [u8], iterations: u64, seed: u64) -> u64 {
        let words = self.words(arena);
        let cursor = self.place(0) + CURSOR;
        let mut at = words[cursor] as usize;
        let mut rank = words[at + RANK];
        let mut moved = 0u64;
        for _ in 0..iterations {
            for _ in 0..LOADS {
                at = words[at + NEXT] as usize;
            }
            let reached = words[at + RANK];
            let wrap = if reached < rank { self.nodes } else { 0 };
            moved = moved.wrapping_add(reached.wrapping_add(wrap).wrapping_sub(rank));
            rank = reached;
        }
        words[cursor] = at as u64;
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
                at = words[at] as usize;
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
                expected = words[expected] as usize;
            }
            assert_eq!(words[chase.place(0) + CURSOR], expected as u64);
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
        let second = words[start] as usize;
        // A shortcut past one node.
        words[start] = words[second];
        assert_ne!(chase.follow(arena.bytes(), 4, 8), fold(mix(8), 4 * LOADS));
    }
}
