//! A network link: what the guest's driver and the host's twin both do, frame by frame. No code here reaches a link: the
//! guest image and the harness each have their own way to it (`Task`).
//!
//! ```text
//! Job ──► engine::work ──► frames ──► the peer, a thread of the host: echoes, or acknowledges ──► checksum
//! ```
//!
//! Raw Ethernet, so that no stack on either side is measured. Frames carry a local experimental EtherType, and stay in a
//! network namespace of vtax's own.

pub mod engine;
pub mod frame;

use crate::catalogue::MAX_PARAMS;
use frame::{LARGEST, SMALLEST};

/// What is done with the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A frame, its echo, the next frame.
    Ping,
    /// Frames without waiting for each.
    Stream,
}

/// A workload's parameters, understood: what both sides do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// What is done.
    pub kind: Kind,
    /// Bytes of each frame, from [`SMALLEST`] to [`LARGEST`].
    pub frame_bytes: usize,
}

impl Job {
    /// The job of a kind with these parameters.
    #[must_use]
    pub fn new(kind: Kind, params: &[u64; MAX_PARAMS]) -> Self {
        Self {
            kind,
            frame_bytes: (params[0] as usize).clamp(SMALLEST, LARGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_keeps_its_bounds() {
        for (asked, bytes) in [(0, 64), (64, 64), (999, 999), (u64::MAX, 1514)] {
            let job = Job::new(Kind::Ping, &[asked, 0, 0, 0]);
            assert_eq!(job.frame_bytes, bytes);
        }
    }
}
