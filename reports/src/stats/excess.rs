//! What stalls add to the mean time of a block: few events, of which each is large.
//!
//! A mean that is made by a handful of stalls is far from normal: its t interval is too short on the side of what was not
//! seen. The sum of their excess over boots is a weighted sum of rare events, for which Fay and Feuer (1997, "Confidence
//! intervals for directly standardized rates", Statistics in Medicine 16) give limits from gamma distributions. For
//! events of one size they are the exact limits of a Poisson count (Garwood 1936).

use statrs::distribution::{ContinuousCDF as _, Gamma};

/// The share of its mean that stalls add to a side's time, on the log scale.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Excess {
    /// ln(mean with stalls / mean without): 0 or more.
    pub total: f64,
    /// Variance of `total` as the boots show it.
    variance: f64,
    /// What one event adds: the larger of variance over mean, which grows where stalls come in clusters, and of the largest
    /// single stall.
    event: f64,
}

impl Excess {
    /// From the excess of each boot, in blocks' lengths (0.5: a block took half as long again), the largest single one, and
    /// the number of blocks over all boots.
    #[must_use]
    pub fn new(boots: &[f64], largest: f64, blocks: usize) -> Self {
        let (count, sum) = (boots.len() as f64, boots.iter().sum::<f64>());
        if sum <= 0.0 || boots.len() < 2 {
            return Self::default();
        }
        let mean = sum / count;
        let squares: f64 = boots.iter().map(|excess| (excess - mean).powi(2)).sum();
        let variance = squares * count / (count - 1.0);
        let share = sum / blocks as f64;
        // d ln(1 + share) = d share / (1 + share).
        let scale = 1.0 / (blocks as f64 * (1.0 + share));
        Self {
            total: share.ln_1p(),
            variance: variance * scale.powi(2),
            event: scale * largest.max(variance / sum),
        }
    }

