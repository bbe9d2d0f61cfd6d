//! What a run needs of the host before its first boot: KVM, the image, the clock and what entering a guest costs.

use std::time::Duration;

use kvm_ioctls::Kvm;
use vtax_reports::record::ClockBound;
use vtax_scenarios::memory::MIN_MEMORY_BYTES;
use vtax_scenarios::plan::{Backing, PageSize, Topology};
use vtax_workloads::abi::Op;
use vtax_workloads::machine::RAM_BASE;

use crate::guest::Executor as _;
use crate::guest::embedded::{self, Vm, VmConfig, VmError};
use crate::guest::fault::GuestFault;
use crate::guest::image::{Image, ImageError};
use crate::guest::layout;
use crate::guest::mailbox::{Mailbox, MailboxError, Request};
use crate::guest::ram::{Ram, RamConfig, RamError};
use crate::host::affinity::{AffinityError, allowed_cpus};
use crate::host::tsc::{TscClock, TscError, now_raw_nanos};

/// How long the clock is calibrated.
const CALIBRATION: Duration = Duration::from_millis(100);

/// Share of a block by which the two clocks may differ.
const RELATIVE_BOUND: f64 = 0.001;

/// What they may differ by on top: a timer tick between the two, and, added to it, the cost of entering the guest once
/// more, since under load it varies by about itself.
const ABSOLUTE_BOUND_NANOS: u64 = 50_000;

/// How many empty requests its measurement is the best of.
const EMPTY_REQUESTS: u32 = 32;

/// Why nothing can be measured here.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// No KVM, or a guest that does not start.
    #[error(
        "this host cannot run a KVM guest: {0}; `vtax doctor` says what is missing and how to get it"
    )]
    Kvm(#[from] VmError),
    /// A guest starts but does not work.
    #[error("this host's KVM does not run the guest image: {0}")]
    Guest(#[from] GuestFault),
    /// A guest answers, but not as it should.
    #[error("this host's KVM does not run the guest image: {0}")]
    Mailbox(#[from] MailboxError),
    /// No memory for a small guest.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// The binary's own image is broken.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// No usable clock.
    #[error(transparent)]
    Clock(#[from] TscError),
    /// The CPUs of this process cannot be read.
    #[error(transparent)]
    Affinity(#[from] AffinityError),
}

/// What stays the same for all boots of a run.
#[derive(Debug)]
pub struct Rig {
    /// /dev/kvm.
    pub kvm: Kvm,
    /// The guest image.
    pub image: Image,
    /// The payload's clock.
    pub clock: TscClock,
    /// How far it may differ from the harness's in a block.
    pub bound: ClockBound,
    /// CLOCK_MONOTONIC_RAW at the start of the run.
    pub run_start: u64,
    /// CPUs that this process may use.
    pub cpus: Vec<u32>,
}

impl Rig {
    /// Opens KVM, calibrates the clock and tries the image in a small guest.
    ///
    /// # Errors
    /// [`RigError`]: this host cannot measure anything.
    pub fn prepare() -> Result<Self, RigError> {
        let kvm = embedded::open()?;
        let image = Image::embedded()?;
        let entry_nanos = entry_cost(&kvm, &image)?;
        Ok(Self {
            clock: TscClock::calibrate(CALIBRATION)?,
            bound: ClockBound {
                relative: RELATIVE_BOUND,
                absolute_nanos: ABSOLUTE_BOUND_NANOS + entry_nanos,
                entry_nanos,
            },
            run_start: now_raw_nanos(),
            cpus: allowed_cpus()?,
            kvm,
            image,
        })
    }
}

/// Nanoseconds from the harness into the guest and back, around a request that does nothing: the best of some.
fn entry_cost(kvm: &Kvm, image: &Image) -> Result<u64, RigError> {
    let ram = Ram::map(&RamConfig {
        address: RAM_BASE,
        len: MIN_MEMORY_BYTES,
        backing: Backing::Small,
        prefault: false,
        numa_node: None,
    })?;
    let config = VmConfig {
        page_size: PageSize::Size4K,
        topology: Topology {
            sockets: 1,
            cores: 1,
            threads: 1,
        },
        vcpus: 1,
        interrupts: false,
    };
    let vm = Vm::create(kvm, &ram, image, config)?;
    let mut vcpu = vm.vcpu(0)?;
    let mailbox = Mailbox::new(&ram, layout::mailbox(0));
    let nothing = Request {
        op: Op::Touch,
        workload: 0,
        arena: RAM_BASE + layout::arena(MIN_MEMORY_BYTES, 1, 0),
        arena_len: 0,
        iterations: 0,
        planted: 0,
        params: [0; vtax_workloads::MAX_PARAMS],
        seed: 0,
    };
    let mut best = u64::MAX;
    for _ in 0..EMPTY_REQUESTS {
        mailbox.put(&nothing)?;
        let start = now_raw_nanos();
        vcpu.execute()?;
        best = best.min(now_raw_nanos() - start);
        mailbox.take()?;
    }
    Ok(best)
}
