//! The loop that both sides run: keep as many operations under way as the job says, look at what each brought, and time
//! each from its start to the moment when its end is noticed.
//!
//! ```text
//! operation ──► start (as many as depth) ──► kick ──► wait ─┬─► record, sum up
//!                   ▲                                       │
//!                   └───────── the next operation ◄─────────┘
//! ```

use core::arch::x86_64::_rdtsc;

use super::{Access, Job, MAX_DEPTH, SECTOR_BYTES, stamp, sum};
use crate::Latencies;
use crate::mix::mix;

/// What is asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Fill the slot's buffer from this sector on.
    Read(u64),
    /// Write the slot's buffer from this sector on.
    Write(u64),
    /// Put all that is written on stable storage.
    Flush,
}

/// A way to a disk, with a buffer of one block for each of [`Job::depth`] slots.
pub trait Drive {
    /// Why a request was not carried out.
    type Error;

    /// The slot's buffer; filled by [`super::fill`] where the job writes.
    fn buffer(&mut self, slot: usize) -> &mut [u8];

    /// Begins a request in a slot that has none under way.
    ///
    /// # Errors
    /// The way is blocked.
    fn start(&mut self, slot: usize, request: Request) -> Result<(), Self::Error>;

    /// Lets the disk know of what has been begun.
    ///
    /// # Errors
    /// The way is blocked.
    fn kick(&mut self) -> Result<(), Self::Error>;

    /// A slot whose request is done, if there is one at present.
    ///
    /// # Errors
    /// The disk has failed.
    fn ready(&mut self) -> Result<Option<usize>, Self::Error>;

    /// Waits until a request is done, and returns its slot.
    ///
    /// # Errors
    /// The disk has failed.
    fn wait(&mut self) -> Result<usize, Self::Error>;
}

/// Does `operations` operations of `job` on a disk of `disk_bytes`; returns a checksum that does not depend on the order
/// in which they end.
///
/// # Errors
/// The first that the drive reports.
pub fn work<D: Drive>(
    job: Job,
    disk_bytes: u64,
    operations: u64,
    seed: u64,
    drive: &mut D,
    latencies: &mut Latencies<'_>,
) -> Result<u64, D::Error> {
    let mut work = Work {
        job,
        blocks: (disk_bytes / job.block_bytes).max(1),
        operations,
        seed,
        begun: 0,
        ended: 0,
        checksum: 0,
        slots: [Slot::default(); MAX_DEPTH as usize],
    };
    let slots = job.depth.clamp(1, MAX_DEPTH).min(operations) as usize;
    for slot in 0..slots {
        work.begin(slot, drive)?;
    }
    if slots > 0 {
        drive.kick()?;
    }
    while work.ended < operations {
        let slot = drive.wait()?;
        let mut news = work.step(slot, drive, latencies)?;
        while let Some(slot) = drive.ready()? {
            news |= work.step(slot, drive, latencies)?;
        }
        if news {
            drive.kick()?;
        }
    }
    Ok(work.checksum)
}

#[derive(Clone, Copy, Default)]
struct Slot {
    started: u64,
    sector: u64,
    flushing: bool,
}

struct Work {
    job: Job,
    blocks: u64,
    operations: u64,
    seed: u64,
    begun: u64,
    ended: u64,
    checksum: u64,
    slots: [Slot; MAX_DEPTH as usize],
}

impl Work {
    /// Begins the next operation in `slot`.
    fn begin<D: Drive>(&mut self, slot: usize, drive: &mut D) -> Result<(), D::Error> {
        let block = self.job.block_of(self.begun, self.seed, self.blocks);
        let sector = block * (self.job.block_bytes / SECTOR_BYTES);
        self.begun += 1;
        self.slots[slot] = Slot {
            started: now(),
            sector,
            flushing: false,
        };
        if self.job.access == Access::Read {
            drive.start(slot, Request::Read(sector))
        } else {
            stamp(drive.buffer(slot), sector);
            drive.start(slot, Request::Write(sector))
        }
    }

    /// Takes note of a request that is done, and begins what comes next in its slot; returns whether anything does.
    fn step<D: Drive>(
        &mut self,
        slot: usize,
        drive: &mut D,
        latencies: &mut Latencies<'_>,
    ) -> Result<bool, D::Error> {
        let Slot {
            started,
            sector,
            flushing,
        } = self.slots[slot];
        if self.job.access == Access::WriteAndFlush && !flushing {
            self.slots[slot].flushing = true;
            drive.start(slot, Request::Flush)?;
            return Ok(true);
        }
        latencies.record(now() - started);
        let brought = match self.job.access {
            Access::Read => sum(drive.buffer(slot)),
            Access::Write | Access::WriteAndFlush => mix(sector),
        };
        self.checksum = self.checksum.wrapping_add(brought);
        self.ended += 1;
        let more = self.begun < self.operations;
        if more {
            self.begin(slot, drive)?;
        }
        Ok(more)
    }
}

