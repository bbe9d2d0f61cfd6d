//! Losses of a known cause and size in guest blocks, to try vtax itself on: `vtax selftest` plants work, the tests and
//! the benchmark of the account plant exits and a rival.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::time::{ClockId, clock_gettime};

use crate::host::affinity::{AffinityError, Pinned};

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

/// A thread on the vCPU's CPU that burns time during guest blocks, and only then.
#[derive(Debug)]
pub struct Rival {
    competing: Arc<AtomicBool>,
    burning: Arc<AtomicBool>,
    start: Option<Sender<()>>,
    done: Mutex<Receiver<u64>>,
    cpu_nanos: AtomicU64,
    thread: Option<JoinHandle<()>>,
}

impl Rival {
    /// A rival on this CPU, at rest.
    ///
    /// # Errors
    /// The thread may not run there.
    pub fn on(cpu: u32) -> Result<Self, AffinityError> {
        let competing = Arc::new(AtomicBool::new(false));
        let (start, started) = channel();
        let (finish, done) = channel();
        // Tried here first, so that the error is the caller's.
        drop(Pinned::to(&[cpu])?);
        let burning = Arc::new(AtomicBool::new(false));
        let (goes_on, burns) = (Arc::clone(&competing), Arc::clone(&burning));
        let thread = std::thread::spawn(move || {
            let _pinned = Pinned::to(&[cpu]);
            while started.recv().is_ok() {
                let before = thread_cpu_nanos();
                burns.store(true, Ordering::Relaxed);
                while goes_on.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                if finish.send(thread_cpu_nanos() - before).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            competing,
            burning,
            start: Some(start),
            done: Mutex::new(done),
            cpu_nanos: AtomicU64::new(0),
            thread: Some(thread),
        })
    }

    /// CPU time that it has burned so far: what the guest lost to it.
    #[must_use]
    pub fn cpu_nanos(&self) -> u64 {
        self.cpu_nanos.load(Ordering::Relaxed)
    }

    fn compete(&self) -> Competing<'_> {
        self.competing.store(true, Ordering::Relaxed);
        self.burning.store(false, Ordering::Relaxed);
        if let Some(start) = &self.start {
            // It listens for as long as this value lives.
            let _ = start.send(());
        }
        // The block begins against a rival that has the CPU already, not with the moment in which it takes it.
        while !self.burning.load(Ordering::Relaxed) {
            std::thread::yield_now();
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
        let burned = done.recv().unwrap_or_default();
        rival.cpu_nanos.fetch_add(burned, Ordering::Relaxed);
    }
}

fn thread_cpu_nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // CPU time counts up from the thread's start and is never negative.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::affinity::allowed_cpus;

    #[test]
    fn a_rival_burns_while_it_competes_and_rests_otherwise() {
        let cpu = allowed_cpus().unwrap()[0];
        let rival = Rival::on(cpu).unwrap();
        assert!(Planted::Exits(3).compete().is_none());
        assert_eq!(rival.cpu_nanos(), 0);
        for _ in 0..3 {
            let before = rival.cpu_nanos();
            let competing = Planted::Rival(&rival).compete();
            std::thread::sleep(std::time::Duration::from_millis(5));
            drop(competing);
            assert!(rival.cpu_nanos() > before);
        }
    }
}
