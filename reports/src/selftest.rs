//! How far to trust vtax on a host: what `vtax selftest` found, trial by trial, and what it comes to.

use std::fmt;

use serde::{Deserialize, Serialize};
use statrs::distribution::{Beta, ContinuousCDF as _};

use crate::record::HostFingerprint;
use crate::result::Interval;
use crate::stats::median;
use crate::stats::transitions::CarryOver;

/// Confidence of the intervals on rates.
const CONFIDENCE: f64 = 0.95;

/// A slowdown counts as one that the host can show where it is found at least this often.
const SHOWN: f64 = 0.95;

/// Stalls that are planted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlantedStalls {
    /// Of so many blocks, one stalls, at random.
    pub one_in: u32,
    /// How many times as long as the others it takes.
    pub times: f64,
}

impl fmt::Display for PlantedStalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1 in {} × {}", self.one_in, self.times)
    }
}

/// One trial: the guest against itself, with or without a planted slowdown.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Share of extra work that was planted in every block; 0 for an A/A trial and where stalls are planted.
    pub planted: f64,
    /// The stalls that were planted.
    #[serde(default)]
    pub stalls: Option<PlantedStalls>,
    /// Whether the guest was found to stumble.
    #[serde(default)]
    pub stumbles: bool,
    /// What taking turns was found to cost.
    #[serde(default)]
    pub carry_over: CarryOver,
    /// What was measured: performance with it as a share of performance without. `None` where the time ended before
    /// two boots counted: then nothing was found.
    pub ratio: Option<Interval>,
    /// The same of the typical block, which shows extra work in every block where stalls of both sides drown it.
    #[serde(default)]
    pub typical: Option<Interval>,
    /// Boots it took.
    pub boots: u32,
    /// Time it took, in seconds.
    pub seconds: f64,
}

impl Trial {
    /// Whether an interval says that there is a difference, of throughput or of the typical block: it does not contain 1.
    /// The two share the error of one.
    #[must_use]
    pub fn alarms(&self) -> bool {
        self.any(|it| it.high < 1.0 || it.low > 1.0)
    }

    /// Whether a planted slowdown was found: the whole interval of throughput or of the typical block lies below 1.
    #[must_use]
    pub fn finds(&self) -> bool {
        self.any(|it| it.high < 1.0)
    }

    fn any(&self, says: impl Fn(&Interval) -> bool) -> bool {
        [self.ratio, self.typical].iter().flatten().any(says)
    }

    /// The true ratio: a block with `planted` more work takes that much longer.
    #[must_use]
    pub fn truth(&self) -> f64 {
        let of_stalls = |it: PlantedStalls| (it.times - 1.0) / f64::from(it.one_in);
        1.0 / (1.0 + self.planted + self.stalls.map_or(0.0, of_stalls))
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
        match self.stalls {
            Some(stalls) => write!(f, "planted stalls, {stalls}: ")?,
            None => write!(f, "planted {:.1} %: ", 100.0 * self.planted)?,
        }
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
        let stumbles = if self.stumbles { ", stumbles" } else { "" };
        write!(
            f,
            "{stumbles} from {} boots in {:.1} s",
            self.boots, self.seconds
        )
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
    /// The planted share of extra work; 0 for A/A and where stalls are planted.
    pub planted: f64,
    /// The planted stalls.
    #[serde(default)]
    pub stalls: Option<PlantedStalls>,
    /// How often there was an alarm: for A/A a false one, else the slowdown, or the stalls, were found.
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
    /// By planted slowdown, ascending, A/A first; then by planted stalls.
    pub levels: Vec<Level>,
    /// How often the guest was said to stumble where no stalls were planted.
    #[serde(default)]
    pub false_stumbles: Option<Rate>,
    /// How often taking turns was said to cost something, with confidence 99 %.
    #[serde(default)]
    pub carry_over: Option<Rate>,
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
        let order = |trial: &Trial| {
            let stalls = trial.stalls.map(|it| it.one_in);
            (stalls, trial.planted.to_bits())
        };
        let mut kinds: Vec<(f64, Option<PlantedStalls>)> = Vec::new();
        let mut sorted = trials.clone();
        sorted.sort_by_key(order);
        sorted.dedup_by_key(|trial| order(trial));
        kinds.extend(sorted.iter().map(|trial| (trial.planted, trial.stalls)));
        let levels: Vec<Level> = kinds
            .into_iter()
            .filter_map(|(planted, stalls)| level(planted, stalls, &trials))
            .collect();
        let rate = |of: &dyn Fn(&Trial) -> bool, among: &dyn Fn(&Trial) -> bool| {
            let among: Vec<&Trial> = trials.iter().filter(|trial| among(trial)).collect();
            let hits = among.iter().filter(|trial| of(trial)).count();
            Rate::new(u32::try_from(hits).ok()?, u32::try_from(among.len()).ok()?)
        };
        let false_stumbles = rate(&|trial| trial.stumbles, &|trial| trial.stalls.is_none());
        let carry_over = rate(&|trial| trial.carry_over.shows(), &|_| true);
        let smallest_shown = levels
            .iter()
            .filter(|level| level.stalls.is_none())
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
            false_stumbles,
            carry_over,
            smallest_shown,
            trials,
        }
    }
}

