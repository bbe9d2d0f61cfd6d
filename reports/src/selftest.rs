//! How far to trust vtax on a host: what `vtax selftest` found, trial by trial, and what it comes to.

use std::fmt;

use serde::{Deserialize, Serialize};
use statrs::distribution::{Beta, ContinuousCDF as _};

use crate::record::HostFingerprint;
use crate::result::Interval;
use crate::stats::median;

/// Confidence of the intervals on rates.
const CONFIDENCE: f64 = 0.95;

/// A slowdown counts as one that the host can show where it is found at least this often.
const SHOWN: f64 = 0.95;

/// One trial: the guest against itself, with or without a planted slowdown.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Share of extra work that was planted; 0 for an A/A trial.
    pub planted: f64,
    /// What was measured: performance with it as a share of performance without. `None` where the time ended before
    /// two boots counted: then nothing was found.
    pub ratio: Option<Interval>,
    /// Boots it took.
    pub boots: u32,
    /// Time it took, in seconds.
    pub seconds: f64,
}

impl Trial {
    /// Whether the interval says that there is a difference: it does not contain 1.
    #[must_use]
    pub fn alarms(&self) -> bool {
        self.ratio
            .is_some_and(|ratio| ratio.high < 1.0 || ratio.low > 1.0)
    }

    /// Whether a planted slowdown was found: the whole interval lies below 1.
    #[must_use]
    pub fn finds(&self) -> bool {
        self.ratio.is_some_and(|ratio| ratio.high < 1.0)
    }

    /// The true ratio: a block with `planted` more work takes that much longer.
    #[must_use]
    pub fn truth(&self) -> f64 {
        1.0 / (1.0 + self.planted)
    }

    /// Whether the interval contains the truth; no interval says nothing wrong.
    #[must_use]
    pub fn covers(&self) -> bool {
        self.ratio
            .is_none_or(|ratio| (ratio.low..=ratio.high).contains(&self.truth()))
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "planted {:.1} %: ", 100.0 * self.planted)?;
        match self.ratio {
            Some(ratio) => write!(
                f,
                "{:.2} % [{:.2}, {:.2}]",
                100.0 * ratio.value,
                100.0 * ratio.low,
                100.0 * ratio.high
            )?,
            None => f.write_str("no result")?,
        }
        write!(f, " from {} boots in {:.1} s", self.boots, self.seconds)
    }
}

/// How often something happened in a number of trials.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// How often it happened.
    pub hits: u32,
    /// In how many trials.
    pub trials: u32,
    /// The share, with its exact interval (Clopper and Pearson, Biometrika 1934).
    pub share: Interval,
}

impl Rate {
    /// `hits` of `trials`; `None` for no trial at all.
    #[must_use]
    pub fn new(hits: u32, trials: u32) -> Option<Self> {
        if trials == 0 || hits > trials {
            return None;
        }
        let tail = (1.0 - CONFIDENCE) / 2.0;
        let (h, t) = (f64::from(hits), f64::from(trials));
        let quantile =
            |a: f64, b: f64, p: f64| Beta::new(a, b).ok().map(|beta| beta.inverse_cdf(p));
        let low = if hits == 0 {
            0.0
        } else {
            quantile(h, t - h + 1.0, tail)?
        };
        let high = if hits == trials {
            1.0
        } else {
            quantile(h + 1.0, t - h, 1.0 - tail)?
        };
        Some(Self {
            hits,
            trials,
            share: Interval {
                value: h / t,
                low,
                high,
                confidence: CONFIDENCE,
            },
        })
    }
}

/// All trials with the same planted slowdown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// The planted share of extra work; 0 for A/A.
    pub planted: f64,
    /// How often there was an alarm: for A/A a false one, else the slowdown was found.
    pub alarms: Rate,
    /// How often the interval contained the truth.
    pub covered: Rate,
    /// Median time of a trial in seconds.
    pub median_seconds: f64,
    /// Longest trial in seconds.
    pub longest_seconds: f64,
    /// Median half-width of the intervals; `None` where no trial has one.
    pub median_half_width: Option<f64>,
}

/// What a selftest found: the object that `vtax selftest --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Selftest {
    /// [`crate::record::SCHEMA`].
    pub schema: u32,
    /// The machine.
    pub host: HostFingerprint,
    /// SHA-256 of the guest image.
    pub payload_sha256: String,
    /// Whether it was cut short.
    pub interrupted: bool,
    /// By planted slowdown, ascending; A/A first.
    pub levels: Vec<Level>,
    /// The smallest planted slowdown that was found in at least 95 % of its trials, together with all larger ones.
    pub smallest_shown: Option<f64>,
    /// The result in one sentence.
    pub sentence: String,
    /// Every trial.
    pub trials: Vec<Trial>,
}

