//! The transmit queue: the guest's frames onto the wire.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vtax_workloads::network::frame::LARGEST;

use super::super::memory::{drop_front, total};
use super::super::ring::{Chain, Ring, RingError};
use super::super::server::{ServeError, Service, Tally};
use super::{HEADER_LEN, Vectors};

/// Serves the transmit queue.
#[derive(Debug)]
pub struct Transmitting {
    wire: Arc<OwnedFd>,
    chain: Chain,
    vectors: Vectors,
    tally: Arc<Tally>,
}

impl Transmitting {
    /// To this wire; frames that it does not take are counted as failed.
    pub fn new(wire: Arc<OwnedFd>, tally: Arc<Tally>) -> Self {
        Self {
            wire,
            chain: Chain::default(),
            vectors: Vectors::default(),
            tally,
        }
    }

    /// Sends the frame in the chain, its own header left behind; false: it is dropped.
    fn send(&mut self, ring: &Ring) -> Result<bool, RingError> {
        drop_front(&mut self.chain.readable, HEADER_LEN);
        // More than the MTU holds is not a frame (5.1.6.2).
        if total(&self.chain.readable) > LARGEST as u64 {
            return Ok(false);
        }
        let written = self
            .vectors
            .write(&self.wire, ring.memory(), &self.chain.readable)?;
        // Too short for a frame, or the link is down or full: networks lose such frames.
        Ok(written.is_ok())
    }
}

impl Service for Transmitting {
    fn serve(&mut self, ring: &mut Ring) -> Result<usize, ServeError> {
        let mut served = 0;
        while served < usize::from(ring.size()) && ring.pop(&mut self.chain)? {
            if total(&self.chain.readable) < u64::from(HEADER_LEN) {
                return Err(RingError::Incomplete("a header").into());
            }
            if !self.send(ring)? {
                self.tally.failed.fetch_add(1, Ordering::Relaxed);
            }
            ring.push(self.chain.head, 0)?;
            served += 1;
        }
        Ok(served)
    }
}
