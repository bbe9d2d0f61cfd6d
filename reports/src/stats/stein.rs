//! Stein's two-stage rule: a pilot sizes the run, and the interval keeps its promise all the same.
//!
//! Looking at an interval again and again and stopping when it is narrow enough makes it too narrow too often. Stein
//! (1945, "A two-sample test for a linear hypothesis whose power is independent of the variance", Annals of
//! Mathematical Statistics 16) looks once. A pilot of `n₀` boots gives the standard deviation `s`; the run then
//! takes `n = max(n₀, ⌈(t·s/h)²⌉)` boots in all, for the wanted half-width `h`. The interval is
//! `mean of all n ± t·s/√n` with the *pilot's* `s` and its `n₀ − 1` degrees of freedom. For normal values the
//! pilot's variance is independent of every mean, so given the pilot the final mean still is normal with variance
//! `σ²/n`, and the coverage is exact. With the final sample's variance instead, `n` and `s` would depend on each
//! other and coverage be lost.
//!
//! The argument asks only that `n` depends on the data through the pilot's variance. A cap on `n` from a time budget
//! that is settled when the pilot ends therefore costs width, never coverage; `tests/coverage.rs` simulates it, down
//! to a cap of `n = n₀`. What must not happen is a cap that looks at later values.
//!
//! Why boots, not rounds, are the values: Kalibera and Jones (2013, "Rigorous benchmarking in reasonable time",
//! ISMM) show that the highest level of repetition carries variance which no number of lower-level repetitions
//! averages away.

use super::{mean::LogMean, student_t};
use crate::result::Interval;

/// The wanted half-width on the log scale for a relative `precision` (0.005 is ±0.5 %).
#[must_use]
pub fn log_half_width(precision: f64) -> f64 {
    precision.ln_1p()
}

/// How many boots the run needs in all, the pilot's included, so that the interval's half-width is at most
/// `half_width` on the log scale.
///
/// `pilot` holds the log ratios of the pilot's boots that count. The answer is at least their number and at least 2;
/// it saturates at `u32::MAX`. The caller may cap it, by nothing but what is known when the pilot ends.
#[must_use]
pub fn sample_size(pilot: &[f64], half_width: f64, confidence: f64) -> u32 {
    let least = u32::try_from(pilot.len()).unwrap_or(u32::MAX).max(2);
    if pilot.len() < 2 {
        return least;
    }
    let (_, variance) = mean_and_variance(pilot);
    if variance == 0.0 {
        return least;
    }
    let t = student_t(pilot.len() as f64 - 1.0, confidence);
    least.max(saturating_ceil(variance * (t / half_width).powi(2)))
}

/// The mean of the log ratios `all`, in the order in which they were measured, whose first `pilot_len` are the
/// pilot; `None` with fewer than two values.
///
/// A run that ended within its pilot, or whose pilot has fewer than two values, has its whole sample for a pilot: the
/// ordinary t interval.
#[must_use]
pub fn estimate(all: &[f64], pilot_len: usize) -> Option<LogMean> {
    if all.len() < 2 {
        return None;
    }
    let pilot = all
        .get(..pilot_len)
        .filter(|pilot| pilot.len() >= 2)
        .unwrap_or(all);
    let (mean, _) = mean_and_variance(all);
    let (_, variance) = mean_and_variance(pilot);
    Some(LogMean {
        mean,
        standard_error: (variance / all.len() as f64).sqrt(),
        degrees_of_freedom: pilot.len() as f64 - 1.0,
    })
}

/// [`estimate`] as a ratio with its interval (not a logarithm: 1.0 is no difference).
#[must_use]
pub fn interval(all: &[f64], pilot_len: usize, confidence: f64) -> Option<Interval> {
    estimate(all, pilot_len).map(|mean| mean.interval(confidence))
}

