//! Verdicts on claims about something else than a share of native: a figure against a bound, and how both are told.

use vtax_scenarios::plan::{Bound, Cell, Form, Plan, Unit};

use super::deciding::decides;
use super::{Judgement, Measured, nested, remarks, words};
use crate::record::RunRecord;
use crate::result::{Finding, Headline, Interval, Verdict};

/// Where the interval lies relative to the bound.
pub(crate) fn position(interval: &Interval, bound: Bound) -> Verdict {
    let (from, to) = bound.ends();
    if interval.low >= from && interval.high <= to {
        Verdict::Holds
    } else if interval.high < from || interval.low > to {
        Verdict::Refuted
    } else {
        Verdict::Undecided
    }
}

/// A cell whose own share of native decides nothing, for the reason given: the claim is about something else, or leaves it out,
/// or there is none. Wherever the share lies, it has no verdict. What is amiss with the cell keeps its own.
pub(crate) fn aside(
    judgement: Judgement,
    why: Option<&'static str>,
    measured: &Measured<'_>,
) -> Judgement {
    let has_share = measured.not_measured.is_none() && measured.ratio.is_some();
    let beside = has_share && judgement.anomaly.is_none() && judgement.verdict != Verdict::Cost;
    let Some(why) = why.filter(|_| beside) else {
        return judgement;
    };
    Judgement {
        verdict: Verdict::Cost,
        reason: why.to_owned() + &remarks(measured),
        ..judgement
    }
}

/// Why the share of native of a cell decides nothing; `None` where it does.
pub(crate) fn decides_nothing(plan: &Plan, cell: &Cell) -> Option<&'static str> {
    if plan.claim.form != Form::Share || plan.asks_of_settings() {
        Some("Nothing is claimed of shares of native here: this one decides nothing.")
    } else if decides(cell, plan.claim.over) {
        None
    } else {
        Some("The claim is about other work: this share decides nothing.")
    }
}

/// A figure with its interval, with as many decimals as the truth beside its bound takes: `104.2 % [103.1, 105.3]`.
#[must_use]
pub fn shown(finding: &Finding) -> String {
    let (value, ends) = parts(&finding.interval, finding.unit, finding.bound);
    format!("{value} {ends}")
}

/// The figure and its interval apart.
pub(crate) fn parts(interval: &Interval, unit: Unit, bound: Bound) -> (String, String) {
    let largest = [interval.low, interval.value, interval.high].map(f64::abs);
    let largest = largest.into_iter().fold(0.0, f64::max);
    let (worth, name) = words::scale(unit, largest);
    let least = match unit {
        // A small share would be all zeros.
        Unit::Share if largest < 0.01 => 3,
        Unit::Share => 1,
        _ => 2,
    };
    let decimals = words::true_decimals(least, interval, bound.ends(), worth);
    let figure = |value: f64| format!("{:.decimals$}", value / worth);
    (
        format!("{}{name}", figure(interval.value)),
        format!("[{}, {}]", figure(interval.low), figure(interval.high)),
    )
}

/// The claim's verdict and its sentence, without what a reader must know besides.
pub(super) fn claimed(finding: &Finding, verdict: Verdict, why: &str) -> String {
    let bound = words::bound(finding.bound, finding.unit);
    let ending = match verdict {
        Verdict::Holds => "holds".to_owned(),
        Verdict::Refuted => "is refuted".to_owned(),
        _ => format!("is undecided, {why}"),
    };
    format!(
        "{} is {} ({}): the claim of {bound} {ending}",
        finding.what,
        shown(finding),
        words::MEASURED
    )
}

/// The claim's words for a headline about `finding`.
pub(super) fn headline(
    record: &RunRecord,
    finding: Option<Finding>,
    verdict: Verdict,
    sentence: String,
) -> Headline {
    Headline {
        threshold: record.plan.claim.ratio,
        over: finding.as_ref().map_or(String::new(), |it| it.what.clone()),
        ratio: None,
        finding,
        verdict,
        sentence: format!("{}.", sentence.trim_end_matches('.')),
        remarks: nested(record).into_iter().collect(),
    }
}

/// A claim that nothing decides yet.
pub(crate) fn not_testable(record: &RunRecord, reason: &str) -> Headline {
    let sentence = format!("This claim cannot be tested: {reason}");
    headline(record, None, Verdict::NotTestable, sentence)
}

/// Where a figure that is not decided stands to an end of its bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reach {
    /// Whether that end lies above the figure.
    pub above: bool,
    /// How far the interval reaches to that side.
    pub reach: f64,
    /// How far the end is.
    pub margin: f64,
}

