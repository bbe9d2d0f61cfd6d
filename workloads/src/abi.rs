//! The mailbox between the harness and the payload: one per vCPU, in guest memory, at the same virtual address on
//! both sides.

use crate::Latencies;

/// Changes whenever the layout of [`Mailbox`] or [`Header`] or the meaning of a field changes.
pub const ABI_VERSION: u64 = 2;

/// `"VTAXBARE"`: the first eight bytes of [`Header`].
pub const HEADER_MAGIC: u64 = u64::from_le_bytes(*b"VTAXBARE");

/// How many single latencies a block can hand back; further ones are dropped and counted in
/// [`Mailbox::latencies_dropped`].
pub const LATENCY_SLOTS: usize = 8192;

/// Gate number for a deliberate triple fault, from `fault-triple`.
///
/// The other gates stand in [`crate::machine`].
pub const GATE_TRIPLE_FAULT: u64 = 3;

/// What the payload is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Op {
    /// Lay out the arena for the workload. Not timed.
    Setup = 1,
    /// Do [`Mailbox::iterations`] units of work, timed.
    Run = 2,
    /// Read one byte of every 4 KiB page of the arena, so that later blocks meet no page fault. Not timed.
    Touch = 3,
    /// Return a hash of the image's code as this side sees it, and the address it runs at.
    Identity = 4,
    /// Guest only: as [`Op::Run`], and then [`Mailbox::planted`] port exits within the time: a loss of known cause.
    RunAndExit = 5,
    /// Guest only: arm the TSC-deadline timer and halt, [`Mailbox::iterations`] times, `params[0]` ticks ahead each.
    TimerProbe = 16,
    /// Guest only: send [`Mailbox::iterations`] IPIs to APIC id `params[0]`, `params[1]` ticks apart.
    IpiSend = 17,
    /// Guest only: spin until [`Mailbox::iterations`] IPIs have arrived.
    IpiAwait = 18,
    /// Guest only: carry out the first [`Mailbox::iterations`] of the [`Access`]es that the arena holds.
    Access = 19,
    /// Guest only: tell the harness by [`Signals::begun`], wait until the host asks the memory device at address `params[0]`
    /// for another size, follow, and write a word of each 4 KiB page that is new. The checksum is the device's memory in
    /// bytes.
    ///
    /// [`Signals::begun`]: crate::machine::Signals::begun
    Resize = 20,
    /// Guest only: write the arena word by word, a page apart, over and over, from [`Signals::begun`] to
    /// [`Signals::stop`]. The checksum is the longest step from one word to the next in TSC ticks.
    ///
    /// [`Signals::begun`]: crate::machine::Signals::begun
    /// [`Signals::stop`]: crate::machine::Signals::stop
    Watch = 21,
}

/// An access to the registers of the guest's devices, as a test prescribes it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Access {
    /// Where, from the first register of all devices. Beyond the last nothing is done.
    pub offset: u64,
    /// What to write; after a read, what was read; for a wait, the bits of which one must appear.
    pub value: u64,
    /// Bytes: 1, 2, 4 or 8. With others nothing is done.
    pub width: u32,
    /// [`Access::READ`], [`Access::WRITE`] or [`Access::AWAIT`].
    pub kind: u32,
}

impl Access {
    /// Read.
    pub const READ: u32 = 0;
    /// Write.
    pub const WRITE: u32 = 1;
    /// Read until a bit of `value` is there, for some seconds at most; `value` is then what was read.
    pub const AWAIT: u32 = 2;
}

impl Op {
    /// The operation of this number.
    #[must_use]
    pub fn of(number: u64) -> Option<Self> {
        [
            Self::Setup,
            Self::Run,
            Self::Touch,
            Self::Identity,
            Self::TimerProbe,
            Self::IpiSend,
            Self::IpiAwait,
            Self::Access,
            Self::Resize,
            Self::Watch,
        ]
        .into_iter()
        .find(|op| *op as u64 == number)
    }
}

/// What became of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Status {
    /// The payload has not answered (yet).
    Pending = 0,
    /// Done; the outcome fields are valid.
    Done = 1,
    /// No such operation, workload or parameter, or the arena is too small.
    Rejected = 2,
    /// Begun, and came to nothing: the machine around the payload has failed. The checksum says at what, in the task's
    /// own terms.
    Failed = 3,
}

/// The request and its outcome. Page-aligned; the harness zeroes it before each request.
///
/// All fields are plain integers: every bit pattern is valid, so the harness may read whatever a guest left here.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(4096))]
pub struct Mailbox {
    /// An [`Op`].
    pub op: u64,
    /// Index into [`crate::CATALOGUE`].
    pub workload: u64,
    /// Virtual address of the arena, aligned to 2 MiB unless the guest is smaller than that allows.
    pub arena: u64,
    /// Its length in bytes.
    pub arena_len: u64,
    /// Units of work to do in a [`Op::Run`].
    pub iterations: u64,
    /// Units of work to do right before those, neither timed nor accounted, so that caches, TLBs and predictors are as the
    /// work itself leaves them. Of code that both sides share alone.
    pub run_in: u64,
    /// Further units of work that are timed but not accounted: a planted slowdown (`vtax selftest`). Normally 0.
    pub planted: u64,
    /// The workload's parameters, in the order of [`crate::Workload::params`].
    pub params: [u64; crate::MAX_PARAMS],
    /// Seed of whatever the workload draws at random.
    pub seed: u64,

    /// A [`Status`].
    pub status: u64,
    /// The workload's checksum; for [`Op::Identity`] the hash of the code.
    pub checksum: u64,
    /// TSC before the run-in.
    pub tsc_begin: u64,
    /// TSC before the work.
    pub tsc_start: u64,
    /// TSC after the work.
    pub tsc_end: u64,
    /// For [`Op::Identity`]: the address the payload function runs at.
    pub code_address: u64,
    /// How many entries of [`Mailbox::latencies`] are valid.
    pub latencies_len: u64,
    /// Latencies that found no slot.
    pub latencies_dropped: u64,
    /// Single latencies in TSC ticks, from workloads that time each operation ([`crate::Workload::latencies`]).
    pub latencies: [u32; LATENCY_SLOTS],
}

impl Mailbox {
    /// A recorder of single latencies, with none in it yet.
    pub fn recorder(&mut self) -> Latencies<'_> {
        self.latencies_len = 0;
        self.latencies_dropped = 0;
        Latencies::new(
            &mut self.latencies,
            &mut self.latencies_len,
            &mut self.latencies_dropped,
        )
    }
}

/// Stands at the very start of the guest image, so that the harness finds its entry points without symbols.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Header {
    /// [`HEADER_MAGIC`].
    pub magic: u64,
    /// [`ABI_VERSION`].
    pub abi: u64,
    /// `extern "sysv64" fn(*mut Mailbox)`: the payload. The harness calls it for the native side.
    pub payload: u64,
    /// Where a vCPU starts, in ring 3, with the address of its mailbox in RDI.
    pub ring3_entry: u64,
    /// Ring-0 handlers, one per IDT vector, at `ring0_vectors + vector * ring0_vector_stride`.
    pub ring0_vectors: u64,
    /// Distance between two ring-0 handlers in bytes.
    pub ring0_vector_stride: u64,
    /// First byte of the code that [`Op::Identity`] hashes.
    pub text_start: u64,
    /// One past its last byte.
    pub text_end: u64,
}

/// FNV-1a over `bytes`: the hash that [`Op::Identity`] returns and the harness compares.
///
/// Source: Fowler, Noll, Vo, "The FNV Non-Cryptographic Hash Algorithm".
#[must_use]
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
