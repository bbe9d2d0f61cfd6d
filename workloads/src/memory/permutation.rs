//! A random permutation that is computed, not stored: both directions cost a few multiplications and no memory.
//!
//! It turns the layout of a random cycle over gigabytes into one sequential pass.

use crate::mix::mix;

const ROUNDS: usize = 4;

/// A permutation of the numbers below a length.
///
/// Each round adds, multiplies by an odd number and folds the upper half of the bits into the lower: all reversible on
/// a power of two. Numbers that land past the length are permuted again until they land inside, which keeps it a
/// permutation (cycle walking: Black, Rogaway, Ciphers with Arbitrary Finite Domains, CT-RSA 2002).
pub(super) struct Permutation {
    len: u64,
    mask: u64,
    half: u32,
    rounds: [Round; ROUNDS],
}

#[derive(Clone, Copy)]
struct Round {
    add: u64,
    multiply: u64,
    inverse: u64,
}

impl Permutation {
    /// The permutation of `0..len` that `seed` selects; `len` is at least 2.
    pub(super) fn new(len: u64, seed: u64) -> Self {
        let bits = u64::BITS - (len - 1).leading_zeros();
        let mut state = mix(seed);
        let rounds = [(); ROUNDS].map(|()| {
            let add = state;
            let multiply = mix(add) | 1;
            state = mix(multiply);
            Round {
                add,
                multiply,
                inverse: odd_inverse(multiply),
            }
        });
        Self {
            len,
            mask: u64::MAX >> (u64::BITS - bits),
            half: bits.div_ceil(2),
            rounds,
        }
    }

    /// Where `index` goes.
    #[inline]
    pub(super) fn forward(&self, index: u64) -> u64 {
        let mut value = index;
        loop {
            for round in &self.rounds {
                value = value.wrapping_add(round.add).wrapping_mul(round.multiply) & self.mask;
                value ^= value >> self.half;
            }
            if value < self.len {
                return value;
            }
        }
    }

    /// What goes to `index`.
    #[inline]
    pub(super) fn backward(&self, index: u64) -> u64 {
        let mut value = index;
        loop {
            for round in self.rounds.iter().rev() {
                value ^= value >> self.half;
                value = value.wrapping_mul(round.inverse).wrapping_sub(round.add) & self.mask;
            }
            if value < self.len {
                return value;
            }
        }
    }
}

/// The inverse of an odd number modulo 2^64, by Newton's iteration: each step doubles the number of right bits.
fn odd_inverse(odd: u64) -> u64 {
    // Right in the lowest three bits, as the square of an odd number is 1 modulo 8.
    (0..5).fold(odd, |inverse, _| {
        inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::vec::Vec;

    #[test]
    fn it_is_a_permutation_and_backward_undoes_forward() {
        for len in [2, 3, 4, 5, 255, 256, 257, 1000, 4096, 70_001] {
            let permutation = Permutation::new(len, len ^ 99);
            let images: HashSet<u64> = (0..len).map(|index| permutation.forward(index)).collect();
            assert_eq!(images.len() as u64, len);
            assert!(images.iter().all(|&image| image < len));
            assert!(
                (0..len).all(|index| permutation.backward(permutation.forward(index)) == index)
            );
        }
    }

    #[test]
    fn neighbours_land_at_all_distances_alike() {
        // Chi-squared over 64 bins of the distance between consecutive images; mean 63, standard deviation 11.2.
        for (bits, seed) in [(12, 1), (16, 2), (20, 3)] {
            let len = 1u64 << bits;
            let permutation = Permutation::new(len, seed);
            let mut bins = [0u64; 64];
            for index in 1..len {
                let step = permutation
                    .forward(index)
                    .wrapping_sub(permutation.forward(index - 1));
                bins[((step % len) >> (bits - 6)) as usize] += 1;
            }
            let expected = len as f64 / 64.0;
            let chi: f64 = bins
                .iter()
                .map(|&n| (n as f64 - expected).powi(2) / expected)
                .sum();
            assert!(chi < 63.0 + 6.0 * 11.2, "{bits} bits: chi-squared {chi}");
        }
    }

    #[test]
    fn no_step_is_common() {
        let len = 1u64 << 14;
        let permutation = Permutation::new(len, 5);
        let mut steps: Vec<u64> = (1..len)
            .map(|index| {
                permutation
                    .forward(index)
                    .wrapping_sub(permutation.forward(index - 1))
                    % len
            })
            .collect();
        steps.sort_unstable();
        let most = steps.chunk_by(|a, b| a == b).map(<[u64]>::len).max();
        assert!(most < Some(16), "one step occurs {most:?} times");
    }
}
