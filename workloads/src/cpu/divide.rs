//! `cpu-divide`: chains of dependent 64-bit divisions.

use crate::catalogue::{at_once, baseline, unlimited};
use crate::mix::{fill, fold, words};
use crate::{Body, Direction, Family, Latencies, MAX_PARAMS, Metric, Prepare, Workload};

const PAIRS: usize = 4096;

/// One iteration is one greatest common divisor of two random 64-bit numbers: about 37 divisions in a chain.
pub(crate) const ENTRY: Workload = Workload {
    name: "cpu-divide",
    family: Family::Cpu,
    title: "Integer division",
    stresses: "The divider: each 64-bit division waits for the one before, and the end of a chain cannot be predicted.",
    source: "Euclid's algorithm; Knuth, The Art of Computer Programming, volume 2, section 4.5.2",
    metric: Metric {
        unit: "ns/gcd",
        direction: Direction::LowerIsBetter,
        amount_per_iteration: 1.0,
    },
    params: &[],
    requires: baseline,
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
    pairs
        .iter()
        .cycle()
        .take(iterations as usize)
        .fold(seed, |checksum, &[a, b]| {
            let (divisor, divisions) = gcd(a, b);
            fold(checksum, divisor ^ (divisions << 48))
        })
}

/// The greatest common divisor and how many divisions it took.
#[inline]
fn gcd(mut a: u64, mut b: u64) -> (u64, u64) {
    let mut divisions = 0;
    while b != 0 {
        (a, b) = (b, a % b);
        divisions += 1;
    }
    (a, divisions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rig;

    /// Subtraction and halving only: shares no step with the body.
    fn binary_gcd(mut a: u64, mut b: u64) -> u64 {
        if a == 0 || b == 0 {
            return a | b;
        }
        let twos = (a | b).trailing_zeros();
        a >>= a.trailing_zeros();
        while b != 0 {
            b >>= b.trailing_zeros();
            if a > b {
                core::mem::swap(&mut a, &mut b);
            }
            b -= a;
        }
        a << twos
    }

    #[test]
    fn agrees_with_the_binary_algorithm() {
        let mut rig = Rig::new(&ENTRY, [0; MAX_PARAMS], 7);
        for &[a, b] in rig.words().as_chunks::<2>().0 {
            assert_eq!(gcd(a, b).0, binary_gcd(a, b));
        }
        assert_eq!(gcd(1 << 40, 0), (1 << 40, 0));
    }

    #[test]
    fn consecutive_fibonacci_numbers_are_the_worst_case() {
        // Lamé: gcd(F(n+1), F(n)) takes n - 1 divisions. F(90) = 2880067194370816120.
        assert_eq!(
            gcd(4_660_046_610_375_530_309, 2_880_067_194_370_816_120),
            (1, 89)
        );
    }
}
