//! A mean on the log scale with what is known of its error.

use super::student_t;
use crate::result::Interval;

/// Mean of log ratios with its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogMean {
    /// The mean, a natural logarithm.
    pub mean: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Degrees of freedom of the standard error.
    pub degrees_of_freedom: f64,
}

impl LogMean {
    /// The mean of the inverse values.
    #[must_use]
    pub fn inverse(self) -> Self {
        Self {
            mean: -self.mean,
            ..self
        }
    }

    /// The difference of two independent means: the logarithm of the quotient of their ratios. Degrees of freedom as in
    /// [`combine`].
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        let parts = [self, other];
        let variance: f64 = parts.iter().map(|part| part.standard_error.powi(2)).sum();
        Self {
            mean: self.mean - other.mean,
            standard_error: variance.sqrt(),
            degrees_of_freedom: satterthwaite(&parts, variance),
        }
    }

    /// Half the length of the interval on the log scale; for small values the relative half-width of the ratio.
    #[must_use]
    pub fn half_width(&self, confidence: f64) -> f64 {
        if self.standard_error == 0.0 {
            return 0.0;
        }
        student_t(self.degrees_of_freedom, confidence) * self.standard_error
    }

    /// The ratio with its interval: 1.0 is no difference.
    #[must_use]
    pub fn interval(&self, confidence: f64) -> Interval {
        let half_width = self.half_width(confidence);
        Interval {
            value: self.mean.exp(),
            low: (self.mean - half_width).exp(),
            high: (self.mean + half_width).exp(),
            confidence,
        }
    }
}

/// The unweighted mean of independent means, which is the logarithm of the geometric mean of their ratios; `None`
/// where there are none.
///
/// The parts are a fixed set: the error is that of measuring these parts, and says nothing of others. Degrees of
/// freedom after Welch and Satterthwaite (Satterthwaite 1946, "An approximate distribution of estimates of variance
/// components", Biometrics Bulletin 2).
#[must_use]
pub fn combine(parts: &[LogMean]) -> Option<LogMean> {
    let count = parts.len() as f64;
    parts.first()?;
    let variance: f64 = parts.iter().map(|part| part.standard_error.powi(2)).sum();
    Some(LogMean {
        mean: parts.iter().map(|part| part.mean).sum::<f64>() / count,
        standard_error: variance.sqrt() / count,
        degrees_of_freedom: satterthwaite(parts, variance),
    })
}

/// Degrees of freedom of a sum of independent means whose variances add up to `variance`.
fn satterthwaite(parts: &[LogMean], variance: f64) -> f64 {
    let spread: f64 = parts
        .iter()
        .map(|part| part.standard_error.powi(4) / part.degrees_of_freedom)
        .sum();
    if spread > 0.0 {
        variance.powi(2) / spread
    } else {
        parts.first().map_or(0.0, |part| part.degrees_of_freedom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(mean: f64, standard_error: f64) -> LogMean {
        LogMean {
            mean,
            standard_error,
            degrees_of_freedom: 9.0,
        }
    }

    #[test]
    fn equal_parts_add_their_degrees_of_freedom() {
        let whole = combine(&[part(0.1, 0.02); 4]).unwrap();
        assert!((whole.mean - 0.1).abs() < 1e-12);
        assert!((whole.standard_error - 0.01).abs() < 1e-12);
        assert!((whole.degrees_of_freedom - 36.0).abs() < 1e-9);
    }

    #[test]
    fn one_noisy_part_keeps_its_own_degrees_of_freedom() {
        let whole = combine(&[part(0.0, 1.0), part(0.0, 1e-6)]).unwrap();
        assert!((whole.degrees_of_freedom - 9.0).abs() < 1e-6);
        assert!((whole.standard_error - 0.5).abs() < 1e-6);
    }

    #[test]
    fn a_difference_has_the_error_of_both() {
        let difference = part(0.5, 0.03).minus(part(0.1, 0.04));
        assert!((difference.mean - 0.4).abs() < 1e-12);
        assert!((difference.standard_error - 0.05).abs() < 1e-12);
        assert!(difference.degrees_of_freedom > 9.0 && difference.degrees_of_freedom < 18.0);
    }

    #[test]
    fn nothing_combines_to_nothing() {
        assert_eq!(combine(&[]), None);
    }

    #[test]
    fn the_interval_of_the_inverse_is_the_inverse_of_the_interval() {
        let there = part(0.03, 0.01).interval(0.95);
        let back = part(-0.03, 0.01).interval(0.95);
        assert!((there.low * back.high - 1.0).abs() < 1e-12);
        assert!((there.value * back.value - 1.0).abs() < 1e-12);
    }
}
