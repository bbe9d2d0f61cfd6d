//! How many units of work make a block.

use super::BootError;
use crate::whole::whole;

/// Blocks are aimed this much longer than asked for, so that a faster moment does not make them too short.
const MARGIN: f64 = 1.15;

/// How many timings the final rate is the best of.
const TIMINGS: u32 = 3;

/// Finds the number of iterations that takes `block_nanos`, at most `most`. `time` runs a number of iterations on the
/// host and says how many nanoseconds they took.
///
/// # Errors
/// What `time` says.
pub fn iterations(
    block_nanos: u64,
    most: u64,
    mut time: impl FnMut(u64) -> Result<f64, BootError>,
) -> Result<u64, BootError> {
    let wanted = block_nanos as f64;
    let most = most.max(1);
    let mut count = 1_u64;
    // Double until the clock's grain and the call's cost no longer matter.
    while time(count)? < wanted / 8.0 && count < most {
        count = count.saturating_mul(2).min(most);
    }
    let mut best = f64::INFINITY;
    for _ in 0..TIMINGS {
        best = best.min(time(count)?);
    }
    let scaled = (wanted * MARGIN / best * count as f64).ceil();
    Ok(whole(scaled).clamp(1, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_gets_its_length() {
        let found = iterations(12_000_000, u64::MAX, |count| Ok(count as f64 * 700.0)).unwrap();
        assert_eq!(found, 19_715);
    }

    #[test]
    fn the_arena_is_the_limit() {
        let found = iterations(12_000_000, 100, |count| Ok(count as f64 * 10.0)).unwrap();
        assert_eq!(found, 100);
    }

    #[test]
    fn one_slow_unit_is_a_block() {
        let found = iterations(12_000_000, u64::MAX, |count| Ok(count as f64 * 1e9)).unwrap();
        assert_eq!(found, 1);
    }
}
