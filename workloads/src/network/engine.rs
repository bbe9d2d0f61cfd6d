//! The loops that both sides run.
//!
//! ```text
//! ping:    send ──► wait for the echo ──► record ──► the next
//! stream:  send while fewer than WINDOW are unacknowledged ──► wait for an acknowledgement ──► …
//! ```
//!
//! No frame can be lost for want of a buffer: every queue on the way holds more than a window. Where one is lost all the same
//! the block ends, and its checksum says how many: it is then void.

use super::frame::{Address, Frame, LARGEST, PEER, Purpose};
use super::{Job, Kind};
use crate::Latencies;
use crate::tsc::unordered;

/// Most frames under way, unacknowledged: fewer than fit into the smallest queue on the way, which is the peer's socket
/// (`net.core.rmem_default`, 208 KiB, a large frame counting for 2.25 KiB).
pub const WINDOW: u64 = 64;

/// The peer acknowledges every so many frames, and the last.
pub const ACKNOWLEDGED: u64 = WINDOW / 4;

/// A way to a network link.
pub trait Link {
    /// Why it does not work.
    type Error;

    /// The own address.
    fn address(&self) -> Address;

    /// Hands a frame over to be sent, at the latest by the next [`Link::flush`]; false: there is no room at present.
    ///
    /// # Errors
    /// The link has failed.
    fn send(&mut self, frame: &[u8]) -> Result<bool, Self::Error>;

    /// Sends what was handed over.
    ///
    /// # Errors
    /// The link has failed.
    fn flush(&mut self) -> Result<(), Self::Error>;

    /// The next frame that has arrived, whoever sent it; `None`: there is none at present.
    ///
    /// # Errors
    /// The link has failed.
    fn receive(&mut self) -> Result<Option<Frame>, Self::Error>;

    /// Waits until there may be a frame, or room to send; false: for too long.
    ///
    /// # Errors
    /// The link has failed.
    fn wait(&mut self) -> Result<bool, Self::Error>;
}

/// Does `iterations` operations of `job`; the checksum is their number if no frame was lost.
///
/// # Errors
/// The first that the link reports.
pub fn work<L: Link>(
    job: Job,
    iterations: u64,
    link: &mut L,
    latencies: &mut Latencies<'_>,
) -> Result<u64, L::Error> {
    let mut run = Run {
        frame: Frame {
            to: PEER,
            from: link.address(),
            purpose: match job.kind {
                Kind::Ping => Purpose::Ping,
                Kind::Stream => Purpose::Data,
            },
            last: false,
            run: unordered(),
            number: 0,
            count: 0,
            sum: 0,
        },
        bytes: [0; LARGEST],
        len: job.frame_bytes,
        iterations,
    };
    match job.kind {
        Kind::Ping => run.ping(link, latencies),
        Kind::Stream => run.stream(link),
    }
}

/// How many frames are not known to have arrived, where a block of so many `iterations` came to this checksum; those
/// that were acknowledged together with a lost one count too.
#[must_use]
pub const fn lost(job: Job, iterations: u64, checksum: u64) -> u64 {
    match job.kind {
        _ if checksum == iterations => 0,
        // It ends with the first.
        Kind::Ping => 1,
        // As many as were sent arrived, but not the same.
        Kind::Stream if checksum > iterations => 1,
        // Later ones were not sent.
        Kind::Stream if iterations - checksum > WINDOW => WINDOW,
        Kind::Stream => iterations - checksum,
    }
}

struct Run {
    frame: Frame,
    bytes: [u8; LARGEST],
    len: usize,
    iterations: u64,
}

impl Run {
    fn prepare(&mut self, number: u64) {
        self.frame.number = number;
        self.frame.last = number + 1 == self.iterations;
        self.frame.write(&mut self.bytes[..self.len]);
    }

    fn ping<L: Link>(
        &mut self,
        link: &mut L,
        latencies: &mut Latencies<'_>,
    ) -> Result<u64, L::Error> {
        for number in 0..self.iterations {
            self.prepare(number);
            let start = unordered();
            while !link.send(&self.bytes[..self.len])? {
                if !link.wait()? {
                    return Ok(number);
                }
            }
            link.flush()?;
            let mark = self.frame.mark();
            while self
                .answer(link, Purpose::Echo)?
                .is_none_or(|echo| echo.mark() != mark)
            {
                if !link.wait()? {
                    return Ok(number);
                }
            }
            latencies.record(unordered() - start);
        }
        Ok(self.iterations)
    }

