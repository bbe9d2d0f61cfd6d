//! Losses of a known cause and size in guest blocks, to try vtax itself on: `vtax selftest` plants work, the tests and
//! the benchmark of the account plant exits and a rival.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::host::affinity::{AffinityError, Pinned};
use crate::host::cpu_time::thread_cpu_nanos;

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
    /// This many port exits in every block, in its timed part.
    Exits(u64),
    /// A thread that wants the vCPU's CPU.
    Rival(&'a Rival),
}

impl<'a> Planted<'a> {
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
