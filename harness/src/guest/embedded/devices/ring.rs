//! A virtqueue from the device's side: chains of buffers in, used ones out, and who has to be told.
//!
//! ```text
//! available ring ──► pop: a Chain whose every byte is guest memory ──► the device ──► push ──► used ring
//! ```
//!
//! The rings are the guest's words. What the virtio specification forbids a driver (2.7.5, 2.7.13.3: loops, indirect
//! tables that were not negotiated, buffers outside memory, more chains than the queue holds) is a [`RingError`], after
//! which the device asks for a reset (2.1.2).

use std::sync::atomic::Ordering;

use virtio_bindings::bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::memory::{GuestMemory, Segment};

/// A driver that broke the rules of its ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The indices or addresses of the ring make no sense.
    #[error("the driver broke its virtqueue: {0}")]
    Queue(#[from] virtio_queue::Error),
    /// A chain has no descriptor, more than the queue, or one that cannot be read.
    #[error("the driver made a chain of descriptors that has no end")]
    Endless,
    /// A chain goes on to be read where it was already to be written.
    #[error("the driver put a buffer to be read behind one to be written")]
    Order,
    /// A buffer lies outside memory.
    #[error("the driver named a buffer outside its memory: {0}")]
    Outside(#[from] GuestMemoryError),
    /// A chain lacks what every request of the device has.
    #[error("the driver made a request without {0}")]
    Incomplete(&'static str),
}

/// One request's buffers.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// Its first descriptor, by which the driver knows it.
    pub head: u16,
    /// What the device reads, all of it memory. Empty buffers are left out.
    pub readable: Vec<Segment>,
    /// What the device writes, all of it memory.
    pub writable: Vec<Segment>,
}

/// Where the parts of a queue begin, by guest-physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The descriptor table.
    pub descriptors: u64,
    /// The available ring.
    pub driver_area: u64,
    /// The used ring.
    pub device_area: u64,
}

/// A queue that the driver has set up.
#[derive(Debug)]
pub struct Ring {
    queue: Queue,
    memory: GuestMemory,
    polled: bool,
}

impl Ring {
    /// The queue as the driver described it, if its rings lie in memory.
    #[must_use]
    pub fn new(queue: Queue, memory: GuestMemory) -> Option<Self> {
        queue.is_valid(&*memory).then_some(Self {
            queue,
            memory,
            polled: false,
        })
    }

    /// The memory that its buffers lie in.
    #[must_use]
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// Number of descriptors.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// Whether the driver wants notifications by index (VIRTIO_F_EVENT_IDX).
    #[must_use]
    pub fn event_idx_enabled(&self) -> bool {
        self.queue.event_idx_enabled()
    }

    /// Where it lies, each part in one piece of memory: for the kernel, which is told no more than where a part begins.
    ///
    /// # Errors
    /// A part is not memory from end to end.
    pub fn parts(&self) -> Result<Parts, RingError> {
        let queue = &self.queue;
        let size = u32::from(queue.size());
        // Descriptors of 16 bytes; rings of flags, index, entries of 2 and 8 bytes, and an event index (virtio 1.2, 2.7).
        for (address, len) in [
            (queue.desc_table(), 16 * size),
            (queue.avail_ring(), 6 + 2 * size),
            (queue.used_ring(), 6 + 8 * size),
        ] {
            self.memory.segment(Segment { address, len })?;
        }
        Ok(Parts {
            descriptors: queue.desc_table(),
            driver_area: queue.avail_ring(),
            device_area: queue.used_ring(),
        })
    }

    /// Takes the next chain into `chain`; false when there is none.
    ///
    /// # Errors
    /// [`RingError`]: the ring is of no further use.
    pub fn pop(&mut self, chain: &mut Chain) -> Result<bool, RingError> {
        let map = &*self.memory;
        let Some(descriptors) = self.queue.iter(map)?.next() else {
            return Ok(false);
        };
        chain.head = descriptors.head_index();
        chain.readable.clear();
        chain.writable.clear();
        let mut goes_on = true;
        for descriptor in descriptors {
            goes_on = descriptor.has_next();
            let segment = Segment {
                address: descriptor.addr().0,
                len: descriptor.len(),
            };
            if segment.len == 0 {
                continue;
            }
            self.memory.segment(segment)?;
            if descriptor.is_write_only() {
                chain.writable.push(segment);
            } else if chain.writable.is_empty() {
                chain.readable.push(segment);
            } else {
                return Err(RingError::Order);
            }
        }
        if goes_on {
            return Err(RingError::Endless);
        }
        Ok(true)
    }

    /// Gives a chain back, `written` bytes of it written from the front of what is writable.
    ///
    /// # Errors
    /// The chain is not this queue's.
    pub fn push(&mut self, head: u16, written: u32) -> Result<(), RingError> {
        Ok(self.queue.add_used(&*self.memory, head, written)?)
    }

    /// Whether the driver wants an interrupt for what has been pushed since the last question (virtio 1.2, 2.7.7).
    ///
    /// # Errors
    /// The ring cannot be read.
    pub fn wants_interrupt(&mut self) -> Result<bool, RingError> {
        let by_event = self.queue.needs_notification(&*self.memory)?;
        if self.queue.event_idx_enabled() {
            return Ok(by_event);
        }
        let flags: u16 = self
            .memory
            .load(GuestAddress(self.queue.avail_ring()), Ordering::Relaxed)?;
        Ok(u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT == 0)
    }

    /// Tells the driver that it need not kick (virtio 1.2, 2.7.10).
    ///
    /// # Errors
    /// The ring cannot be written.
    pub fn suppress_kicks(&mut self) -> Result<(), RingError> {
        if !self.polled {
            self.queue.disable_notification(&*self.memory)?;
            self.polled = true;
        }
        Ok(())
    }

    /// Tells the driver to kick from now on; true when it has something that it need not kick for any more.
    ///
    /// # Errors
    /// The ring cannot be written.
    pub fn ask_for_kicks(&mut self) -> Result<bool, RingError> {
        self.polled = false;
        Ok(self.queue.enable_notification(&*self.memory)?)
    }
}
