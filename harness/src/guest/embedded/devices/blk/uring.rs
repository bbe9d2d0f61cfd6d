//! A queue of virtio-blk whose disk is a file: requests go to the kernel through io_uring, as many at once as the queue
//! holds.
//!
//! ```text
//! Chain ──► Slot (vectors into guest memory, or a bounce buffer) ──► submission ──► completion ──► status, used ring
//! ```
//!
//! The ring is restricted before the thread is confined: it carries transfers, flushes and discards on the disk alone,
//! so it is no way around the thread's filter.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use io_uring::register::Restriction;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fixed, FsyncFlags};
use io_uring::{IoUring, opcode};
use virtio_bindings::bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP,
};

use super::super::disk::{Aligned, Disk};
use super::super::memory::{GuestMemory, Segment, total};
use super::super::mmio::QUEUE_SIZE;
use super::super::ring::{Chain, Ring, RingError};
use super::super::server::{ServeError, Service, Tally};
use super::request::{Operation, Request};
use super::{SERIAL, answer};

/// The disk, among the ring's files.
const DISK: Fixed = Fixed(0);

/// IORING_UNREGISTER_FILES of linux/io_uring.h, which the crate keeps to itself.
const UNREGISTER_FILES: u8 = 3;

/// Most bytes that are written at once where zeroes have to be written.
const MOST_ZEROED: usize = 1 << 20;

/// Most bytes of a request whose buffers are not aligned as the disk wants them. A guest that knows the block size makes
/// none; one that makes nothing else shall not take the host's memory.
const MOST_BOUNCED: usize = 1 << 20;

/// Serves a queue through io_uring.
pub struct Queueing {
    disk: Arc<Disk>,
    uring: IoUring,
    slots: Vec<Slot>,
    free: Vec<u16>,
    finished: Vec<(u64, i32)>,
    chain: Chain,
    tally: Arc<Tally>,
}

/// A request under way.
#[derive(Default)]
struct Slot {
    head: u16,
    status: u64,
    room: u64,
    work: Work,
    vectors: Vec<libc::iovec>,
    bounce: Option<Aligned>,
    /// Where a bounced read goes when it is done.
    scatter: Vec<Segment>,
}

/// What is left to do of a request.
#[derive(Clone, Copy, Debug, Default)]
enum Work {
    #[default]
    Flush,
    Transfer {
        write: bool,
        offset: u64,
        left: u64,
        /// The first vector that is not yet done with.
        vector: usize,
    },
    Clear {
        offset: u64,
        len: u64,
        way: Clearing,
    },
    /// Writing zeroes, as many at once as the buffer holds.
    Fill { offset: u64, left: u64 },
}

/// How a stretch is cleared. What the disk does not know how to do is done in the next way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clearing {
    /// Give the space back, if that is possible. There is no next way: the contents do not matter, the space would.
    Discard,
    /// Give the space back and read as zeroes. A LUKS volume, for one, does not: that would show which blocks are in use.
    Unmap,
    /// Read as zeroes. Any block device does; some file systems do not.
    Zero,
}

impl Clearing {
    /// The mode of fallocate(2).
    fn mode(self) -> i32 {
        libc::FALLOC_FL_KEEP_SIZE
            | match self {
                Self::Discard | Self::Unmap => libc::FALLOC_FL_PUNCH_HOLE,
                Self::Zero => libc::FALLOC_FL_ZERO_RANGE,
            }
    }
}

