//! All kinds of experiments. A new one is an entry here, a kind in [`ExperimentKind`] and a file in the harness.

use vtax_workloads::{Param, ParamKind};

use super::{Entry, ExperimentKind, Metric, Scale, Unit};
use crate::memory::MEMORY_STEP_BYTES;

const SECOND: u64 = 1_000_000_000;
/// In which the kernel gives a control group its quota of CPU time, as vtax sets it.
const QUOTA_PERIOD: u64 = SECOND / 10;

impl ExperimentKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Boot,
        Self::Idle,
        Self::Weights,
        Self::Quota,
        Self::Isolation,
        Self::Ksm,
        Self::Growth,
        Self::Density,
    ];

    /// What is known of it.
    #[must_use]
    pub const fn entry(self) -> &'static Entry {
        match self {
            Self::Boot => &BOOT,
            Self::Idle => &IDLE,
            Self::Weights => &WEIGHTS,
            Self::Quota => &QUOTA,
            Self::Isolation => &ISOLATION,
            Self::Ksm => &KSM,
            Self::Growth => &GROWTH,
            Self::Density => &DENSITY,
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
    steps: &[("memory", MEMORY_STEP_BYTES)],
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
            help: "Memory that the VMM of an idle guest takes beyond its RAM, each guest in a process of its own: private pages and \
                   its share of others (PSS), the mean over guests.",
        },
    ],
    over: Unit::Nanos,
    nanos: |experiment| SECOND / 50 + experiment.param("guests") * (SECOND / 100),
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
    steps: &[],
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
    over: Unit::Nanos,
    nanos: |experiment| 2 * experiment.param("window") + SECOND / 20,
};

static WEIGHTS: Entry = Entry {
    name: "weights",
    help: "Two guests that compute without end on one CPU, each in a control group with a weight: what each gets.",
    params: &[
        weight("first", 200),
        weight("second", 100),
        Param {
            name: "window",
            help: "How long they are watched in each repetition.",
            kind: ParamKind::Duration,
            default: 4 * SECOND / 10,
            min: SECOND / 10,
            max: 60 * SECOND,
        },
    ],
    steps: &[],
    metrics: &[
        Metric {
            name: "share",
            unit: Unit::Share,
            scale: Scale::Linear,
            help: "The first one's share of the CPU time that both have, over the share that its weight entitles it to.",
        },
        Metric {
            name: "lesser-share",
            unit: Unit::Share,
            scale: Scale::Linear,
            help: "The same of the second: where its weight is the smaller one, a small error of the shares is a large one of \
                   its own.",
        },
        Metric {
            name: "work",
            unit: Unit::Share,
            scale: Scale::Linear,
            help: "The first one's share of the work that both do, over the share that its weight entitles it to: not as the \
                   kernel counts, but as the guests do.",
        },
    ],
    over: Unit::Nanos,
    nanos: |experiment| experiment.param("window") + SECOND / 5,
};

const fn weight(name: &'static str, default: u64) -> Param {
    Param {
        name,
        help: "Weight of a guest's control group; 100 is what a group has by default.",
        kind: ParamKind::Count,
        default,
        min: 1,
        max: 10_000,
    }
}

static QUOTA: Entry = Entry {
    name: "quota",
    help: "Two guests that compute without end on one CPU, one of which may have a share of it and no more.",
    params: &[
        Param {
            name: "percent",
            help: "The share of one CPU that it may have, in per cent.",
            kind: ParamKind::Count,
            default: 10,
            min: 1,
            max: 99,
        },
        Param {
            name: "window",
            help: "How long they are watched in each repetition: whole periods of the quota, which are of 100 ms.",
            kind: ParamKind::Duration,
            default: SECOND,
            min: SECOND / 10,
            max: 60 * SECOND,
        },
    ],
    steps: &[("window", QUOTA_PERIOD)],
    metrics: &[
        Metric {
            name: "used",
            unit: Unit::Share,
            scale: Scale::Linear,
            help: "CPU time that the capped guest had, over what its quota lets it have in the time that passed.",
        },
        Metric {
            name: "left",
            unit: Unit::Share,
            scale: Scale::Linear,
            help: "CPU time that the other guest had, over what the quota leaves of the CPU. Other processes take of it too.",
        },
    ],
    over: Unit::Nanos,
    nanos: |experiment| experiment.param("window") + SECOND / 5,
};

