//! The statistics of a run, from blocks to intervals.
//!
//! ```text
//! blocks ──boot──► rounds of a boot ──series──► Throughput per cell ──combined──► Throughput of the headline
//!                                     (stein: how many boots; throughput: noise and stalls)
//! ```
//!
//! Times are added up on the linear scale, over all boots, and ratios are reckoned with as natural logarithms: native over
//! guest is exactly the negative of guest over native. `reports/STATISTICS.md` describes the method and holds the
//! simulated coverage.

pub mod boot;
pub mod crossing;
pub mod events;
pub mod excess;
pub mod mean;
pub mod quantiles;
pub mod series;
pub mod stalls;
pub mod stein;
pub mod throughput;
pub mod transitions;
pub mod unequal;

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// Two-sided critical value of Student's t: `degrees_of_freedom` above 0, `confidence` between 0 and 1.
///
/// Without a degree of freedom nothing is known of the spread, and the answer is infinity.
#[must_use]
pub fn student_t(degrees_of_freedom: f64, confidence: f64) -> f64 {
    StudentsT::new(0.0, 1.0, degrees_of_freedom).map_or(f64::INFINITY, |distribution| {
        distribution.inverse_cdf(0.5 + confidence / 2.0)
    })
}

/// The standard normal distribution's quantile at `probability`, between 0 and 1.
fn normal_quantile(probability: f64) -> f64 {
    Normal::standard().inverse_cdf(probability)
}

/// The median of `values`, which get sorted; `None` where there are none.
///
/// An even number of values has the mean of the two in the middle.
#[must_use]
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    match values {
        [] => None,
        _ if values.len().is_multiple_of(2) => Some(f64::midpoint(values[half - 1], values[half])),
        _ => Some(values[half]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Critical values from the NIST/SEMATECH e-Handbook of Statistical Methods, §1.3.6.7.2.
    #[test]
    fn student_t_agrees_with_the_printed_table() {
        for (degrees, confidence, expected) in [
            (1.0, 0.95, 12.706),
            (9.0, 0.95, 2.262),
            (9.0, 0.99, 3.250),
            (30.0, 0.90, 1.697),
            (100.0, 0.95, 1.984),
        ] {
            let t = student_t(degrees, confidence);
            assert!((t - expected).abs() < 6e-4, "t({degrees}) = {t}");
        }
        assert_eq!(student_t(0.0, 0.95), f64::INFINITY);
    }

    #[test]
    fn median_takes_the_middle_or_the_mean_of_two() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
