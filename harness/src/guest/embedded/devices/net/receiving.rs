//! The receive queue: frames from the wire into the guest's buffers.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::super::memory::{drop_front, total};
use super::super::ring::{Chain, Ring, RingError};
use super::super::server::{ServeError, Service};
use super::{HEADER_LEN, RECEIVED, Vectors};

/// Serves the receive queue.
#[derive(Debug)]
pub struct Receiving {
    wire: Arc<OwnedFd>,
    chain: Chain,
    vectors: Vectors,
    /// Whether `chain` awaits a frame.
    waits: bool,
}

impl Receiving {
    /// From this wire.
    pub fn new(wire: Arc<OwnedFd>) -> Self {
        Self {
            wire,
            chain: Chain::default(),
            vectors: Vectors::default(),
            waits: false,
        }
    }
}

impl Service for Receiving {
    fn serve(&mut self, ring: &mut Ring) -> Result<usize, ServeError> {
        for served in 0..usize::from(ring.size()) {
            if !self.waits {
                if !ring.pop(&mut self.chain)? {
                    return Ok(served);
                }
                if total(&self.chain.writable) < u64::from(HEADER_LEN) {
                    return Err(RingError::Incomplete("room for a header").into());
                }
                ring.memory()
                    .scatter(&self.chain.writable, &RECEIVED)
                    .map_err(RingError::from)?;
                drop_front(&mut self.chain.writable, HEADER_LEN);
                self.waits = true;
            }
            let read = self
                .vectors
                .read(&self.wire, ring.memory(), &self.chain.writable)
                .map_err(RingError::from)?;
            match read {
                Ok(bytes) => {
                    self.waits = false;
                    // A frame that finds too little room is cut.
                    let room = total(&self.chain.writable) + u64::from(HEADER_LEN);
                    let written = room.min(bytes as u64);
                    ring.push(self.chain.head, u32::try_from(written).unwrap_or(u32::MAX))?;
                }
                Err(error)
                    if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) =>
                {
                    return Ok(served);
                }
                Err(source) => {
                    return Err(ServeError::Host {
                        what: "reading a frame from the guest's link",
                        source,
                    });
                }
            }
        }
        Ok(usize::from(ring.size()))
    }

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        // Without a buffer a frame is nothing to wake up for.
        self.waits.then(|| self.wire.as_fd())
    }

    fn wants_kicks(&self) -> bool {
        // A buffer is at hand: more of them are no news.
        !self.waits
    }

    fn abandon(&mut self) {
        self.waits = false;
    }
}