#[inline]
fn now() -> u64 {
    // SAFETY: RDTSC is baseline x86-64, and both sides may use it.
    unsafe { _rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::super::fill;
    use super::*;
    use crate::abi::LATENCY_SLOTS;
    use std::boxed::Box;
    use std::vec;
    use std::vec::Vec;

    /// A disk in memory that ends requests in the order that `last_first` says.
    struct Memory {
        disk: Vec<u8>,
        buffers: Vec<Vec<u8>>,
        under_way: Vec<usize>,
        deepest: usize,
        flushes: u64,
        last_first: bool,
    }

    impl Drive for Memory {
        type Error = ();

        fn buffer(&mut self, slot: usize) -> &mut [u8] {
            &mut self.buffers[slot]
        }

        fn start(&mut self, slot: usize, request: Request) -> Result<(), ()> {
            let range = |sector: u64, len: usize| {
                let start = sector as usize * 512;
                start..start + len
            };
            let buffer = &mut self.buffers[slot];
            let len = buffer.len();
            match request {
                Request::Read(sector) => buffer.copy_from_slice(&self.disk[range(sector, len)]),
                Request::Write(sector) => self.disk[range(sector, len)].copy_from_slice(buffer),
                Request::Flush => self.flushes += 1,
            }
            self.under_way.push(slot);
            self.deepest = self.deepest.max(self.under_way.len());
            Ok(())
        }

        fn kick(&mut self) -> Result<(), ()> {
            Ok(())
        }

        fn ready(&mut self) -> Result<Option<usize>, ()> {
            Ok(None)
        }

        fn wait(&mut self) -> Result<usize, ()> {
            if self.last_first {
                self.under_way.pop().ok_or(())
            } else if self.under_way.is_empty() {
                Err(())
            } else {
                Ok(self.under_way.remove(0))
            }
        }
    }

    fn run(job: Job, operations: u64, last_first: bool) -> (u64, Memory, u64) {
        let mut disk = vec![0; 1 << 20];
        fill(&mut disk, 0);
        let mut buffer = vec![0; job.block_bytes as usize];
        fill(&mut buffer, 99);
        let mut drive = Memory {
            disk,
            buffers: vec![buffer; job.depth as usize],
            under_way: Vec::new(),
            deepest: 0,
            flushes: 0,
            last_first,
        };
        let mut slots = Box::new([0; LATENCY_SLOTS]);
        let (mut len, mut dropped) = (0, 0);
        let mut latencies = Latencies::new(&mut slots, &mut len, &mut dropped);
        let checksum = work(job, 1 << 20, operations, 5, &mut drive, &mut latencies).unwrap();
        (checksum, drive, len + dropped)
    }

    #[test]
    fn the_order_of_completions_does_not_count() {
        for params in [[0, 8, 3, 0], [1, 8, 3, 0]] {
            let job = Job::random(&params);
            let (first, drive, timed) = run(job, 100, false);
            let (last, _, _) = run(job, 100, true);
            assert_eq!(first, last);
            assert_eq!((drive.deepest, timed), (8, 100));
            let (other, _, _) = run(job, 101, false);
            assert_ne!(first, other);
        }
    }

    #[test]
    fn writing_leaves_the_disk_as_it_was() {
        let mut untouched = vec![0; 1 << 20];
        fill(&mut untouched, 0);
        for job in [
            Job::random(&[1, 4, 0, 0]),
            Job::sequential(&[1, 2, 0, 0]),
            Job::FLUSH,
        ] {
            let (_, drive, timed) = run(job, 50, true);
            assert_eq!(drive.disk, untouched);
            assert_eq!(timed, 50);
            let flushes = if job == Job::FLUSH { 50 } else { 0 };
            assert_eq!(drive.flushes, flushes);
        }
    }

    #[test]
    fn a_read_of_other_data_has_another_checksum() {
        let job = Job::random(&[0, 1, 0, 0]);
        let (good, mut drive, _) = run(job, 2000, false);
        for byte in &mut drive.disk {
            *byte ^= 1;
        }
        let mut slots = Box::new([0; LATENCY_SLOTS]);
        let (mut len, mut dropped) = (0, 0);
        let mut latencies = Latencies::new(&mut slots, &mut len, &mut dropped);
        let bad = work(job, 1 << 20, 2000, 5, &mut drive, &mut latencies).unwrap();
        assert_ne!(good, bad);
    }

    #[test]
    fn no_operations_are_no_work() {
        assert_eq!(run(Job::FLUSH, 0, false).2, 0);
    }
}
