//! Verdicts on claims about something else than a share of native: one guest against another, or an experiment's metric.

use std::time::Duration;

use vtax_scenarios::given;
use vtax_scenarios::plan::{Bound, Compare, Form, MetricClaim, Scale, Unit};

use super::headline::nested;
use super::{Judgement, Measured, outlook, words};
use crate::compare::{Measured as Compared, Quotient};
use crate::record::{NotMeasured, RunRecord};
use crate::result::{ExperimentResult, Finding, Headline, Interval, MetricResult, Verdict};

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

/// A cell whose own share of native decides nothing, since the claim is about something else.
pub(crate) fn aside(judgement: Judgement, form: &Form) -> Judgement {
    let decided = matches!(judgement.verdict, Verdict::Holds | Verdict::Refuted);
    if *form == Form::Share || !decided {
        return judgement;
    }
    Judgement {
        verdict: Verdict::Cost,
        reason: "The claim is not about shares of native: this one decides nothing.".to_owned(),
        ..judgement
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
    const MOST: usize = 12;
    let largest = [interval.low, interval.value, interval.high].map(f64::abs);
    let largest = largest.into_iter().fold(0.0, f64::max);
    let (scale, name) = scale(unit, largest);
    let (from, to) = bound.ends();
    let shown = |value: f64, decimals: usize| format!("{:.decimals$}", value / scale);
    let is_true = |decimals: &usize| {
        [interval.low, interval.value, interval.high]
            .into_iter()
            .all(|value| {
                let read = shown(value, *decimals).parse::<f64>().map(|it| it * scale);
                read.is_ok_and(|read| {
                    // A bound itself has few digits: what multiplication adds to it is dust.
                    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs();
                    (read >= from || near(read, from)) == (value >= from)
                        && (read <= to || near(read, to)) == (value <= to)
                })
            })
    };
    let least = match unit {
        // A small share would be all zeros.
        Unit::Share if largest < 0.01 => 3,
        Unit::Share => 1,
        _ => 2,
    };
    let decimals = (least..MOST).find(is_true).unwrap_or(MOST);
    let figure = |value| shown(value, decimals);
    (
        format!("{}{name}", figure(interval.value)),
        format!("[{}, {}]", figure(interval.low), figure(interval.high)),
    )
}

/// The unit in which figures up to `largest` are shown, with its worth.
fn scale(unit: Unit, largest: f64) -> (f64, &'static str) {
    let steps: &[(f64, &str)] = match unit {
        Unit::Share => return (0.01, " %"),
        Unit::Number => return (1.0, ""),
        Unit::Watts => return (1.0, " W"),
        Unit::Nanos => &[(1e9, " s"), (1e6, " ms"), (1e3, " µs"), (1.0, " ns")],
        Unit::Bytes => &[
            (1_073_741_824.0, " GiB"),
            (1_048_576.0, " MiB"),
            (1024.0, " KiB"),
            (1.0, " B"),
        ],
    };
    let fits = steps.iter().find(|(worth, _)| largest >= *worth);
    *fits.or(steps.last()).unwrap_or(&(1.0, ""))
}

/// A figure without a bound: `1.23 ms`.
pub(crate) fn figure(value: f64, unit: Unit) -> String {
    let (scale, name) = scale(unit, value.abs());
    let decimals = if unit == Unit::Share { 2 } else { 3 };
    format!("{:.decimals$}{name}", value / scale)
}

/// The claim's verdict and its sentence, without what a reader must know besides.
fn claimed(finding: &Finding, verdict: Verdict, why: &str) -> String {
    let bound = finding.bound.text(finding.unit).replace('%', " %");
    let ending = match verdict {
        Verdict::Holds => "holds".to_owned(),
        Verdict::Refuted => "is refuted".to_owned(),
        _ => format!("is undecided, {why}"),
    };
    format!(
        "{} is {}: the claim of {bound} {ending}",
        finding.what,
        shown(finding)
    )
}

/// The claim's words for a headline about `finding`.
fn headline(
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
        sentence: format!("{}{}.", sentence.trim_end_matches('.'), nested(record)),
    }
}

/// A claim that nothing decides yet.
pub(crate) fn not_testable(record: &RunRecord, reason: &str) -> Headline {
    let sentence = format!("This claim cannot be tested: {reason}");
    headline(record, None, Verdict::NotTestable, sentence)
}