    /// Two that are independent, one after the other.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            variance: self.variance + other.variance,
            event: self.event.max(other.event),
        }
    }

    /// The same in a sum that takes it `factor` times.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self {
            total: self.total * factor,
            variance: self.variance * factor.powi(2),
            event: self.event * factor,
        }
    }

    /// How it varies together with `other`, where boots say that they do: their covariance, 0 or more. `pairs` are both
    /// sides' excess, boot by boot.
    ///
    /// A neighbour that comes and goes slows both sides of a boot, and a difference between them knows less of that than each
    /// side. What is taken is the lower end of the correlation's 95 % interval (Fisher's z), so that a chance likeness of few
    /// stalls counts for nothing.
    #[must_use]
    pub fn covariance(&self, other: &Self, pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
        let pairs: Vec<(f64, f64)> = pairs.collect();
        let count = pairs.len() as f64;
        if count < 4.0 {
            return 0.0;
        }
        let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / count;
        let (one, two) = (mean(|it| it.0), mean(|it| it.1));
        let sum = |of: &dyn Fn(f64, f64) -> f64| {
            pairs
                .iter()
                .map(|it| of(it.0 - one, it.1 - two))
                .sum::<f64>()
        };
        let spread = (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt();
        if spread <= 0.0 {
            return 0.0;
        }
        let correlation = (sum(&|a, b| a * b) / spread).clamp(-1.0, 1.0);
        let surely =
            (correlation.atanh() - super::normal_quantile(0.975) / (count - 3.0).sqrt()).tanh();
        surely.max(0.0) * (self.variance * other.variance).sqrt()
    }

    /// The correlation with `other` that this covariance is.
    #[must_use]
    pub fn correlation(&self, other: &Self, covariance: f64) -> f64 {
        let spread = (self.variance * other.variance).sqrt();
        if spread > 0.0 {
            (covariance / spread).clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// The larger of what an event adds to this one and to `other`: where one side saw no stall, those of the other tell
    /// how long one would have been.
    #[must_use]
    pub fn event_of_either(&self, other: &Self) -> f64 {
        self.event.max(other.event)
    }

    /// How far below `total` the truth may lie, with `tail` of error on this side.
    #[must_use]
    pub fn below(&self, tail: f64) -> f64 {
        if self.total <= 0.0 || self.variance <= 0.0 {
            return 0.0;
        }
        self.total - quantile(self.total, self.variance, tail)
    }

    /// How far above, where one more event would add `event`.
    #[must_use]
    pub fn above(&self, tail: f64, event: f64) -> f64 {
        if event <= 0.0 {
            return 0.0;
        }
        let mean = self.total + event;
        quantile(mean, self.variance + event.powi(2), 1.0 - tail) - self.total
    }
}

/// The quantile at `probability` of the gamma distribution with this mean and variance, both above 0.
fn quantile(mean: f64, variance: f64, probability: f64) -> f64 {
    let shape = mean.powi(2) / variance;
    // Beyond this it is the normal distribution to all digits that are shown, and the search for its quantile slow.
    const NORMAL: f64 = 1e6;
    if shape > NORMAL {
        return mean + variance.sqrt() * super::normal_quantile(probability);
    }
    Gamma::new(shape, 1.0).map_or(mean, |gamma| {
        gamma.inverse_cdf(probability) * variance / mean
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exact limits of a Poisson count: Garwood 1936, as tabulated since (Ulm 1990, American Journal of Epidemiology 131).
    #[test]
    fn equal_events_have_the_exact_poisson_limits() {
        for (events, low, high) in [(1, 0.0253, 5.572), (4, 1.090, 10.24), (10, 4.795, 18.39)] {
            // So few among so many boots that none has two; 1000 blocks a boot, so that the logarithm is linear.
            let mut boots = vec![0.0; 100_000];
            boots[..events].fill(1.0);
            let blocks = 100_000_000;
            let excess = Excess::new(&boots, 1.0, blocks);
            let scale = blocks as f64;
            let total = scale * excess.total;
            let below = total - scale * excess.below(0.025);
            let above = total + scale * excess.above(0.025, excess.event);
            assert!((below - low).abs() < 5e-3 * low, "{events}: {below}");
            assert!((above - high).abs() < 5e-3 * high, "{events}: {above}");
        }
    }

    #[test]
    fn a_side_without_stalls_may_have_as_long_ones_as_the_other() {
        let none = Excess::new(&[0.0; 10], 0.0, 90);
        assert_eq!(none, Excess::default());
        assert_eq!(none.above(0.025, 0.0), 0.0);
        let some = Excess::new(&[0.0, 2.0, 0.0, 1.0], 2.0, 100);
        let event = none.event_of_either(&some);
        // −ln(0.025) events: none was seen, and with more than that one would have been.
        let limit = none.above(0.025, event) / event;
        assert!((limit + 0.025_f64.ln()).abs() < 1e-6, "{limit}");
    }

    #[test]
    fn clusters_count_as_the_events_that_they_are() {
        let mut single = vec![0.0; 50];
        single[..10].fill(1.0);
        let mut clustered = vec![0.0; 50];
        clustered[..2].fill(5.0);
        let width = |boots: &[f64]| {
            let excess = Excess::new(boots, 1.0, 450);
            excess.below(0.025) + excess.above(0.025, excess.event)
        };
        assert!(width(&clustered) > 2.0 * width(&single));
    }

    #[test]
    fn sides_that_a_neighbour_slows_together_are_known_to_vary_together() {
        let busy = |boot: usize| if boot.is_multiple_of(4) { 3.0 } else { 0.0 };
        let one: Vec<f64> = (0..20)
            .map(|boot| busy(boot) + 0.1 * (boot % 3) as f64)
            .collect();
        let two: Vec<f64> = (0..20)
            .map(|boot| 2.0 * busy(boot) + 0.1 * (boot % 7) as f64)
            .collect();
        let (first, second) = (Excess::new(&one, 1.0, 180), Excess::new(&two, 1.0, 180));
        let of = |two: &[f64]| {
            let pairs = one.iter().copied().zip(two.iter().copied());
            first.correlation(&second, first.covariance(&second, pairs))
        };
        assert!(of(&two) > 0.95, "{}", of(&two));
        // Other boots than those.
        let mut apart = two.clone();
        apart.rotate_right(1);
        assert_eq!(of(&apart), 0.0);
    }

    #[test]
    fn many_events_have_the_normal_limits() {
        let boots: Vec<f64> = (0..2_000_000).map(|it| f64::from(it % 2)).collect();
        let excess = Excess::new(&boots, 1.0, 2_000_000);
        let sigma = excess.variance.sqrt();
        assert!((excess.below(0.025) / sigma - 1.96).abs() < 0.01);
    }
}
