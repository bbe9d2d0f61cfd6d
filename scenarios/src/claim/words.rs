//! A claim in words: what decides it, for `vtax claims --explain` and the explanation of a plan.

use std::collections::BTreeMap;

use super::{Bound, Form, Premise, What};
use crate::experiment::Unit;
use crate::plan::{ClaimOver, Plan};
use crate::units::percent_text;

impl Bound {
    /// `at least 150%`, in a metric's unit.
    #[must_use]
    pub fn text(self, unit: Unit) -> String {
        match self {
            Self::AtLeast(least) => format!("at least {}", unit.text(least)),
            Self::AtMost(most) => format!("at most {}", unit.text(most)),
            Self::Within(share) => format!("100% ± {}", percent_text(share)),
        }
    }
}

impl What {
    /// As a scenario names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Time => "time",
            Self::CpuTime => "cpu-time",
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::P9999 => "p99.99",
        }
    }

    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Rate => "work per time",
            Self::Time => "time per unit of work",
            Self::CpuTime => "CPU time per unit of work",
            Self::P50 => "median latency",
            Self::P90 => "90th percentile of latency",
            Self::P99 => "99th percentile of latency",
            Self::P999 => "99.9th percentile of latency",
            Self::P9999 => "99.99th percentile of latency",
        }
    }
}

impl ClaimOver {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Cpu => "CPU-bound work",
            Self::Memory => "memory-bound work",
            Self::All => "all work",
        }
    }
}

impl Premise {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::TwoDimensionalPaging => {
                "second-level address translation in hardware (EPT or NPT)"
            }
        }
    }
}

/// What must be true, in one sentence with a full stop; the plan's own claim.
pub(crate) fn rule(plan: &Plan) -> String {
    let claim = &plan.claim;
    match &claim.form {
        Form::Share if plan.asks_of_settings() => format!(
            "nothing is claimed. What each value of {} does to the guest is measured against the first, guest against guest.",
            settings(plan)
        ),
        Form::Share => {
            let each = if claim.each {
                ", each workload by itself and all together"
            } else {
                ""
            };
            format!(
                "a guest runs {} at {} of native or better{each}.",
                claim.over.words(),
                percent_text(claim.ratio)
            )
        }
        Form::Compare(compare) => format!(
            "{} with {} is {} of that with {}.",
            compare.what.words(),
            given(&compare.of),
            compare.bound.text(Unit::Share),
            given(&compare.against),
        ),
        Form::Metric(metric) => {
            let chosen = plan
                .experiments
                .iter()
                .filter(|it| metric.experiments.contains(&it.id));
            let labels: Vec<&str> = chosen.clone().map(|it| it.label.as_str()).collect();
            let unit = chosen
                .clone()
                .find_map(|it| it.kind.entry().metric(&metric.name))
                .map_or(Unit::Number, |it| it.unit);
            format!(
                "{} of {} is {}.",
                metric.name,
                labels.join(", "),
                metric.bound.text(unit)
            )
        }
        Form::NotTestable(reason) => format!("not testable yet: {reason}"),
    }
}

/// The settings in which alone two cells of the plan differ, by their paths.
fn settings(plan: &Plan) -> String {
    let pairs = plan.setting_pairs();
    let settings = plan.settings();
    let of_pairs = settings.iter().enumerate();
    let of_pairs = of_pairs.filter(|(place, _)| pairs.iter().any(|pair| pair.setting == *place));
    let keys: Vec<String> = of_pairs.map(|(_, it)| it.key()).collect();
    keys.join(" and of ")
}

/// What the claim needs of a host, in one sentence with a full stop; `None` where it needs nothing.
pub(crate) fn taken_for_granted(plan: &Plan) -> Option<String> {
    let words = plan.claim.needs?.words();
    Some(format!(
        "It takes {words} for granted: a host without cannot test it."
    ))
}

/// `guest.backing=2M`.
#[must_use]
pub fn given(parameters: &BTreeMap<String, String>) -> String {
    if parameters.is_empty() {
        return "nothing set".to_owned();
    }
    let texts: Vec<String> = parameters
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    texts.join(" ")
}

/// The claim for `vtax claims --explain`: its words, who published them, what decides and why so, and what is measured.
#[must_use]
pub fn explain_claim(plan: &Plan) -> String {
    let claim = &plan.claim;
    let mut text = format!("{}\n", plan.scenario);
    let words = if claim.words.is_empty() {
        &plan.description
    } else {
        &claim.words
    };
    for (title, words) in [
        ("Claim", words),
        ("Source", &claim.source),
        ("Threshold", &claim.why),
    ] {
        if !words.is_empty() {
            text += &format!("\n{title}: {words}\n");
        }
    }
    text += &match &claim.form {
        Form::NotTestable(reason) => format!("\nNot testable yet: {reason}\n"),
        form => format!("\nIt holds where {}\n{}\n", rule(plan), how(form)),
    };
    if let Some(premise) = taken_for_granted(plan) {
        text += &format!("\n{premise}\n");
    }
    text
}

/// How a verdict comes about.
fn how(form: &Form) -> &'static str {
    match form {
        Form::Share => {
            "The figure is the geometric mean over the deciding cells of guest performance as a share of native, with its \
             interval: wholly at or above the threshold the claim holds, wholly below it is refuted, otherwise it is undecided."
        }
        Form::Compare(compare) if matches!(compare.bound, Bound::Within(_)) => {
            "Cells that differ in these parameters alone make a pair; the figure is the geometric mean of the pairs' quotients, \
             its interval taken over boots. Wholly within the bound, and each pair by itself too, the claim holds; wholly outside \
             it is refuted, otherwise it is undecided."
        }
        Form::Compare(_) => {
            "Cells that differ in these parameters alone make a pair; the figure is the geometric mean of the pairs' quotients, \
             its interval taken over boots. Wholly within the bound the claim holds, wholly outside it is refuted, otherwise it \
             is undecided."
        }
        Form::Metric(_) => {
            "The experiment is repeated, and the interval taken over its repetitions. Wholly within the bound the claim holds, \
             wholly outside it is refuted, otherwise it is undecided. Of several experiments each must keep it."
        }
        Form::NotTestable(_) => "",
    }
}
