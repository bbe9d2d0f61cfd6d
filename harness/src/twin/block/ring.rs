//! A file or block device through io_uring, as an application on the host would drive it.
//!
//! ```text
//! start ──► submission queue ──► kick: io_uring_enter ──► completion queue ──► wait ─┬─ look, as long as it may
//!                                                                                   └─ sleep in io_uring_enter
//! ```

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};
use vtax_reports::native_disk::Waiting;
use vtax_workloads::block::engine::{Drive, Request};
use vtax_workloads::block::{Job, SECTOR_BYTES};

use super::Buffers;
use crate::guest::embedded::devices::disk::Disk;

/// The disk's file, with a ring of its own.
pub(super) struct Ring {
    ring: IoUring,
    disk: Arc<Disk>,
    file: types::Fd,
    /// Given back to the allocator only when the kernel is done with them.
    buffers: ManuallyDrop<Buffers>,
    /// Bytes that each slot's request moves.
    expected: Vec<usize>,
    /// Requests that were begun and have not ended.
    under_way: usize,
    waiting: Waiting,
}

impl Ring {
    pub(super) fn new(
        disk: Arc<Disk>,
        buffers: Buffers,
        job: Job,
        waiting: Waiting,
    ) -> io::Result<Self> {
        let entries = u32::try_from(job.depth)
            .map_err(io::Error::other)?
            .next_power_of_two();
        let file = disk
            .file()
            .map(|file| types::Fd(file.as_raw_fd()))
            .ok_or_else(|| io::Error::other("the disk has no file"))?;
        Ok(Self {
            ring: frugal(entries)?,
            disk,
            file,
            buffers: ManuallyDrop::new(buffers),
            expected: vec![0; usize::try_from(job.depth).map_err(io::Error::other)?],
            under_way: 0,
            waiting,
        })
    }

    /// How it waits from now on.
    pub(super) fn wait_by(&mut self, waiting: Waiting) {
        self.waiting = waiting;
    }

    /// The slot of a request that is done, if there is one at present.
    fn ready(&mut self) -> io::Result<Option<usize>> {
        let Some(entry) = self.ring.completion().next() else {
            return Ok(None);
        };
        self.under_way -= 1;
        let slot = usize::try_from(entry.user_data()).map_err(io::Error::other)?;
        match usize::try_from(entry.result()) {
            Ok(moved) if moved == self.expected[slot] => Ok(Some(slot)),
            Ok(_) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Err(_) => Err(io::Error::from_raw_os_error(-entry.result())),
        }
    }

    /// Looks for `window` whether a request is done, and has the kernel finish what it has put by for this thread.
    fn poll(&mut self, window: Option<Duration>) -> io::Result<Option<usize>> {
        let start = Instant::now();
        loop {
            if self.ring.submission().taskrun() {
                self.enter(0)?;
            }
            if let Some(slot) = self.ready()? {
                return Ok(Some(slot));
            }
            if window.is_some_and(|window| start.elapsed() >= window) {
                return Ok(None);
            }
            std::hint::spin_loop();
        }
    }

    /// Hands the kernel what was begun, and waits for this many requests to end. A signal may end it early.
    fn enter(&self, wanted: usize) -> io::Result<()> {
        match self.ring.submit_and_wait(wanted) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result.map(drop),
        }
    }

    /// Waits until the kernel is done with all that was begun.
    fn drain(&mut self) -> io::Result<()> {
        while self.under_way > 0 {
            self.enter(1)?;
            // What comes of them does not matter any more.
            self.under_way -= self.ring.completion().count().min(self.under_way);
        }
        Ok(())
    }
}

/// A ring whose completions wait until this thread asks for them, instead of interrupting it: as fio has it. Kernels before
/// Linux 6.1 know less of that, the oldest nothing.
fn frugal(entries: u32) -> io::Result<IoUring> {
    let mut cooperating = IoUring::builder();
    cooperating
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_single_issuer();
    let mut deferring = cooperating.clone();
    deferring.setup_defer_taskrun();
    let mut result = deferring.build(entries);
    for builder in [&cooperating, &IoUring::builder()] {
        match &result {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            _ => break,
        }
        result = builder.build(entries);
    }
    result
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Closing a ring does not wait for requests under way, and the kernel would write to memory that is somebody else's
        // by then. Where it cannot be waited for, the buffers stay.
        if self.drain().is_ok() {
            // SAFETY: they are dropped once, here, and not used any more.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
        }
    }
}

