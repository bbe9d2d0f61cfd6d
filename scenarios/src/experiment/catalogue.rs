//! All kinds of experiments. A new one is an entry here, a kind in [`ExperimentKind`] and a file in the harness.

use vtax_workloads::{Param, ParamKind};

use super::{Entry, ExperimentKind, Metric, Scale, Unit};

const SECOND: u64 = 1_000_000_000;

impl ExperimentKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Boot, Self::Idle];

    /// What is known of it.
    #[must_use]
    pub const fn entry(self) -> &'static Entry {
        match self {
            Self::Boot => &BOOT,
            Self::Idle => &IDLE,
        }
    }
}

static BOOT: Entry = Entry {
    name: "boot",
    help: "Guests that are started at once: when each executes its first instruction, and what its VMM takes of the host's \
           memory.",
    params: &[
        Param {
            name: "guests",
            help: "How many are started at once.",
            kind: ParamKind::Count,
            default: 1,
            min: 1,
            max: 1024,
        },
        Param {
            name: "memory",
            help: "RAM of each, a multiple of 2 MiB.",
            kind: ParamKind::Bytes,
            default: 16 << 20,
            min: 16 << 20,
            max: 1 << 40,
        },
    ],
    metrics: &[
        Metric {
            name: "first-instruction",
            unit: Unit::Nanos,
            scale: Scale::Log,
            help: "From the start of all to a guest's first instruction, the median over guests.",
        },
        Metric {
            name: "all-running",
            unit: Unit::Nanos,
            scale: Scale::Log,
            help: "From the start of all to the first instruction of the last guest.",
        },
        Metric {
            name: "vmm-memory",
            unit: Unit::Bytes,
            scale: Scale::Linear,
            help: "Memory of the process that each guest adds beyond its RAM.",
        },
    ],
    nanos: |experiment| SECOND / 50 + experiment.param("guests") * (SECOND / 300),
};

static IDLE: Entry = Entry {
    name: "idle",
    help: "A guest whose vCPU sleeps and is woken by its timer now and then, as an idle operating system is: what it takes of \
           the host while it does nothing.",
    params: &[
        Param {
            name: "wake-ups",
            help: "How often its timer wakes it in a second.",
            kind: ParamKind::Count,
            default: 4,
            min: 1,
            max: 1000,
        },
        Param {
            name: "window",
            help: "How long it is watched in each repetition.",
            kind: ParamKind::Duration,
            default: SECOND,
            min: SECOND / 4,
            max: 8 * SECOND,
        },
    ],
    metrics: &[
        Metric {
            name: "cpu",
            unit: Unit::Share,
            scale: Scale::Linear,
            help: "CPU time of the vCPU's thread, guest and KVM together, as a share of one CPU.",
        },
        Metric {
            name: "energy",
            unit: Unit::Watts,
            scale: Scale::Linear,
            help: "Power of the host's processors with the idle guest, less that without.",
        },
    ],
    nanos: |experiment| 2 * experiment.param("window") + SECOND / 20,
};