impl Queueing {
    /// For this disk, which is a file.
    ///
    /// # Errors
    /// The kernel has no io_uring, or not for this process.
    pub fn new(disk: Arc<Disk>, tally: Arc<Tally>) -> io::Result<Self> {
        let file = disk
            .file()
            .ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        let mut builder = IoUring::builder();
        builder.setup_r_disabled();
        let mut frugal = builder.clone();
        // Completions wait until this thread looks, instead of interrupting it (Linux 5.19, 6.0).
        frugal
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_single_issuer();
        let entries = QUEUE_SIZE.into();
        let uring = match frugal.build(entries) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => builder.build(entries)?,
            result => result?,
        };
        let submitter = uring.submitter();
        submitter.register_files(&[file.as_raw_fd()])?;
        let mut restrictions = [
            Restriction::sqe_op(opcode::Readv::CODE),
            Restriction::sqe_op(opcode::Writev::CODE),
            Restriction::sqe_op(opcode::Fsync::CODE),
            Restriction::sqe_op(opcode::Fallocate::CODE),
            Restriction::sqe_flags_required(Flags::FIXED_FILE.bits()),
            Restriction::register_op(UNREGISTER_FILES),
        ];
        submitter.register_restrictions(&mut restrictions)?;
        submitter.register_enable_rings()?;
        Ok(Self {
            disk,
            uring,
            slots: (0..QUEUE_SIZE).map(|_| Slot::default()).collect(),
            free: (0..QUEUE_SIZE).rev().collect(),
            finished: Vec::with_capacity(QUEUE_SIZE.into()),
            chain: Chain::default(),
            tally,
        })
    }

    fn under_way(&self) -> bool {
        self.free.len() < self.slots.len()
    }

    /// Begins the request in `self.chain` in this slot; true when it is under way then, false when it is answered already, as
    /// those are that need no disk.
    fn begin(&mut self, slot: u16, ring: &mut Ring) -> Result<bool, RingError> {
        let request = Request::take(&mut self.chain, ring.memory(), &self.disk)?;
        let memory = ring.memory();
        let chain = &self.chain;
        let own = &mut self.slots[usize::from(slot)];
        let room = total(&chain.writable);
        let work = match request.operation {
            Operation::Read { offset } => own.transfer(false, offset, chain, memory, &self.disk)?,
            Operation::Write { offset } => own.transfer(true, offset, chain, memory, &self.disk)?,
            Operation::Flush => Ok(Work::Flush),
            Operation::Discard { offset, len } => {
                own.clear(offset, len, Clearing::Discard, &self.disk)
            }
            Operation::WriteZeroes { offset, len, unmap } => {
                let way = if unmap {
                    Clearing::Unmap
                } else {
                    Clearing::Zero
                };
                own.clear(offset, len, way, &self.disk)
            }
            Operation::Identify => {
                memory.scatter(&chain.writable, &SERIAL)?;
                Err(VIRTIO_BLK_S_OK)
            }
            Operation::Refuse { status } => Err(status.into()),
        };
        match work {
            Ok(work) => {
                if own.bounce.is_some() {
                    self.tally.bounced.fetch_add(1, Ordering::Relaxed);
                }
                (own.head, own.status, own.room, own.work) =
                    (chain.head, request.status, room, work);
                self.push(slot);
                Ok(true)
            }
            Err(status) => {
                answer(ring, self.chain.head, request.status, byte(status), room)?;
                Ok(false)
            }
        }
    }

    /// Puts what is left of a slot's request into the submission queue.
    fn push(&mut self, slot: u16) {
        let entry = self.slots[usize::from(slot)].entry().user_data(slot.into());
        // SAFETY: vectors and buffers stay where they are until the completion: the slot is not free, and `abandon` waits
        // before the ring with the guest's memory is let go. There are as many entries as slots, each used once.
        let pushed = unsafe { self.uring.submission().push(&entry) };
        debug_assert!(pushed.is_ok(), "more entries than slots");
    }

    /// Hands what was pushed to the kernel, and lets it finish what it has done.
    fn submit(&mut self) -> io::Result<()> {
        let queue = self.uring.submission();
        if queue.is_empty() && !queue.taskrun() {
            return Ok(());
        }
        drop(queue);
        match self.uring.submit() {
            // It is tried again at the next turn.
            Err(error) if is_transient(error.raw_os_error().unwrap_or(0)) => Ok(()),
            result => result.map(drop),
        }
    }

    fn collect(&mut self) {
        self.finished.clear();
        for entry in self.uring.completion() {
            self.finished.push((entry.user_data(), entry.result()));
        }
    }

    /// Answers what the kernel has finished; returns how much.
    fn reap(&mut self, ring: &mut Ring) -> Result<usize, RingError> {
        self.collect();
        let mut answered = Ok(0);
        for index in 0..self.finished.len() {
            let (user_data, result) = self.finished[index];
            // The kernel gives back what it was given: a slot's number.
            let slot = u16::try_from(user_data).unwrap_or(0);
            let own = &mut self.slots[usize::from(slot)];
            let Some(status) = own.advance(result) else {
                self.push(slot);
                continue;
            };
            if status == VIRTIO_BLK_S_IOERR {
                self.tally.failed.fetch_add(1, Ordering::Relaxed);
            }
            // Whatever comes of an answer, all slots that are finished are free.
            let result = own.deliver(status, ring);
            self.free.push(slot);
            answered = answered.and_then(|count| result.map(|()| count + 1));
        }
        answered
    }
}

impl Slot {
    /// Forgets the request before.
    fn begin(&mut self) {
        self.vectors.clear();
        self.scatter.clear();
        self.bounce = None;
    }