impl Reach {
    /// For the end of `bound` that takes most until it is decided, on a `scale`: the one that the interval reaches furthest
    /// beyond, for its distance.
    pub fn new(interval: &Interval, bound: Bound, scale: fn(f64) -> f64) -> Option<Self> {
        let value = scale(interval.value);
        let (from, to) = bound.ends();
        [from, to]
            .into_iter()
            .filter(|end| end.is_finite())
            .map(|end| {
                let above = scale(end) >= value;
                let towards = if above { interval.high } else { interval.low };
                Self {
                    above,
                    reach: (scale(towards) - value).abs(),
                    margin: (scale(end) - value).abs(),
                }
            })
            .max_by(|a, b| (a.reach * b.margin).total_cmp(&(b.reach * a.margin)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(low: f64, value: f64, high: f64) -> Interval {
        Interval {
            value,
            low,
            high,
            confidence: 0.95,
        }
    }

    #[test]
    fn each_bound_has_three_verdicts() {
        for (bound, holds, refuted, undecided) in [
            (Bound::AtLeast(1.5), (1.5, 2.0), (1.0, 1.4), (1.4, 1.6)),
            (Bound::AtMost(0.6), (0.4, 0.6), (0.7, 0.9), (0.5, 0.7)),
            (
                Bound::Within(0.01),
                (0.995, 1.005),
                (1.02, 1.03),
                (0.98, 1.005),
            ),
            (Bound::Within(0.01), (0.991, 1.009), (0.9, 0.95), (0.5, 2.0)),
        ] {
            let of = |(low, high): (f64, f64)| position(&interval(low, low, high), bound);
            assert_eq!(of(holds), Verdict::Holds, "{bound:?}");
            assert_eq!(of(refuted), Verdict::Refuted, "{bound:?}");
            assert_eq!(of(undecided), Verdict::Undecided, "{bound:?}");
        }
    }

    #[test]
    fn an_interval_reaches_towards_the_bound_on_its_own_side() {
        let skewed = interval(1.0, 2.0, 8.0);
        for (bound, above, reach, margin) in [
            (Bound::AtMost(5.0), true, 6.0, 3.0),
            (Bound::AtLeast(1.5), false, 1.0, 0.5),
            // The figure misses the bound: what would refute is the other end.
            (Bound::AtMost(1.5), false, 1.0, 0.5),
            (Bound::AtLeast(5.0), true, 6.0, 3.0),
        ] {
            let expected = Reach {
                above,
                reach,
                margin,
            };
            let found = Reach::new(&skewed, bound, |value| value);
            assert_eq!(found, Some(expected), "{bound:?}");
        }
        let log = Reach::new(&skewed, Bound::AtMost(5.0), f64::ln).unwrap();
        assert!((log.reach - 4_f64.ln()).abs() < 1e-12, "{log:?}");
        assert!((log.margin - 2.5_f64.ln()).abs() < 1e-12, "{log:?}");
    }

    #[test]
    fn of_two_ends_the_one_that_takes_more_decides() {
        // Closer to the lower end, and yet it is the upper one that the interval straddles.
        let skewed = interval(0.995, 0.999, 1.02);
        let found = Reach::new(&skewed, Bound::Within(0.01), |value| value).unwrap();
        assert!(found.above && found.reach > found.margin, "{found:?}");
    }

    #[test]
    fn no_rounding_contradicts_the_verdict() {
        let shown = |interval: Interval, unit, bound| {
            let (value, ends) = parts(&interval, unit, bound);
            format!("{value} {ends}")
        };
        let share = shown(
            interval(0.59, 0.595, 0.60004),
            Unit::Share,
            Bound::AtMost(0.6),
        );
        assert_eq!(share, "59.500 % [59.000, 60.004]");
        let share = shown(interval(0.6, 0.61, 0.62), Unit::Share, Bound::AtLeast(0.6));
        assert_eq!(share, "61.0 % [60.0, 62.0]");
        let memory = 5.0 * 1_048_576.0;
        let bytes = shown(
            interval(memory / 2.0, memory * 0.9, memory),
            Unit::Bytes,
            Bound::AtMost(memory),
        );
        assert_eq!(bytes, "4.50 MiB [2.50, 5.00]");
        let time = shown(
            interval(900.0, 1100.0, 1300.0),
            Unit::Nanos,
            Bound::AtMost(1e6),
        );
        assert_eq!(time, "1.10 µs [0.90, 1.30]");
    }
}
