//! What the samples say: one [`CellResult`] per cell and one [`Headline`] per run. This is what every sink (terminal,
//! JSON, CSV, Markdown, JUnit, HTML) shows, and the object that `--json` prints.

use schemars::JsonSchema;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vtax_scenarios::plan::{Bound, NetBackend, Unit, What};

use crate::devices::Comparison;
use crate::frequency::Frequency;
use crate::ledger::Ledger;
use crate::native_disk::NativeDisk;
use crate::record::HostFingerprint;
use crate::stats::stalls::Stalls;
use crate::stats::transitions::CarryOver;

/// Version of the JSON results. Since 2 a cell's `ratio` is its throughput and `typical` its median block; before, `ratio`
/// was the latter.
pub const SCHEMA: u32 = 2;

/// An estimate with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// The point estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Confidence, such as 0.95.
    pub confidence: f64,
}

/// One side's figures over all rounds that count, in the cell's unit; with several vCPUs, per vCPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SideSummary {
    /// By work per time, stalls included: guest over native is the ratio (its inverse, where lower is better).
    #[serde(default)]
    pub mean: f64,
    /// Median over boots of the median over rounds.
    pub median: f64,
    /// Smallest boot median.
    pub min: f64,
    /// Largest boot median.
    pub max: f64,
}

/// A latency quantile of both sides, in nanoseconds, each with its interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QuantileRow {
    /// The quantile, such as 0.999.
    pub quantile: f64,
    /// Native; `None` where the host has nothing to compare with.
    pub native: Option<Interval>,
    /// Guest.
    pub guest: Interval,
}

/// What can be said of a claim.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole interval is at or above the threshold.
    Holds,
    /// The whole interval is below it.
    Refuted,
    /// The interval straddles it, or the result is an unexplained anomaly.
    Undecided,
    /// This host lacks what it takes, or the guest failed.
    NotTestable,
    /// No claim applies: the host has nothing to compare with, or a share of native would say nothing. The cost is the
    /// result.
    Cost,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Direction {
    /// Rates.
    #[serde(rename = "higher is better")]
    Higher,
    /// Times.
    #[serde(rename = "lower is better")]
    Lower,
}

/// CPU time per unit of work, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CpuTime {
    /// The thread on the host.
    pub native: Interval,
    /// The vCPU's thread, guest and KVM together, and all I/O threads.
    pub guest: Interval,
}

/// Guest performance as a share of what native does on one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OnCpu {
    /// The host's CPU.
    pub cpu: u32,
    /// The share, over all blocks that are not void: mean time of native blocks that ended on that CPU against mean time of all
    /// guest blocks, boot by boot.
    pub ratio: Interval,
    /// Boots with such native blocks.
    pub boots: u32,
}

/// Frames that were sent and not known to arrive, over all blocks but the warm-up's, void ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LostFrames {
    /// On the host, native and control blocks together.
    pub native: u64,
    /// In the guest.
    pub guest: u64,
}

