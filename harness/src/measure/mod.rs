//! One boot of one cell, from fresh memory to its samples.
//!
//! ```text
//! boot::boot ──► RAM, VM, one worker thread per vCPU ──► worker: set-up, identity, warm-up, rounds ──► block ──► Sample
//! ```
//!
//! Every vCPU has one thread, which is both the vCPU's thread and its native twin's.

pub mod block;
pub mod boot;
pub mod calibrate;
pub mod disk;
pub mod native_disk;
pub mod net;
pub mod plant;
pub mod rendezvous;
pub mod worker;

use crate::disks::DisksError;
use crate::guest::Failure;
use crate::guest::embedded::VmError;
use crate::guest::embedded::devices::DeviceError;
use crate::guest::mailbox::MailboxError;
use crate::guest::ram::RamError;
use crate::host::affinity::AffinityError;
use crate::host::ksm::TooSlow;
use crate::host::net::NetError;
use crate::host::scheduling::SchedulingError;
use crate::neighbours::CrowdError;
use crate::twin::TwinError;

/// Why a boot has no result.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// Guest memory could not be had or was left.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// The guest could not be made.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The guest failed, or the host in its place.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The host cannot give the guest its network link.
    #[error(transparent)]
    Network(#[from] NetError),
    /// The host cannot give the guest its disk.
    #[error(transparent)]
    Disk(#[from] DisksError),
    /// A device of the guest's could not be made, or has stopped.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The host cannot do its side.
    #[error(transparent)]
    Twin(#[from] TwinError),
    /// Its neighbours could not be had, or one has ended.
    #[error(transparent)]
    Neighbour(#[from] CrowdError),
    /// KSM takes too long over what it was offered.
    #[error(transparent)]
    Ksm(#[from] TooSlow),
    /// KSM merged nothing of it.
    #[error(
        "KSM runs and has merged none of the pages that the cell's neighbours offer it: with nothing alike in them there is \
         nothing to measure"
    )]
    NothingMerged,
    /// The payload refused a request.
    #[error(transparent)]
    Mailbox(#[from] MailboxError),
    /// A thread could not be bound to its CPU.
    #[error(transparent)]
    Affinity(#[from] AffinityError),
    /// A thread could not be scheduled as the cell wants it.
    #[error(transparent)]
    Scheduling(#[from] SchedulingError),
    /// The two sides do not execute the same bytes.
    #[error("native and guest do not execute the same code: {0}")]
    Identity(String),
    /// A thread or the watchdog could not be started.
    #[error("starting a vCPU thread: {0}")]
    Thread(#[from] std::io::Error),
    /// Another vCPU of the same guest failed first.
    #[error("another vCPU failed")]
    Aborted,
    /// Host and guest have no clock in common.
    #[error(
        "the guest's TSC is not the host's, so what begins on one side and ends on the other cannot be timed; a KVM of Linux \
         5.16 or later lets vtax set its offset (KVM_VCPU_TSC_OFFSET)"
    )]
    OtherTsc,
    /// A workload of the diagnostic family came back.
    #[error("the diagnostic workload {0} was expected to fault and did not")]
    NoFault(String),
}
