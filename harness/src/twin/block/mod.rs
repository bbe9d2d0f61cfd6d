//! The host's side of block workloads: the same requests on the same disk, from the same thread, as many under way at
//! once. A file or block device is reached through io_uring, a disk in memory by copying.
//!
//! ```text
//! engine ──► Drive ─┬─► Copying: done when it is started
//!                   └─► Ring: io_uring on the disk's own file, with its own O_DIRECT
//! ```

mod ring;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use vm_memory::VolatileSlice;
use vtax_reports::native_disk::Waiting;
use vtax_workloads::block::engine::{self, Drive, Request as DiskRequest};
use vtax_workloads::block::{Job, SECTOR_BYTES, fill};
use vtax_workloads::{Latencies, Task};

use super::{Twin, TwinError};
use crate::guest::embedded::devices::disk::{Aligned, Disk};
use crate::guest::mailbox::Request;
use ring::Ring;

/// A block task on this disk.
pub struct Block {
    task: Task,
    disk: Arc<Disk>,
    waiting: Waiting,
    way: Option<Way>,
    fewest_under_way: u64,
}

enum Way {
    Copying(Copying),
    Ring(Box<Ring>),
}

impl Block {
    /// Does `task` on `disk`.
    #[must_use]
    pub fn new(task: Task, disk: Arc<Disk>) -> Self {
        Self {
            task,
            disk,
            waiting: Waiting::Sleep,
            way: None,
            fewest_under_way: u64::MAX,
        }
    }

    /// How full the queue stayed in the last block: [`engine::Done::fewest_under_way`].
    #[must_use]
    pub fn fewest_under_way(&self) -> u64 {
        self.fewest_under_way
    }

    fn job(&self, request: &Request) -> Result<Job, TwinError> {
        self.task
            .disk_job(&request.params)
            .ok_or(TwinError::Request)
    }
}

impl Twin for Block {
    fn set_up(&mut self, request: &Request) -> Result<(), TwinError> {
        let job = self.job(request)?;
        let disk = Arc::clone(&self.disk);
        let buffers = Buffers::new(job).map_err(TwinError::Disk)?;
        let way = if disk.file().is_some() {
            Ring::new(disk, buffers, job, self.waiting).map(|ring| Way::Ring(Box::new(ring)))
        } else {
            Ok(Way::Copying(Copying {
                disk,
                buffers,
                done: VecDeque::new(),
            }))
        };
        self.way = Some(way.map_err(TwinError::Disk)?);
        Ok(())
    }

    fn run(&mut self, request: &Request, latencies: &mut Latencies<'_>) -> Result<u64, TwinError> {
        let job = self.job(request)?;
        let bytes = self.disk.bytes();
        let (count, seed) = (request.iterations, request.seed);
        let done = match &mut self.way {
            Some(Way::Copying(drive)) => engine::work(job, bytes, count, seed, drive, latencies),
            Some(Way::Ring(drive)) => {
                engine::work(job, bytes, count, seed, drive.as_mut(), latencies)
            }
            None => return Err(TwinError::Request),
        };
        let done = done.map_err(TwinError::Disk)?;
        self.fewest_under_way = done.fewest_under_way;
        Ok(done.checksum)
    }

    fn wait_by(&mut self, waiting: Waiting) {
        self.waiting = waiting;
        if let Some(Way::Ring(drive)) = &mut self.way {
            drive.wait_by(waiting);
        }
    }
}

/// A block for each slot.
struct Buffers {
    memory: Aligned,
    block_bytes: usize,
}

impl Buffers {
    fn new(job: Job) -> io::Result<Self> {
        let size = |bytes: u64| usize::try_from(bytes).map_err(io::Error::other);
        let mut memory = Aligned::new(size(job.buffer_bytes())?)?;
        if job.writes() {
            fill(memory.bytes(), 0);
        }
        Ok(Self {
            memory,
            block_bytes: size(job.block_bytes)?,
        })
    }

    /// A slot's block, and nothing of the others: the kernel may be at work on those.
    fn slot(&mut self, slot: usize) -> &mut [u8] {
        let start = slot * self.block_bytes;
        self.memory.part(start..start + self.block_bytes)
    }
}

/// A disk in memory.
struct Copying {
    disk: Arc<Disk>,
    buffers: Buffers,
    done: VecDeque<usize>,
}

impl Drive for Copying {
    type Error = io::Error;

    fn buffer(&mut self, slot: usize) -> &mut [u8] {
        self.buffers.slot(slot)
    }

    fn start(&mut self, slot: usize, request: DiskRequest) -> io::Result<()> {
        let data = VolatileSlice::from(self.buffers.slot(slot));
        match request {
            DiskRequest::Read(sector) => self.disk.read(sector * SECTOR_BYTES, &data)?,
            DiskRequest::Write(sector) => self.disk.write(sector * SECTOR_BYTES, &data)?,
            DiskRequest::Flush => self.disk.flush()?,
        }
        self.done.push_back(slot);
        Ok(())
    }

    fn kick(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn wait(&mut self) -> io::Result<usize> {
        self.done
            .pop_front()
            .ok_or_else(|| io::Error::other("nothing is under way"))
    }
}