static ISOLATION: Entry = Entry {
    name: "isolation",
    help: "Guests whose page tables lead beyond their memory, to where their VMM has memory of its own: half of them read, half \
           of them write there.",
    params: &[Param {
        name: "attempts",
        help: "How many guests try it in each repetition, one after the other.",
        kind: ParamKind::Count,
        default: 100,
        min: 1,
        max: 10_000,
    }],
    steps: &[],
    metrics: &[Metric {
        name: "escape",
        unit: Unit::Share,
        scale: Scale::Events,
        help: "Attempts that were not stopped, or changed the VMM's memory.",
    }],
    over: Unit::Nanos,
    nanos: |experiment| SECOND / 20 + experiment.param("attempts") * (SECOND / 400),
};

static KSM: Entry = Entry {
    name: "ksm",
    help: "Like guests that do nothing, whose equal pages the kernel merges (KSM): what that saves until it settles, and what it \
           costs.",
    params: &[
        Param {
            name: "guests",
            help: "How many.",
            kind: ParamKind::Count,
            default: 8,
            min: 1,
            max: 200,
        },
        Param {
            name: "memory",
            help: "RAM of each, a multiple of 2 MiB.",
            kind: ParamKind::Bytes,
            default: 256 << 20,
            min: 16 << 20,
            max: 1 << 40,
        },
        Param {
            name: "zero-percent",
            help: "Pages of zeros, in per cent of each guest's memory.",
            kind: ParamKind::Count,
            default: 5,
            min: 0,
            max: 100,
        },
        Param {
            name: "common-percent",
            help: "Pages that all guests have alike, as kernel text and shared libraries are, in per cent. The rest is each one's \
                   own.",
            kind: ParamKind::Count,
            default: 32,
            min: 0,
            max: 100,
        },
        Param {
            name: "pages-to-scan",
            help: "How many pages KSM looks at before it sleeps.",
            kind: ParamKind::Count,
            default: 20_000,
            min: 1,
            max: u32::MAX as u64,
        },
        Param {
            name: "sleep",
            help: "How long it sleeps; whole milliseconds.",
            kind: ParamKind::Duration,
            default: SECOND / 100,
            min: SECOND / 1000,
            max: 60 * SECOND,
        },
    ],
    steps: &[("memory", MEMORY_STEP_BYTES), ("sleep", SECOND / 1000)],
    metrics: &[
        Metric {
            name: "saved",
            unit: Unit::Share,
            scale: Scale::Linear,
            help: "Memory that KSM saves once it has settled, as a share of what the guests' RAM took before.",
        },
        Metric {
            name: "gain",
            unit: Unit::Share,
            scale: Scale::Log,
            help: "Guest RAM that fits into the host's memory with KSM over what fits without.",
        },
        Metric {
            name: "settled",
            unit: Unit::Nanos,
            scale: Scale::Log,
            help: "From the moment at which KSM is turned on until it saves no more in three passes over the memory.",
        },
        Metric {
            name: "ksmd",
            unit: Unit::Nanos,
            scale: Scale::Linear,
            help: "CPU time of the kernel's thread that merges until then, the three passes included.",
        },
        Metric {
            name: "break",
            unit: Unit::Nanos,
            scale: Scale::Linear,
            help: "What the first write to a merged page takes more than the next one: the page gets its own copy again.",
        },
    ],
    over: Unit::Nanos,
    nanos: |experiment| {
        let pages = experiment.param("guests") * (experiment.param("memory") >> 12);
        // Filling, merging, and three passes more; ksmd shares its CPU with others and is nice to them.
        SECOND / 2
            + pages * 60_000
            + pages / experiment.param("pages-to-scan").max(1) * 6 * experiment.param("sleep")
    },
};