/// The result of one cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CellResult {
    /// Cell id in the plan.
    pub id: u32,
    /// The scenario's name.
    pub scenario: String,
    /// The cell's label.
    pub label: String,
    /// Matrix values and parameters.
    pub parameters: BTreeMap<String, String>,
    /// Workload name.
    pub workload: String,
    /// Unit of `native` and `guest`.
    pub unit: String,
    /// Which way that unit is better.
    pub direction: Direction,
    /// Native figures; `None` where nothing was measured.
    pub native: Option<SideSummary>,
    /// Guest figures.
    pub guest: Option<SideSummary>,
    /// Guest throughput as a share of native, all that happens in it included: 1.0 is no loss, whatever the unit's
    /// direction.
    pub ratio: Option<Interval>,
    /// The same of the typical (median) block.
    #[serde(default)]
    pub typical: Option<Interval>,
    /// Blocks that take far longer than the others, on both sides.
    #[serde(default)]
    pub stalls: Option<Stalls>,
    /// What taking turns costs a block of either side.
    #[serde(default)]
    pub carry_over: CarryOver,
    /// What one operation costs in the guest, where there is no ratio; in the cell's unit.
    #[serde(default)]
    pub cost: Option<Interval>,
    /// The same in TSC ticks.
    #[serde(default)]
    pub cost_ticks: Option<Interval>,
    /// Native against native (A/A).
    pub control: Option<Interval>,
    /// The control interval's largest distance from 1: what this cell cannot tell from nothing.
    pub noise_floor: Option<f64>,
    /// Boots that count.
    pub boots: u32,
    /// Rounds that count, over all boots.
    pub rounds: u32,
    /// Blocks of both sides, those of the warm-up apart.
    #[serde(default)]
    pub blocks: u64,
    /// Blocks left out of them, by reason.
    pub voided: BTreeMap<String, u64>,
    /// Why the result looks better than native, where it does.
    pub anomaly: Option<String>,
    /// Latency quantiles, for workloads that time each operation.
    pub quantiles: Vec<QuantileRow>,
    /// CPU time per unit of work; `None` where it was not counted.
    #[serde(default)]
    pub cpu: Option<CpuTime>,
    /// Who served the guest's network card; `None` where it has none.
    #[serde(default)]
    pub net_backend: Option<NetBackend>,
    /// What the native side had for a disk that is a file or block device; `None` elsewhere, and for runs of versions that did
    /// not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native_disk: Option<NativeDisk>,
    /// The ratio by the CPU that native blocks ended on, ascending; empty where they had but one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_cpus: Vec<OnCpu>,
    /// Frames that were lost; `None` where none were sent, or they were not counted.
    #[serde(default)]
    pub lost_frames: Option<LostFrames>,
    /// At which frequency the CPU ran on either side; `None` where the host does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency: Option<Frequency>,
    /// Where the loss went; `None` where nothing was counted, or the host has nothing to compare with.
    #[serde(default)]
    pub ledger: Option<Ledger>,
    /// The verdict on the scenario's threshold.
    pub verdict: Verdict,
    /// The verdict in words: what decided it, what is missing, or how much more time would decide.
    pub reason: String,
    /// Whether the guest failed here (then `reason` names the guest fault).
    pub failed: bool,
}

/// A figure that decides a claim, where it is no share of native.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// What it is, such as `work per time with guest.backing=2M over that with guest.backing=4k`.
    pub what: String,
    /// Its unit.
    pub unit: Unit,
    /// The figure with its interval.
    pub interval: Interval,
    /// What it must be.
    pub bound: Bound,
}

/// What a metric of an experiment came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricResult {
    /// Its name.
    pub name: String,
    /// Its unit.
    pub unit: Unit,
    /// With its interval over repetitions, or over attempts of forbidden events; `None` with too few of them, or of a quantity
    /// that has none.
    pub interval: Option<Interval>,
    /// The smallest repetition's value.
    pub min: Option<f64>,
    /// The largest repetition's value.
    pub max: Option<f64>,
    /// Repetitions that have a value; of forbidden events the attempts.
    pub repetitions: u32,
    /// Why this host has no such metric, where it has not.
    pub unavailable: Option<String>,
}

/// What an experiment came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExperimentResult {
    /// Its id in the plan.
    pub id: u32,
    /// Its label.
    pub label: String,
    /// Why it was not tried to its end, where it was not.
    pub reason: Option<String>,
    /// Whether it failed (then `reason` says how).
    pub failed: bool,
    /// Its metrics.
    pub metrics: Vec<MetricResult>,
}

/// What a value of a setting does to the guest, against the guest of another cell that has the setting's first value and all
/// else alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SettingEffect {
    /// The setting by its path, such as `guest.pinning`; several that never vary apart have ` + ` between them.
    pub key: String,
    /// Its value, as the user writes it; of several settings each one's, with ` + ` between them. `default` where the scenario
    /// leaves it out.
    pub value: String,
    /// The value that it is held against, likewise.
    pub reference: String,
    /// The workload.
    pub workload: String,
    /// All other parameters, which both cells have in common.
    pub parameters: BTreeMap<String, String>,
    /// What is compared: the guest's rate, a quantile of its latencies, or CPU time per unit of work.
    pub what: What,
    /// With the value over with the reference: 1 is no difference. Of a rate more is better, of times less.
    pub ratio: Interval,
    /// Whether both guests have different numbers of vCPUs, so that rates and times are those of one vCPU.
    pub per_vcpu: bool,
    /// Cell id of the guest with the value.
    pub cell: u32,
    /// Cell id of the guest with the reference.
    pub reference_cell: u32,
}

