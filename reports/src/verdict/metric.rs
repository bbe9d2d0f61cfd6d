//! Verdicts on claims about the metric of an experiment.

use vtax_scenarios::plan::{Bound, MetricClaim, Scale};

use super::bound::{Reach, claimed, headline, position};
use super::deciding::filtered;
use super::words;
use crate::record::RunRecord;
use crate::result::{ExperimentResult, Finding, Headline, Interval, MetricResult, Verdict};
use crate::stats::events;

/// More repetitions than this are no advice any more.
const REASONABLE: f64 = 10_000.0;

/// An experiment that has a figure.
struct Judged {
    verdict: Verdict,
    finding: Finding,
    scale: Scale,
    repetitions: u32,
}

/// What an experiment without a figure leaves of the claim.
struct Missing {
    verdict: Verdict,
    label: String,
    /// Why it has none, to go behind its label.
    why: String,
}

/// Judges the metric of experiments, each of which must keep the bound; the one that does worst is told. One without a figure
/// leaves undecided what the others would let hold.
pub(crate) fn metric(
    record: &RunRecord,
    claim: &MetricClaim,
    results: &[ExperimentResult],
) -> Headline {
    let (mut judged, mut missing) = (Vec::new(), Vec::new());
    let chosen = results.iter();
    for experiment in chosen.filter(|it| claim.experiments.contains(&it.id)) {
        match judge(record, claim, experiment) {
            Ok(it) => judged.push(it),
            Err(it) => missing.push(it),
        }
    }
    judged.sort_by(|a, b| {
        let order = rank(a.verdict).cmp(&rank(b.verdict));
        order.then(b.nearness().total_cmp(&a.nearness()))
    });
    let Some(worst) = judged.first() else {
        return without_figure(record, claim, &missing);
    };
    let finding = worst.finding.clone();
    let (verdict, sentence) = match (worst.verdict, told(&missing)) {
        (Verdict::Holds, Some(missing)) => {
            let verdict = Verdict::Undecided;
            (
                verdict,
                claimed(&finding, verdict, &format!("since {missing}")),
            )
        }
        (verdict, missing) => {
            let missing = missing.map_or(String::new(), |it| format!(" ({it})"));
            let sentence = claimed(&finding, verdict, &worst.further());
            (verdict, sentence + &missing)
        }
    };
    headline(record, Some(finding), verdict, sentence)
}

/// The worst decides: what is refuted before what is undecided, and both before what holds.
fn rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Refuted => 0,
        Verdict::Undecided => 1,
        _ => 2,
    }
}

fn judge(
    record: &RunRecord,
    claim: &MetricClaim,
    experiment: &ExperimentResult,
) -> Result<Judged, Missing> {
    let mut planned = record.plan.experiments.iter();
    let scale = planned
        .find(|it| it.id == experiment.id)
        .and_then(|it| it.kind.entry().metric(&claim.name))
        .map_or(Scale::Linear, |metric| metric.scale);
    let metric = experiment.metrics.iter().find(|it| it.name == claim.name);
    let whole = experiment.reason.is_none() && !experiment.failed;
    let interval = metric.and_then(|it| it.interval).filter(|_| whole);
    let Some((metric, interval)) = metric.zip(interval) else {
        return Err(lack(experiment, metric, scale));
    };
    Ok(Judged {
        verdict: judged_by(&interval, claim.bound, scale),
        finding: Finding {
            what: what(claim, &experiment.label),
            unit: metric.unit,
            interval,
            bound: claim.bound,
        },
        scale,
        repetitions: metric.repetitions,
    })
}

fn what(claim: &MetricClaim, label: &str) -> String {
    format!("The metric {} of {label}", claim.name)
}

/// As [`position`], but a forbidden event that has happened once refutes: the bound is for those that were not seen.
fn judged_by(interval: &Interval, bound: Bound, scale: Scale) -> Verdict {
    if scale == Scale::Events && interval.value > 0.0 {
        Verdict::Refuted
    } else {
        position(interval, bound)
    }
}

/// What an experiment without a figure leaves of the claim.
fn lack(experiment: &ExperimentResult, metric: Option<&MetricResult>, scale: Scale) -> Missing {
    let unavailable = metric.and_then(|it| it.unavailable.as_deref());
    let had = usize::try_from(metric.map_or(0, |it| it.repetitions)).unwrap_or(usize::MAX);
    let (verdict, why) = match (experiment.reason.as_deref().or(unavailable), scale) {
        (Some(why), _) if experiment.failed => (Verdict::NotTestable, format!("failed: {why}")),
        (Some(why), _) => (
            Verdict::NotTestable,
            format!("cannot be tested here: {why}"),
        ),
        (None, Scale::Events) => (Verdict::Undecided, "had no attempt".to_owned()),
        (None, Scale::Log) if had > 1 => (
            Verdict::Undecided,
            "had a value of 0 or less, which has no logarithm".to_owned(),
        ),
        (None, _) => (
            Verdict::Undecided,
            format!(
                "had {}, and an interval takes two",
                words::count(had, "repetition")
            ),
        ),
    };
    Missing {
        verdict,
        label: experiment.label.clone(),
        why: why.trim_end_matches('.').to_owned(),
    }
}

