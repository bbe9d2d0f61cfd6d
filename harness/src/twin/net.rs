//! The native side of the network workloads: the same frames over a veth pair, on the vCPU's thread.
//!
//! ```text
//! engine ──► packet socket ──► veth pair (or bridge) ──► the peer that the guest has too
//! ```

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vtax_scenarios::plan::Completion;
use vtax_workloads::network::engine::{Link, work};
use vtax_workloads::network::frame::{Address, Frame, LARGEST, NATIVE};
use vtax_workloads::{Latencies, Task};

use super::{Twin, TwinError};
use crate::guest::mailbox::Request;
use crate::host::net::{Network, PacketSocket};

/// A frame that has not come by now will not come.
const PATIENCE: Duration = Duration::from_secs(1);

/// The twin of a network task.
#[derive(Debug)]
pub struct Net {
    /// The link.
    pub network: Arc<Network>,
    /// What is done with it.
    pub task: Task,
    /// Whether it looks for frames all the time, or sleeps until one comes, as the guest does.
    pub completion: Completion,
}

impl Twin for Net {
    fn set_up(&mut self, _: &Request) -> Result<(), TwinError> {
        Ok(())
    }

    fn run(&mut self, request: &Request, latencies: &mut Latencies<'_>) -> Result<u64, TwinError> {
        let job = self
            .task
            .net_job(&request.params)
            .ok_or(TwinError::Request)?;
        let mut link = Native {
            socket: &self.network.native,
            polls: self.completion == Completion::Poll,
            arrived: None,
        };
        work(job, request.iterations, &mut link, latencies).map_err(TwinError::Network)
    }
}

struct Native<'a> {
    socket: &'a PacketSocket,
    polls: bool,
    /// A frame that ended a wait.
    arrived: Option<Frame>,
}

impl Native<'_> {
    /// The frame in the first `len` of `bytes`, where it is one of vtax's for this side; a bridge delivers others too.
    fn frame(bytes: &[u8], len: usize) -> Option<Frame> {
        Frame::read(bytes.get(..len)?).filter(|frame| frame.to == NATIVE)
    }
}

impl Link for Native<'_> {
    type Error = io::Error;

    fn address(&self) -> Address {
        NATIVE
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<bool> {
        self.socket.send(frame)?;
        Ok(true)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Who sleeps for frames takes each from the wait for it, with one system call a frame.
    fn receive(&mut self) -> io::Result<Option<Frame>> {
        Ok(self.arrived.take())
    }

    fn wait(&mut self) -> io::Result<bool> {
        let mut bytes = [0; LARGEST + 1];
        let mut since = None;
        while self.arrived.is_none() {
            let received = if self.polls {
                self.socket.receive_now(&mut bytes)?
            } else {
                self.socket.receive(&mut bytes)?
            };
            match received {
                Some(len) => self.arrived = Self::frame(&bytes, len),
                None if !self.polls => return Ok(false),
                None => {
                    let since = *since.get_or_insert_with(Instant::now);
                    if since.elapsed() > PATIENCE {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }
}
