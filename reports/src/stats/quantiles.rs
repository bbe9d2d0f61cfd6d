//! Latency quantiles of workloads that time each operation.
//!
//! Operations of one boot share its page placement and its moment, so the boot is the unit here as well. Each boot
//! gives its own quantile, and the t interval over the boots' logarithms is the interval of the typical boot's quantile.
//! Order statistics of all operations pooled would need no assumption on the distribution, but one that is known to be
//! wrong: that operations are independent. The interval would be far too narrow.
//!
//! The maximum (quantile 1) is the worst operation of a typical boot. It grows with the number of operations, so it is told
//! only where a boot has about as many on both sides; the control's blocks are left out here.

use hdrhistogram::Histogram;

use super::boot::Question;
use super::mean::LogMean;
use super::stein;
use crate::record::Side;
use crate::result::{Interval, QuantileRow};
use crate::store::LatencyLog;

/// The quantiles that are reported, where a boot has enough operations to tell them.
pub const QUANTILES: [f64; 6] = [0.5, 0.9, 0.99, 0.999, 0.9999, 1.0];

/// How many operations of a boot must lie above a quantile before the boot can tell it.
const LEAST_ABOVE: f64 = 5.0;

/// By how much the sides' numbers of operations may differ for their maxima to be compared.
const ALIKE: f64 = 1.25;

/// The quantiles of `cell` in nanoseconds; a quantile that fewer than two boots of a side can tell is missing.
#[must_use]
pub fn rows(
    latencies: &LatencyLog,
    cell: u32,
    question: Question,
    confidence: f64,
) -> Vec<QuantileRow> {
    let interval = |side, quantile| {
        let boots = latencies.boots(cell, side);
        over_boots(boots.map(|(_, histogram)| histogram), quantile, confidence)
    };
    let operations = |side| -> f64 {
        let boots = latencies.boots(cell, side);
        boots.map(|(_, histogram)| histogram.len() as f64).sum()
    };
    let more = operations(Side::Native) / operations(Side::Guest);
    let comparable = !question.has_native() || (1.0 / ALIKE..=ALIKE).contains(&more);
    QUANTILES
        .into_iter()
        .filter(|&quantile| quantile < 1.0 || comparable)
        .filter_map(|quantile| {
            Some(QuantileRow {
                quantile,
                native: if question.has_native() {
                    Some(interval(Side::Native, quantile)?)
                } else {
                    None
                },
                guest: interval(Side::Guest, quantile)?,
            })
        })
        .collect()
}

/// Geometric mean over boots of one quantile, with its interval in nanoseconds.
fn over_boots<'a>(
    boots: impl Iterator<Item = &'a Histogram<u64>>,
    quantile: f64,
    confidence: f64,
) -> Option<Interval> {
    let QuantileMean { middle, low, high } = mean_over_boots(boots, quantile)?;
    let half_width = middle.half_width(confidence);
    Some(Interval {
        value: middle.mean.exp(),
        low: (low - half_width).exp(),
        high: (high + half_width).exp(),
        confidence,
    })
}

/// The mean over boots of one quantile, on the log scale in nanoseconds.
///
/// A histogram knows a value to its bucket alone. An interval takes the buckets' lower ends below and their upper ends
/// above, so that boots that agree to the bucket do not pretend to know more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct QuantileMean {
    pub middle: LogMean,
    /// Mean of the buckets' lower ends.
    pub low: f64,
    /// Mean of their upper ends.
    pub high: f64,
}

/// `None` where fewer than two boots can tell the quantile.
pub(crate) fn mean_over_boots<'a>(
    boots: impl Iterator<Item = &'a Histogram<u64>>,
    quantile: f64,
) -> Option<QuantileMean> {
    let (mut low, mut middle, mut high) = (Vec::new(), Vec::new(), Vec::new());
    for histogram in boots.filter(|histogram| tells(histogram, quantile)) {
        let value = histogram.value_at_quantile(quantile);
        let lowest = histogram.lowest_equivalent(value) as f64;
        let next = histogram.next_non_equivalent(value) as f64;
        // Below a nanosecond the logarithm means nothing; half of one is closer than zero.
        low.push(lowest.max(0.5).ln());
        middle.push(f64::midpoint(lowest, next).ln());
        high.push(next.ln());
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    Some(QuantileMean {
        middle: stein::estimate(&middle, middle.len())?,
        low: mean(&low),
        high: mean(&high),
    })
}

/// How many operations a boot needs to tell a quantile; the maximum takes one.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a quotient of positive numbers; a cast saturates"
)]
pub(crate) fn operations_for(quantile: f64) -> u64 {
    if quantile >= 1.0 {
        1
    } else {
        // Rounded: of a quantile such as 0.9 the binary fraction is a little off.
        (LEAST_ABOVE / (1.0 - quantile)).round() as u64
    }
}

fn tells(histogram: &Histogram<u64>, quantile: f64) -> bool {
    histogram.len() >= operations_for(quantile)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six boots whose latencies are 1..=`count` scaled by `scale` and, from boot to boot, by 1 %.
    fn log(count: u64, scale: u64) -> LatencyLog {
        let mut log = LatencyLog::default();
        for boot in 0..6 {
            for value in 1..=count {
                let nanos = value * (100 + u64::from(boot));
                log.record(3, Side::Native, boot, nanos);
                log.record(3, Side::Guest, boot, nanos * scale);
            }
        }
        log
    }

    #[test]
    fn known_quantiles_are_found_with_the_spread_of_the_boots() {
        let rows = rows(&log(60_000, 3), 3, Question::Ratio, 0.95);
        assert_eq!(rows.len(), QUANTILES.len());
        for row in rows {
            // 102.5 is the middle of the boots' scales.
            let expected = 102.5 * 60_000.0 * row.quantile;
            let native = row.native.unwrap();
            assert!((native.value / expected - 1.0).abs() < 2e-3, "{row:?}");
            assert!(
                (row.guest.value / native.value - 3.0).abs() < 6e-3,
                "{row:?}"
            );
            assert!(native.low < expected * 0.99 && native.high > expected * 1.01);
            assert!(native.low > expected * 0.97 && native.high < expected * 1.03);
        }
    }

    #[test]
    fn a_quantile_beyond_the_operations_is_not_invented() {
        let quantiles: Vec<f64> = rows(&log(100, 1), 3, Question::Ratio, 0.95)
            .iter()
            .map(|row| row.quantile)
            .collect();
        assert_eq!(quantiles, [0.5, 0.9, 1.0]);
    }

    #[test]
    fn each_quantile_takes_five_operations_above_it() {
        let needed = QUANTILES.map(operations_for);
        assert_eq!(needed, [10, 50, 500, 5_000, 50_000, 1]);
        let told = |count| mean_over_boots(log(count, 1).boots(3, Side::Guest).map(|it| it.1), 0.9);
        assert!(told(49).is_none() && told(50).is_some());
    }

    #[test]
    fn a_cell_without_latencies_has_no_rows() {
        assert!(rows(&log(100, 1), 4, Question::Ratio, 0.95).is_empty());
        assert!(rows(&log(100, 1), 4, Question::Cost, 0.95).is_empty());
    }

    #[test]
    fn boots_that_agree_to_the_bucket_still_have_an_interval() {
        let mut log = LatencyLog::default();
        for boot in 0..4 {
            for side in [Side::Native, Side::Guest] {
                for _ in 0..100 {
                    log.record(0, side, boot, 40);
                }
            }
        }
        let row = &rows(&log, 0, Question::Ratio, 0.95)[0];
        assert!(row.guest.low <= 40.0 && row.guest.high >= 41.0, "{row:?}");
    }
}