fn level(planted: f64, stalls: Option<PlantedStalls>, trials: &[Trial]) -> Option<Level> {
    let trials: Vec<&Trial> = trials
        .iter()
        .filter(|trial| trial.planted.total_cmp(&planted).is_eq() && trial.stalls == stalls)
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
        stalls,
        alarms: count(if stalls.is_some() {
            |trial| trial.stumbles
        } else if planted > 0.0 {
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
    let nothing = |level: &&Level| level.planted <= 0.0 && level.stalls.is_none();
    let mut sentence = match levels.iter().find(nothing) {
        Some(nothing) => format!(
            "{found}; where nothing was planted, {} of {} trials raised a false alarm.",
            nothing.alarms.hits, nothing.alarms.trials
        ),
        None => format!("{found}."),
    };
    for (level, stalls) in levels
        .iter()
        .filter_map(|level| Some((level, level.stalls?)))
    {
        sentence += &format!(
            " Stalls of one block in {} that take {} times as long were found in {} of {} trials.",
            stalls.one_in, stalls.times, level.alarms.hits, level.alarms.trials
        );
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(planted: f64, value: f64, half_width: f64) -> Trial {
        Trial {
            planted,
            stalls: None,
            stumbles: false,
            carry_over: CarryOver::default(),
            ratio: Some(Interval {
                value,
                low: value - half_width,
                high: value + half_width,
                confidence: 0.95,
            }),
            typical: None,
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
    fn planted_stalls_are_found_where_the_guest_is_said_to_stumble() {
        let stalls = Some(PlantedStalls {
            one_in: 10,
            times: 1.5,
        });
        let stumbling = Trial {
            stalls,
            stumbles: true,
            ..trial(0.0, 0.952, 0.02)
        };
        assert!((stumbling.truth() - 1.0 / 1.05).abs() < 1e-12);
        let missed = Trial {
            stumbles: false,
            ..stumbling
        };
        let falsely = Trial {
            stumbles: true,
            ..trial(0.0, 1.0, 0.01)
        };
        let test = Selftest::new(
            HostFingerprint::default(),
            String::new(),
            false,
            vec![stumbling, missed, falsely, trial(0.01, 0.99, 0.005)],
        );
        let level = &test.levels[2];
        assert_eq!(
            (level.stalls, level.alarms.hits, level.alarms.trials),
            (stalls, 1, 2)
        );
        let falsely = test.false_stumbles.unwrap();
        assert_eq!((falsely.hits, falsely.trials), (1, 2));
        assert!(
            test.sentence.contains("one block in 10"),
            "{}",
            test.sentence
        );
    }

    #[test]
    fn a_slowdown_that_stalls_drown_shows_in_the_typical_block() {
        let wide = trial(0.01, 0.99, 0.05);
        assert!(!wide.alarms() && !wide.finds());
        let seen = Trial {
            typical: trial(0.01, 0.99, 0.003).ratio,
            ..wide
        };
        assert!(seen.alarms() && seen.finds());
    }

    #[test]
    fn a_speed_up_is_a_false_alarm_but_no_finding() {
        assert!(trial(0.0, 1.1, 0.01).alarms());
        assert!(!trial(0.01, 1.1, 0.01).finds());
    }
}
