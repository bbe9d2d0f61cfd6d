//! How much memory the device has, should have and may have: what its configuration space says (virtio 1.2, 5.15.4).

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::mmio::Configuration;
use super::{BLOCK_BYTES, Region};
use crate::host::tsc::now_raw_nanos;

/// The sizes of a device. The host changes them, the device's thread does, and the guest reads them.
#[derive(Debug)]
pub struct Sizes {
    region: Region,
    now: Mutex<Now>,
}

/// The sizes that change, in bytes: multiples of [`BLOCK_BYTES`], none beyond the region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// What the guest should have.
    pub requested: u64,
    /// What it has.
    pub plugged: u64,
    /// From the region's start: where it may plug blocks.
    pub usable: u64,
    /// CLOCK_MONOTONIC_RAW in nanoseconds when it last got what was requested.
    pub settled_nanos: u64,
    generation: u32,
}

impl Sizes {
    /// Those of a device without any memory.
    #[must_use]
    pub fn new(region: Region) -> Self {
        Self {
            region,
            now: Mutex::default(),
        }
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> Region {
        self.region
    }

    /// The sizes as they stand.
    #[must_use]
    pub fn now(&self) -> Now {
        *self.lock()
    }

    /// The host wants the guest to have so much: whole blocks, at most the region. The usable part grows along.
    pub fn request(&self, bytes: u64) {
        let bytes = bytes.min(self.region.len) / BLOCK_BYTES * BLOCK_BYTES;
        self.change(|now| {
            now.requested = bytes;
            now.usable = now.usable.max(bytes);
        });
    }

    /// The guest has so much now.
    pub(super) fn plugged(&self, bytes: u64) {
        self.change(|now| {
            now.plugged = bytes;
            if bytes == now.requested {
                now.settled_nanos = now_raw_nanos();
            }
        });
    }

    /// Nothing is plugged any more: the usable part may shrink to what is requested, now and never else (5.15.6.5).
    pub(super) fn unplugged_all(&self) {
        self.plugged(0);
        self.change(|now| now.usable = now.requested);
    }

    fn change(&self, act: impl FnOnce(&mut Now)) {
        let mut now = self.lock();
        act(&mut now);
        now.generation = now.generation.wrapping_add(1);
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Configuration for Sizes {
    fn bytes(&self) -> Vec<u8> {
        let now = self.now();
        // struct virtio_mem_config, field by field: block_size, node_id and padding, addr, region_size,
        // usable_region_size, plugged_size, requested_size.
        [
            BLOCK_BYTES,
            0,
            self.region.address(),
            self.region.len,
            now.usable,
            now.plugged,
            now.requested,
        ]
        .into_iter()
        .flat_map(u64::to_le_bytes)
        .collect()
    }

    fn generation(&self) -> u32 {
        self.lock().generation
    }
}
