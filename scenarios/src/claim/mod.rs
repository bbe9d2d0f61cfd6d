//! What a scenario claims, and what decides whether it holds.
//!
//! A claim has one of three forms: a share of native over cells, one kind of guest against another, or the metric of an
//! experiment. A fourth says only why nothing decides yet.

mod spec;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use vtax_workloads::Family;

use crate::plan::{Cell, ClaimOver, Plan};
pub(crate) use spec::{ClaimSpec, resolve};
pub use words::{explain_claim, given};
pub(crate) use words::{rule, taken_for_granted};

/// What a scenario claims.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Whether nobody asked for it: the scenario has no `[claim]`, and this is what stands in its place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub assumed: bool,
    /// The threshold of cells, such as 0.97: guest performance as a share of native is at least this.
    pub ratio: f64,
    /// Which cells decide the scenario's verdict and the exit code, where a share of native does.
    pub over: ClaimOver,
    /// Whether each workload that decides has a verdict of its own besides.
    #[serde(default)]
    pub each: bool,
    /// The claim as it was published; empty where nobody did.
    #[serde(default)]
    pub words: String,
    /// Who published it.
    #[serde(default)]
    pub source: String,
    /// Why the threshold is what it is.
    #[serde(default)]
    pub why: String,
    /// What its words take for granted of the host; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Premise>,
    /// What decides.
    #[serde(default)]
    pub form: Form,
}

/// What a claim's words take for granted of the host. A host without it can neither keep nor refute the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Premise {
    /// Guests run under EPT or NPT, not under shadow paging.
    TwoDimensionalPaging,
}

/// What a scenario without a claim says: all work keeps 97 % of native.
impl Default for Claim {
    fn default() -> Self {
        Self {
            assumed: false,
            ratio: 0.97,
            over: ClaimOver::All,
            each: false,
            words: String::new(),
            source: String::new(),
            why: String::new(),
            needs: None,
            form: Form::Share,
        }
    }
}

/// What decides a claim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Guest performance as a share of native: [`Claim::ratio`] over [`Claim::over`].
    #[default]
    Share,
    /// Cells against cells.
    Compare(Compare),
    /// The metric of an experiment.
    Metric(MetricClaim),
    /// Nothing yet: why not.
    NotTestable(String),
}

/// Cells that differ in some parameters alone, one against the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compare {
    /// Parameters of the one, by their paths, as the user writes them.
    pub of: BTreeMap<String, String>,
    /// Parameters of the other.
    pub against: BTreeMap<String, String>,
    /// What is compared: the quotient is that of `of` over that of `against`.
    pub what: What,
    /// What the quotient must be.
    pub bound: Bound,
}

/// What of two guests is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum What {
    /// Work per time.
    #[serde(rename = "rate")]
    Rate,
    /// Time per unit of work.
    #[serde(rename = "time")]
    Time,
    /// CPU time per unit of work, of vCPU and I/O threads together.
    #[serde(rename = "cpu-time")]
    CpuTime,
    /// The median latency.
    #[serde(rename = "p50")]
    P50,
    /// The 90th percentile of latencies.
    #[serde(rename = "p90")]
    P90,
    /// The 99th percentile of latencies.
    #[serde(rename = "p99")]
    P99,
    /// The 99.9th percentile of latencies.
    #[serde(rename = "p99.9")]
    P999,
    /// The 99.99th percentile of latencies.
    #[serde(rename = "p99.99")]
    P9999,
}

impl What {
    /// The quantile of latencies that it is, between 0 and 1; `None` where it is none.
    #[must_use]
    pub const fn quantile(self) -> Option<f64> {
        match self {
            Self::Rate | Self::Time | Self::CpuTime => None,
            Self::P50 => Some(0.5),
            Self::P90 => Some(0.9),
            Self::P99 => Some(0.99),
            Self::P999 => Some(0.999),
            Self::P9999 => Some(0.9999),
        }
    }
}

