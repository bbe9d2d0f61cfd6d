//! The loop that both sides run: keep as many operations under way as the job says, look at what each brought, and time
//! each from its start to the moment when its end is noticed.
//!
//! ```text
//! operation ──► start (as many as depth) ──► kick ──► wait ─┬─► record, sum up
//!                   ▲                                       │
//!                   └────── the next operation, kicked ◄────┘
//! ```
//!
//! The queue stays full: where one operation ends the next begins, and the disk learns of it before the next end is looked
//! for. Several ends that are noticed together are answered one by one; a disk that waited for all of them to be looked at
//! would run dry meanwhile.

use super::{Access, Job, MAX_DEPTH, SECTOR_BYTES, stamp, sum};
use crate::Latencies;
use crate::mix::mix;
use crate::tsc::unordered;

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

    /// Returns the slot of a request that is done; waits for one where there is none at present.
    ///
    /// # Errors
    /// The disk has failed.
    fn wait(&mut self) -> Result<usize, Self::Error>;
}

/// What came of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The same in whatever order the operations ended.
    pub checksum: u64,
    /// Fewest operations that the disk knew of, and that were not known to have ended, whenever the end of one was looked
    /// for; those looks left out after which no operation was to begin any more. `u64::MAX` where there were no others.
    pub fewest_under_way: u64,
}

/// Does `operations` operations of `job` on a disk of `disk_bytes`.
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
) -> Result<Done, D::Error> {
    let mut work = Work {
        job,
        blocks: (disk_bytes / job.block_bytes).max(1),
        operations,
        seed,
        begun: 0,
        kicked: 0,
        ended: 0,
        checksum: 0,
        fewest_under_way: u64::MAX,
        slots: [Slot::default(); MAX_DEPTH as usize],
    };
    let slots = job.depth.clamp(1, MAX_DEPTH).min(operations) as usize;
    for slot in 0..slots {
        work.begin(slot, drive)?;
    }
    if slots > 0 {
        work.kick(drive)?;
    }
    while work.ended < operations {
        work.look();
        let slot = drive.wait()?;
        if work.step(slot, drive, latencies)? {
            work.kick(drive)?;
        }
    }
    Ok(Done {
        checksum: work.checksum,
        fewest_under_way: work.fewest_under_way,
    })
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
    /// Those of them that the disk knows of.
    kicked: u64,
    ended: u64,
    checksum: u64,
    fewest_under_way: u64,
    slots: [Slot; MAX_DEPTH as usize],
}

impl Work {
    /// Lets the disk know of all that has begun.
    fn kick<D: Drive>(&mut self, drive: &mut D) -> Result<(), D::Error> {
        drive.kick()?;
        self.kicked = self.begun;
        Ok(())
    }

    /// Takes note of how many operations are under way, as long as others are to follow.
    fn look(&mut self) {
        if self.begun < self.operations {
            self.fewest_under_way = self.fewest_under_way.min(self.kicked - self.ended);
        }
    }

    /// Begins the next operation in `slot`.
    fn begin<D: Drive>(&mut self, slot: usize, drive: &mut D) -> Result<(), D::Error> {
        let block = self.job.block_of(self.begun, self.seed, self.blocks);
        let sector = block * (self.job.block_bytes / SECTOR_BYTES);
        self.begun += 1;
        self.slots[slot] = Slot {
            started: unordered(),
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
        latencies.record(unordered() - started);
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

#[cfg(test)]
mod tests {
    use super::super::fill;
    use super::*;
    use crate::abi::LATENCY_SLOTS;
    use std::boxed::Box;
    use std::vec;
    use std::vec::Vec;

    /// A disk in memory that ends requests in the order that `last_first` says, and as many at once as it knows of.
    struct Memory {
        disk: Vec<u8>,
        buffers: Vec<Vec<u8>>,
        /// Begun, and not yet known to the disk.
        begun: Vec<usize>,
        under_way: Vec<usize>,
        /// Most and, while some were to follow, fewest that it knew of when it was asked.
        deepest: usize,
        left: u64,
        shallowest: usize,
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
            self.begun.push(slot);
            Ok(())
        }

        fn kick(&mut self) -> Result<(), ()> {
            self.under_way.append(&mut self.begun);
            self.deepest = self.deepest.max(self.under_way.len());
            Ok(())
        }

        fn wait(&mut self) -> Result<usize, ()> {
            if self.left >= self.buffers.len() as u64 {
                self.shallowest = self.shallowest.min(self.under_way.len());
            }
            self.left = self.left.saturating_sub(1);
            if self.last_first {
                self.under_way.pop().ok_or(())
            } else if self.under_way.is_empty() {
                Err(())
            } else {
                Ok(self.under_way.remove(0))
            }
        }
    }

    fn run(job: Job, operations: u64, last_first: bool) -> (Done, Memory, u64) {
        let mut disk = vec![0; 1 << 20];
        fill(&mut disk, 0);
        let mut buffer = vec![0; job.block_bytes as usize];
        fill(&mut buffer, 99);
        let mut drive = Memory {
            disk,
            buffers: vec![buffer; job.depth as usize],
            begun: Vec::new(),
            under_way: Vec::new(),
            deepest: 0,
            left: operations,
            shallowest: usize::MAX,
            flushes: 0,
            last_first,
        };
        let mut slots = Box::new([0; LATENCY_SLOTS]);
        let (mut len, mut dropped) = (0, 0);
        let mut latencies = Latencies::new(&mut slots, &mut len, &mut dropped);
        let done = work(job, 1 << 20, operations, 5, &mut drive, &mut latencies).unwrap();
        (done, drive, len + dropped)
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
            assert_ne!(first.checksum, other.checksum);
        }
    }

    #[test]
    fn the_queue_stays_full_until_nothing_is_left_to_begin() {
        for (job, depth) in [
            (Job::random(&[0, 32, 3, 0]), 32),
            (Job::random(&[1, 32, 3, 0]), 32),
            (Job::sequential(&[0, 4, 0, 0]), 4),
            (Job::FLUSH, 1),
        ] {
            for last_first in [false, true] {
                let (done, drive, _) = run(job, 200, last_first);
                assert_eq!(done.fewest_under_way, depth);
                // As the disk sees it, too.
                assert_eq!(
                    (drive.deepest, drive.shallowest),
                    (depth as usize, depth as usize)
                );
            }
        }
        // All begin at once: there is no middle.
        let (done, drive, _) = run(Job::random(&[0, 32, 3, 0]), 20, false);
        assert_eq!((done.fewest_under_way, drive.deepest), (u64::MAX, 20));
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
        assert_ne!(good.checksum, bad.checksum);
    }

    #[test]
    fn no_operations_are_no_work() {
        assert_eq!(run(Job::FLUSH, 0, false).2, 0);
    }
}