/// What became of experiments without a figure; `None` where all have one.
fn told(missing: &[Missing]) -> Option<String> {
    const MOST: usize = 3;
    let first = missing.iter().take(MOST);
    let mut texts: Vec<String> = first.map(|it| format!("{} {}", it.label, it.why)).collect();
    if missing.len() > MOST {
        texts.push(format!("and {} more", missing.len() - MOST));
    }
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// The verdict where no experiment has a figure: one that was not tried often enough could still have one.
fn without_figure(record: &RunRecord, claim: &MetricClaim, missing: &[Missing]) -> Headline {
    if missing.is_empty()
        && let Some((verdict, sentence)) = filtered(record)
    {
        return headline(record, None, verdict, sentence);
    }
    let verdict = left(missing);
    let ending = match (missing, verdict) {
        ([], _) => " is undecided: nothing was tried",
        (_, Verdict::Undecided) => " is undecided: ",
        _ => " has no figure: ",
    };
    let told = told(missing).unwrap_or_default();
    let sentence = format!("The metric {}{ending}{told}", claim.name);
    headline(record, None, verdict, sentence)
}

/// The verdict that is left of a claim where there are no figures.
fn left(missing: &[Missing]) -> Verdict {
    let undecided = missing.iter().any(|it| it.verdict == Verdict::Undecided);
    if undecided || missing.is_empty() {
        Verdict::Undecided
    } else {
        Verdict::NotTestable
    }
}

/// Verdict and sentence, without the full stop, of a run in which no experiment has a single value.
pub(super) fn without_value(experiments: &[ExperimentResult]) -> (Verdict, String) {
    let missing: Vec<Missing> = experiments
        .iter()
        .map(|it| {
            let unavailable = it.metrics.iter().find(|it| it.unavailable.is_some());
            lack(it, unavailable, Scale::Linear)
        })
        .collect();
    let told = told(&missing).unwrap_or_default();
    (left(&missing), format!("Nothing was measured: {told}"))
}

impl Judged {
    fn reach(&self) -> Option<Reach> {
        let scale: fn(f64) -> f64 = match self.scale {
            Scale::Log => f64::ln,
            Scale::Linear | Scale::Events => |value| value,
        };
        Reach::new(&self.finding.interval, self.finding.bound, scale)
    }

    /// How far its interval reaches towards the bound, for the bound's distance.
    fn nearness(&self) -> f64 {
        self.reach().map_or(0.0, |it| it.reach / it.margin)
    }

    /// How many more repetitions would decide.
    fn further(&self) -> String {
        let had = f64::from(self.repetitions);
        let (more, thing) = match (self.scale, self.finding.bound) {
            // Without an event the interval's end is known beforehand.
            (Scale::Events, Bound::AtMost(most)) => {
                let needed = events::trials_for(most, self.finding.interval.confidence);
                (needed.ceil() - had, "attempt")
            }
            (Scale::Events, _) => (f64::INFINITY, "attempt"),
            // The reach shrinks with the root of the number.
            (Scale::Log | Scale::Linear, _) => {
                (had * (self.nearness().powi(2) - 1.0), "repetition")
            }
        };
        if more.is_finite() && (0.0..=REASONABLE).contains(&more) {
            // What arithmetic adds is no repetition.
            let more = (more - 1e-6).ceil().max(1.0);
            format!("about {more:.0} more {thing}s would decide")
        } else {
            format!("no reasonable number of {thing}s decides")
        }
    }
}

#[cfg(test)]
mod tests {
    use vtax_scenarios::plan::Unit;

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
    fn one_forbidden_event_refutes_whatever_the_bound() {
        let of = |interval, scale| judged_by(&interval, Bound::AtMost(0.01), scale);
        let once = || interval(1e-5, 5e-4, 3e-3);
        assert_eq!(of(once(), Scale::Events), Verdict::Refuted);
        assert_eq!(of(once(), Scale::Linear), Verdict::Holds);
        let never = interval(0.0, 0.0, 2e-3);
        assert_eq!(of(never, Scale::Events), Verdict::Holds);
        let too_few = interval(0.0, 0.0, 0.02);
        assert_eq!(of(too_few, Scale::Events), Verdict::Undecided);
    }

    fn further(interval: Interval, bound: Bound, scale: Scale, repetitions: u32) -> String {
        let judged = Judged {
            verdict: Verdict::Undecided,
            finding: Finding {
                what: String::new(),
                unit: Unit::Share,
                interval,
                bound,
            },
            scale,
            repetitions,
        };
        judged.further()
    }

    #[test]
    fn the_side_of_the_bound_says_how_many_more_repetitions_it_takes() {
        // 2 reaches 1 down and 6 up: a bound 0.5 below takes four times as many repetitions, one 3 above as many.
        let skewed = interval(1.0, 2.0, 8.0);
        let told = |bound, scale| further(skewed, bound, scale, 10);
        let more = "about 30 more repetitions would decide";
        assert_eq!(told(Bound::AtLeast(1.5), Scale::Linear), more);
        assert_eq!(told(Bound::AtMost(5.0), Scale::Linear), more);
        // On the log scale the same interval reaches ln 2 down; a bound of ln 2 / 2 below takes four times as many.
        let half = Bound::AtLeast(2_f64.sqrt());
        assert_eq!(told(half, Scale::Log), more);
        let never = "no reasonable number of repetitions decides";
        assert_eq!(told(Bound::AtLeast(2.0), Scale::Linear), never);
    }

    #[test]
    fn attempts_without_an_event_are_counted_and_not_squared() {
        let had = 100;
        let none = events::interval(0, had, 0.95).unwrap();
        // 1 - 0.025^(1/368) is the first end below 1 %.
        assert_eq!(
            further(none, Bound::AtMost(0.01), Scale::Events, had),
            "about 268 more attempts would decide"
        );
        assert_eq!(
            further(none, Bound::AtMost(1e-6), Scale::Events, had),
            "no reasonable number of attempts decides"
        );
    }
}
