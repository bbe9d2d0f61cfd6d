//! What a run needs of the host before its first boot: KVM, the image, the clock and what entering a guest costs.

use std::time::Duration;

use vtax_reports::record::ClockBound;

use crate::disks::Disks;
use crate::guest::Failure;
use crate::guest::embedded::{self, VmError};
use crate::guest::image::{Image, ImageError};
use crate::guest::mailbox::MailboxError;
use crate::guest::ram::RamError;
use crate::host::affinity::{AffinityError, allowed_cpus};
use crate::host::cgroups::Cgroups;
use crate::host::root::HostRoot;
use crate::host::tsc::{TscClock, TscError, now_raw_nanos};
use crate::trial::{self, Trial};

/// How long the clock is calibrated.
const CALIBRATION: Duration = Duration::from_millis(100);

/// Share of a block by which the two clocks may differ.
const RELATIVE_BOUND: f64 = 0.001;

/// What they may differ by on top: a timer tick between the two, and, added to it, the cost of an empty request, since
/// under load the cost of entering varies by about that.
const ABSOLUTE_BOUND_NANOS: u64 = 50_000;

/// Why nothing can be measured here.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// No KVM, or a guest that does not start.
    #[error(
        "this host cannot run a KVM guest: {0}; `vtax doctor` says what is missing and how to get it"
    )]
    Kvm(#[from] VmError),
    /// A guest starts but does not work.
    #[error("this host's KVM does not run the guest image")]
    Guest(#[from] Failure),
    /// A guest answers, but not as it should.
    #[error("this host's KVM does not run the guest image")]
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
    /// The guest's clock runs at another rate than the host's.
    #[error(
        "the guest's clock runs {:+.3} % off the host's over {} ms: nothing that a guest times here can be compared with \
         the host; look for TSC scaling (`dmesg | grep -i tsc`) or try a host with an invariant TSC",
        100.0 * .gap,
        .nanos / 1_000_000
    )]
    GuestClock {
        /// Share of the time around the guest that the guest does not see.
        gap: f64,
        /// Length of the comparison.
        nanos: u64,
    },
    /// The CPUs of this process cannot be read.
    #[error(transparent)]
    Affinity(#[from] AffinityError),
    /// No watch over a guest that might hang.
    #[error("a guest cannot be watched: {0}")]
    Watch(#[from] std::io::Error),
}

/// What stays the same for all boots of a run.
#[derive(Debug)]
pub struct Rig {
    /// The guest image.
    pub image: Image,
    /// The payload's clock.
    pub clock: TscClock,
    /// How far it may differ from the harness's in a block.
    pub bound: ClockBound,
    /// CLOCK_MONOTONIC_RAW at the start of the run, less what lay between the sessions of one that was resumed: to be
    /// subtracted with wrapping, since the host may have been started later than such a run.
    pub run_start: u64,
    /// The disks of its guests.
    pub disks: Disks,
    /// Where control groups can be made.
    pub cgroups: Cgroups,
    /// CPUs that this process may use.
    pub cpus: Vec<u32>,
}

impl Rig {
    /// Nanoseconds since the run started.
    #[must_use]
    pub fn elapsed(&self) -> u64 {
        now_raw_nanos().wrapping_sub(self.run_start)
    }

    /// Opens KVM, calibrates the clock and tries the image in a small guest.
    ///
    /// # Errors
    /// [`RigError`]: this host cannot measure anything.
    pub fn prepare() -> Result<Self, RigError> {
        let kvm = embedded::open()?;
        let image = Image::embedded()?;
        let clock = TscClock::calibrate(CALIBRATION)?;
        let Trial {
            empty_nanos,
            entry_nanos,
        } = trial::run(&kvm, &image, clock)?;
        Ok(Self {
            clock,
            bound: ClockBound {
                relative: RELATIVE_BOUND,
                absolute_nanos: ABSOLUTE_BOUND_NANOS + empty_nanos,
                entry_nanos,
            },
            run_start: now_raw_nanos(),
            disks: Disks::new(&std::env::temp_dir()),
            // A host that does not tell is one that has none: a limit is then refused by name.
            cgroups: Cgroups::of(&HostRoot::default()).unwrap_or_default(),
            cpus: allowed_cpus()?,
            image,
        })
    }
}
