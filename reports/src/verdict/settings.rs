//! What settings do to the guest, in a sentence.

use vtax_scenarios::plan::{ClaimOver, What};
use vtax_scenarios::settings::setting_words;

use super::apart::range;
use super::deciding::{Deciding, decides};
use super::{Judgement, Measured, is_memory_disk, words};
use crate::record::RunRecord;
use crate::result::{Headline, Interval, SettingEffect, Verdict};
use crate::settings::{Combined, Effect, combined};

/// How many values a sentence about settings names.
const NAMED: usize = 2;
/// Works whose effects lie further apart than this are told apart, as a share.
const FAR_APART: f64 = 0.02;

/// Says what settings do, where nobody claimed anything: no verdict but that it was measured.
pub(super) fn headline(
    record: &RunRecord,
    measured: &[Measured<'_>],
    judgements: &[Judgement],
    effects: &[Effect],
) -> Headline {
    let mut shares = Deciding {
        all: record.plan.cells.len(),
        ..Deciding::default()
    };
    let mut unmeasured = Deciding::default();
    for judged in measured.iter().zip(judgements) {
        let cell = judged.0.cell;
        let has_share = judged.0.ratio.is_some() && judged.0.not_measured.is_none();
        if !has_share {
            unmeasured.sort_in(judged);
        } else if decides(cell, ClaimOver::All) && !is_memory_disk(cell) {
            shares.sort_in(judged);
        }
    }
    let asked = asked(record);
    let (verdict, sentence) = match sentence(effects, NAMED) {
        Some(sentence) => {
            let kept = match shares.tested.len() {
                0 => String::new(),
                _ => {
                    let range = range(&shares.tested, record.plan.claim.ratio);
                    format!("; under the same settings it keeps {range} of native")
                }
            };
            let guest = words::MEASURED;
            let verdict = if unmeasured.is_incomplete() {
                Verdict::Undecided
            } else {
                Verdict::Cost
            };
            let sentence = sentence.trim_end_matches('.');
            (verdict, format!("{sentence}{kept} ({guest})."))
        }
        None => {
            let lacking = unmeasured
                .failed
                .first()
                .or(unmeasured.not_testable.first());
            let (verdict, why) = match lacking.filter(|_| unmeasured.unfinished.is_empty()) {
                Some((_, judgement)) => {
                    let reason = judgement.reason.trim_end_matches('.');
                    (
                        Verdict::NotTestable,
                        format!("cannot be tested here: {reason}"),
                    )
                }
                None => {
                    let why = "is undecided: no two guests to compare have two boots that count";
                    (Verdict::Undecided, why.to_owned())
                }
            };
            let guest = words::GUEST;
            (verdict, format!("What {asked} does to {guest} {why}."))
        }
    };
    // What is said of cells without a result is said of all.
    shares.not_testable = unmeasured.not_testable;
    shares.failed = unmeasured.failed;
    shares.unfinished = unmeasured.unfinished;
    Headline {
        threshold: record.plan.claim.ratio,
        over: asked,
        ratio: None,
        finding: None,
        verdict,
        sentence,
        remarks: shares.remarks(record, None),
    }
}

/// The settings that are compared, by their paths.
fn asked(record: &RunRecord) -> String {
    let pairs = record.plan.setting_pairs();
    let settings = record.plan.settings();
    let compared = settings.iter().enumerate();
    let compared = compared.filter(|(place, _)| pairs.iter().any(|pair| pair.setting == *place));
    let keys: Vec<String> = compared.map(|(_, setting)| setting.key()).collect();
    keys.join(" or ")
}

/// What the values that change most do, up to `named` of them, and how many others do anything; `None` where no two guests
/// could be compared.
pub(super) fn sentence(effects: &[Effect], named: usize) -> Option<String> {
    let chosen = chosen(combined(effects));
    let (mut shown, silent): (Vec<_>, Vec<_>) = chosen
        .into_iter()
        .partition(|it| words::is_shown(&it.ratio));
    let size = |it: &Combined<'_>| it.ratio.value.ln().abs();
    shown.sort_by(|a, b| size(b).total_cmp(&size(a)));
    let more = shown.len().saturating_sub(named);
    shown.truncate(named);
    let mut clauses: Vec<String> = Vec::new();
    for (place, it) in shown.iter().enumerate() {
        let subject = if place == 0 { "the guest" } else { "it" };
        let with = format!("with {}", setting_words(it.key, it.value));
        // What several in a row are held against is said of the last.
        let against = reference(it);
        let next = shown.get(place + 1);
        let is_shared =
            next.is_some_and(|next| next.key == it.key && next.reference == it.reference);
        let against = match is_shared {
            true => String::new(),
            false => format!(" against {against}"),
        };
        clauses.push(format!("{with} {subject} {}{against}", change(it)));
    }
    if more > 0 {
        let verb = if more == 1 { "changes" } else { "change" };
        clauses.push(format!(
            "{} {verb} it less",
            words::count(more, "more value")
        ));
    }
    match (clauses.is_empty(), silent.as_slice()) {
        (_, []) => {}
        (true, silent) => clauses.push(format!(
            "no difference of the guest by {} is shown: {}",
            keys(silent),
            widest(silent)
        )),
        (false, [one]) => clauses.push(format!(
            "with {} no difference is shown ({})",
            setting_words(one.key, one.value),
            signed(&one.ratio)
        )),
        (false, several) => clauses.push(format!(
            "{} show none",
            words::count(several.len(), "other value")
        )),
    }
    (!clauses.is_empty()).then(|| format!("{}.", words::capitalized(&clauses.join("; "))))
}

/// Of each value the figure that speaks for most work: its rate or its median latency, the rate where both do for as much.
fn chosen(all: Vec<Combined<'_>>) -> Vec<Combined<'_>> {
    let weight = |it: &Combined<'_>| match it.what {
        What::Rate => 2 * it.parts.len() + 1,
        What::P50 => 2 * it.parts.len(),
        _ => 0,
    };
    let is_chosen = |it: &Combined<'_>| {
        let same = |other: &&Combined<'_>| {
            (other.key, other.value, other.reference) == (it.key, it.value, it.reference)
        };
        let most = all.iter().filter(same).map(weight).max();
        weight(it) > 0 && Some(weight(it)) == most
    };
    let keep: Vec<bool> = all.iter().map(is_chosen).collect();
    let kept = all.into_iter().zip(keep).filter(|(_, keep)| *keep);
    kept.map(|(it, _)| it).collect()
}

