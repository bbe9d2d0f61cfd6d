//! The time-stamp counter, which ring 3 may read on both sides.

#[cfg(not(miri))]
use core::arch::x86_64::{_mm_lfence, _rdtsc};

/// The counter, read after everything before it is done and before anything after it starts.
///
/// Source: Intel SDM volume 2, RDTSC; AMD64 APM volume 3, LFENCE as a dispatch-serializing instruction.
#[cfg(not(miri))]
#[inline]
#[must_use]
pub fn fenced() -> u64 {
    // SAFETY: LFENCE and RDTSC are baseline x86-64.
    unsafe {
        _mm_lfence();
        let ticks = _rdtsc();
        _mm_lfence();
        ticks
    }
}

/// The counter, now or a little earlier or later: where a fence would be part of what is timed.
#[cfg(not(miri))]
#[inline]
#[must_use]
pub fn unordered() -> u64 {
    // SAFETY: as above.
    unsafe { _rdtsc() }
}

/// Miri knows no RDTSC: a count of the readings.
#[cfg(miri)]
#[must_use]
pub fn unordered() -> u64 {
    use core::sync::atomic::{AtomicU64, Ordering};
    static READINGS: AtomicU64 = AtomicU64::new(1);
    READINGS.fetch_add(1, Ordering::Relaxed)
}

#[cfg(miri)]
pub use unordered as fenced;
