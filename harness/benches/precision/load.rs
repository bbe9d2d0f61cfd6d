//! The neighbour: a thread that spins on a CPU, and pauses, for seeded times.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use vtax::host::affinity::Pinned;

/// How long it spins or pauses, in milliseconds.
const PHASE: std::ops::Range<u64> = 2_000..5_000;

/// The longest it sleeps before it looks whether it should end.
const NAP: Duration = Duration::from_millis(50);

/// A load; ends when dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts it with a spinning phase. The seed settles its times.
    pub fn start(cpu: u32, seed: u64) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        // Bound here, since a thread inherits its maker's CPUs: a CPU that cannot be had is an error, not a weaker load.
        let pinned = Pinned::to(&[cpu])?;
        let thread = std::thread::Builder::new()
            .name("load".into())
            .spawn(move || phases(seed, &stopping))?;
        drop(pinned);
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            let _ = thread.join();
        }
    }
}

fn phases(seed: u64, stop: &AtomicBool) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut until = Instant::now();
    let mut spinning = false;
    while !stop.load(Ordering::Relaxed) {
        if Instant::now() >= until {
            until += Duration::from_millis(random.random_range(PHASE));
            spinning = !spinning;
        }
        if spinning {
            std::hint::spin_loop();
        } else {
            std::thread::sleep(NAP.min(until - Instant::now()));
        }
    }
}