    /// The error is a status.
    fn clear(&mut self, offset: u64, len: u64, way: Clearing, disk: &Disk) -> Result<Work, u32> {
        self.begin();
        if whole_blocks(disk, offset, len) {
            Ok(Work::Clear { offset, len, way })
        } else {
            Err(VIRTIO_BLK_S_IOERR)
        }
    }

    /// Goes on with the next way to clear a stretch; returns the request's status where there is none.
    fn clear_otherwise(&mut self, offset: u64, len: u64, way: Clearing) -> Option<u32> {
        self.work = match way {
            Clearing::Discard => return Some(VIRTIO_BLK_S_UNSUPP),
            Clearing::Unmap => Work::Clear {
                offset,
                len,
                way: Clearing::Zero,
            },
            Clearing::Zero => {
                let at_once = usize::try_from(len).map_or(MOST_ZEROED, |len| len.min(MOST_ZEROED));
                let Ok(mut zeroes) = Aligned::new(at_once) else {
                    return Some(VIRTIO_BLK_S_IOERR);
                };
                self.vectors.push(libc::iovec {
                    iov_base: zeroes.bytes().as_mut_ptr().cast(),
                    iov_len: at_once,
                });
                self.bounce = Some(zeroes);
                Work::Fill { offset, left: len }
            }
        };
        None
    }

    /// Points the vectors at the chain's buffers, or at a buffer of our own where the disk does not take them as they are.
    /// The inner error is a status.
    fn transfer(
        &mut self,
        write: bool,
        offset: u64,
        chain: &Chain,
        memory: &GuestMemory,
        disk: &Disk,
    ) -> Result<Result<Work, u32>, RingError> {
        let segments = if write {
            &chain.readable
        } else {
            &chain.writable
        };
        let left = total(segments);
        self.begin();
        if !whole_blocks(disk, offset, left) {
            return Ok(Err(VIRTIO_BLK_S_IOERR));
        }
        let mut aligned = true;
        for &segment in segments {
            let slice = memory.segment(segment)?;
            let vector = libc::iovec {
                iov_base: slice.ptr_guard_mut().as_ptr().cast(),
                iov_len: slice.len(),
            };
            aligned &= disk.takes(vector.iov_base.addr(), vector.iov_len);
            self.vectors.push(vector);
        }
        if !aligned {
            let Some(mut bounce) = usize::try_from(left)
                .ok()
                .filter(|&len| len <= MOST_BOUNCED)
                .and_then(|len| Aligned::new(len).ok())
            else {
                return Ok(Err(VIRTIO_BLK_S_IOERR));
            };
            if write {
                memory.gather(segments, bounce.bytes())?;
            } else {
                self.scatter.extend(segments);
            }
            self.vectors.clear();
            self.vectors.push(libc::iovec {
                iov_base: bounce.bytes().as_mut_ptr().cast(),
                iov_len: bounce.len(),
            });
            self.bounce = Some(bounce);
        }
        Ok(Ok(Work::Transfer {
            write,
            offset,
            left,
            vector: 0,
        }))
    }

    /// Answers the request, and lets go of its buffer.
    fn deliver(&mut self, status: u32, ring: &mut Ring) -> Result<(), RingError> {
        if let Some(mut bounce) = self.bounce.take()
            && status == VIRTIO_BLK_S_OK
        {
            ring.memory().scatter(&self.scatter, bounce.bytes())?;
        }
        answer(ring, self.head, self.status, byte(status), self.room)
    }

    /// The submission of what is left.
    fn entry(&self) -> Entry {
        match self.work {
            Work::Flush => opcode::Fsync::new(DISK).flags(FsyncFlags::DATASYNC).build(),
            Work::Clear { offset, len, way } => opcode::Fallocate::new(DISK, len)
                .offset(offset)
                .mode(way.mode())
                .build(),
            Work::Fill { offset, .. } => opcode::Writev::new(DISK, self.vectors.as_ptr(), 1)
                .offset(offset)
                .build(),
            Work::Transfer {
                write,
                offset,
                vector,
                ..
            } => {
                let vectors = &self.vectors[vector..];
                // A chain has at most as many buffers as a queue.
                let count = u32::try_from(vectors.len()).unwrap_or(0);
                if write {
                    opcode::Writev::new(DISK, vectors.as_ptr(), count)
                        .offset(offset)
                        .build()
                } else {
                    opcode::Readv::new(DISK, vectors.as_ptr(), count)
                        .offset(offset)
                        .build()
                }
            }
        }
    }

