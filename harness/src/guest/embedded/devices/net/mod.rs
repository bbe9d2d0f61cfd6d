//! virtio-net (virtio 1.2, 5.1): a network card with one pair of queues, each served by an I/O thread.
//!
//! ```text
//! receiveq  ◄── Receiving ◄──┐
//!                            ├── wire: a tap, or any descriptor that takes and gives a frame at a time
//! transmitq ──► Transmitting ┘
//! ```
//!
//! On the wire each frame follows a header of [`HEADER_BYTES`]. No offload is offered, so there is nothing in it for either
//! side: what the guest writes there goes no further.

pub mod receiving;
pub mod transmitting;

#[cfg(test)]
mod tests;

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use virtio_bindings::bindings::virtio_net::{
    VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS, VIRTIO_NET_S_LINK_UP,
};
use vm_memory::GuestMemoryError;
use vm_memory::volatile_memory::PtrGuardMut;
use vtax_workloads::network::frame::{Address, LARGEST};

use super::blk::Completion;
use super::memory::{GuestMemory, Segment};
use super::mmio::{COMMON_FEATURES, Identity, Transport};
use super::server::Condition;
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

/// A network card.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// Takes and gives frames, each behind its header, without waiting.
    pub wire: Arc<OwnedFd>,
    /// The guest's address.
    pub address: Address,
    /// How the guest learns of frames.
    pub completion: Completion,
    /// How long an I/O thread polls before it sleeps, in nanoseconds.
    pub poll_nanos: u64,
    /// The CPU of the I/O threads; `None` leaves them to the scheduler.
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
        config,
    }
}

/// Makes the device and starts its threads.
///
/// # Errors
/// A thread cannot be had, or not on its CPU.
pub fn device(config: &NetConfig, memory: GuestMemory) -> Result<Transport<Worker>, WorkerError> {
    let condition: Arc<Condition> = Arc::default();
    let worker = |name: &str| WorkerConfig {
        name: name.to_owned(),
        cpu: config.io_cpu,
        poll: Duration::from_nanos(config.poll_nanos),
        interrupts: config.completion == Completion::Interrupt,
    };
    let (wire, other) = (Arc::clone(&config.wire), Arc::clone(&config.wire));
    // In the order of the queues (5.1.2).
    let workers = vec![
        Worker::spawn(&worker("net-receive"), Arc::clone(&condition), |_| {
            Ok(Receiving::new(wire))
        })?,
        Worker::spawn(&worker("net-transmit"), Arc::clone(&condition), |tally| {
            Ok(Transmitting::new(other, tally))
        })?,
    ];
    Ok(Transport::new(
        identity(config.address),
        memory,
        workers,
        condition,
    ))
}

/// The header of every frame that the guest receives: no flags, no offload, one buffer (5.1.6.4.1).
const RECEIVED: [u8; HEADER_BYTES] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];

/// Segments of guest memory as the kernel takes them, behind a header of the harness's own.
struct Vectors<'a> {
    vectors: Vec<libc::iovec>,
    _header: &'a mut [u8; HEADER_BYTES],
    _guards: Vec<PtrGuardMut>,
}

impl<'a> Vectors<'a> {
    fn new(
        header: &'a mut [u8; HEADER_BYTES],
        memory: &'a GuestMemory,
        segments: &[Segment],
    ) -> Result<Self, GuestMemoryError> {
        let mut vectors = vec![libc::iovec {
            iov_base: header.as_mut_ptr().cast(),
            iov_len: HEADER_BYTES,
        }];
        let mut guards = Vec::with_capacity(segments.len());
        for &segment in segments {
            let slice = memory.segment(segment)?;
            let guard = slice.ptr_guard_mut();
            vectors.push(libc::iovec {
                iov_base: guard.as_ptr().cast(),
                iov_len: slice.len(),
            });
            guards.push(guard);
        }
        Ok(Self {
            vectors,
            _header: header,
            _guards: guards,
        })
    }

    /// Reads a frame into them; the bytes of header and frame together.
    fn read(&self, wire: &OwnedFd) -> std::io::Result<usize> {
        // SAFETY: each vector is the header, borrowed, or guest memory, which nobody has references into; both stay where
        // they are as long as `self` does. A chain has fewer buffers than UIO_MAXIOV.
        let result = unsafe { libc::readv(wire.as_raw_fd(), self.vectors.as_ptr(), self.count()) };
        usize::try_from(result).map_err(|_| std::io::Error::last_os_error())
    }

    /// Writes them as a frame.
    fn write(&self, wire: &OwnedFd) -> std::io::Result<()> {
        // SAFETY: as in `read`.
        let result = unsafe { libc::writev(wire.as_raw_fd(), self.vectors.as_ptr(), self.count()) };
        if result < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(())
    }

    fn count(&self) -> libc::c_int {
        libc::c_int::try_from(self.vectors.len()).unwrap_or(libc::c_int::MAX)
    }
}
