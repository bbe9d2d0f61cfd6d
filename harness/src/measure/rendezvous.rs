//! A barrier for vCPU threads that does not wait for a thread which failed.

use std::sync::{Condvar, Mutex, PoisonError};

use super::BootError;

/// Where a fixed number of threads meet, again and again.
#[derive(Debug)]
pub struct Rendezvous {
    parties: u32,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    arrived: u32,
    generation: u64,
    aborted: bool,
}

impl Rendezvous {
    /// For this many threads.
    #[must_use]
    pub fn new(parties: u32) -> Self {
        Self {
            parties,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Waits for the others.
    ///
    /// # Errors
    /// One of them has aborted.
    pub fn meet(&self) -> Result<(), BootError> {
        if self.parties == 1 {
            return Ok(());
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = state.generation;
        state.arrived += 1;
        if state.arrived == self.parties {
            state.arrived = 0;
            state.generation += 1;
            self.changed.notify_all();
        }
        while state.generation == generation && !state.aborted {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.aborted {
            Err(BootError::Aborted)
        } else {
            Ok(())
        }
    }

    /// Releases everybody, now and for good.
    pub fn abort(&self) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .aborted = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_meet_as_often_as_they_like() {
        let place = Rendezvous::new(3);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..100).for_each(|_| place.meet().unwrap()));
            }
        });
    }

    #[test]
    fn nobody_waits_for_one_that_failed() {
        let place = Rendezvous::new(2);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| place.meet());
            place.abort();
            assert!(matches!(waiting.join().unwrap(), Err(BootError::Aborted)));
        });
    }
}
