//! Experiments: questions that do not fit "a block in the guest beside the same block on the host". Each is repeated as a
//! whole, and each repetition brings a value for every metric of its kind.

mod catalogue;
mod needs;
mod read;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vtax_workloads::Param;

use crate::units::{duration_text, percent_text, size_text};
pub(crate) use read::{ExperimentSpec, read};

/// What is tried.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ExperimentKind {
    /// Guests that are started at once.
    Boot,
    /// A guest that does nothing.
    Idle,
    /// Two guests with CPU weights on one CPU.
    Weights,
    /// A guest with a CPU quota beside one without, on one CPU.
    Quota,
    /// Guests that reach beyond their memory.
    Isolation,
    /// Like guests whose equal pages are merged.
    Ksm,
    /// A guest that is given memory while it runs.
    Growth,
    /// A guest beside more and more others.
    Density,
}

/// What is known of a kind.
#[derive(Debug)]
pub struct Entry {
    /// Its name in scenario files.
    pub name: &'static str,
    /// What it finds out.
    pub help: &'static str,
    /// Its parameters.
    pub params: &'static [Param],
    /// Parameters whose values are multiples of something, and of what, in their own unit: others would be rounded.
    pub steps: &'static [(&'static str, u64)],
    /// What each repetition measures.
    pub metrics: &'static [Metric],
    /// What the series of its metrics go over: time in nanoseconds, or a number of guests.
    pub over: Unit,
    /// About how long a repetition takes, in nanoseconds; for time estimates, and for what a budget keeps free.
    pub nanos: fn(&Experiment) -> u64,
}

/// What a repetition measures.
#[derive(Debug)]
pub struct Metric {
    /// Its name in claims and in `trials.csv`.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// How repetitions become an interval.
    pub scale: Scale,
    /// What it is.
    pub help: &'static str,
}

/// The unit of a metric's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Nanoseconds.
    Nanos,
    /// Bytes.
    Bytes,
    /// A share or a quotient: 1 is 100 %.
    Share,
    /// A number of things.
    Number,
    /// Watts.
    Watts,
}

/// How the values of repetitions become an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// Positive quantities and quotients: t interval of the logarithms.
    Log,
    /// Quantities that may be 0 or less: t interval of the values.
    Linear,
    /// Forbidden events: the exact binomial interval of their probability. The unit is the attempt, of which a repetition may
    /// make many: each brings a value, 1 where the event happened and 0 where not.
    Events,
}

/// An experiment, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    /// Its number in the plan.
    pub id: u32,
    /// Unique, readable: `boot guests=8`.
    pub label: String,
    /// What is tried.
    pub kind: ExperimentKind,
    /// All parameters by their names: bytes, nanoseconds, counts or the place of a word.
    pub params: BTreeMap<String, u64>,
    /// How often it is repeated, budget allowing.
    pub repetitions: u32,
    /// Confidence of its intervals.
    pub confidence: f64,
}

impl Experiment {
    /// The value of a parameter; its default where the plan, of another version, does not know it.
    #[must_use]
    pub fn param(&self, name: &str) -> u64 {
        let known = || self.kind.entry().params.iter().find(|it| it.name == name);
        let given = self.params.get(name).copied();
        given.unwrap_or_else(|| known().map_or(0, |param| param.default))
    }

    /// About how long all repetitions take, in nanoseconds.
    #[must_use]
    pub fn nanos(&self) -> u64 {
        (self.kind.entry().nanos)(self).saturating_mul(self.repetitions.into())
    }
}

impl Entry {
    /// What the values of a parameter are multiples of: 1 where any will do.
    #[must_use]
    pub fn step(&self, param: &str) -> u64 {
        let step = self.steps.iter().find(|(name, _)| *name == param);
        step.map_or(1, |&(_, step)| step)
    }

    /// The metric of this name.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<&'static Metric> {
        self.metrics.iter().find(|it| it.name == name)
    }
}

impl Unit {
    /// A figure as a user writes it: `5MiB`, `1.5us`.
    #[must_use]
    pub fn text(self, figure: f64) -> String {
        // A threshold is a whole number of nanoseconds or bytes, since it was written as one.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let whole = figure.round().max(0.0) as u64;
        match self {
            Self::Nanos => duration_text(whole),
            Self::Bytes => size_text(whole),
            Self::Share => percent_text(figure),
            Self::Number => figure.to_string(),
            Self::Watts => format!("{figure} W"),
        }
    }

    /// How a figure is written in a scenario.
    pub(crate) const fn example(self) -> &'static str {
        match self {
            Self::Nanos => "\"10ms\"",
            Self::Bytes => "\"5MiB\"",
            Self::Share => "\"1%\"",
            Self::Number | Self::Watts => "1.5",
        }
    }
}
