//! What is counted around each block: the events that an account of the gap is made of.
//!
//! ```text
//! harness (KVM, the VMM, the scheduler, the PMU) ──► Counts of a block ──► counters.csv ──► CounterLog ──► ledger
//! ```
//!
//! A counter that a host does not offer has no value, never 0; [`crate::record::RunRecord::counters_unavailable`] says
//! why.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::record::Side;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Something that is counted around a block, on the thread that is the vCPU's and its native twin's.
        ///
        /// KVM's own counters keep their names (Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD) behind `kvm_`.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
        )]
        pub enum Counter {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl Counter {
            /// All of them, in the order of the columns of `counters.csv`.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// What it counts.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc, "\n"),+),)+ }
            }

            /// Its name in files; the unit stands in it where it is no number of events.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

counters! {
    /// Port accesses that the VMM answered; the one that ends a request is not among them.
    PortExits = "port_exits",
    /// MMIO accesses that the VMM answered.
    MmioExits = "mmio_exits",
    /// Times that the vCPU left guest mode for KVM.
    KvmExits = "kvm_exits",
    /// Exits for a host interrupt.
    KvmIrqExits = "kvm_irq_exits",
    /// Exits because the vCPU halted.
    KvmHaltExits = "kvm_halt_exits",
    /// Exits to user space for a signal.
    KvmSignalExits = "kvm_signal_exits",
    /// Page faults of the guest that KVM took: EPT and NPT violations, or faults on shadow page tables.
    KvmPageFaults = "kvm_pf_taken",
    /// Those of them that it fixed.
    KvmPageFaultsFixed = "kvm_pf_fixed",
    /// Instructions that KVM emulated.
    KvmEmulations = "kvm_insn_emulation",
    /// Hypercalls.
    KvmHypercalls = "kvm_hypercalls",
    /// Flushes of the vCPU's TLB.
    KvmTlbFlushes = "kvm_tlb_flush",
    /// Interrupts injected into the guest.
    KvmInjections = "kvm_irq_injections",
    /// Nanoseconds that the halted vCPU polled, with success or without.
    KvmHaltPoll = "kvm_halt_poll_ns",
    /// Nanoseconds that it then slept.
    KvmHaltWait = "kvm_halt_wait_ns",
    /// Times that the thread gave up the CPU.
    VoluntarySwitches = "voluntary_switches",
    /// Times that the scheduler took it away.
    InvoluntarySwitches = "involuntary_switches",
    /// Moves to another CPU.
    Migrations = "migrations",
    /// Nanoseconds that the thread was runnable but waited for a CPU.
    RunDelay = "run_delay_ns",
    /// Nanoseconds that are neither CPU time nor run delay: what the hypervisor below took.
    Missing = "missing_ns",
    /// Nanoseconds that are neither CPU time nor run delay in a block in which the thread gave up the CPU by itself:
    /// asleep, or taken by the hypervisor below meanwhile. 0 where it did not.
    Asleep = "asleep_ns",
    /// Nanoseconds of CPU time of the thread, guest and host together.
    CpuTime = "cpu_ns",
    /// Nanoseconds of CPU time of all I/O threads of the guest; no value on the host's side, which has none.
    IoCpuTime = "io_cpu_ns",
    /// Frames that were sent and not known to arrive; no value for work without a network link.
    LostFrames = "lost_frames",
    /// Page faults of the process on this thread that needed no disk.
    MinorFaults = "minor_faults",
    /// Page faults that did.
    MajorFaults = "major_faults",
    /// CPU cycles in the guest.
    GuestCycles = "guest_cycles",
    /// CPU cycles outside it.
    HostCycles = "host_cycles",
    /// Loads that missed the data TLB.
    DtlbMisses = "dtlb_misses",
    /// Loads that missed the last-level cache.
    LlcMisses = "llc_misses",
    /// Cycles of the CPU while it was awake, at the frequency that it had (APERF).
    Aperf = "aperf_cycles",
    /// The same at the frequency of the TSC (MPERF): APERF over MPERF times that frequency is the CPU's own.
    Mperf = "mperf_cycles",
    /// Frequency of the CPU in kHz as cpufreq has it at the block's end, which is no mean over the block; no value where APERF
    /// and MPERF are counted.
    Cpufreq = "cpufreq_khz",
}

/// The counters of one block: how much each grew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts([u64; Counter::ALL.len()]);

/// Stands for a counter without a value: no counter grows by as much in a block.
const ABSENT: u64 = u64::MAX;

impl Counts {
    /// No counter has a value.
    pub const NONE: Self = Self([ABSENT; Counter::ALL.len()]);

    /// How much the counter grew; `None` where it could not be read.
    #[must_use]
    pub fn get(&self, counter: Counter) -> Option<u64> {
        Some(self.0[counter as usize]).filter(|&value| value != ABSENT)
    }

    /// Sets the counter.
    pub fn set(&mut self, counter: Counter, value: Option<u64>) {
        self.0[counter as usize] = value.unwrap_or(ABSENT);
    }

    /// How much each counter grew from `start` to `self`; what either lacks has no value.
    #[must_use]
    pub fn since(&self, start: &Self) -> Self {
        let mut grown = Self::NONE;
        for &counter in Counter::ALL {
            let pair = self.get(counter).zip(start.get(counter));
            grown.set(counter, pair.map(|(end, start)| end.saturating_sub(start)));
        }
        grown
    }
}

/// The counters of one block on one vCPU: a row of `counters.csv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterRow {
    /// Cell id in the plan.
    pub cell: u32,
    /// Boot of that cell, from 0.
    pub boot: u32,
    /// Round of that boot, from 0.
    pub round: u32,
    /// Which side.
    pub side: Side,
    /// vCPU, or the native thread in its place.
    pub vcpu: u16,
    /// The counters.
    pub counts: Counts,
}

/// The counters of a run. Blocks of the warm-up have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CounterLog(BTreeMap<(u32, u32), Vec<CounterRow>>);

impl CounterLog {
    /// Adds a block.
    pub fn push(&mut self, row: CounterRow) {
        self.0.entry((row.cell, row.boot)).or_default().push(row);
    }

    /// The blocks of a boot, in the order in which they were added.
    #[must_use]
    pub fn boot(&self, cell: u32, boot: u32) -> &[CounterRow] {
        self.0.get(&(cell, boot)).map_or(&[], Vec::as_slice)
    }
}

impl Extend<CounterRow> for CounterLog {
    fn extend<I: IntoIterator<Item = CounterRow>>(&mut self, rows: I) {
        for row in rows {
            self.push(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_without_a_value_stays_without_one() {
        let mut start = Counts::NONE;
        let mut end = Counts::NONE;
        start.set(Counter::KvmExits, Some(7));
        end.set(Counter::KvmExits, Some(19));
        end.set(Counter::DtlbMisses, Some(5));
        let grown = end.since(&start);
        assert_eq!(grown.get(Counter::KvmExits), Some(12));
        assert_eq!(grown.get(Counter::DtlbMisses), None);
    }

    #[test]
    fn names_are_unique_and_survive_serde() {
        for (place, &counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(counter as usize, place);
            let text = serde_json::to_string(&counter).unwrap();
            assert_eq!(text, format!("\"{}\"", counter.name()));
        }
        let names: std::collections::BTreeSet<_> =
            Counter::ALL.iter().map(|counter| counter.name()).collect();
        assert_eq!(names.len(), Counter::ALL.len());
    }
}