    /// Takes a result of the kernel; returns the request's status, or nothing when it must go on.
    fn advance(&mut self, result: i32) -> Option<u32> {
        let done = match u64::try_from(result) {
            Ok(done) => done,
            Err(_) => {
                return match (-result, self.work) {
                    (error, _) if is_transient(error) => None,
                    (libc::EOPNOTSUPP, Work::Clear { offset, len, way }) => {
                        self.clear_otherwise(offset, len, way)
                    }
                    _ => Some(VIRTIO_BLK_S_IOERR),
                };
            }
        };
        let (offset, left) = match &mut self.work {
            Work::Flush | Work::Clear { .. } => return Some(VIRTIO_BLK_S_OK),
            Work::Transfer { offset, left, .. } | Work::Fill { offset, left } => (offset, left),
        };
        if done >= *left {
            return Some(VIRTIO_BLK_S_OK);
        }
        if done == 0 {
            // The file ends here, though it did not when it was opened.
            return Some(VIRTIO_BLK_S_IOERR);
        }
        *left -= done;
        *offset += done;
        match &mut self.work {
            Work::Fill { left, .. } => {
                let left = usize::try_from(*left).unwrap_or(usize::MAX);
                let part = self.vectors.first_mut()?;
                part.iov_len = part.iov_len.min(left);
            }
            Work::Transfer { vector, .. } => advance(&mut self.vectors, vector, done),
            Work::Flush | Work::Clear { .. } => {}
        }
        None
    }
}

/// Takes what is done off the vectors; `vector` is the first that is not yet done with.
fn advance(vectors: &mut [libc::iovec], vector: &mut usize, done: u64) {
    let mut rest = usize::try_from(done).unwrap_or(usize::MAX);
    while let Some(part) = vectors.get_mut(*vector) {
        if rest < part.iov_len {
            part.iov_base = part.iov_base.wrapping_byte_add(rest);
            part.iov_len -= rest;
            break;
        }
        rest -= part.iov_len;
        *vector += 1;
    }
}

/// Whether a stretch begins and ends with a block of the disk.
fn whole_blocks(disk: &Disk, offset: u64, len: u64) -> bool {
    let block = u64::from(disk.block_bytes());
    offset.is_multiple_of(block) && len.is_multiple_of(block)
}

impl Service for Queueing {
    const SYSTEM_CALLS: &'static [i64] = &[libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

    fn serve(&mut self, ring: &mut Ring) -> Result<usize, ServeError> {
        let mut progress = self.reap(ring)?;
        // A driver that makes more requests than its queue holds waits.
        while let Some(&slot) = self.free.last() {
            if progress >= usize::from(ring.size()) || !ring.pop(&mut self.chain)? {
                break;
            }
            if self.begin(slot, ring)? {
                self.free.pop();
            }
            progress += 1;
        }
        self.submit().map_err(|source| ServeError::Host {
            what: "handing requests to io_uring",
            source,
        })?;
        Ok(progress)
    }

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        self.under_way().then(|| {
            // SAFETY: the descriptor is open as long as the ring lives, which is borrowed.
            unsafe { BorrowedFd::borrow_raw(self.uring.as_raw_fd()) }
        })
    }

    fn wants_kicks(&self) -> bool {
        // Without a free slot a new request waits for an old one to end, and that wakes the thread.
        !self.free.is_empty()
    }

    fn abandon(&mut self) {
        while self.under_way() {
            if let Err(error) = self.uring.submit_and_wait(1)
                && !is_transient(error.raw_os_error().unwrap_or(0))
            {
                // The kernel may still write to guest memory: nobody may get it back, and nothing can be waited for.
                std::process::abort();
            }
            self.collect();
            for &(user_data, _) in &self.finished {
                self.free.push(u16::try_from(user_data).unwrap_or(0));
            }
        }
        self.slots.iter_mut().for_each(|slot| slot.bounce = None);
    }
}

impl Drop for Queueing {
    fn drop(&mut self) {
        self.abandon();
        // A ring lets go of its files some time after it is closed, and the disk's lock would last as long.
        let unregistered = self.uring.submitter().unregister_files();
        debug_assert!(unregistered.is_ok(), "{unregistered:?}");
    }
}

/// Whether the same call may succeed when it is made again.
fn is_transient(error: i32) -> bool {
    [libc::EAGAIN, libc::EINTR, libc::EBUSY].contains(&error)
}

fn byte(status: u32) -> u8 {
    // The constants are small.
    u8::try_from(status).unwrap_or(u8::MAX)
}
