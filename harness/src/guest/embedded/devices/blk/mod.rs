//! virtio-blk (virtio 1.2, 5.2): a disk with one I/O thread for each of its queues.
//!
//! ```text
//! BlockConfig ──► identity (features, configuration space) + one Worker a queue ──► Transport
//! ```

pub mod copying;
pub mod request;
pub mod uring;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use virtio_bindings::bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ,
    VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_S_OK,
};
use vm_memory::{Bytes, GuestAddress};

use super::disk::{Disk, SECTOR};
use super::memory::GuestMemory;
use super::mmio::{COMMON_FEATURES, Identity, QUEUE_SIZE, Transport};
use super::ring::{Ring, RingError};
use super::server::Condition;
use super::worker::{Worker, WorkerConfig, WorkerError};
use copying::Copying;
use uring::Queueing;

/// VIRTIO_ID_BLOCK (virtio 1.2, 5.2.1); virtio-bindings does not name device types.
const VIRTIO_ID_BLOCK: u32 = 2;

/// What the disk answers when asked for its name.
pub(super) const SERIAL: [u8; 20] = *b"vtax\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Sectors of one discard or write-zeroes request: as many as fit into 32 bits of bytes.
const MOST_ZEROED: u32 = u32::MAX / 512;

/// How a guest learns that a request is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// It looks into the used ring.
    Poll,
    /// It is interrupted.
    Interrupt,
}

/// A disk as virtio-blk.
#[derive(Clone, Debug)]
pub struct BlockConfig {
    /// The disk, which others may use as well.
    pub disk: Arc<Disk>,
    /// Number of queues, each with an I/O thread; at least 1.
    pub queues: u16,
    /// How requests end.
    pub completion: Completion,
    /// How long an I/O thread polls before it sleeps, in nanoseconds.
    pub poll_nanos: u64,
    /// CPUs of the I/O threads, in turn; empty leaves them to the scheduler.
    pub io_cpus: Vec<u32>,
}

/// The device's type, features and configuration space.
#[must_use]
pub fn identity(disk: &Disk, queues: u16) -> Identity {
    let mut features = COMMON_FEATURES
        | 1 << VIRTIO_BLK_F_SEG_MAX
        | 1 << VIRTIO_BLK_F_BLK_SIZE
        | 1 << VIRTIO_BLK_F_FLUSH
        | 1 << VIRTIO_BLK_F_MQ;
    features |= if disk.is_read_only() {
        1 << VIRTIO_BLK_F_RO
    } else {
        1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES
    };
    let block_sectors = u32::try_from(u64::from(disk.block_bytes()) / SECTOR).unwrap_or(1);
    // struct virtio_blk_config (5.2.4), field by field.
    let mut config = Vec::new();
    config.extend((disk.bytes() / SECTOR).to_le_bytes()); // capacity
    config.extend(0_u32.to_le_bytes()); // size_max: no limit
    config.extend(u32::from(QUEUE_SIZE - 2).to_le_bytes()); // seg_max: all but header and status
    config.extend([0; 4]); // geometry
    config.extend(disk.block_bytes().to_le_bytes()); // blk_size
    config.extend([0; 8]); // topology
    config.extend([0; 2]); // writeback, unused
    config.extend(queues.to_le_bytes()); // num_queues
    config.extend(MOST_ZEROED.to_le_bytes()); // max_discard_sectors
    config.extend(1_u32.to_le_bytes()); // max_discard_seg
    config.extend(block_sectors.to_le_bytes()); // discard_sector_alignment
    config.extend(MOST_ZEROED.to_le_bytes()); // max_write_zeroes_sectors
    config.extend(1_u32.to_le_bytes()); // max_write_zeroes_seg
    config.extend([1, 0, 0, 0]); // write_zeroes_may_unmap, unused
    Identity {
        id: VIRTIO_ID_BLOCK,
        features,
        config: Arc::new(config),
    }
}

/// Makes the device and starts its threads.
///
/// # Errors
/// A thread cannot be had, or not on its CPU.
pub fn device(config: &BlockConfig, memory: GuestMemory) -> Result<Transport<Worker>, WorkerError> {
    let condition: Arc<Condition> = Arc::default();
    let workers = (0..usize::from(config.queues))
        .map(|queue| {
            let worker = WorkerConfig {
                name: format!("disk-queue{queue}"),
                cpu: config.io_cpus.iter().cycle().nth(queue).copied(),
                poll: Duration::from_nanos(config.poll_nanos),
                interrupts: config.completion == Completion::Interrupt,
            };
            let disk = Arc::clone(&config.disk);
            let condition = Arc::clone(&condition);
            if disk.file().is_some() {
                Worker::spawn(&worker, condition, move |tally| {
                    Queueing::new(disk, tally).map_err(WorkerError::Service)
                })
            } else {
                Worker::spawn(&worker, condition, move |_| Ok(Copying::new(disk)))
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    let identity = identity(&config.disk, config.queues);
    Ok(Transport::new(identity, memory, workers, condition))
}

/// Writes the status of a request and gives its chain back; `room` bytes were there for data, all of them written if all
/// went well.
fn answer(
    ring: &mut Ring,
    head: u16,
    address: u64,
    status: u8,
    room: u64,
) -> Result<(), RingError> {
    ring.memory().write_obj(status, GuestAddress(address))?;
    // Bytes written from the front (2.7.8.2): without data the status is no longer at the front of anything.
    let written = match (u32::from(status), room) {
        (VIRTIO_BLK_S_OK, _) | (_, 0) => room + 1,
        _ => 0,
    };
    ring.push(head, u32::try_from(written).unwrap_or(u32::MAX))
}