/// A verdict's reason in JSON: under the one name that it has in all objects, and beside it under the name that it had in
/// headlines and claims before.
pub(crate) mod told {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize)]
    struct Both<'a> {
        reason: &'a str,
        sentence: &'a str,
    }

    /// As it stands in JSON.
    #[derive(schemars::JsonSchema)]
    #[expect(dead_code, reason = "describes the JSON")]
    pub(crate) struct Told {
        /// The verdict in a sentence: what decided it, or what is missing.
        reason: String,
        /// The same, by its older name.
        sentence: String,
    }

    #[derive(Deserialize)]
    struct Either {
        reason: Option<String>,
        sentence: Option<String>,
    }

    #[allow(clippy::ptr_arg, reason = "serde hands over the field's own type")]
    pub(crate) fn serialize<S: Serializer>(
        text: &String,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        Both {
            reason: text,
            sentence: text,
        }
        .serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<String, D::Error> {
        let Either { reason, sentence } = Either::deserialize(deserializer)?;
        reason
            .or(sentence)
            .ok_or_else(|| serde::de::Error::missing_field("reason"))
    }
}

/// The run in one sentence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Headline {
    /// Threshold of the claim.
    pub threshold: f64,
    /// What it is about: `CPU-bound work`, `memory-bound work`, `all work`.
    pub over: String,
    /// Geometric mean over the deciding cells, with its interval; `None` where they are not of one kind, so that each decides
    /// by itself.
    pub ratio: Option<Interval>,
    /// The figure that decides, where the claim is about something else than a share of native.
    #[serde(default)]
    pub finding: Option<Finding>,
    /// The verdict on it.
    pub verdict: Verdict,
    /// The verdict in a sentence, such as "A bare guest in ring 3 under vtax's own VMM runs CPU-bound work at 99.6 % of native
    /// [99.2, 100.0]: the 97 % claim holds." In JSON it is called `reason`, as it is for cells, and by its older name.
    #[serde(flatten, with = "told")]
    #[schemars(with = "told::Told")]
    pub sentence: String,
    /// What a reader of the sentence must know besides, a sentence each.
    #[serde(default)]
    pub remarks: Vec<String>,
}

impl Headline {
    /// The sentence with all remarks.
    #[must_use]
    pub fn text(&self) -> String {
        let remarks = self.remarks.iter().map(String::as_str);
        let sentences: Vec<&str> = [self.sentence.as_str()]
            .into_iter()
            .chain(remarks)
            .collect();
        sentences.join(" ")
    }
}

/// All results of a run: the object that `--json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Results {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The scenario's name.
    pub scenario: String,
    /// The machine.
    pub host: HostFingerprint,
    /// SHA-256 of the guest image that both sides executed.
    pub payload_sha256: String,
    /// Whether the run was cut short: by the user, or killed.
    pub interrupted: bool,
    /// Version of vtax that measured; empty in results of versions that did not say.
    #[serde(default)]
    pub vtax_version: String,
    /// When the run started, RFC 3339, UTC; empty likewise.
    #[serde(default)]
    pub started: String,
    /// When it ended, RFC 3339, UTC; `None` where it was killed, or in results of versions that did not say.
    #[serde(default)]
    pub finished: Option<String>,
    /// The run in one sentence.
    pub headline: Headline,
    /// The same for single workloads, where the claim asks for it.
    #[serde(default)]
    pub classes: Vec<Headline>,
    /// The cells, in plan order.
    pub cells: Vec<CellResult>,
    /// What each setting of the matrix does to the guest, by setting and value in the order of the plan.
    #[serde(default)]
    pub settings: Vec<SettingEffect>,
    /// Paravirtual devices against emulated ones, at the same work.
    #[serde(default)]
    pub comparisons: Vec<Comparison>,
    /// The experiments, in plan order.
    #[serde(default)]
    pub experiments: Vec<ExperimentResult>,
    /// What taking turns costs a block of either side, over all cells that have a share of native, with confidence 99 %.
    #[serde(default)]
    pub carry_over: CarryOver,
}
