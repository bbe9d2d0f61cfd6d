//! What a run leaves behind: the versioned record (`run.json`) and the samples (`samples.csv`).

use schemars::JsonSchema;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vtax_scenarios::plan::Plan;

use crate::counters::Counter;
use crate::native_disk::NativeDisk;

/// Version of the record and of the JSON results. Older versions stay readable.
pub const SCHEMA: u32 = 1;

/// A fact about the host: a value, or why there is none. Never a silent zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// What was read.
    Value(String),
    /// Why it could not be read.
    Unavailable(String),
}

/// What the machine was. Keys are stable: `cpu_model`, `kernel`, `hypervisor`, `thp`, …
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostFingerprint {
    /// The facts, in alphabetical order of their keys.
    pub facts: BTreeMap<String, Reading>,
    /// Name of the hypervisor under this host, where the host is itself a virtual machine. The report then says in
    /// plain sight that "native" means this virtual machine.
    pub nested_under: Option<String>,
}

/// The head of a run: all that is known before the first sample. Written first, so that a run that dies can still
/// be reported from its samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunRecord {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of vtax that measured.
    pub vtax_version: String,
    /// Start, RFC 3339, UTC.
    pub started: String,
    /// End, RFC 3339, UTC; `None` while running and after a crash.
    pub finished: Option<String>,
    /// Whether the run was interrupted by the user.
    pub interrupted: bool,
    /// The command line, for reproduction.
    pub command: Vec<String>,
    /// The machine.
    pub host: HostFingerprint,
    /// SHA-256 of the guest image that both sides executed, in hex.
    pub payload_sha256: String,
    /// Nanoseconds of CLOCK_MONOTONIC_RAW per TSC tick, as calibrated on the host.
    pub nanos_per_tick: f64,
    /// How far the payload's clock and the harness's clock may differ in a block before it is void.
    pub clock_bound: ClockBound,
    /// The resolved scenario.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub plan: Plan,
    /// Counters that this host does not offer: why. Empty for runs of versions that did not count.
    #[serde(default)]
    pub counters_unavailable: BTreeMap<Counter, String>,
    /// What single events cost on this host, measured before the first boot; empty where nothing was measured.
    #[serde(default)]
    pub unit_costs: BTreeMap<CostOf, UnitCost>,
    /// What the native side had in cells whose work goes to a file or block device, by cell id; empty for runs of versions
    /// that did not say.
    #[serde(default)]
    pub native_disks: BTreeMap<u32, NativeDisk>,
    /// Cells that were not measured, by cell id: why.
    pub not_measured: BTreeMap<u32, NotMeasured>,
    /// Experiments that were not tried to their end, by id: why.
    #[serde(default)]
    pub experiments_not_measured: BTreeMap<u32, NotMeasured>,
    /// Metrics of experiments that this host does not offer, by the experiment's id and the metric's name: why.
    #[serde(default)]
    pub metrics_unavailable: BTreeMap<u32, BTreeMap<String, String>>,
    /// The later sessions of a run that was killed or interrupted and went on (`vtax run --resume`), in order; empty where
    /// it was measured at one go.
    #[serde(default)]
    pub resumed: Vec<Session>,
}

impl RunRecord {
    /// A sentence for each later session.
    #[must_use]
    pub fn sessions_text(&self) -> Vec<String> {
        self.resumed
            .iter()
            .map(|session| {
                format!(
                    "This run was cut short and went on at {}, after {} finished boots; those of before and after count alike.",
                    session.started, session.boots_kept
                )
            })
            .collect()
    }
}

/// A stretch of time in which a run that had been cut short went on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// Start, RFC 3339, UTC.
    pub started: String,
    /// The same on the run's own clock, [`Sample::at_nanos`]: the time between two sessions is not part of the run.
    pub at_nanos: u64,
    /// The command line.
    pub command: Vec<String>,
    /// Boots of earlier sessions that were kept.
    pub boots_kept: u64,
    /// Boots that had been cut short: what they had left was removed, and they were to be measured anew.
    pub boots_dropped: u64,
}

/// An event that takes time, and whose time can be measured by making many of it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CostOf {
    /// A port access that the VMM answers.
    PortExit,
    /// An MMIO access that the VMM answers.
    MmioExit,
    /// An exit that KVM answers itself.
    KernelExit,
    /// An instruction that KVM emulates on top of an exit.
    Emulation,
    /// A host interrupt while the guest runs: what it takes longer than one while a host thread runs.
    InterruptExit,
    /// A page fault of the guest that KVM fixes: what a first touch takes longer in the guest than on the host.
    GuestFault,
    /// A page fault of the host process: a first touch on the host.
    HostFault,
    /// A switch from one thread to another on the same CPU.
    ContextSwitch,
}

/// What one event costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnitCost {
    /// It was measured.
    Measured {
        /// Nanoseconds per event, one figure for each of several batches.
        nanos: Vec<f64>,
        /// How it was measured, in a sentence.
        how: String,
    },
    /// Why it was not.
    Unavailable(String),
}

