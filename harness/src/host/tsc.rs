//! The time-stamp counter, calibrated against CLOCK_MONOTONIC_RAW.
//!
//! The counter is read between two readings of the clock, so each pair is known to within the bracket's width; the
//! tightest bracket of many is kept. Two such anchors give the rate and a bound on its error; a third one half-way
//! shows whether the rate was constant.

use std::{arch::x86_64, thread, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// Brackets per anchor. One takes well under a microsecond; the tightest is close to the cost of reading the clock.
const BRACKETS: usize = 256;

/// Shortest calibration. Below it the brackets' width would allow an error above 10 ppm.
const SHORTEST: Duration = Duration::from_millis(10);

/// Why the TSC cannot serve as a clock.
#[derive(Debug, thiserror::Error)]
pub enum TscError {
    /// The counter stood still or ran backwards.
    #[error(
        "the time-stamp counter advanced by {ticks} ticks in {nanos} ns of CLOCK_MONOTONIC_RAW: it is no clock on \
         this host (see `vtax doctor`, line TSC)"
    )]
    NotAdvancing {
        /// Its advance.
        ticks: i64,
        /// The time in which it did.
        nanos: u64,
    },
}

/// The TSC's rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TscClock {
    /// Nanoseconds of CLOCK_MONOTONIC_RAW per tick.
    pub nanos_per_tick: f64,
    /// Bound on its relative error in parts per million: the brackets' widths over the time between them, or the
    /// disagreement of the two halves, whichever is larger.
    pub error_ppm: f64,
}

impl TscClock {
    /// Calibrates for `duration`, at least 10 ms. The thread sleeps meanwhile. 100 ms give an error below 1 ppm on
    /// an idle machine.
    pub fn calibrate(duration: Duration) -> Result<Self, TscError> {
        let half = duration.max(SHORTEST) / 2;
        let start = Anchor::take();
        thread::sleep(half);
        let middle = Anchor::take();
        thread::sleep(half);
        let end = Anchor::take();

        let (nanos_per_tick, bound) = start.rate_until(&end)?;
        let (first, first_bound) = start.rate_until(&middle)?;
        let (second, second_bound) = middle.rate_until(&end)?;
        // The halves may differ by what their own brackets allow; only the rest speaks of an uneven rate.
        let uneven = (first / second - 1.0).abs() - first_bound - second_bound;
        Ok(Self {
            nanos_per_tick,
            error_ppm: bound.max(uneven) * 1e6,
        })
    }

    /// `ticks` in nanoseconds.
    #[must_use]
    pub fn nanos(&self, ticks: u64) -> f64 {
        ticks as f64 * self.nanos_per_tick
    }

    /// `nanos` in ticks, rounded.
    #[must_use]
    pub fn ticks(&self, nanos: u64) -> u64 {
        let ticks = (nanos as f64 / self.nanos_per_tick).round();
        // Non-negative, and the cast saturates.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let ticks = ticks as u64;
        ticks
    }
}

/// CLOCK_MONOTONIC_RAW in nanoseconds: not slewed by NTP, so that both clocks of a block run on the same oscillator.
#[must_use]
pub fn now_raw_nanos() -> u64 {
    let time = clock_gettime(ClockId::MonotonicRaw);
    // Both fields count up from boot and are never negative.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// The TSC, now or a little earlier: as the guest reads it where a fence would be part of what is timed.
#[must_use]
#[inline]
pub fn rdtsc() -> u64 {
    // SAFETY: as for `rdtsc_fenced`.
    unsafe { x86_64::_rdtsc() }
}

/// The TSC, read after all earlier instructions are done and before any later one starts.
///
/// Source: Intel SDM vol. 2B, RDTSC: LFENCE on both sides orders the read.
#[must_use]
#[inline]
pub fn rdtsc_fenced() -> u64 {
    // SAFETY: every x86-64 CPU has RDTSC and LFENCE, and Linux leaves CR4.TSD clear for its processes; a process
    // that forbade it to itself (PR_SET_TSC) would get SIGSEGV, not undefined behaviour.
    unsafe {
        x86_64::_mm_lfence();
        let ticks = x86_64::_rdtsc();
        x86_64::_mm_lfence();
        ticks
    }
}

/// A reading of the TSC between two readings of the clock.
struct Anchor {
    before: u64,
    ticks: u64,
    after: u64,
}

impl Anchor {
    fn take() -> Self {
        let bracket = || Self {
            before: now_raw_nanos(),
            ticks: rdtsc_fenced(),
            after: now_raw_nanos(),
        };
        (1..BRACKETS).fold(bracket(), |tightest, _| {
            let next = bracket();
            if next.width() < tightest.width() {
                next
            } else {
                tightest
            }
        })
    }

    fn width(&self) -> u64 {
        self.after.saturating_sub(self.before)
    }

    /// Nanoseconds per tick up to `end`, and the bound on its relative error.
    fn rate_until(&self, end: &Self) -> Result<(f64, f64), TscError> {
        // Twice the time between the midpoints, so that it stays whole.
        let doubled = (end.before + end.after).saturating_sub(self.before + self.after);
        let ticks = end.ticks.wrapping_sub(self.ticks).cast_signed();
        if ticks <= 0 || doubled == 0 {
            return Err(TscError::NotAdvancing {
                ticks,
                nanos: doubled / 2,
            });
        }
        let rate = doubled as f64 / 2.0 / ticks.unsigned_abs() as f64;
        let bound = (self.width() + end.width()) as f64 / doubled as f64;
        Ok((rate, bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchor(nanos: u64, width: u64, ticks: u64) -> Anchor {
        Anchor {
            before: nanos - width / 2,
            ticks,
            after: nanos + width / 2,
        }
    }

    #[test]
    fn rate_and_bound_follow_from_the_brackets() {
        // 2.5 GHz over 1 ms; both brackets 100 ns wide: off by at most 100 ns in all, 100 ppm.
        let (rate, bound) = anchor(1_000_000, 100, 5_000)
            .rate_until(&anchor(2_000_000, 100, 2_505_000))
            .unwrap();
        assert!((rate - 0.4).abs() < 1e-12, "{rate}");
        assert!((bound - 1e-4).abs() < 1e-12, "{bound}");
    }

    #[test]
    fn a_counter_that_stands_or_runs_backwards_is_refused() {
        for later in [5_000, 4_000] {
            let rate = anchor(1_000, 10, 5_000).rate_until(&anchor(9_000, 10, later));
            assert!(matches!(rate, Err(TscError::NotAdvancing { .. })));
        }
    }

    #[test]
    fn two_calibrations_of_this_machine_agree_within_their_errors() {
        let first = TscClock::calibrate(Duration::from_millis(100)).unwrap();
        let second = TscClock::calibrate(Duration::from_millis(100)).unwrap();
        let differ = (first.nanos_per_tick / second.nanos_per_tick - 1.0).abs() * 1e6;
        assert!(
            differ <= first.error_ppm + second.error_ppm,
            "{first:?} {second:?}"
        );
        assert!((0.1..10.0).contains(&first.nanos_per_tick), "{first:?}");
    }
}
