//! The list of workloads and what an entry says.

use crate::abi::LATENCY_SLOTS;
use crate::{block, cpu, diagnostic, latency, memory, network};

/// Most parameters a workload may have.
pub const MAX_PARAMS: usize = 4;

/// What a workload mainly loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Work whose data stays in the core's caches.
    Cpu,
    /// Work bound by caches, TLBs, page tables or memory.
    Memory,
    /// What the machine does in between: exits, interrupts, wake-ups, timers, gaps.
    Latency,
    /// A disk.
    Block,
    /// A network link.
    Network,
    /// Deliberate guest faults, for trying out how vtax reports them. Never measured by default.
    Diagnostic,
}

/// Whether a larger value of a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Rates: `value = amount_per_iteration × iterations / nanoseconds`.
    HigherIsBetter,
    /// Times: `value = nanoseconds / (amount_per_iteration × iterations)`.
    LowerIsBetter,
}

/// How time becomes the figure that a reader sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// Label of the unit, such as `ns/load` or `GB/s`.
    pub unit: &'static str,
    /// Which way is better; decides the formula too.
    pub direction: Direction,
    /// Amount of work in one iteration, in the unit's terms (bytes for `GB/s`, loads for `ns/load`).
    pub amount_per_iteration: f64,
}

impl Metric {
    /// The metric's value for `iterations` units of work done in `nanos` nanoseconds.
    #[must_use]
    pub fn value(&self, iterations: u64, nanos: f64) -> f64 {
        let amount = self.amount_per_iteration * iterations as f64;
        match self.direction {
            Direction::HigherIsBetter => amount / nanos,
            Direction::LowerIsBetter => nanos / amount,
        }
    }
}

/// What kind of value a parameter takes in a scenario file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// A size such as `"64KiB"`; the value is in bytes.
    Bytes,
    /// A plain number.
    Count,
    /// A time such as `"100us"`; the value is in nanoseconds.
    Duration,
    /// One of these words; the value is the word's index.
    Choice(&'static [&'static str]),
}

/// A parameter of a workload.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Its key in a scenario file.
    pub name: &'static str,
    /// What it takes.
    pub kind: ParamKind,
    /// Its value where the scenario says nothing.
    pub default: u64,
    /// Smallest allowed value.
    pub min: u64,
    /// Largest allowed value.
    pub max: u64,
    /// One line of help.
    pub help: &'static str,
}

/// CPU features beyond baseline x86-64 that a workload needs, as a set of flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features(pub u32);

impl Features {
    /// Baseline x86-64 (SSE2).
    pub const NONE: Self = Self(0);
    /// POPCNT, LZCNT, BMI1 and BMI2.
    pub const BITS: Self = Self(1);
    /// AES-NI.
    pub const AES: Self = Self(2);
    /// AVX2 and FMA, with the operating system's support for YMM state.
    pub const AVX2: Self = Self(4);
    /// AVX-512F, with the operating system's support for ZMM state.
    pub const AVX512: Self = Self(8);

    /// Whether all of `other` is in `self`.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The names of the features in the set, as in `/proc/cpuinfo`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (Self::BITS, "popcnt lzcnt bmi1 bmi2"),
            (Self::AES, "aes"),
            (Self::AVX2, "avx2 fma"),
            (Self::AVX512, "avx512f"),
        ]
        .into_iter()
        .filter(move |&(feature, _)| self.contains(feature))
        .map(|(_, name)| name)
    }
}

/// The single latencies of a block, for workloads that time each operation.
pub struct Latencies<'a> {
    slots: &'a mut [u32; LATENCY_SLOTS],
    len: &'a mut u64,
    dropped: &'a mut u64,
}

impl<'a> Latencies<'a> {
    /// A recorder over a mailbox's fields.
    pub fn new(
        slots: &'a mut [u32; LATENCY_SLOTS],
        len: &'a mut u64,
        dropped: &'a mut u64,
    ) -> Self {
        Self {
            slots,
            len,
            dropped,
        }
    }

    /// Records one latency in TSC ticks; saturates at `u32::MAX`.
    #[inline]
    pub fn record(&mut self, ticks: u64) {
        match self.slots.get_mut(*self.len as usize) {
            Some(slot) => {
                *slot = u32::try_from(ticks).unwrap_or(u32::MAX);
                *self.len += 1;
            }
            None => *self.dropped += 1,
        }
    }

    /// How much has been recorded and dropped so far, for [`Latencies::rewind`].
    pub(crate) fn mark(&self) -> (u64, u64) {
        (*self.len, *self.dropped)
    }

    /// Forgets all that came after `mark`.
    pub(crate) fn rewind(&mut self, (len, dropped): (u64, u64)) {
        *self.len = len;
        *self.dropped = dropped;
    }
}

/// What the harness must do to the arena before every timed block, on both sides alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepare {
    /// Nothing: the block finds the arena as the last one left it.
    Nothing,
    /// Give the arena's pages back to the host (`MADV_DONTNEED`), so that the block takes every page anew.
    Discard,
}

