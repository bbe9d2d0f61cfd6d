//! The known causes of a loss: what counts them, and what prices them. No event belongs to two of them.

use schemars::JsonSchema;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::counters::{Counter, Counts};
use crate::record::CostOf;

/// Where time may go.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Port accesses that the VMM answers.
    PortExits,
    /// MMIO accesses that the VMM answers.
    MmioExits,
    /// Exits that KVM answers itself: all those that no other cause counts.
    KernelExits,
    /// Instructions that KVM emulates besides those accesses.
    Emulations,
    /// Exits for interrupts of the host.
    InterruptExits,
    /// Page faults of the guest that KVM fixes.
    GuestFaults,
    /// Page faults of the host process.
    HostFaults,
    /// Switches to other threads and back.
    ContextSwitches,
    /// Waiting for a CPU that others use.
    RunDelay,
    /// Waiting asleep, for a device or a wake-up.
    Asleep,
    /// Polling of KVM before a halted vCPU sleeps.
    HaltPolling,
    /// What the host's side does in its own way, and the guest's side does not.
    HostWork,
    /// What the hypervisor below this host took.
    Missing,
    /// Walks of two page tables in place of one.
    PageWalks,
    /// Loads that miss the last-level cache.
    CacheMisses,
}

/// What an event costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Price {
    /// As much as was measured.
    Of(CostOf),
    /// It is a time itself.
    Time,
    /// No price could be measured, and why.
    Unknown(&'static str),
}

impl Cause {
    /// All of them; a cause's place is its number.
    pub const ALL: &[Self] = &[
        Self::PortExits,
        Self::MmioExits,
        Self::KernelExits,
        Self::Emulations,
        Self::InterruptExits,
        Self::GuestFaults,
        Self::HostFaults,
        Self::ContextSwitches,
        Self::RunDelay,
        Self::Asleep,
        Self::HaltPolling,
        Self::HostWork,
        Self::Missing,
        Self::PageWalks,
        Self::CacheMisses,
    ];

    /// In a few words, for a legend.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::PortExits => "port exits",
            Self::MmioExits => "MMIO exits",
            Self::KernelExits => "exits within KVM",
            Self::Emulations => "emulated instructions",
            Self::InterruptExits => "interrupt exits",
            Self::GuestFaults => "guest page faults",
            Self::HostFaults => "host page faults",
            Self::ContextSwitches => "context switches",
            Self::RunDelay => "waiting for a CPU",
            Self::Asleep => "asleep",
            Self::HaltPolling => "halt polling",
            Self::HostWork => "the host's own system calls",
            Self::Missing => "taken by the hypervisor below",
            Self::PageWalks => "page walks (dTLB misses)",
            Self::CacheMisses => "cache misses (LLC)",
        }
    }

    /// What one event costs.
    #[must_use]
    pub const fn price(self) -> Price {
        match self {
            Self::PortExits => Price::Of(CostOf::PortExit),
            Self::MmioExits => Price::Of(CostOf::MmioExit),
            Self::KernelExits => Price::Of(CostOf::KernelExit),
            Self::Emulations => Price::Of(CostOf::Emulation),
            Self::InterruptExits => Price::Of(CostOf::InterruptExit),
            Self::GuestFaults => Price::Of(CostOf::GuestFault),
            Self::HostFaults => Price::Of(CostOf::HostFault),
            Self::ContextSwitches => Price::Of(CostOf::ContextSwitch),
            Self::RunDelay | Self::Asleep | Self::HaltPolling | Self::HostWork | Self::Missing => {
                Price::Time
            }
            Self::PageWalks | Self::CacheMisses => Price::Unknown(
                "they were counted, but what one costs depends on how much of it overlaps with other work",
            ),
        }
    }

    /// The counters that it is made of.
    const fn counters(self) -> &'static [Counter] {
        match self {
            Self::PortExits => &[Counter::PortExits],
            Self::MmioExits => &[Counter::MmioExits],
            Self::KernelExits => &[
                Counter::KvmExits,
                Counter::PortExits,
                Counter::MmioExits,
                Counter::KvmIrqExits,
                Counter::KvmPageFaultsFixed,
            ],
            Self::Emulations => &[
                Counter::KvmEmulations,
                Counter::PortExits,
                Counter::MmioExits,
            ],
            Self::InterruptExits => &[Counter::KvmIrqExits],
            Self::GuestFaults => &[Counter::KvmPageFaultsFixed],
            Self::HostFaults => &[Counter::MinorFaults, Counter::MajorFaults],
            Self::ContextSwitches => &[Counter::VoluntarySwitches, Counter::InvoluntarySwitches],
            Self::RunDelay => &[Counter::RunDelay],
            Self::Asleep => &[Counter::Asleep],
            Self::HaltPolling => &[Counter::KvmHaltPoll],
            Self::HostWork => &[Counter::CpuTime],
            Self::Missing => &[Counter::Missing],
            Self::PageWalks => &[Counter::DtlbMisses],
            Self::CacheMisses => &[Counter::LlcMisses],
        }
    }

    /// Its events in one block; `None` where one of its counters has no value.
    #[must_use]
    pub fn events(self, counts: &Counts) -> Option<f64> {
        let values: Option<Vec<u64>> = self
            .counters()
            .iter()
            .map(|&counter| counts.get(counter))
            .collect();
        let values = values?;
        let events = match self {
            // What is left of all exits; one more is the request's own end, where the guest ran at all.
            Self::KernelExits => rest(&values).saturating_sub(1),
            Self::Emulations => rest(&values),
            _ => values.iter().sum(),
        };
        Some(events as f64)
    }

    /// Why it could not be counted.
    #[must_use]
    pub(super) fn not_counted(self, unavailable: &BTreeMap<Counter, String>) -> String {
        self.counters()
            .iter()
            .find_map(|counter| unavailable.get(counter).cloned())
            .unwrap_or_else(|| match self {
                Self::Missing => {
                    "the thread slept in some blocks, so that time asleep cannot be told from time taken"
                        .to_owned()
                }
                _ => "some blocks have no value for it".to_owned(),
            })
    }
}

/// The first of the values less all others.
fn rest(values: &[u64]) -> u64 {
    values.split_first().map_or(0, |(all, others)| {
        all.saturating_sub(others.iter().sum::<u64>())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_stands_in_its_place() {
        for (place, &cause) in Cause::ALL.iter().enumerate() {
            assert_eq!(cause as usize, place);
        }
    }

    #[test]
    fn exits_within_kvm_are_those_that_nobody_else_counts() {
        let mut counts = Counts::NONE;
        for (counter, value) in [
            (Counter::KvmExits, 100),
            (Counter::PortExits, 10),
            (Counter::MmioExits, 20),
            (Counter::KvmIrqExits, 5),
        ] {
            counts.set(counter, Some(value));
        }
        assert_eq!(Cause::KernelExits.events(&counts), None);
        counts.set(Counter::KvmPageFaultsFixed, Some(30));
        assert_eq!(Cause::KernelExits.events(&counts), Some(34.0));
        assert_eq!(Cause::GuestFaults.events(&counts), Some(30.0));
        assert_eq!(Cause::PageWalks.events(&counts), None);
        assert_eq!(Cause::Emulations.events(&counts), None);
        counts.set(Counter::KvmEmulations, Some(90));
        assert_eq!(Cause::Emulations.events(&counts), Some(60.0));
        // A native block: the vCPU stood still.
        counts.set(Counter::KvmExits, Some(0));
        assert_eq!(Cause::KernelExits.events(&counts), Some(0.0));
    }
}
