//! A network link: what the guest's driver and the host's twin both do, frame by frame. No code here reaches a link: the
//! guest image and the harness each have their own way to it (`Task`).
//!
//! ```text
//! Task::net_job ──► engine::work ──► frames ──► the peer, a thread of the host: echoes, or acknowledges ──► checksum
//! ```
//!
//! Raw Ethernet, so that no stack on either side is measured. Frames carry a local experimental EtherType, and stay in a
//! network namespace of vtax's own.

pub mod engine;
pub mod frame;

use crate::catalogue::{MAX_PARAMS, at_once, baseline, unlimited};
use crate::{Body, Direction, Family, Metric, Param, ParamKind, Prepare, Task, Workload};
use frame::{LARGEST, SMALLEST};

const FRAME: Param = Param {
    name: "frame",
    kind: ParamKind::Bytes,
    default: SMALLEST as u64,
    min: SMALLEST as u64,
    max: LARGEST as u64,
    help: "Bytes of a frame with its Ethernet header: 64 are the fewest, 1514 are what an MTU of 1500 holds.",
};

/// One frame there and back.
pub(crate) const PING: Workload = Workload {
    name: "net-ping",
    family: Family::Network,
    title: "Network round trip",
    stresses: "Sends a frame over the guest's network link and waits for the peer's echo, one at a time: the latency of the \
               way through the virtual network.",
    source: "netperf, UDP_RR; ping(8)",
    metric: Metric {
        unit: "us",
        direction: Direction::LowerIsBetter,
        amount_per_iteration: 1e3,
    },
    params: &[FRAME],
    requires: baseline,
    footprint: |_| FOOTPRINT,
    prepare: Prepare::Nothing,
    max_iterations: unlimited,
    settles_after: at_once,
    latencies: true,
    body: Body::PerSide(Task::NetPing),
};

/// As many frames as the link takes.
pub(crate) const STREAM: Workload = Workload {
    name: "net-stream",
    family: Family::Network,
    title: "Network throughput",
    stresses: "Sends frames over the guest's network link as fast as the peer acknowledges them: how many frames the virtual \
               network carries.",
    source: "netperf, UDP_STREAM; pktgen (Linux, Documentation/networking/pktgen.rst)",
    metric: Metric {
        unit: "kframes/s",
        direction: Direction::HigherIsBetter,
        amount_per_iteration: 1e6,
    },
    params: &[FRAME],
    requires: baseline,
    footprint: |_| FOOTPRINT,
    prepare: Prepare::Nothing,
    max_iterations: unlimited,
    settles_after: at_once,
    latencies: false,
    body: Body::PerSide(Task::NetStream),
};

/// Bytes of a buffer of the guest's driver: a header and a frame, or more.
pub const BUFFER_BYTES: u64 = 2048;

/// Buffers of the guest's driver for frames that it sends, and as many for those that it receives: more than are ever
/// under way.
pub const BUFFERS: u64 = 2 * engine::WINDOW;

/// Bytes of arena that the guest's driver uses: its state and rings, as that of a disk does, and its buffers.
const FOOTPRINT: u64 = crate::block::DRIVER_BYTES + 2 * BUFFERS * BUFFER_BYTES;

/// What went wrong in the guest, as its driver reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum NetTrouble {
    /// The harness has told of no network card.
    NoLink = 16,
    /// The device does not do what its specification says.
    Device = 17,
}

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
    pub(crate) fn new(kind: Kind, params: &[u64; MAX_PARAMS]) -> Self {
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