static GROWTH: Entry = Entry {
    name: "growth",
    help: "A running guest of two vCPUs that is given memory by virtio-mem and gives it back: one vCPU plugs the blocks and \
           writes every page, the other goes on with its own work on its own memory.",
    params: &[
        Param {
            name: "memory",
            help: "RAM before it grows, a multiple of 2 MiB.",
            kind: ParamKind::Bytes,
            default: 64 << 20,
            min: 32 << 20,
            max: 128 << 30,
        },
        Param {
            name: "growth",
            help: "What it is given on top, a multiple of 2 MiB.",
            kind: ParamKind::Bytes,
            default: 64 << 20,
            min: 2 << 20,
            max: 128 << 30,
        },
        Param {
            name: "backing",
            help: "Host pages behind all of it: 4 KiB each, or transparent huge pages.",
            kind: ParamKind::Choice(&["4k", "thp"]),
            default: 0,
            min: 0,
            max: 1,
        },
    ],
    steps: &[("memory", MEMORY_STEP_BYTES), ("growth", MEMORY_STEP_BYTES)],
    metrics: &[
        Metric {
            name: "usable",
            unit: Unit::Nanos,
            scale: Scale::Log,
            help: "From the host's request until the guest has plugged all of the memory and written a word of each 4 KiB page: \
                   by then the host has given it every page.",
        },
        Metric {
            name: "plugged",
            unit: Unit::Nanos,
            scale: Scale::Log,
            help: "From the host's request until the device has plugged the last block; no page is there by then.",
        },
        Metric {
            name: "pause",
            unit: Unit::Nanos,
            scale: Scale::Log,
            help: "The longest gap that the other vCPU sees while the guest grows and shrinks: on a CPU of its own it writes a \
                   word of one page after the other in up to 15 MiB, and takes the time of each step by its TSC.",
        },
        Metric {
            name: "calm",
            unit: Unit::Nanos,
            scale: Scale::Log,
            help: "The longest gap that it sees in as long a time without any change: what of the pause is the host's own.",
        },
        Metric {
            name: "shrunk",
            unit: Unit::Nanos,
            scale: Scale::Log,
            help: "From the host's request until the device has unplugged the last block and given its pages back.",
        },
        Metric {
            name: "returned",
            unit: Unit::Share,
            scale: Scale::Linear,
            help: "What the guest's resident memory loses when it shrinks, as a share of what it was given.",
        },
    ],
    over: Unit::Nanos,
    nanos: |experiment| {
        // A page takes a fault, in the guest's way to its memory too, and the calm stretch takes as long again.
        SECOND / 10 + (experiment.param("growth") >> 12) * 12_000
    },
};

static DENSITY: Entry = Entry {
    name: "density",
    help: "A guest that computes without end beside more and more guests that compute for a part of the time, all of them \
           wherever the scheduler puts them: how many until it loses 3 %, and 10 %. What it does beside them is held against \
           what it does alone just before and after, when the others are stopped where they are.",
    params: &[
        Param {
            name: "load",
            help: "CPU time that each of the others takes, in per cent of one CPU: the quota of its control group.",
            kind: ParamKind::Count,
            default: 10,
            min: 1,
            max: 100,
        },
        Param {
            name: "memory",
            help: "RAM of each of them, a multiple of 2 MiB.",
            kind: ParamKind::Bytes,
            default: 16 << 20,
            min: 16 << 20,
            max: 1 << 40,
        },
        Param {
            name: "most",
            help: "How many of them there may be.",
            kind: ParamKind::Count,
            default: 32,
            min: 1,
            max: 1024,
        },
        Param {
            name: "window",
            help: "How long the guest is watched beside each number of them: whole periods of the quota, which are of 100 ms.",
            kind: ParamKind::Duration,
            default: SECOND / 10,
            min: SECOND / 10,
            max: 60 * SECOND,
        },
    ],
    steps: &[("memory", MEMORY_STEP_BYTES), ("window", QUOTA_PERIOD)],
    metrics: &[
        Metric {
            name: "guests-3",
            unit: Unit::Number,
            scale: Scale::Linear,
            help: "Guests beside it at which it loses 3 %, between the numbers that were tried.",
        },
        Metric {
            name: "guests-10",
            unit: Unit::Number,
            scale: Scale::Linear,
            help: "Guests beside it at which it loses 10 %.",
        },
        Metric {
            name: "loss",
            unit: Unit::Share,
            scale: Scale::Linear,
            help: "What it loses beside a single one; the plot shows what it loses beside more.",
        },
    ],
    over: Unit::Number,
    nanos: |experiment| {
        let most = experiment.param("most");
        let steps = u64::from(most.ilog2()) + 3;
        most * (SECOND / 50) + steps * (3 * experiment.param("window") / 2 + SECOND / 10)
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    /// A step of a parameter that nobody has, or one that its own default misses, would be a slip.
    #[test]
    fn steps_are_those_of_parameters_and_fit_their_defaults_and_ends() {
        for entry in ExperimentKind::ALL.map(ExperimentKind::entry) {
            for &(name, step) in entry.steps {
                let param = entry.params.iter().find(|it| it.name == name);
                let param = param.unwrap_or_else(|| panic!("{}: {name}", entry.name));
                for value in [param.default, param.min, param.max] {
                    assert_eq!(value % step, 0, "{} {name}: {value}", entry.name);
                }
            }
        }
    }
}