impl Selftest {
    /// Draws the conclusion from the trials.
    #[must_use]
    pub fn new(
        host: HostFingerprint,
        payload_sha256: String,
        interrupted: bool,
        trials: Vec<Trial>,
    ) -> Self {
        let mut planted: Vec<f64> = trials.iter().map(|trial| trial.planted).collect();
        planted.sort_by(f64::total_cmp);
        planted.dedup();
        let levels: Vec<Level> = planted
            .into_iter()
            .filter_map(|planted| level(planted, &trials))
            .collect();
        let smallest_shown = levels
            .iter()
            .rev()
            .take_while(|level| level.planted > 0.0 && level.alarms.share.value >= SHOWN)
            .last()
            .map(|level| level.planted);
        Self {
            schema: crate::record::SCHEMA,
            sentence: sentence(&levels, smallest_shown),
            host,
            payload_sha256,
            interrupted,
            levels,
            smallest_shown,
            trials,
        }
    }
}

fn level(planted: f64, trials: &[Trial]) -> Option<Level> {
    let trials: Vec<&Trial> = trials
        .iter()
        .filter(|trial| trial.planted.total_cmp(&planted).is_eq())
        .collect();
    let all = u32::try_from(trials.len()).ok()?;
    let count = |what: fn(&Trial) -> bool| {
        let hits = trials.iter().filter(|trial| what(trial)).count();
        Rate::new(u32::try_from(hits).ok()?, all)
    };
    let mut seconds: Vec<f64> = trials.iter().map(|trial| trial.seconds).collect();
    let mut half_widths: Vec<f64> = trials
        .iter()
        .filter_map(|trial| trial.ratio)
        .map(|ratio| (ratio.high - ratio.low) / 2.0)
        .collect();
    Some(Level {
        planted,
        alarms: count(if planted > 0.0 {
            Trial::finds
        } else {
            Trial::alarms
        })?,
        covered: count(Trial::covers)?,
        longest_seconds: seconds.iter().copied().fold(0.0, f64::max),
        median_seconds: median(&mut seconds)?,
        median_half_width: median(&mut half_widths),
    })
}

fn sentence(levels: &[Level], smallest: Option<f64>) -> String {
    let found = match smallest {
        Some(smallest) => format!(
            "This host shows slowdowns of {} % and more: each was found in at least {:.0} % of its trials",
            100.0 * smallest,
            100.0 * SHOWN
        ),
        None => "This host showed none of the planted slowdowns reliably: it is too busy, or too few trials were made"
            .to_owned(),
    };
    match levels.first().filter(|level| level.planted <= 0.0) {
        Some(nothing) => format!(
            "{found}; where nothing was planted, {} of {} trials raised a false alarm.",
            nothing.alarms.hits, nothing.alarms.trials
        ),
        None => format!("{found}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(planted: f64, value: f64, half_width: f64) -> Trial {
        Trial {
            planted,
            ratio: Some(Interval {
                value,
                low: value - half_width,
                high: value + half_width,
                confidence: 0.95,
            }),
            boots: 10,
            seconds: 2.0,
        }
    }

    #[test]
    fn rates_have_the_textbook_interval() {
        // Clopper and Pearson's interval for 19 of 20 is [75.1 %, 99.9 %], for 20 of 20 [83.2 %, 100 %].
        let rate = Rate::new(19, 20).unwrap().share;
        assert!((rate.low - 0.7513).abs() < 1e-4, "{rate:?}");
        assert!((rate.high - 0.9987).abs() < 1e-4, "{rate:?}");
        let all = Rate::new(20, 20).unwrap().share;
        assert!((all.low - 0.8316).abs() < 1e-4, "{all:?}");
        assert_eq!(Rate::new(1, 0), None);
    }

    #[test]
    fn the_smallest_slowdown_counts_only_if_all_larger_ones_are_found_too() {
        let found = |planted: f64| trial(planted, 1.0 - planted, planted / 2.0);
        let missed = |planted: f64| trial(planted, 1.0 - planted, planted * 2.0);
        let conclude = |trials: Vec<Trial>| {
            Selftest::new(HostFingerprint::default(), String::new(), false, trials)
        };
        let test = conclude(vec![
            trial(0.0, 1.0, 0.01),
            found(0.05),
            found(0.01),
            missed(0.005),
        ]);
        assert_eq!(test.smallest_shown, Some(0.01));
        assert_eq!(test.levels[0].alarms.hits, 0);
        let test = conclude(vec![missed(0.05), found(0.01)]);
        assert_eq!(test.smallest_shown, None);
    }

    #[test]
    fn a_trial_without_a_result_found_nothing() {
        let nothing = Trial {
            ratio: None,
            ..trial(0.05, 1.0, 0.1)
        };
        let found = trial(0.05, 0.95, 0.01);
        let test = Selftest::new(
            HostFingerprint::default(),
            String::new(),
            false,
            vec![nothing, found],
        );
        assert_eq!(
            (test.levels[0].alarms.hits, test.levels[0].alarms.trials),
            (1, 2)
        );
        assert_eq!(test.smallest_shown, None);
    }

    #[test]
    fn a_speed_up_is_a_false_alarm_but_no_finding() {
        assert!(trial(0.0, 1.1, 0.01).alarms());
        assert!(!trial(0.01, 1.1, 0.01).finds());
    }
}
