//! The price of an event from the batches by which it was measured.
//!
//! The median of the batches, and the interval between two of their order statistics: it needs no distribution
//! (David, Nagaraja 2003, "Order Statistics", section 7.1).

use statrs::distribution::{Binomial, DiscreteCDF};

use crate::result::Interval;
use crate::stats::median;

/// The price with its interval; `None` with fewer than two batches. Where there are too few batches for the confidence
/// the interval goes from the smallest to the largest. No event takes less than no time: what is below zero comes from the
/// difference by which the price was found, and counts as nothing.
pub(super) fn interval(batches: &[f64], confidence: f64) -> Option<Interval> {
    let mut sorted = batches.to_vec();
    let value = median(&mut sorted).filter(|_| sorted.len() > 1)?;
    let count = sorted.len();
    let below = Binomial::new(0.5, count as u64).ok()?;
    // The innermost pair of places, from either end, between which the true median lies as surely as asked for.
    let place = (0..count / 2)
        .rev()
        .find(|&place| 2.0 * below.cdf(place as u64) <= 1.0 - confidence)
        .unwrap_or(0);
    Some(Interval {
        value: value.max(0.0),
        low: sorted[place].max(0.0),
        high: sorted[count - 1 - place].max(0.0),
        confidence,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ranks from the table of sign-test intervals, 15 values at 95 %: the 4th and the 12th.
    #[test]
    fn the_interval_of_fifteen_batches_has_the_printed_ranks() {
        let batches: Vec<f64> = (1..=15).rev().map(f64::from).collect();
        let price = interval(&batches, 0.95).unwrap();
        assert_eq!((price.value, price.low, price.high), (8.0, 4.0, 12.0));
    }

    #[test]
    fn few_batches_have_their_range() {
        let price = interval(&[3.0, 1.0, 2.0], 0.95).unwrap();
        assert_eq!((price.value, price.low, price.high), (2.0, 1.0, 3.0));
        assert_eq!(interval(&[1.0], 0.95), None);
    }

    #[test]
    fn nothing_costs_less_than_nothing() {
        let price = interval(&[-30.0, -20.0, 10.0], 0.95).unwrap();
        assert_eq!((price.value, price.low, price.high), (0.0, 0.0, 10.0));
    }
}