/// The metric of experiments that decides a claim. Of several experiments each must keep the bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricClaim {
    /// Ids of the experiments, at least one.
    pub experiments: Vec<u32>,
    /// The metric's name.
    pub name: String,
    /// What it must be, in the metric's unit.
    pub bound: Bound,
}

/// What a figure must be for a claim to hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// This much or more.
    AtLeast(f64),
    /// This much or less.
    AtMost(f64),
    /// Between 1 less this and 1 plus this: a test of equivalence.
    Within(f64),
}

impl Bound {
    /// The ends that the figure must keep: from, to.
    #[must_use]
    pub fn ends(self) -> (f64, f64) {
        match self {
            Self::AtLeast(least) => (least, f64::INFINITY),
            Self::AtMost(most) => (f64::NEG_INFINITY, most),
            Self::Within(share) => (1.0 - share, 1.0 + share),
        }
    }
}

impl Compare {
    /// The partner of `cell` among `cells`: it has the parameters of the other side, and all else is the same. `None`
    /// where `cell` is not of this side or has no partner.
    #[must_use]
    pub fn partner<'c>(&self, cell: &Cell, cells: &'c [Cell]) -> Option<&'c Cell> {
        let rest = self.rest(cell, &self.of)?;
        cells.iter().find(|other| {
            other.workload == cell.workload
                && other.id != cell.id
                && self.rest(other, &self.against) == Some(rest.clone())
        })
    }

    /// The pairs of cells: of, against.
    #[must_use]
    pub fn pairs<'c>(&self, cells: &'c [Cell]) -> Vec<(&'c Cell, &'c Cell)> {
        cells
            .iter()
            .filter_map(|cell| Some((cell, self.partner(cell, cells)?)))
            .collect()
    }

    /// A cell's parameters without those that make it one of this `side`; `None` where it is none. A parameter that the
    /// other side alone names must not be there.
    fn rest<'c>(
        &self,
        cell: &'c Cell,
        side: &BTreeMap<String, String>,
    ) -> Option<BTreeMap<&'c str, &'c str>> {
        let keys = self.of.keys().chain(self.against.keys());
        let keys: BTreeSet<&str> = keys.map(String::as_str).collect();
        let fits = |key: &&str| cell.parameters.get(*key) == side.get(*key);
        keys.iter().all(fits).then(|| {
            let parameters = cell.parameters.iter();
            parameters
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .filter(|(key, _)| !keys.contains(key))
                .collect()
        })
    }
}

impl ClaimOver {
    /// Whether workloads of this family are among those that decide. Deliberate faults never are.
    #[must_use]
    pub fn takes(self, family: Family) -> bool {
        match self {
            Self::Cpu => family == Family::Cpu,
            Self::Memory => family == Family::Memory,
            Self::All => family != Family::Diagnostic,
        }
    }
}

impl Plan {
    /// The workloads that have a verdict of their own, in the order of the plan.
    #[must_use]
    pub fn judged_workloads(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        if self.claim.each && self.claim.form == Form::Share {
            for cell in &self.cells {
                let name = cell.workload.name.as_str();
                let decides = vtax_workloads::find(name)
                    .is_some_and(|(_, workload)| self.claim.over.takes(workload.family));
                if decides && !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// Whether the wanted precision of each cell's share of native says how many boots it gets. Where cells are compared with
    /// one another, by the claim or since that is the question of a matrix of settings, nothing that was measured may, for the
    /// interval to keep its promise: they get what the budget allows.
    #[must_use]
    pub fn sized_by_precision(&self) -> bool {
        !matches!(self.claim.form, Form::Compare(_)) && self.setting_pairs().is_empty()
    }

    /// How many intervals the verdicts on its claim are read from.
    #[must_use]
    pub fn verdicts(&self) -> usize {
        match &self.claim.form {
            Form::Share if self.asks_of_settings() => 0,
            Form::Share => 1 + self.judged_workloads().len(),
            Form::Compare(_) => 1,
            Form::Metric(metric) => metric.experiments.len(),
            Form::NotTestable(_) => 0,
        }
    }
}
