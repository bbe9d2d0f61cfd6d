//! A driver that does anything to virtio-net, on a wire where frames arrive.

#![no_main]

mod driver;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use vtax::guest::embedded::devices::memory::GuestMemory;
use vtax::guest::embedded::devices::mmio::Transport;
use vtax::guest::embedded::devices::net::identity;
use vtax::guest::embedded::devices::net::receiving::Receiving;
use vtax::guest::embedded::devices::net::transmitting::Transmitting;
use vtax::guest::embedded::devices::ring::Ring;
use vtax::guest::embedded::devices::server::{Condition, Inline, Lane};

/// Either queue of the card.
#[derive(Debug)]
enum Queue {
    Receive(Inline<Receiving>),
    Transmit(Inline<Transmitting>),
}

impl Queue {
    fn lane(&self) -> &dyn Lane {
        match self {
            Self::Receive(lane) => lane,
            Self::Transmit(lane) => lane,
        }
    }
}

impl Lane for Queue {
    fn start(&self, ring: Ring) {
        self.lane().start(ring);
    }

    fn stop(&self) {
        self.lane().stop();
    }

    fn kick(&self) {
        self.lane().kick();
    }
}

fuzz_target!(|input: (Vec<Vec<u8>>, Vec<driver::Step>)| {
    let (frames, steps) = input;
    let (Ok((near, far)), Ok(memory)) =
        (UnixDatagram::pair(), GuestMemory::anonymous(driver::MEMORY))
    else {
        return;
    };
    if near.set_nonblocking(true).is_err() || far.set_nonblocking(true).is_err() {
        return;
    }
    for frame in frames {
        // A wire that is full loses frames.
        let _ = far.send(&frame);
    }
    let wire = Arc::new(OwnedFd::from(near));
    let condition: Arc<Condition> = Arc::default();
    let lanes = vec![
        Queue::Receive(Inline::new(
            Receiving::new(Arc::clone(&wire)),
            Arc::clone(&condition),
        )),
        Queue::Transmit(Inline::new(
            Transmitting::new(wire, Arc::default()),
            Arc::clone(&condition),
        )),
    ];
    let device = Transport::new(identity([2; 6]), memory.clone(), lanes, condition);
    driver::drive(&device, &memory, &steps);
});
