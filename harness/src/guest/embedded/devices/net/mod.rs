//! virtio-net (virtio 1.2, 5.1): a network card with one pair of queues, both served by one I/O thread.
//!
//! ```text
//! receiveq  ◄── Receiving ◄──┐
//!                            ├── wire: a tap, or any descriptor that takes and gives a frame at a time
//! transmitq ──► Transmitting ┘
//! ```
//!
//! Where the host has vhost-net, its kernel can serve both queues instead ([`vhost`]).
//!
//! On the wire each frame follows a header of [`HEADER_BYTES`]. No offload is offered, so there is nothing in it for either
//! side: what the guest writes there goes no further.

pub mod receiving;
pub mod transmitting;
pub mod vhost;

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use virtio_bindings::bindings::virtio_net::{
    VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS, VIRTIO_NET_S_LINK_UP,
};
use vm_memory::GuestMemoryError;
use vtax_workloads::network::frame::{Address, LARGEST};

use super::blk::Completion;
use super::memory::{GuestMemory, Segment};
use super::mmio::{COMMON_FEATURES, Identity, Transport};
use super::ring::Ring;
use super::server::{Condition, ServeError, Service};
use super::worker::{Worker, WorkerConfig, WorkerError};
use crate::host::net::HEADER_BYTES;
use receiving::Receiving;
use transmitting::Transmitting;

/// VIRTIO_ID_NETWORK (virtio 1.2, 5.1.1); virtio-bindings does not name device types.
const VIRTIO_ID_NETWORK: u32 = 1;

/// [`HEADER_BYTES`] in the units of a segment.
const HEADER_LEN: u32 = 12;
const _: () = assert!(HEADER_LEN as usize == HEADER_BYTES);

/// Bytes of an Ethernet header.
const ETHERNET_BYTES: usize = 14;

/// Who serves the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// An I/O thread of the VMM.
    Vmm,
    /// The host's kernel.
    Vhost,
}

/// A network card.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// Takes and gives frames, each behind its header, without waiting. The kernel serves nothing but a tap.
    pub wire: Arc<OwnedFd>,
    /// Who serves the queues.
    pub backend: Backend,
    /// The guest's address.
    pub address: Address,
    /// How the guest learns of frames.
    pub completion: Completion,
    /// How long the thread polls before it sleeps, in nanoseconds.
    pub poll_nanos: u64,
    /// The CPU of the thread; `None` leaves it to the scheduler.
    pub io_cpu: Option<u32>,
}

/// The device's type, features and configuration space.
#[must_use]
pub fn identity(address: Address) -> Identity {
    // struct virtio_net_config (5.1.4), field by field.
    let mut config = address.to_vec(); // mac
    config.extend([VIRTIO_NET_S_LINK_UP.to_le_bytes()[0], 0]); // status
    config.extend(1_u16.to_le_bytes()); // max_virtqueue_pairs
    let mtu = u16::try_from(LARGEST - ETHERNET_BYTES).unwrap_or(u16::MAX);
    config.extend(mtu.to_le_bytes()); // mtu
    Identity {
        id: VIRTIO_ID_NETWORK,
        features: COMMON_FEATURES
            | 1 << VIRTIO_NET_F_MAC
            | 1 << VIRTIO_NET_F_MTU
            | 1 << VIRTIO_NET_F_STATUS,
        config: Arc::new(config),
    }
}

/// Makes the device with an I/O thread of the VMM, and starts it.
///
/// # Errors
/// A thread cannot be had, or not on its CPU.
pub fn device(config: &NetConfig, memory: GuestMemory) -> Result<Transport<Worker>, WorkerError> {
    let condition: Arc<Condition> = Arc::default();
    let worker = WorkerConfig {
        name: "net".to_owned(),
        cpu: config.io_cpu,
        poll: Duration::from_nanos(config.poll_nanos),
        interrupts: config.completion == Completion::Interrupt,
    };
    let wire = Arc::clone(&config.wire);
    // In the order of the queues (5.1.2). One thread for both: on the way there and back it is still awake for the next
    // frame when the answer has been delivered, where a second thread would first have to be woken.
    let workers = Worker::spawn_for(&worker, Arc::clone(&condition), |[_, tally]| {
        Ok([
            Queue::Receive(Receiving::new(Arc::clone(&wire))),
            Queue::Transmit(Transmitting::new(wire, tally)),
        ])
    })?;
    Ok(Transport::new(
        identity(config.address),
        memory,
        workers.into(),
        condition,
    ))
}