/// The logarithm of the mean of positive `values`, with the error that their spread gives it; `None` with fewer than two,
/// and where the mean has no logarithm.
///
/// The mean of the logarithms would be that of a typical value: a burst in one of ten would all but vanish in it.
#[must_use]
pub fn log_of_mean(values: &[f64]) -> Option<LogMean> {
    let linear = estimate(values, values.len())?;
    (linear.mean > 0.0 && linear.mean.is_finite()).then(|| LogMean {
        mean: linear.mean.ln(),
        standard_error: linear.standard_error / linear.mean,
        ..linear
    })
}

/// Mean and unbiased variance of at least two values.
fn mean_and_variance(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, squares / (count - 1.0))
}

/// The next whole number; what does not fit, and what is no number, is `u32::MAX`.
pub(super) fn saturating_ceil(value: f64) -> u32 {
    if value <= f64::from(u32::MAX) {
        // In range after the comparison, and never negative: a variance times a square.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let whole = value.ceil() as u32;
        whole
    } else {
        u32::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten values with mean 0 and variance 1.
    fn unit_pilot() -> Vec<f64> {
        let scale = (9.0_f64 / 10.0).sqrt();
        (0..10)
            .map(|i| if i % 2 == 0 { scale } else { -scale })
            .collect()
    }

    #[test]
    fn a_burst_in_one_of_ten_values_is_in_their_mean() {
        let mut values = [1.0; 10];
        values[3] = 11.0;
        let mean = log_of_mean(&values).unwrap();
        assert!((mean.mean.exp() - 2.0).abs() < 1e-12);
        // sd = √10, of 2 by √10.
        assert!((mean.standard_error - 0.5).abs() < 1e-12);
        assert_eq!(log_of_mean(&[1.0]), None);
        assert_eq!(log_of_mean(&[0.0, 0.0]), None);
    }

    #[test]
    fn sample_size_is_stein_s_formula() {
        // (2.262157 × 1 / 0.5)² = 20.47
        assert_eq!(sample_size(&unit_pilot(), 0.5, 0.95), 21);
        assert_eq!(sample_size(&unit_pilot(), 5.0, 0.95), 10);
    }

    #[test]
    fn sample_size_survives_degenerate_pilots() {
        assert_eq!(sample_size(&[], 0.01, 0.95), 2);
        assert_eq!(sample_size(&[0.1], 0.01, 0.95), 2);
        assert_eq!(sample_size(&[0.1; 10], 0.01, 0.95), 10);
        assert_eq!(sample_size(&unit_pilot(), 0.0, 0.95), u32::MAX);
        assert_eq!(sample_size(&[f64::NAN; 10], 0.01, 0.95), u32::MAX);
    }

    #[test]
    fn the_interval_keeps_the_pilot_s_variance_with_all_values_in_the_mean() {
        let mut all = unit_pilot();
        all.extend([0.5; 30]);
        let whole = estimate(&all, 10).unwrap();
        assert!((whole.mean - 15.0 / 40.0).abs() < 1e-12);
        assert!((whole.standard_error - 1.0 / 40.0_f64.sqrt()).abs() < 1e-12);
        assert!((whole.degrees_of_freedom - 9.0).abs() < 1e-12);
    }

    #[test]
    fn the_wanted_width_is_reached_at_the_computed_size() {
        let pilot: Vec<f64> = (0..10).map(|i| 0.013 * f64::from(i % 4)).collect();
        let half_width = log_half_width(0.005);
        let size = sample_size(&pilot, half_width, 0.95) as usize;
        let mut all = pilot.clone();
        all.resize(size, 0.0);
        assert!(estimate(&all, 10).unwrap().half_width(0.95) <= half_width);
        all.truncate(size - 1);
        assert!(estimate(&all, 10).unwrap().half_width(0.95) > half_width);
    }

    #[test]
    fn a_run_that_ended_within_its_pilot_has_the_ordinary_t_interval() {
        let values = [0.0, 0.1, 0.2];
        let whole = estimate(&values, 10).unwrap();
        assert!((whole.degrees_of_freedom - 2.0).abs() < 1e-12);
        assert!((whole.standard_error - 0.1 / 3.0_f64.sqrt()).abs() < 1e-12);
        assert_eq!(estimate(&values[..1], 10), None);
    }
}
