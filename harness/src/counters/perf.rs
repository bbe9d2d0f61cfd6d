//! Perf events of the calling thread: one counter each, a value or the reason why there is none.
//!
//! Hardware counters are pinned: one that finds no room on the PMU has no value, never a scaled guess. Context
//! switches, page faults and CPU time come from `host::disturbance`, which needs no privilege for them.

use std::io;

use perf_event::events::x86::{Msr, MsrId};
use perf_event::events::{Cache, CacheId, CacheOp, CacheResult, Hardware, Software};
use perf_event::{Builder, Counter as Event};
use vtax_reports::counters::{Counter, Counts};

/// The perf events of one thread.
#[derive(Debug, Default)]
pub struct Perf {
    open: Vec<(Counter, Event)>,
    unavailable: Vec<(Counter, String)>,
}

impl Perf {
    /// Opens the events for the calling thread. Never fails: what cannot be had is in [`Self::unavailable`].
    #[must_use]
    pub fn for_this_thread() -> Self {
        let misses = |which| Cache {
            which,
            operation: CacheOp::READ,
            result: CacheResult::MISS,
        };
        let mut perf = Self::default();
        perf.add(
            Counter::Migrations,
            Builder::new(Software::CPU_MIGRATIONS).include_kernel(),
        );
        perf.add(
            Counter::GuestCycles,
            Builder::new(Hardware::CPU_CYCLES)
                .include_kernel()
                .exclude_host(true)
                .pinned(true),
        );
        perf.add(
            Counter::HostCycles,
            Builder::new(Hardware::CPU_CYCLES)
                .include_kernel()
                .exclude_guest(true)
                .pinned(true),
        );
        perf.add(
            Counter::DtlbMisses,
            Builder::new(misses(CacheId::DTLB))
                .include_kernel()
                .pinned(true),
        );
        perf.add(
            Counter::LlcMisses,
            Builder::new(misses(CacheId::LL))
                .include_kernel()
                .pinned(true),
        );
        for (counter, register) in [
            (Counter::Aperf, MsrId::APERF),
            (Counter::Mperf, MsrId::MPERF),
        ] {
            perf.keep(counter, open_register(register), NO_REGISTER);
        }
        perf
    }

    fn add(&mut self, counter: Counter, builder: &Builder<'_>) {
        self.keep(counter, open(builder), NO_EVENT);
    }

    fn keep(&mut self, counter: Counter, opened: io::Result<Event>, absent: &str) {
        match opened {
            Ok(event) => self.open.push((counter, event)),
            Err(error) => self.unavailable.push((counter, why(&error, absent))),
        }
    }

    /// Puts the present values into `counts`.
    pub fn read(&mut self, counts: &mut Counts) {
        for (counter, event) in &mut self.open {
            counts.set(*counter, event.read().ok());
        }
    }

    /// What cannot be had on this host, and why.
    #[must_use]
    pub fn unavailable(&self) -> &[(Counter, String)] {
        &self.unavailable
    }
}

/// Reasons where the machine lacks what was asked for.
const NO_EVENT: &str = "this machine offers no hardware PMU with this event";
const NO_REGISTER: &str = "this machine does not let perf count this register \
                           (/sys/bus/event_source/devices/msr/events has those that it does)";

fn open(builder: &Builder<'_>) -> io::Result<Event> {
    let mut event = builder.build()?;
    event.enable()?;
    // A pinned event that found no room shows it in its first reading.
    event.read()?;
    Ok(event)
}

/// A register of the CPU that counts by itself, while this thread is on it: in the guest, the host and the hypervisor below
/// alike, since nothing can be left out (Linux, arch/x86/events/msr.c).
fn open_register(register: MsrId) -> io::Result<Event> {
    open(
        Builder::new(Msr::new(register)?)
            .include_kernel()
            .include_hv(),
    )
}

fn why(error: &io::Error, absent: &str) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::ENODEV | libc::EINVAL) => absent.to_owned(),
        Some(libc::EACCES | libc::EPERM) => {
            "this user may not use perf events (kernel.perf_event_paranoid at most 1, or CAP_PERFMON)"
                .to_owned()
        }
        Some(libc::ENOSYS) => "this kernel has no perf events".to_owned(),
        _ => format!("perf_event_open: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tsc::rdtsc_fenced;

    #[test]
    fn every_event_has_a_value_or_a_reason() {
        let mut perf = Perf::for_this_thread();
        let mut counts = Counts::NONE;
        perf.read(&mut counts);
        for counter in [
            Counter::Migrations,
            Counter::GuestCycles,
            Counter::HostCycles,
            Counter::DtlbMisses,
            Counter::LlcMisses,
            Counter::Aperf,
            Counter::Mperf,
        ] {
            let reason = perf.unavailable().iter().find(|(of, _)| *of == counter);
            assert_ne!(
                counts.get(counter).is_some(),
                reason.is_some_and(|(_, why)| !why.is_empty()),
                "{counter:?}"
            );
        }
    }

    /// Of the registers the TSC is the one that every machine has, and that can be read without perf.
    #[test]
    fn a_register_counts_while_the_thread_runs() {
        let mut event = match open_register(MsrId::TSC) {
            Ok(event) => event,
            Err(error) => {
                let why = why(&error, NO_REGISTER);
                eprintln!("SKIPPED a_register_counts_while_the_thread_runs: {why}");
                return;
            }
        };
        let (before, start) = (event.read().unwrap(), rdtsc_fenced());
        while rdtsc_fenced().wrapping_sub(start) < 20_000_000 {}
        let spun = rdtsc_fenced().wrapping_sub(start);
        let counted = event.read().unwrap() - before;
        // Less by what other threads had of the CPU.
        assert!(counted > spun / 100, "{counted} of {spun}");
        // It stands still while the thread sleeps.
        let (before, start) = (event.read().unwrap(), rdtsc_fenced());
        std::thread::sleep(std::time::Duration::from_millis(50));
        let slept = rdtsc_fenced().wrapping_sub(start);
        let counted = event.read().unwrap() - before;
        assert!(counted < slept / 2, "{counted} of {slept}");
    }
}
