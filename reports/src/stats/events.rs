//! How probable an event is that happened in some of several repetitions, or in none.

use statrs::distribution::{Beta, ContinuousCDF};

use crate::result::Interval;

/// The exact binomial interval (C. J. Clopper, E. S. Pearson 1934, "The use of confidence or fiducial limits illustrated in
/// the case of the binomial", Biometrika 26) of the probability of an event that happened in `events` of `trials`
/// repetitions; `None` where there were none. Its coverage is never below `confidence`.
#[must_use]
pub fn interval(events: u32, trials: u32, confidence: f64) -> Option<Interval> {
    if trials == 0 || events > trials {
        return None;
    }
    let (events, trials) = (f64::from(events), f64::from(trials));
    let tail = (1.0 - confidence) / 2.0;
    let quantile = |a: f64, b: f64, at: f64| Beta::new(a, b).ok().map(|beta| beta.inverse_cdf(at));
    let low = if events == 0.0 {
        0.0
    } else {
        quantile(events, trials - events + 1.0, tail)?
    };
    let high = if events == trials {
        1.0
    } else {
        quantile(events + 1.0, trials - events, 1.0 - tail)?
    };
    Some(Interval {
        value: events / trials,
        low,
        high,
        confidence,
    })
}

/// How many trials without an event it takes until [`interval`] ends at `most`, a probability between 0 and 1.
#[must_use]
pub fn trials_for(most: f64, confidence: f64) -> f64 {
    let tail = (1.0 - confidence) / 2.0;
    tail.ln() / (-most).ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_trials_without_an_event_reach_the_bound_and_one_fewer_does_not() {
        for (most, confidence, trials) in [(0.01, 0.95, 368), (0.01, 0.997, 647), (0.2, 0.95, 17)] {
            let needed = trials_for(most, confidence);
            assert_eq!(format!("{:.0}", needed.ceil()), trials.to_string());
            assert!(interval(0, trials, confidence).unwrap().high <= most);
            assert!(interval(0, trials - 1, confidence).unwrap().high > most);
        }
    }

    /// With no event the upper end has a closed form; the others are printed in Clopper and Pearson's charts and in every
    /// table since (n = 10, 95 %).
    #[test]
    fn agrees_with_the_closed_form_and_the_tables() {
        let none = interval(0, 20, 0.95).unwrap();
        assert_eq!(none.low, 0.0);
        assert!((none.high - (1.0 - 0.025_f64.powf(1.0 / 20.0))).abs() < 1e-6);
        for (events, low, high) in [(1, 0.0025, 0.4450), (5, 0.1871, 0.8129), (10, 0.6915, 1.0)] {
            let found = interval(events, 10, 0.95).unwrap();
            assert!((found.low - low).abs() < 1e-4, "{events}: {found:?}");
            assert!((found.high - high).abs() < 1e-4, "{events}: {found:?}");
        }
        assert_eq!(interval(0, 0, 0.95), None);
    }
}