    fn stream<L: Link>(&mut self, link: &mut L) -> Result<u64, L::Error> {
        let (mut sent, mut arrived) = (0, 0);
        let (mut marks, mut sum) = (0_u64, 0);
        if self.iterations > 0 {
            self.prepare(0);
        }
        while arrived < self.iterations {
            while sent < self.iterations
                && sent - arrived < WINDOW
                && link.send(&self.bytes[..self.len])?
            {
                marks = marks.wrapping_add(self.frame.mark());
                sent += 1;
                if sent < self.iterations {
                    self.prepare(sent);
                }
            }
            link.flush()?;
            match self.answer(link, Purpose::Ack)? {
                Some(ack) => {
                    arrived = ack.count.clamp(arrived, sent);
                    sum = ack.sum;
                    // The peer has seen the last one: what it lacks is lost.
                    if ack.last {
                        break;
                    }
                }
                None if !link.wait()? => break,
                None => {}
            }
        }
        Ok(if arrived == self.iterations && sum != marks {
            !arrived
        } else {
            arrived
        })
    }

    /// The next answer to this run that has arrived.
    fn answer<L: Link>(&self, link: &mut L, purpose: Purpose) -> Result<Option<Frame>, L::Error> {
        while let Some(frame) = link.receive()? {
            if frame.run == self.frame.run
                && frame.to == self.frame.from
                && frame.purpose == purpose
            {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }
}

/// The peer: what it answers.
#[derive(Debug, Default)]
pub struct Peer {
    run: u64,
    count: u64,
    sum: u64,
}

impl Peer {
    /// Takes the frame that all of `bytes` are, and turns them into the answer; false: there is none.
    pub fn answer(&mut self, bytes: &mut [u8]) -> bool {
        let Some(frame) = Frame::read(bytes).filter(|frame| frame.to == PEER) else {
            return false;
        };
        let back = Frame {
            to: frame.from,
            from: PEER,
            ..frame
        };
        match frame.purpose {
            Purpose::Ping => {
                Frame {
                    purpose: Purpose::Echo,
                    ..back
                }
                .write(bytes);
                true
            }
            Purpose::Data => {
                if self.run != frame.run {
                    *self = Self {
                        run: frame.run,
                        ..Self::default()
                    };
                }
                self.count += 1;
                self.sum = self.sum.wrapping_add(frame.mark());
                let due = frame.last || self.count.is_multiple_of(ACKNOWLEDGED);
                if due {
                    Frame {
                        purpose: Purpose::Ack,
                        count: self.count,
                        sum: self.sum,
                        ..back
                    }
                    .write(bytes);
                }
                due
            }
            Purpose::Echo | Purpose::Ack | Purpose::End => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{GUEST, SMALLEST};
    use super::*;
    use crate::abi::LATENCY_SLOTS;
    use std::boxed::Box;
    use std::collections::VecDeque;
    use std::vec::Vec;

    /// A wire to a peer that loses frames by their place in the order of sending.
    #[derive(Default)]
    struct Wire {
        peer: Peer,
        answers: VecDeque<Vec<u8>>,
        sent: u64,
        lost: Vec<u64>,
        room: usize,
        queued: Vec<Vec<u8>>,
        deepest: usize,
    }

    impl Link for Wire {
        type Error = ();

        fn address(&self) -> Address {
            GUEST
        }

        fn send(&mut self, frame: &[u8]) -> Result<bool, ()> {
            if self.queued.len() == self.room {
                return Ok(false);
            }
            self.queued.push(frame.to_vec());
            self.deepest = self.deepest.max(self.queued.len());
            Ok(true)
        }

        fn flush(&mut self) -> Result<(), ()> {
            for mut bytes in self.queued.drain(..) {
                let lost = self.lost.contains(&self.sent);
                self.sent += 1;
                if !lost && self.peer.answer(&mut bytes) {
                    self.answers.push_back(bytes);
                }
            }
            Ok(())
        }

        fn receive(&mut self) -> Result<Option<Frame>, ()> {
            Ok(self
                .answers
                .pop_front()
                .and_then(|bytes| Frame::read(&bytes)))
        }

        fn wait(&mut self) -> Result<bool, ()> {
            Ok(!self.answers.is_empty())
        }
    }

    fn run(kind: Kind, iterations: u64, wire: &mut Wire) -> (u64, u64) {
        let mut slots = Box::new([0; LATENCY_SLOTS]);
        let (mut len, mut dropped) = (0, 0);
        let mut latencies = Latencies::new(&mut slots, &mut len, &mut dropped);
        let job = Job {
            kind,
            frame_bytes: SMALLEST,
        };
        let checksum = work(job, iterations, wire, &mut latencies).unwrap();
        (checksum, len)
    }

    fn wire(room: usize, lost: &[u64]) -> Wire {
        Wire {
            room,
            lost: lost.to_vec(),
            ..Wire::default()
        }
    }

    #[test]
    fn every_frame_is_echoed_and_timed() {
        let mut wire = wire(1, &[]);
        assert_eq!(run(Kind::Ping, 100, &mut wire), (100, 100));
        assert_eq!(run(Kind::Ping, 0, &mut wire), (0, 0));
    }

    #[test]
    fn a_stream_fills_its_window_and_no_more() {
        for (room, deepest) in [(1000, WINDOW as usize), (16, 16)] {
            let mut wire = wire(room, &[]);
            assert_eq!(run(Kind::Stream, 1000, &mut wire).0, 1000);
            assert_eq!(wire.deepest, deepest);
        }
        for few in [0, 1, WINDOW - 1, WINDOW, WINDOW + 1] {
            assert_eq!(run(Kind::Stream, few, &mut wire(1000, &[])).0, few);
        }
    }

    #[test]
    fn a_lost_frame_shows() {
        assert_eq!(run(Kind::Ping, 100, &mut wire(1, &[30])), (30, 30));
        for lost in [0, 500, 998, 999] {
            let (checksum, _) = run(Kind::Stream, 1000, &mut wire(1000, &[lost]));
            assert!(checksum < 1000, "{lost}: {checksum}");
        }
    }

    #[test]
    fn lost_frames_are_counted() {
        for (kind, lost_at, count) in [
            (Kind::Ping, &[][..], 0),
            (Kind::Ping, &[30], 1),
            (Kind::Stream, &[], 0),
            (Kind::Stream, &[500], 1),
            (Kind::Stream, &[3, 500, 501], 3),
            // The acknowledgement of all sixteen hangs on the last.
            (Kind::Stream, &[999], 8),
        ] {
            let (checksum, _) = run(kind, 1000, &mut wire(1000, lost_at));
            let job = Job {
                kind,
                frame_bytes: SMALLEST,
            };
            assert_eq!(lost(job, 1000, checksum), count, "{kind:?} {lost_at:?}");
        }
    }

    #[test]
    fn answers_to_an_earlier_run_count_for_nothing() {
        let mut wire = wire(1000, &[]);
        run(Kind::Stream, 100, &mut wire);
        let mut stale = [0; SMALLEST];
        Frame {
            to: GUEST,
            from: PEER,
            purpose: Purpose::Ack,
            last: true,
            run: 1,
            number: 0,
            count: 50,
            sum: 0,
        }
        .write(&mut stale);
        wire.answers.push_back(stale.to_vec());
        assert_eq!(run(Kind::Stream, 100, &mut wire).0, 100);
    }

    #[test]
    fn frames_for_others_get_no_answer() {
        let mut bytes = [0; SMALLEST];
        let mut peer = Peer::default();
        assert!(!peer.answer(&mut bytes));
        Frame {
            to: GUEST,
            from: GUEST,
            purpose: Purpose::Ping,
            last: false,
            run: 0,
            number: 0,
            count: 0,
            sum: 0,
        }
        .write(&mut bytes);
        assert!(!peer.answer(&mut bytes));
    }
}
