//! The two sides of the comparison, driven through one trait.
//!
//! ```text
//! Ram (host memory at RAM_BASE) + Code (at CODE_BASE) ─┬─► native::NativeCpu     calls the payload
//!                                                      └─► embedded::EmbeddedVcpu runs it under KVM
//! ```
//!
//! Both execute the same bytes at the same virtual address on the same pages, and work on the same arena; only the
//! translation differs. What native code executes, is asked and returns to, a guest cannot write. What a
//! workload asks of the machine around it has a third way, [`crate::twin`]: the host does it itself.

pub mod code;
pub mod embedded;
pub mod fault;
pub mod image;
pub mod layout;
pub mod mailbox;
pub mod native;
pub mod qemu;
pub mod ram;
pub mod small;

use crate::twin::TwinError;
use fault::GuestFault;

/// A CPU that can carry out the request in its mailbox: the host's, or a guest's.
pub trait Executor {
    /// Carries out the request that stands in the mailbox; returns once the payload has answered.
    ///
    /// # Errors
    /// The guest's exception, its exit that nobody expected, or its silence beyond the watchdog's time; or what the host
    /// refused where it does the work itself.
    fn execute(&mut self) -> Result<Completion, Failure>;

    /// What the VMM has answered for this CPU so far; the host's own CPU asks for nothing.
    fn exits(&self) -> Exits {
        Exits::default()
    }
}

/// What the VMM did for a guest: accesses that it had to answer, the one that ends a request left out, and the time of
/// its I/O threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exits {
    /// To I/O ports.
    pub port: u64,
    /// To memory that is none.
    pub mmio: u64,
    /// CPU time of all I/O threads of the guest in nanoseconds; `None` where one has ended.
    pub io_nanos: Option<u64>,
}

impl Exits {
    /// What was added since `start`.
    #[must_use]
    pub fn since(self, start: Self) -> Self {
        Self {
            port: self.port - start.port,
            mmio: self.mmio - start.mmio,
            io_nanos: self
                .io_nanos
                .zip(start.io_nanos)
                .map(|(end, start)| end.saturating_sub(start)),
        }
    }
}

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// By the guest.
    #[error(transparent)]
    Guest(#[from] GuestFault),
    /// By the host in its place.
    #[error(transparent)]
    Twin(#[from] TwinError),
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Undisturbed.
    Clean,
    /// A signal took the vCPU out of the guest in between; the outcome is right, its time is not.
    Interrupted,
}
