//! virtio-mem (virtio 1.2, 5.15): memory that a running guest is given, and gives back.
//!
//! ```text
//! host: request ──► Sizes (configuration space) ──► interrupt ──► driver
//! driver: PLUG, UNPLUG … ──► Service ──► Blocks ──► what is unplugged goes back to the host (MADV_DONTNEED)
//! ```
//!
//! The region is part of the guest's memory slots from the start, as QEMU has it by default: a guest that touches unplugged
//! blocks gets memory of the host's, but no more than the region has, and none that is anybody else's.

pub mod blocks;
pub mod sizes;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::memory::{GuestMemory, total};
use super::mmio::{COMMON_FEATURES, Identity, Transport};
use super::ring::{Chain, Ring, RingError};
use super::server::{Attached as _, Condition, ServeError, Service, Tally};
use super::worker::{Worker, WorkerConfig, WorkerError};
use crate::guest::layout;
use crate::guest::ram::Ram;
use blocks::{Blocks, REQUEST_BYTES, RESPONSE_BYTES, Response};
use sizes::{Now, Sizes};

/// VIRTIO_ID_MEM (virtio 1.2, 5.15.1).
const VIRTIO_ID_MEM: u32 = 24;

/// What is plugged at once: a large page, as with QEMU on x86-64.
pub const BLOCK_BYTES: u64 = 2 << 20;

/// A part of guest RAM, contiguous in guest-physical space too; whole blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its offset in RAM.
    pub offset: u64,
    /// Its bytes.
    pub len: u64,
}

impl Region {
    /// Guest-physical address of its first byte.
    #[must_use]
    pub fn address(&self) -> u64 {
        layout::physical(self.offset)
    }
}

/// A device for such memory.
#[derive(Clone, Copy, Debug)]
pub struct MemConfig {
    /// What it manages.
    pub region: Region,
    /// The CPU of its I/O thread; `None` leaves it to the scheduler.
    pub io_cpu: Option<u32>,
}

/// The device.
#[derive(Debug)]
pub struct Mem {
    pub(super) transport: Transport<Worker>,
    sizes: Arc<Sizes>,
}

impl Mem {
    /// Makes the device and starts its thread.
    ///
    /// # Errors
    /// A thread cannot be had, or not on its CPU.
    pub fn new(config: &MemConfig, ram: &Ram, memory: GuestMemory) -> Result<Self, WorkerError> {
        let condition: Arc<Condition> = Arc::default();
        let sizes = Arc::new(Sizes::new(config.region));
        let worker = WorkerConfig {
            name: "mem".to_owned(),
            cpu: config.io_cpu,
            poll: Duration::ZERO,
            interrupts: true,
        };
        let (service_sizes, ram) = (Arc::clone(&sizes), ram.clone());
        let worker = Worker::spawn(&worker, Arc::clone(&condition), move |tally| {
            Ok(Plugging::new(service_sizes, ram, tally))
        })?;
        let identity = identity(Arc::clone(&sizes));
        Ok(Self {
            transport: Transport::new(identity, memory, vec![worker], condition),
            sizes,
        })
    }

    /// The host wants the guest to have so many bytes of the region; the guest is told.
    pub fn request(&self, bytes: u64) {
        self.sizes.request(bytes);
        self.transport.condition().changed_configuration();
        for event in self
            .transport
            .lanes()
            .iter()
            .filter_map(Worker::interrupt_event)
        {
            // Fails only when the counter is full, and then the guest is told anyway.
            let _ = event.write(1);
        }
    }

    /// The sizes as they stand.
    #[must_use]
    pub fn sizes(&self) -> Now {
        self.sizes.now()
    }
}

/// The device's type, features and configuration space.
#[must_use]
pub fn identity(sizes: Arc<Sizes>) -> Identity {
    Identity {
        id: VIRTIO_ID_MEM,
        features: COMMON_FEATURES,
        config: sizes,
    }
}

/// Serves the request queue.
#[derive(Debug)]
pub struct Plugging {
    blocks: Blocks,
    region: Region,
    ram: Ram,
    chain: Chain,
    tally: Arc<Tally>,
}

impl Plugging {
    /// With no block plugged. Parts of `ram` that the host does not take back are counted as failed.
    #[must_use]
    pub fn new(sizes: Arc<Sizes>, ram: Ram, tally: Arc<Tally>) -> Self {
        Self {
            region: sizes.region(),
            blocks: Blocks::new(sizes),
            ram,
            chain: Chain::default(),
            tally,
        }
    }

    /// What the request in the chain comes to.
    fn answer(&mut self, ring: &Ring) -> Result<Response, RingError> {
        let mut request = [0; REQUEST_BYTES];
        if ring.memory().gather(&self.chain.readable, &mut request)? < REQUEST_BYTES {
            return Err(RingError::Incomplete("a header"));
        }
        if total(&self.chain.writable) < RESPONSE_BYTES as u64 {
            return Err(RingError::Incomplete("room for a response"));
        }
        let (ram, region, tally) = (&self.ram, self.region, &self.tally);
        Ok(self.blocks.answer(&request, |place, len| {
            let given_back = ram.discard(region.offset + place, len).is_ok();
            if !given_back {
                tally.failed.fetch_add(1, Ordering::Relaxed);
            }
            given_back
        }))
    }
}

impl Service for Plugging {
    fn serve(&mut self, ring: &mut Ring) -> Result<usize, ServeError> {
        let mut served = 0;
        while served < usize::from(ring.size()) && ring.pop(&mut self.chain)? {
            let response = self.answer(ring)?.bytes();
            let written = ring
                .memory()
                .scatter(&self.chain.writable, &response)
                .map_err(RingError::from)?;
            ring.push(self.chain.head, u32::try_from(written).unwrap_or(u32::MAX))?;
            served += 1;
        }
        Ok(served)
    }
}
