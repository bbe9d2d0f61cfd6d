//! A thread with two queues.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use virtio_queue::{Queue, QueueState};

use super::memory::GuestMemory;
use super::mmio::QUEUE_SIZE;
use super::ring::Ring;
use super::server::{Lane, ServeError, Service};
use super::testing::MEMORY;
use super::worker::{Worker, WorkerConfig};

/// Tells when it serves, and stays there once.
struct Gated {
    index: usize,
    serves: Sender<usize>,
    gate: Option<Receiver<()>>,
}

impl Service for Gated {
    fn serve(&mut self, _: &mut Ring) -> Result<usize, ServeError> {
        self.serves.send(self.index).unwrap();
        if let Some(gate) = self.gate.take() {
            gate.recv().unwrap();
        }
        Ok(0)
    }
}

fn ring() -> Ring {
    let state = QueueState {
        max_size: QUEUE_SIZE,
        size: QUEUE_SIZE,
        ready: true,
        desc_table: 0x1000,
        avail_ring: 0x4000,
        used_ring: 0x8000,
        ..QueueState::default()
    };
    let memory = GuestMemory::anonymous(MEMORY).unwrap();
    Ring::new(Queue::try_from(state).unwrap(), memory).unwrap()
}

#[test]
fn commands_and_kicks_that_come_together_are_all_obeyed() {
    let config = WorkerConfig {
        name: "gated".to_owned(),
        cpu: None,
        poll: Duration::ZERO,
        interrupts: false,
    };
    let (serves, served) = channel();
    let (open, gate) = channel();
    let [first, second] = Worker::spawn_for(&config, Arc::default(), move |_| {
        Ok([(0, Some(gate)), (1, None)].map(|(index, gate)| Gated {
            index,
            serves: serves.clone(),
            gate,
        }))
    })
    .unwrap();
    first.start(ring());
    assert_eq!(served.recv().unwrap(), 0);
    // It is busy: all that follows waits for it, and wakes it once.
    first.start(ring());
    second.start(ring());
    second.kick();
    open.send(()).unwrap();
    loop {
        let index = served.recv_timeout(Duration::from_secs(10));
        if index.expect("the second queue is served") == 1 {
            break;
        }
    }
    second.stop();
    first.stop();
}
