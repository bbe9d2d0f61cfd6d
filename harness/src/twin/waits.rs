//! The host's side of tasks that wait: for a partner, or for a point in time.

use std::sync::atomic::Ordering;

use rustix::io::Errno;
use rustix::thread::{clock_nanosleep_absolute, futex};
use rustix::time::{ClockId, Timespec, clock_gettime};
use vtax_workloads::Latencies;

use super::partner::{Words, exact_sleep};
use super::{Twin, TwinError};
use crate::guest::mailbox::Request;
use crate::host::tsc::{TscClock, rdtsc, rdtsc_fenced};

/// `lat-mailbox`: writes a number and spins until the partner has written it back.
#[derive(Debug)]
pub struct Mailbox<'a> {
    /// What it shares with its partner.
    pub words: Words<'a>,
}

impl Twin for Mailbox<'_> {
    fn set_up(&mut self, _: &Request) -> Result<(), TwinError> {
        Ok(())
    }

    fn run(&mut self, request: &Request, latencies: &mut Latencies<'_>) -> Result<u64, TwinError> {
        let mut before = rdtsc();
        for number in 1..=request.iterations {
            self.words.call.store(number, Ordering::Release);
            while self.words.reply.load(Ordering::Acquire) != number {
                std::hint::spin_loop();
            }
            let now = rdtsc();
            latencies.record(now - before);
            before = now;
        }
        Ok(request.iterations)
    }
}

/// `lat-wake`: sleeps on a futex until the partner wakes it.
#[derive(Debug)]
pub struct Wake<'a> {
    /// What it shares with its partner.
    pub words: Words<'a>,
}

impl Twin for Wake<'_> {
    fn set_up(&mut self, _: &Request) -> Result<(), TwinError> {
        Ok(())
    }

    fn run(&mut self, request: &Request, latencies: &mut Latencies<'_>) -> Result<u64, TwinError> {
        for number in 1..=request.iterations {
            let last = u32::try_from(number - 1).unwrap_or(u32::MAX);
            self.words.call.store(number, Ordering::Release);
            while self.words.answered.load(Ordering::Acquire) == last {
                // Returns at once where the partner was faster; a signal ends it early, and the loop looks again.
                let _ = futex::wait(&self.words.answered, futex::Flags::PRIVATE, last, None);
            }
            let now = rdtsc_fenced();
            let sent = self.words.reply.load(Ordering::Acquire);
            latencies.record(now.saturating_sub(sent));
        }
        Ok(request.iterations)
    }
}

/// `lat-timer`: clock_nanosleep from one point in time to the next.
#[derive(Debug)]
pub struct Timer {
    /// Rate of the TSC, in whose ticks latencies are recorded.
    pub clock: TscClock,
}

impl Twin for Timer {
    fn set_up(&mut self, _: &Request) -> Result<(), TwinError> {
        exact_sleep();
        Ok(())
    }

    fn run(&mut self, request: &Request, latencies: &mut Latencies<'_>) -> Result<u64, TwinError> {
        let period = request.params[0].max(1);
        let mut deadline = now_nanos() + period;
        for _ in 0..request.iterations {
            let until = Timespec {
                tv_sec: (deadline / SECOND).cast_signed(),
                tv_nsec: (deadline % SECOND).cast_signed(),
            };
            while clock_nanosleep_absolute(ClockId::Monotonic, &until) == Err(Errno::INTR) {}
            let late = now_nanos().saturating_sub(deadline);
            latencies.record(self.clock.ticks(late));
            // A period that has gone by already is left out, as in the guest.
            deadline += period * (late / period + 1);
        }
        Ok(request.iterations)
    }
}

const SECOND: u64 = 1_000_000_000;

/// The clock that the deadlines are on; it cannot be slept on in its raw form.
fn now_nanos() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // Both fields count up from boot and are never negative.
    time.tv_sec.unsigned_abs() * SECOND + time.tv_nsec.unsigned_abs()
}
