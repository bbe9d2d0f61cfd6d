//! CPU time of this thread, and of another process.

use rustix::time::{ClockId, clock_gettime};

/// The kernel numbers no process higher (`PID_MAX_LIMIT`), and the C library makes the clock of another of such a number.
const MOST: libc::pid_t = 4 << 20;

/// CPU time of the calling thread so far in nanoseconds, that of its guest included (clock_gettime(2)).
#[must_use]
pub fn thread_cpu_nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // CPU time counts up from the thread's start and is never negative.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// CPU time of a process so far in nanoseconds, all its threads and its guest's vCPUs together; `None` where it is gone.
///
/// Source: clock_getcpuclockid(3). A process that has ended and was not waited for counts as gone.
#[must_use]
pub fn process_cpu_nanos(process: u32) -> Option<u64> {
    let process = libc::pid_t::try_from(process)
        .ok()
        .filter(|&process| process <= MOST)?;
    let mut clock = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both calls write to locals alone, and a process that is not there is an error.
    let failed = unsafe {
        libc::clock_getcpuclockid(process, &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
    };
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    (!failed).then(|| part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_work_and_is_unknown_of_nobody() {
        let before = process_cpu_nanos(std::process::id()).unwrap();
        let start = std::time::Instant::now();
        while start.elapsed().as_millis() < 20 {}
        assert!(process_cpu_nanos(std::process::id()).unwrap() > before);
        assert_eq!(process_cpu_nanos(u32::MAX), None);
        assert_eq!(process_cpu_nanos(i32::MAX.unsigned_abs()), None);
    }
}