/// Either queue.
#[derive(Debug)]
enum Queue {
    Receive(Receiving),
    Transmit(Transmitting),
}

impl Service for Queue {
    const SYSTEM_CALLS: &'static [i64] = &[libc::SYS_readv, libc::SYS_writev];

    fn serve(&mut self, ring: &mut Ring) -> Result<usize, ServeError> {
        match self {
            Self::Receive(queue) => queue.serve(ring),
            Self::Transmit(queue) => queue.serve(ring),
        }
    }

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Receive(queue) => queue.wake(),
            Self::Transmit(queue) => queue.wake(),
        }
    }

    fn wants_kicks(&self) -> bool {
        match self {
            Self::Receive(queue) => queue.wants_kicks(),
            Self::Transmit(queue) => queue.wants_kicks(),
        }
    }

    fn abandon(&mut self) {
        match self {
            Self::Receive(queue) => queue.abandon(),
            Self::Transmit(queue) => queue.abandon(),
        }
    }
}

/// The header of every frame that the guest receives: no flags, no offload, one buffer (5.1.6.4.1).
const RECEIVED: [u8; HEADER_BYTES] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];

/// Segments of guest memory as the kernel takes them, behind a header of the harness's own. Kept from frame to frame, for
/// its allocation alone.
#[derive(Debug, Default)]
struct Vectors(Vec<libc::iovec>);

// SAFETY: what it holds between two calls is never looked at: each fills it anew.
unsafe impl Send for Vectors {}

impl Vectors {
    /// Reads a frame into the segments; the bytes of header and frame together.
    fn read(
        &mut self,
        wire: &OwnedFd,
        memory: &GuestMemory,
        segments: &[Segment],
    ) -> Result<io::Result<usize>, GuestMemoryError> {
        let mut header = [0; HEADER_BYTES];
        self.with(&mut header, memory, segments, |vectors, count| {
            // SAFETY: each vector is the header, which lives through the call, or guest memory, which nobody has references
            // into and which stays mapped as long as `memory` does. A chain has fewer buffers than UIO_MAXIOV.
            unsafe { libc::readv(wire.as_raw_fd(), vectors, count) }
        })
    }

    /// Writes the segments as a frame.
    fn write(
        &mut self,
        wire: &OwnedFd,
        memory: &GuestMemory,
        segments: &[Segment],
    ) -> Result<io::Result<usize>, GuestMemoryError> {
        let mut header = [0; HEADER_BYTES];
        self.with(&mut header, memory, segments, |vectors, count| {
            // SAFETY: as in `read`.
            unsafe { libc::writev(wire.as_raw_fd(), vectors, count) }
        })
    }

    /// Lets `call` have the vectors; `header` and `memory` outlive it.
    fn with(
        &mut self,
        header: &mut [u8; HEADER_BYTES],
        memory: &GuestMemory,
        segments: &[Segment],
        call: impl FnOnce(*const libc::iovec, libc::c_int) -> libc::ssize_t,
    ) -> Result<io::Result<usize>, GuestMemoryError> {
        self.0.clear();
        self.0.push(libc::iovec {
            iov_base: header.as_mut_ptr().cast(),
            iov_len: HEADER_BYTES,
        });
        for &segment in segments {
            let slice = memory.segment(segment)?;
            self.0.push(libc::iovec {
                iov_base: slice.ptr_guard_mut().as_ptr().cast(),
                iov_len: slice.len(),
            });
        }
        let count = libc::c_int::try_from(self.0.len()).unwrap_or(libc::c_int::MAX);
        let result = call(self.0.as_ptr(), count);
        Ok(usize::try_from(result).map_err(|_| io::Error::last_os_error()))
    }
}