/// Lays out the arena. `arena` is at least [`Workload::footprint`] bytes.
pub type SetupFn = fn(arena: &mut [u8], params: &[u64; MAX_PARAMS], seed: u64);

/// Does `iterations` units of work and returns a checksum that depends on nothing but the arguments and `setup`:
/// a second call with the same arguments returns the same value.
pub type RunFn = fn(
    arena: &mut [u8],
    params: &[u64; MAX_PARAMS],
    iterations: u64,
    seed: u64,
    latencies: &mut Latencies<'_>,
) -> u64;

/// Who does a workload's work.
#[derive(Clone, Copy)]
pub enum Body {
    /// One code for both sides, in the payload.
    Shared {
        /// Lays out the arena.
        setup: SetupFn,
        /// Does the work.
        run: RunFn,
    },
    /// Each side in its own way: the guest by the image's own code, the host by the harness's.
    PerSide(Task),
}

/// What a workload asks of the machine around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Execute CPUID.
    Cpuid,
    /// Write to an I/O port that the VMM answers.
    Port,
    /// Read a register of a device that the VMM emulates.
    Mmio,
    /// Execute VMCALL or VMMCALL, whichever the CPU has.
    Hypercall,
    /// Write an MSR in ring 0.
    Msr,
    /// Write a register that KVM turns into an event.
    Kick,
    /// Take interrupts that a partner sends.
    Inject,
    /// Send interrupts to another vCPU.
    Ipi,
    /// Sleep until a partner wakes the sleeper.
    Wake,
    /// Sleep until a point in time.
    Timer,
    /// Wait for a partner's answer in memory.
    Mailbox,
    /// Halt with nothing that would wake the vCPU.
    Sleep,
    /// Read or write blocks of the disk in random order.
    BlockRandom,
    /// Read or write the disk from its start.
    BlockSequential,
    /// Write blocks, each followed by a flush.
    BlockFlush,
    /// Send a frame and await its echo.
    NetPing,
    /// Send frames as fast as they are acknowledged.
    NetStream,
}

/// What a block's figure is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// The whole block's time over its units of work.
    Block,
    /// The median of the single latencies, for blocks that mostly wait on purpose.
    Latencies,
}

impl Task {
    /// Whether the question exists on the host too. Where it does not, the guest's cost is the result, and there is no
    /// ratio.
    #[must_use]
    pub const fn has_native_twin(self) -> bool {
        match self {
            Self::Wake
            | Self::Timer
            | Self::Mailbox
            | Self::BlockRandom
            | Self::BlockSequential
            | Self::BlockFlush
            | Self::NetPing
            | Self::NetStream => true,
            Self::Cpuid
            | Self::Port
            | Self::Mmio
            | Self::Hypercall
            | Self::Msr
            | Self::Kick
            | Self::Inject
            | Self::Ipi
            | Self::Sleep => false,
        }
    }

    /// Whether each of its operations is there to leave the guest.
    #[must_use]
    pub const fn is_exit(self) -> bool {
        matches!(
            self,
            Self::Cpuid | Self::Port | Self::Mmio | Self::Hypercall | Self::Msr | Self::Kick
        )
    }

    /// Whether the guest takes interrupts for it, or drives its interrupt controller.
    #[must_use]
    pub const fn needs_interrupts(self) -> bool {
        matches!(
            self,
            Self::Msr | Self::Inject | Self::Ipi | Self::Wake | Self::Timer | Self::Sleep
        )
    }

    /// Whether each vCPU works with a thread of the host on another CPU, its partner.
    #[must_use]
    pub const fn needs_partner(self) -> bool {
        matches!(self, Self::Inject | Self::Wake | Self::Mailbox)
    }

    /// How many vCPUs work together: the guest must have a multiple of it.
    #[must_use]
    pub const fn vcpus_together(self) -> u32 {
        match self {
            Self::Ipi => 2,
            _ => 1,
        }
    }

    /// What its figure is made of.
    #[must_use]
    pub const fn figure(self) -> Figure {
        match self {
            Self::Inject | Self::Ipi | Self::Wake | Self::Timer => Figure::Latencies,
            _ => Figure::Block,
        }
    }

    /// Nanoseconds from one operation to the next where the task itself waits in between, about as long as here; the
    /// checksum of such a task is the number of operations. `None`: one follows the other, and the time is to be found.
    #[must_use]
    pub const fn pace_nanos(self, params: &[u64; MAX_PARAMS]) -> Option<u64> {
        match self {
            Self::Inject | Self::Ipi => Some(PAUSE_NANOS),
            Self::Wake => Some(params[0].saturating_add(PAUSE_NANOS)),
            Self::Timer => Some(params[0]),
            _ => None,
        }
    }

    /// What it does with the guest's disk, given its parameters; `None` where it needs no disk.
    #[must_use]
    pub fn disk_job(self, params: &[u64; MAX_PARAMS]) -> Option<block::Job> {
        match self {
            Self::BlockRandom => Some(block::Job::random(params)),
            Self::BlockSequential => Some(block::Job::sequential(params)),
            Self::BlockFlush => Some(block::Job::FLUSH),
            _ => None,
        }
    }

