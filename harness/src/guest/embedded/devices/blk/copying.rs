//! A queue of virtio-blk whose disk is memory: every request is done on the spot.

use std::sync::Arc;

use virtio_bindings::bindings::virtio_blk::{VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK};

use super::super::disk::Disk;
use super::super::memory::{GuestMemory, total};
use super::super::ring::{Chain, Ring, RingError};
use super::super::server::{ServeError, Service};
use super::request::{Operation, Request};
use super::{SERIAL, answer};

/// Serves a queue by copying.
#[derive(Debug)]
pub struct Copying {
    disk: Arc<Disk>,
    chain: Chain,
}

impl Copying {
    /// For this disk.
    #[must_use]
    pub fn new(disk: Arc<Disk>) -> Self {
        Self {
            disk,
            chain: Chain::default(),
        }
    }
}

impl Service for Copying {
    fn serve(&mut self, ring: &mut Ring) -> Result<usize, ServeError> {
        let mut served = 0;
        while served < usize::from(ring.size()) && ring.pop(&mut self.chain)? {
            let request = Request::take(&mut self.chain, ring.memory(), &self.disk)?;
            let status = carry_out(&self.disk, request.operation, &self.chain, ring.memory())?;
            let room = total(&self.chain.writable);
            answer(ring, self.chain.head, request.status, status, room)?;
            served += 1;
        }
        Ok(served)
    }
}

/// Does what is asked; returns the status.
fn carry_out(
    disk: &Disk,
    operation: Operation,
    chain: &Chain,
    memory: &GuestMemory,
) -> Result<u8, RingError> {
    let mut done = Ok(());
    match operation {
        Operation::Read { mut offset } => {
            for &segment in &chain.writable {
                let slice = memory.segment(segment)?;
                done = done.and_then(|()| disk.read(offset, &slice));
                offset += u64::from(segment.len);
            }
        }
        Operation::Write { mut offset } => {
            for &segment in &chain.readable {
                let slice = memory.segment(segment)?;
                done = done.and_then(|()| disk.write(offset, &slice));
                offset += u64::from(segment.len);
            }
        }
        Operation::Flush => {}
        Operation::Identify => {
            memory.scatter(&chain.writable, &SERIAL)?;
        }
        Operation::Discard { offset, len } | Operation::WriteZeroes { offset, len, .. } => {
            done = disk.zero(offset, len);
        }
        Operation::Refuse { status } => return Ok(status),
    }
    let status = match done {
        Ok(()) => VIRTIO_BLK_S_OK,
        Err(_) => VIRTIO_BLK_S_IOERR,
    };
    // The constants are small.
    Ok(u8::try_from(status).unwrap_or(u8::MAX))
}