/// Bound on the disagreement of the two clocks: a block is void where its outer time, less `entry_nanos` on the guest's
/// side, differs from its inner time by more than `relative × outer + absolute_nanos`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClockBound {
    /// Share of the block's length.
    pub relative: f64,
    /// Fixed part, for what varies in entering and leaving the guest.
    pub absolute_nanos: u64,
    /// What entering and leaving a guest that works takes on this host: the median of several stretches of some
    /// milliseconds.
    #[serde(default)]
    pub entry_nanos: u64,
}

/// Why a cell has no estimate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotMeasured {
    /// The host lacks what the cell needs; says what, and the remedy.
    NotTestable(String),
    /// The guest failed: a named guest fault with RIP and CR2, or the VMM's error.
    Failed(String),
}

/// Which side of the comparison a block belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The host.
    Native,
    /// The guest.
    Guest,
    /// The host again: the A/A control.
    Control,
}

/// Why a block is not like the others, as a set of flags. Empty: a clean block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Marks(pub u16);

impl Marks {
    /// Nothing to remark.
    pub const CLEAN: Self = Self(0);
    /// Before the steady state: kept in the samples, never in an estimate.
    pub const WARMUP: Self = Self(1);
    /// Void: the two clocks disagree by more than [`ClockBound`].
    pub const CLOCK: Self = Self(2);
    /// Void: the checksum is not the reference's.
    pub const CHECKSUM: Self = Self(4);
    /// Disturbed: the thread changed its CPU.
    pub const MIGRATION: Self = Self(8);
    /// Disturbed: the thread waited for its CPU.
    pub const PREEMPTED: Self = Self(16);
    /// Disturbed: the hypervisor under this host took the CPU away.
    pub const STEAL: Self = Self(32);
    /// Void: a signal interrupted the block.
    pub const INTERRUPTED: Self = Self(64);
    /// The boot's warm-up ended without a steady state: a side was still getting faster. It counts, and is reported.
    pub const UNSETTLED: Self = Self(128);

    /// Every flag with its name in `samples.csv`.
    pub const NAMES: [(Self, &'static str); 8] = [
        (Self::WARMUP, "warmup"),
        (Self::CLOCK, "clock"),
        (Self::CHECKSUM, "checksum"),
        (Self::MIGRATION, "migration"),
        (Self::PREEMPTED, "preempted"),
        (Self::STEAL, "steal"),
        (Self::INTERRUPTED, "interrupted"),
        (Self::UNSETTLED, "unsettled"),
    ];

    /// Those of `self` that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether any of `other` is in `self`.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Void blocks never enter an estimate: what they say is not known to be true.
    #[must_use]
    pub const fn is_void(self) -> bool {
        self.intersects(Self(Self::CLOCK.0 | Self::CHECKSUM.0 | Self::INTERRUPTED.0))
    }

    /// Disturbed blocks are true, and count: something else took the CPU for a while.
    #[must_use]
    pub const fn is_disturbed(self) -> bool {
        self.intersects(Self(Self::MIGRATION.0 | Self::PREEMPTED.0 | Self::STEAL.0))
    }
}

/// One block on one vCPU (or its native twin): a row of `samples.csv`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Cell id in the plan.
    pub cell: u32,
    /// Boot of that cell, from 0.
    pub boot: u32,
    /// Round of that boot, from 0; warm-up blocks count apart, also from 0.
    pub round: u32,
    /// Position in the round, from 0.
    pub position: u8,
    /// Which side.
    pub side: Side,
    /// vCPU, or the native thread in its place.
    pub vcpu: u16,
    /// Host CPU at the end of the block.
    pub cpu: u16,
    /// Units of work done.
    pub iterations: u64,
    /// The payload's own TSC difference, in ticks.
    pub ticks: u64,
    /// The median of the block's single latencies in ticks, at most 2³² − 1, where those make the figure
    /// ([`vtax_workloads::Figure`]): a block is then mostly waiting on purpose. 0 elsewhere.
    pub latency_ticks: u32,
    /// The harness's CLOCK_MONOTONIC_RAW difference around the same block, in nanoseconds.
    pub outer_nanos: u64,
    /// The payload's TSC difference over the run-in right before, which `outer_nanos` includes; 0 where there was none, and
    /// at most 2³² − 1.
    pub run_in_ticks: u32,
    /// What there is to remark.
    pub marks: Marks,
    /// Start of the block in nanoseconds since the run started.
    pub at_nanos: u64,
}

impl Sample {
    /// Ticks that a unit of work took: of the block as a whole, or, where single latencies make the figure, by their median.
    /// Not finite where a block did no work.
    #[must_use]
    pub fn cost(&self) -> f64 {
        if self.latency_ticks > 0 {
            f64::from(self.latency_ticks)
        } else {
            self.ticks as f64 / self.iterations as f64
        }
    }
}