    /// What it does with the guest's network link, given its parameters; `None` where it needs no link.
    #[must_use]
    pub fn net_job(self, params: &[u64; MAX_PARAMS]) -> Option<network::Job> {
        let kind = match self {
            Self::NetPing => network::Kind::Ping,
            Self::NetStream => network::Kind::Stream,
            _ => return None,
        };
        Some(network::Job::new(kind, params))
    }
}

/// Pause before an interrupt is sent: long enough for its receiver to come to rest, to spin or to halt, even where ring 0
/// is emulated.
pub const PAUSE_NANOS: u64 = 100_000;

/// One workload.
pub struct Workload {
    /// Its name in scenario files and results, such as `cpu-hash`.
    pub name: &'static str,
    /// What it mainly loads.
    pub family: Family,
    /// A short title for reports.
    pub title: &'static str,
    /// What it stresses, in one or two sentences.
    pub stresses: &'static str,
    /// Where the idea comes from.
    pub source: &'static str,
    /// How time becomes the figure.
    pub metric: Metric,
    /// Its parameters.
    pub params: &'static [Param],
    /// CPU features that these parameter values need.
    pub requires: fn(params: &[u64; MAX_PARAMS]) -> Features,
    /// Bytes of arena that these parameter values need.
    pub footprint: fn(params: &[u64; MAX_PARAMS]) -> u64,
    /// What has to happen before each block.
    pub prepare: Prepare,
    /// Most iterations that one block may hold (the arena may run out); `u64::MAX` where there is no limit.
    pub max_iterations: fn(params: &[u64; MAX_PARAMS]) -> u64,
    /// How many iterations it takes until caches and page tables are as this work leaves them, where something else had the
    /// core before; 0 where that is a matter of microseconds.
    pub settles_after: fn(params: &[u64; MAX_PARAMS]) -> u64,
    /// Whether it hands back single latencies.
    pub latencies: bool,
    /// Who does the work.
    pub body: Body,
}

impl Workload {
    /// Whether it is measured on the host too, so that there is a ratio.
    #[must_use]
    pub const fn has_native_twin(&self) -> bool {
        match self.body {
            Body::Shared { .. } => true,
            Body::PerSide(task) => task.has_native_twin(),
        }
    }

    /// The task, where each side does the work in its own way.
    #[must_use]
    pub const fn task(&self) -> Option<Task> {
        match self.body {
            Body::Shared { .. } => None,
            Body::PerSide(task) => Some(task),
        }
    }

    /// What its figure is made of.
    #[must_use]
    pub const fn figure(&self) -> Figure {
        match self.body {
            Body::Shared { .. } => Figure::Block,
            Body::PerSide(task) => task.figure(),
        }
    }
}

/// The parameters' default values, in order; unused places are 0.
#[must_use]
pub fn default_params(workload: &Workload) -> [u64; MAX_PARAMS] {
    let mut values = [0; MAX_PARAMS];
    for (value, param) in values.iter_mut().zip(workload.params) {
        *value = param.default;
    }
    values
}

/// The workload of this name and its index in [`CATALOGUE`].
#[must_use]
pub fn find(name: &str) -> Option<(usize, &'static Workload)> {
    CATALOGUE
        .iter()
        .enumerate()
        .find(|(_, workload)| workload.name == name)
}

/// Every workload. The index is the number in [`crate::abi::Mailbox::workload`].
pub static CATALOGUE: &[Workload] = &[
    cpu::hash::ENTRY,
    cpu::divide::ENTRY,
    cpu::branch::ENTRY,
    cpu::matmul::ENTRY,
    cpu::aes::ENTRY,
    cpu::bits::ENTRY,
    cpu::lookup::ENTRY,
    cpu::calls::ENTRY,
    memory::latency::ENTRY,
    memory::stream::ENTRY,
    memory::random_update::ENTRY,
    memory::first_touch::ENTRY,
    memory::tlb::ENTRY,
    latency::CPUID,
    latency::PORT,
    latency::MMIO,
    latency::HYPERCALL,
    latency::MSR,
    latency::KICK,
    latency::INJECT,
    latency::IPI,
    latency::WAKE,
    latency::TIMER,
    latency::GAPS,
    latency::MAILBOX,
    latency::CLOCK,
    block::RANDOM,
    block::SEQUENTIAL,
    block::FLUSH,
    network::PING,
    network::STREAM,
    diagnostic::PAGE,
    diagnostic::UD,
    diagnostic::GP,
    diagnostic::TRIPLE,
    diagnostic::HANG,
    diagnostic::STORM,
    diagnostic::HALT,
];

/// For entries that run on any x86-64 CPU.
pub(crate) fn baseline(_params: &[u64; MAX_PARAMS]) -> Features {
    Features::NONE
}

/// For entries that live in the core, or whose sides do the work in their own ways.
pub(crate) fn at_once(_params: &[u64; MAX_PARAMS]) -> u64 {
    0
}

/// For entries that can go on for ever.
pub(crate) fn unlimited(_params: &[u64; MAX_PARAMS]) -> u64 {
    u64::MAX
}
