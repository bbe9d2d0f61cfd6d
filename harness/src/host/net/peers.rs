//! Who is at the other end: a thread for each end that answers what arrives, the same for guest and native twin.
//!
//! ```text
//! frame ──► engine::Peer: echo, acknowledgement or nothing ──► back
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use vtax_workloads::network::engine::Peer;
use vtax_workloads::network::frame::{Frame, LARGEST, NATIVE, PEER, Purpose, SMALLEST};

use super::{PacketSocket, Tap};

/// The threads.
#[derive(Debug)]
pub(super) struct Peers {
    threads: Vec<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
}

impl Peers {
    /// Starts a thread for each socket.
    pub(super) fn start(sockets: Vec<PacketSocket>) -> io::Result<Self> {
        let mut peers = Self {
            threads: Vec::new(),
            stopping: Arc::default(),
        };
        for socket in sockets {
            let stopping = Arc::clone(&peers.stopping);
            let thread = Builder::new().name("net-peer".into());
            peers
                .threads
                .push(thread.spawn(move || answer(&socket, &stopping))?);
        }
        Ok(peers)
    }

    /// Ends the threads. A frame wakes each; one that it does not reach looks up by itself now and then.
    pub(super) fn stop(&mut self, native: &PacketSocket, tap: &Tap) {
        self.stopping.store(true, Ordering::Relaxed);
        let mut bytes = [0; SMALLEST];
        Frame {
            to: PEER,
            from: NATIVE,
            purpose: Purpose::End,
            last: true,
            run: 0,
            number: 0,
            count: 0,
            sum: 0,
        }
        .write(&mut bytes);
        // A link that is down wakes nobody.
        let _ = native.send(&bytes);
        let _ = tap.send(&bytes);
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Answers until it is time to stop or the link is gone.
fn answer(socket: &PacketSocket, stopping: &AtomicBool) {
    let mut peer = Peer::default();
    // One more than a frame has: a longer one is none.
    let mut bytes = [0; LARGEST + 1];
    while !stopping.load(Ordering::Relaxed) {
        match socket.receive(&mut bytes) {
            Ok(Some(len)) => {
                let frame = &mut bytes[..len];
                // What cannot be sent is lost, and missed at the other end.
                if peer.answer(frame) && socket.send(frame).is_err() {
                    return;
                }
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
}