/// Judges cells against cells: the geometric mean over all pairs, a fixed set. Pairs that this host cannot test are left
/// out; one that failed or was not finished leaves the claim undecided.
pub(crate) fn compared(
    record: &RunRecord,
    compare: &Compare,
    measured: &[Measured<'_>],
    sides: &[Compared<'_>],
) -> Headline {
    let what = format!(
        "{} with {} over that with {}",
        capitalized(compare.what.words()),
        given(&compare.of),
        given(&compare.against)
    );
    let pairs = compare.pairs(&record.plan.cells);
    let at = |id: u32| usize::try_from(id).unwrap_or(usize::MAX);
    let side = |id: u32| sides.get(at(id)).zip(measured.get(at(id)));
    let (mut tested, mut times, mut unfinished) = (Vec::new(), Duration::ZERO, 0_usize);
    let (mut lacking, mut failed) = (Vec::new(), Vec::new());
    for (of, against) in &pairs {
        let Some(((of, of_measured), (against, against_measured))) =
            side(of.id).zip(side(against.id))
        else {
            continue;
        };
        let why = of_measured.not_measured.or(against_measured.not_measured);
        match (why, Quotient::new(of, against, compare.what)) {
            (Some(NotMeasured::NotTestable(why)), _) => lacking.push(why.as_str()),
            (Some(NotMeasured::Failed(why)), _) => failed.push(why.as_str()),
            (None, None) => unfinished += 1,
            (None, Some(quotient)) => {
                times += of_measured.time + against_measured.time;
                tested.push((quotient, of.cell.measure.confidence));
            }
        }
    }
    let quotients: Vec<Quotient> = tested.iter().map(|&(quotient, _)| quotient).collect();
    let confidence = tested.iter().map(|&(_, it)| it).fold(0.0, f64::max);
    let Some(mean) = Quotient::combined(&quotients) else {
        let (verdict, why) = if let Some(why) = failed.first().or(lacking.first()) {
            (
                Verdict::NotTestable,
                format!("cannot be tested here: {why}"),
            )
        } else if unfinished > 0 {
            let why = "is undecided: none of its pairs has two boots on each side that count";
            (Verdict::Undecided, why.to_owned())
        } else {
            let why = "cannot be tested: no two cells differ in these parameters alone";
            (Verdict::NotTestable, why.to_owned())
        };
        return headline(record, None, verdict, format!("{what} {why}"));
    };
    let interval = mean.interval(confidence);
    let incomplete = failed.len() + unfinished;
    let verdict = if incomplete > 0 {
        Verdict::Undecided
    } else {
        position(&interval, compare.bound)
    };
    let why = if incomplete > 0 {
        format!("lacking a result of {}", words::count(incomplete, "pair"))
    } else {
        let end = nearest(&interval, compare.bound);
        outlook(&mean.mean, confidence, end, times)
    };
    let finding = Finding {
        what,
        unit: Unit::Share,
        interval,
        bound: compare.bound,
    };
    let mut sentence = claimed(&finding, verdict, &why);
    if let Some(why) = lacking.first() {
        let number = words::count(lacking.len(), "pair");
        sentence += &format!(" ({number} not testable here: {why})");
    }
    headline(record, Some(finding), verdict, sentence)
}

/// The end of the bound that decides.
fn nearest(interval: &Interval, bound: Bound) -> f64 {
    let (from, to) = bound.ends();
    if (interval.value - from).abs() < (interval.value - to).abs() {
        from
    } else {
        to
    }
}

/// Judges the metric of experiments, each of which must keep the bound; the one that does worst is told.
pub(crate) fn metric(
    record: &RunRecord,
    claim: &MetricClaim,
    results: &[ExperimentResult],
) -> Headline {
    let plan = record.plan.experiments.iter();
    let chosen: Vec<&str> = plan
        .filter(|it| claim.experiments.contains(&it.id))
        .map(|it| it.label.as_str())
        .collect();
    let what = |label: &str| format!("The metric {} of {label}", claim.name);
    let mut judged: Vec<(Verdict, f64, Finding, u32)> = Vec::new();
    let mut missing: Vec<(Verdict, String)> = Vec::new();
    for experiment in results
        .iter()
        .filter(|it| claim.experiments.contains(&it.id))
    {
        let metric = experiment.metrics.iter().find(|it| it.name == claim.name);
        let interval = metric.and_then(|it| it.interval);
        match metric.zip(interval).filter(|_| !experiment.failed) {
            Some((
                MetricResult {
                    unit, repetitions, ..
                },
                interval,
            )) => {
                let finding = Finding {
                    what: what(&experiment.label),
                    unit: *unit,
                    interval,
                    bound: claim.bound,
                };
                let margin = (interval.value - nearest(&interval, claim.bound)).abs();
                let mut planned = record.plan.experiments.iter();
                let scale = planned
                    .find(|it| it.id == experiment.id)
                    .and_then(|it| it.kind.entry().metric(&claim.name))
                    .map(|metric| metric.scale);
                let verdict = judged_by(&interval, claim.bound, scale);
                judged.push((verdict, margin, finding, *repetitions));
            }
            None => missing.push(lack(experiment, metric, &what(&experiment.label))),
        }
    }
    // The worst decides: what is refuted before what is undecided, and of those that hold the one closest to the bound.
    let rank = |verdict: Verdict| match verdict {
        Verdict::Refuted => 0,
        Verdict::Undecided => 1,
        _ => 2,
    };
    judged.sort_by(|a, b| rank(a.0).cmp(&rank(b.0)).then(a.1.total_cmp(&b.1)));
    let Some((verdict, margin, finding, repetitions)) = judged.into_iter().next() else {
        let (verdict, sentence) = missing.into_iter().next().unwrap_or_else(|| {
            let sentence = format!(
                "{} is undecided: nothing was tried",
                what(&chosen.join(", "))
            );
            (Verdict::Undecided, sentence)
        });
        return headline(record, None, verdict, sentence);
    };
    let unfinished = missing
        .iter()
        .any(|(verdict, _)| *verdict == Verdict::Undecided);
    if unfinished && verdict == Verdict::Holds {
        let sentence = claimed(
            &finding,
            Verdict::Undecided,
            "lacking a result of another experiment",
        );
        return headline(record, Some(finding), Verdict::Undecided, sentence);
    }
    let sentence = claimed(&finding, verdict, &further(&finding, margin, repetitions));
    headline(record, Some(finding), verdict, sentence)
}

/// As [`position`], but a forbidden event that has happened once refutes: the bound is for those that were not seen.
fn judged_by(interval: &Interval, bound: Bound, scale: Option<Scale>) -> Verdict {
    if scale == Some(Scale::Events) && interval.value > 0.0 {
        Verdict::Refuted
    } else {
        position(interval, bound)
    }
}

/// What an experiment without a figure leaves of the claim.
fn lack(
    experiment: &ExperimentResult,
    metric: Option<&MetricResult>,
    what: &str,
) -> (Verdict, String) {
    let unavailable = metric.and_then(|it| it.unavailable.as_deref());
    match experiment.reason.as_deref().or(unavailable) {
        Some(why) => (
            Verdict::NotTestable,
            format!("{what} cannot be tested here: {why}"),
        ),
        None => {
            let repetitions = metric.map_or(0, |it| it.repetitions);
            let had = words::count(usize::try_from(repetitions).unwrap_or(0), "repetition");
            (
                Verdict::Undecided,
                format!("{what} is undecided: it had {had}, and an interval takes two"),
            )
        }
    }
}

/// How many more repetitions would decide.
fn further(finding: &Finding, margin: f64, repetitions: u32) -> String {
    const REASONABLE: f64 = 10_000.0;
    let half_width = (finding.interval.high - finding.interval.low) / 2.0;
    let more = f64::from(repetitions) * ((half_width / margin).powi(2) - 1.0);
    if more.is_finite() && (0.0..=REASONABLE).contains(&more) {
        format!(
            "about {:.0} more repetitions would decide",
            more.ceil().max(1.0)
        )
    } else {
        "no reasonable number of repetitions decides at this noise".to_owned()
    }
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or(String::new(), |first| {
        first.to_uppercase().chain(characters).collect()
    })
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
    fn one_forbidden_event_refutes_whatever_the_bound() {
        let of = |interval, scale| judged_by(&interval, Bound::AtMost(0.01), Some(scale));
        let once = || interval(1e-5, 5e-4, 3e-3);
        assert_eq!(of(once(), Scale::Events), Verdict::Refuted);
        assert_eq!(of(once(), Scale::Linear), Verdict::Holds);
        let never = interval(0.0, 0.0, 2e-3);
        assert_eq!(of(never, Scale::Events), Verdict::Holds);
        let too_few = interval(0.0, 0.0, 0.02);
        assert_eq!(of(too_few, Scale::Events), Verdict::Undecided);
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
