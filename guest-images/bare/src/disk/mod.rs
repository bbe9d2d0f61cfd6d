//! The guest's way to its disk, for the block workloads.
//!
//! ```text
//! Setup: negotiate with the device; the driver's state stays in the arena ──► Run: engine ──► Drive ─┬─► virtio-blk
//!                                                                                                   └─► ATA
//! arena: │ driver's state │ rings … │ (DRIVER_BYTES) buffers, a block each │
//! ```

mod ata;
pub mod dma;
mod virtio;

use core::sync::atomic::Ordering;

use vtax_workloads::abi::{Mailbox, Op};
use vtax_workloads::block::engine::{self, Drive};
use vtax_workloads::block::{DRIVER_BYTES, DiskTrouble as Trouble, Job, fill};
use vtax_workloads::machine::{
    AREA_DISK_SEAT, AREA_MAILBOX, DISK_ATA, DISK_VIRTIO_INTERRUPT, DISK_VIRTIO_POLL, DiskSeat,
};
use vtax_workloads::payload;

use crate::vcpu::Vcpu;

/// Carries out a request for a block task.
pub fn serve(mailbox: &mut Mailbox, job: Job) -> Result<(), Trouble> {
    if mailbox.op == Op::Setup as u64 {
        set_up(mailbox, job)
    } else {
        run(mailbox, job)
    }
}

fn set_up(mailbox: &Mailbox, job: Job) -> Result<(), Trouble> {
    let buffers = Buffers::of(mailbox, job);
    if job.writes() {
        for slot in 0..job.depth as usize {
            fill(buffers.slot(slot), 0);
        }
    }
    let seat = seat(mailbox);
    match seat.driver {
        DISK_VIRTIO_INTERRUPT | DISK_VIRTIO_POLL => virtio::set_up(mailbox.arena, seat),
        DISK_ATA => ata::set_up(mailbox.arena),
        _ => Err(Trouble::NoDisk),
    }
}

fn run(mailbox: &mut Mailbox, job: Job) -> Result<(), Trouble> {
    let buffers = Buffers::of(mailbox, job);
    let seat = seat(mailbox);
    match seat.driver {
        DISK_VIRTIO_INTERRUPT | DISK_VIRTIO_POLL => {
            let mut drive =
                virtio::Disk::new(mailbox.arena, buffers, Vcpu::of(mailbox), seat.driver);
            let bytes = drive.bytes();
            timed(mailbox, job, bytes, &mut drive)
        }
        DISK_ATA => {
            let mut drive = ata::Disk::new(mailbox.arena, buffers);
            let bytes = drive.bytes();
            timed(mailbox, job, bytes, &mut drive)
        }
        _ => Err(Trouble::NoDisk),
    }
}

fn timed<D: Drive<Error = Trouble>>(
    mailbox: &mut Mailbox,
    job: Job,
    bytes: u64,
    drive: &mut D,
) -> Result<(), Trouble> {
    let (iterations, seed) = (mailbox.iterations, mailbox.seed);
    let seat = seat(mailbox);
    payload::timed(mailbox, |latencies| {
        let done = engine::work(job, bytes, iterations, seed, drive, latencies)?;
        let fewest = &seat.fewest_under_way;
        fewest.store(done.fewest_under_way, Ordering::Relaxed);
        Ok(done.checksum)
    })
}

/// What this vCPU knows of its disk.
fn seat(mailbox: &Mailbox) -> &'static DiskSeat {
    let area = (&raw const *mailbox).addr() as u64 - AREA_MAILBOX;
    // SAFETY: the harness puts one there before the vCPU starts; it is made of plain integers and atomics, and only the
    // atomics ever change.
    unsafe { &*((area + AREA_DISK_SEAT) as *const DiskSeat) }
}

/// The blocks' buffers: the arena behind the driver's part.
#[derive(Clone, Copy)]
pub struct Buffers {
    start: u64,
    block_bytes: usize,
}

impl Buffers {
    fn of(mailbox: &Mailbox, job: Job) -> Self {
        Self {
            start: mailbox.arena + DRIVER_BYTES,
            block_bytes: job.block_bytes as usize,
        }
    }

    /// The buffer of a slot below the job's depth.
    fn slot(&self, slot: usize) -> &'static mut [u8] {
        let address = self.start + (slot * self.block_bytes) as u64;
        // SAFETY: `payload::accept` found the arena long enough for the job's footprint, which all slots lie in; each
        // slot is looked at in one place at a time, and a device writes there only while a request is under way.
        unsafe { core::slice::from_raw_parts_mut(address as *mut u8, self.block_bytes) }
    }
}
