//! Losses of a known cause and size in guest blocks, to try vtax itself on: `vtax selftest` plants work, the tests and
//! the benchmark of the account plant exits and a rival.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vtax_reports::selftest::PlantedStalls;

use crate::host::affinity::{AffinityError, Pinned};
use crate::host::cpu_time::thread_cpu_nanos;
use crate::whole::whole;

/// How long a rival sleeps at a time: short beside a block, so that each block meets its share.
const REST: Duration = Duration::from_micros(500);

/// What is planted in guest blocks.
#[derive(Clone, Copy, Debug, Default)]
pub enum Planted<'a> {
    /// Nothing.
    #[default]
    Nothing,
    /// This share of extra, unaccounted work.
    Work(f64),
    /// Extra, unaccounted work in some blocks.
    Stalls(PlantedStalls),
    /// This many port exits in every block, in its timed part.
    Exits(u64),
    /// A thread that wants the vCPU's CPU.
    Rival(&'a Rival),
}

impl<'a> Planted<'a> {
    /// Extra, unaccounted work of a block of `iterations`; which blocks stall is drawn from `seed`, which is the block's own.
    pub(super) fn work(&self, iterations: u64, seed: u64) -> u64 {
        let extra = |share: f64| whole((iterations as f64 * share).round());
        match self {
            Self::Work(share) => extra(*share),
            Self::Stalls(stalls) if seed.is_multiple_of(u64::from(stalls.one_in)) => {
                extra(stalls.times - 1.0)
            }
            Self::Stalls(_) | Self::Nothing | Self::Exits(_) | Self::Rival(_) => 0,
        }
    }

    /// Lets the rival loose, where there is one, for as long as the answer lives.
    pub(super) fn compete(&self) -> Option<Competing<'a>> {
        match self {
            Self::Rival(rival) => Some(rival.compete()),
            _ => None,
        }
    }
}

/// A thread on the vCPU's CPU that takes a known share of it during guest blocks, and rests otherwise.
#[derive(Debug)]
pub struct Rival {
    share: f64,
    competing: Arc<AtomicBool>,
    start: Option<Sender<()>>,
    done: Mutex<Receiver<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Rival {
    /// A rival on this CPU, at rest. `share` of the CPU's time, above 0 and below 1, is what it takes when it competes:
    /// whenever it has had less than that it wants the CPU, and otherwise it sleeps.
    ///
    /// # Errors
    /// The thread may not run there.
    pub fn on(cpu: u32, share: f64) -> Result<Self, AffinityError> {
        let competing = Arc::new(AtomicBool::new(false));
        let (start, started) = channel();
        let (finish, done) = channel();
        // Tried here first, so that the error is the caller's.
        drop(Pinned::to(&[cpu])?);
        let goes_on = Arc::clone(&competing);
        let thread = std::thread::spawn(move || {
            let _pinned = Pinned::to(&[cpu]);
            while started.recv().is_ok() {
                let (cpu, wall) = (thread_cpu_nanos(), Instant::now());
                while goes_on.load(Ordering::Relaxed) {
                    let entitled = share * wall.elapsed().as_nanos() as f64;
                    if (thread_cpu_nanos() - cpu) as f64 <= entitled {
                        std::hint::spin_loop();
                    } else {
                        std::thread::sleep(REST);
                    }
                }
                if finish.send(()).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            share,
            competing,
            start: Some(start),
            done: Mutex::new(done),
            thread: Some(thread),
        })
    }

    /// What a guest that needs `native_nanos` of this CPU loses to the rival: of every second that passes, the rival has
    /// its share.
    #[must_use]
    pub fn loss_nanos(&self, native_nanos: f64) -> f64 {
        native_nanos * self.share / (1.0 - self.share)
    }

    fn compete(&self) -> Competing<'_> {
        self.competing.store(true, Ordering::Relaxed);
        if let Some(start) = &self.start {
            // It listens for as long as this value lives.
            let _ = start.send(());
        }
        Competing(self)
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        self.start = None;
        if let Some(thread) = self.thread.take() {
            // It does not panic, and nothing could be done about it.
            let _ = thread.join();
        }
    }
}

/// A rival at work; dropping it waits until it rests.
#[derive(Debug)]
pub(super) struct Competing<'a>(&'a Rival);

impl Drop for Competing<'_> {
    fn drop(&mut self) {
        let Self(rival) = self;
        rival.competing.store(false, Ordering::Relaxed);
        let done = rival.done.lock().unwrap_or_else(PoisonError::into_inner);
        // An error means that the thread is gone.
        let _ = done.recv();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::affinity::allowed_cpus;
    use vtax_scenarios::order::child_seed;

    #[test]
    fn as_many_blocks_stall_as_are_planted() {
        let stalls = Planted::Stalls(PlantedStalls {
            one_in: 10,
            times: 1.5,
        });
        let work: Vec<u64> = (0..10_000)
            .map(|block| stalls.work(1000, child_seed(1, &[block])))
            .collect();
        let stalled = work.iter().filter(|&&extra| extra == 500).count();
        assert!((900..1100).contains(&stalled), "{stalled}");
        assert!(work.iter().all(|extra| [0, 500].contains(extra)));
    }

    /// Whether it gets its share depends on the machine's load; that it rests otherwise does not.
    #[test]
    fn a_rival_runs_while_it_competes_and_rests_otherwise() {
        let cpu = allowed_cpus().unwrap()[0];
        let rival = Rival::on(cpu, 0.25).unwrap();
        assert!(Planted::Exits(3).compete().is_none());
        for _ in 0..3 {
            let competing = Planted::Rival(&rival).compete();
            assert!(rival.competing.load(Ordering::Relaxed));
            std::thread::sleep(std::time::Duration::from_millis(5));
            drop(competing);
            assert!(!rival.competing.load(Ordering::Relaxed));
        }
        assert_eq!(rival.loss_nanos(3e6), 1e6);
    }
}