impl Drive for Ring {
    type Error = io::Error;

    fn buffer(&mut self, slot: usize) -> &mut [u8] {
        self.buffers.slot(slot)
    }

    fn start(&mut self, slot: usize, request: Request) -> io::Result<()> {
        let data = self.buffers.slot(slot);
        let len = u32::try_from(data.len()).map_err(io::Error::other)?;
        self.expected[slot] = data.len();
        let entry = match request {
            Request::Read(sector) => opcode::Read::new(self.file, data.as_mut_ptr(), len)
                .offset(sector * SECTOR_BYTES)
                .build(),
            Request::Write(_) if self.disk.is_read_only() => {
                return Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem));
            }
            Request::Write(sector) => opcode::Write::new(self.file, data.as_ptr(), len)
                .offset(sector * SECTOR_BYTES)
                .build(),
            Request::Flush => {
                self.expected[slot] = 0;
                opcode::Fsync::new(self.file)
                    .flags(types::FsyncFlags::DATASYNC)
                    .build()
            }
        };
        // SAFETY: the slot's buffer lives until the request has ended, and the engine leaves it alone until then; the disk
        // keeps its file open.
        let pushed = unsafe { self.ring.submission().push(&entry.user_data(slot as u64)) };
        pushed.map_err(io::Error::other)?;
        self.under_way += 1;
        Ok(())
    }

    fn kick(&mut self) -> io::Result<()> {
        self.enter(0)
    }

    fn wait(&mut self) -> io::Result<usize> {
        loop {
            if let Some(slot) = self.ready()? {
                return Ok(slot);
            }
            let polled = match self.waiting {
                Waiting::Sleep => None,
                Waiting::PollThenSleep { nanos } => self.poll(Some(Duration::from_nanos(nanos)))?,
                Waiting::Poll => self.poll(None)?,
            };
            if let Some(slot) = polled {
                return Ok(slot);
            }
            self.enter(1)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use vtax_workloads::MAX_PARAMS;

    use super::*;

    const WAYS: [Waiting; 3] = [
        Waiting::Sleep,
        Waiting::PollThenSleep { nanos: 20_000 },
        Waiting::Poll,
    ];

    fn ring(depth: u64, waiting: Waiting) -> Ring {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        let disk = Arc::new(Disk::open(&path, false, false).unwrap());
        let mut params = [0; MAX_PARAMS];
        (params[1], params[2]) = (depth, 3);
        let job = vtax_workloads::Task::BlockRandom.disk_job(&params).unwrap();
        Ring::new(disk, Buffers::new(job).unwrap(), job, waiting).unwrap()
    }

    #[test]
    fn every_way_of_waiting_brings_the_data() {
        for waiting in WAYS {
            let mut ring = ring(4, waiting);
            for slot in 0..4 {
                ring.start(slot, Request::Read(slot as u64 * 8)).unwrap();
            }
            ring.kick().unwrap();
            let mut ended: Vec<usize> = (0..4).map(|_| ring.wait().unwrap()).collect();
            ended.sort_unstable();
            assert_eq!(ended, [0, 1, 2, 3]);
            assert!((0..4).all(|slot| ring.buffer(slot).iter().all(|&byte| byte == 7)));
            assert_eq!(ring.under_way, 0);
        }
    }

    #[test]
    fn what_is_begun_has_ended_when_the_ring_is_gone() {
        for kicked in [false, true] {
            let mut ring = ring(32, Waiting::Sleep);
            for slot in 0..32 {
                ring.start(slot, Request::Read(8 * slot as u64)).unwrap();
            }
            if kicked {
                ring.kick().unwrap();
            }
            ring.drain().unwrap();
            assert_eq!(ring.under_way, 0);
            // All of it was written before, and so nothing is afterwards.
            assert!((0..32).all(|slot| ring.buffer(slot).iter().all(|&byte| byte == 7)));
        }
    }

    #[test]
    fn a_read_that_brings_less_than_a_block_is_an_error() {
        let mut ring = ring(1, Waiting::Sleep);
        ring.start(0, Request::Read(2048)).unwrap();
        assert_eq!(
            ring.wait().unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }
}