/// `loses 45 % [44, 46]`.
fn change(it: &Combined<'_>) -> String {
    let Interval { value, .. } = it.ratio;
    let rate = it.what == What::Rate;
    let per_vcpu = it.parts.iter().any(|part| part.per_vcpu);
    let each = if per_vcpu { " for each vCPU" } else { "" };
    let apart = apart(it);
    let done = if value >= words::MANIFOLD {
        let times = manifold(&it.ratio);
        match rate {
            true => format!("does {times} as much{each}"),
            false => format!("has {times} the median latency"),
        }
    } else {
        let figure = percent(&it.ratio, value >= 1.0);
        match (rate, value < 1.0) {
            (true, true) => format!("loses {figure}{each}"),
            (true, false) => format!("gains {figure}{each}"),
            (false, true) => format!("has a median latency lower by {figure}"),
            (false, false) => format!("has a median latency higher by {figure}"),
        }
    };
    format!("{done}{apart}")
}

/// The value that others are held against, with its key where it would not be clear.
fn reference(it: &Combined<'_>) -> String {
    let words = setting_words(it.key, it.reference);
    match words.strip_prefix(&format!("{}=", it.key)) {
        Some("default") => "the default".to_owned(),
        Some(value) if !it.key.contains(' ') => value.to_owned(),
        _ => words,
    }
}

/// From the least to the most that single works lose or gain, where these lie far apart; with a space before it.
fn apart(it: &Combined<'_>) -> String {
    let order = |a: &&&SettingEffect, b: &&&SettingEffect| a.ratio.value.total_cmp(&b.ratio.value);
    let (Some(least), Some(most)) = (it.parts.iter().min_by(order), it.parts.iter().max_by(order))
    else {
        return String::new();
    };
    let (least, most) = (&least.ratio, &most.ratio);
    if least.high >= most.low || most.value - least.value < FAR_APART {
        return String::new();
    }
    if it.ratio.value >= words::MANIFOLD {
        let (low, high) = (least.value, most.value);
        return format!(" ({low:.1} to {high:.1} times by workload)");
    }
    let (one, other) = if it.ratio.value < 1.0 {
        (1.0 - most.value, 1.0 - least.value)
    } else {
        (least.value - 1.0, most.value - 1.0)
    };
    let show = |share: f64| words::minus(&format!("{:.0}", 100.0 * share));
    format!(" ({} to {} % by workload)", show(one), show(other))
}

/// `45 % [44, 46]`: a change, upwards or downwards, with as many decimals as it takes not to look like none.
fn percent(ratio: &Interval, upwards: bool) -> String {
    let ends = if upwards {
        [ratio.value - 1.0, ratio.low - 1.0, ratio.high - 1.0]
    } else {
        [1.0 - ratio.value, 1.0 - ratio.high, 1.0 - ratio.low]
    };
    let [value, low, high] = ends;
    let change = Interval {
        value,
        low,
        high,
        ..*ratio
    };
    let decimals = words::change_decimals(&change);
    let show = |share: f64| words::minus(&format!("{:.decimals$}", 100.0 * share));
    format!("{} % [{}, {}]", show(value), show(low), show(high))
}

/// `3.1 times [3.0, 3.2]`.
fn manifold(ratio: &Interval) -> String {
    format!(
        "{:.1} times [{:.1}, {:.1}]",
        ratio.value, ratio.low, ratio.high
    )
}

/// The change that an interval leaves open: `[−0.3, +0.5] %`.
fn signed(ratio: &Interval) -> String {
    let (value, ends) = words::changed(ratio);
    let unit = value.split(' ').next_back().unwrap_or_default();
    format!("{ends} {unit}")
}

/// Of several values that show nothing, the most that is left open.
fn widest(silent: &[Combined<'_>]) -> String {
    let low = silent.iter().map(|it| it.ratio.low).fold(1.0, f64::min);
    let high = silent.iter().map(|it| it.ratio.high).fold(1.0, f64::max);
    let ends = Interval {
        value: 1.0,
        low,
        high,
        confidence: 0.0,
    };
    format!("it lies within {}", signed(&ends))
}

fn keys(of: &[Combined<'_>]) -> String {
    let mut keys: Vec<&str> = Vec::new();
    for it in of {
        if !keys.contains(&it.key) {
            keys.push(it.key);
        }
    }
    keys.join(" or ")
}
