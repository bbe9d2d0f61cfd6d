//! What is counted around a block, on the thread that is the vCPU's and its native twin's.
//!
//! ```text
//! begin ─► block ─► end ─► Counts      KVM: one pread · perf: one read an event · VMM: its own count
//!                                      scheduler, faults, CPU time: host::disturbance, which reads them anyhow
//! ```

pub mod kvm;
pub mod perf;

use std::collections::BTreeMap;

use vtax_reports::counters::{Counter, Counts};

use crate::guest::Exits;
use crate::guest::embedded::vcpu::EmbeddedVcpu;
use crate::host::disturbance::Disturbance;
use kvm::KvmStatistics;
use perf::Perf;

/// The counters of one vCPU's thread.
#[derive(Debug)]
pub struct Counters {
    kvm: Option<KvmStatistics>,
    perf: Perf,
    unavailable: BTreeMap<Counter, String>,
}

impl Counters {
    /// Opens what can be counted of `vcpu` and of the calling thread. Never fails: what cannot be counted is in
    /// [`Self::unavailable`].
    #[must_use]
    pub fn new(vcpu: &EmbeddedVcpu<'_>) -> Self {
        let perf = Perf::for_this_thread();
        let mut unavailable: BTreeMap<Counter, String> =
            perf.unavailable().iter().cloned().collect();
        let kvm = match vcpu.statistics() {
            Ok(statistics) => {
                let missing = statistics.missing();
                let why = "this kernel's KVM has no such counter";
                unavailable.extend(missing.map(|counter| (counter, why.to_owned())));
                Some(statistics)
            }
            Err(error) => {
                let why = error.to_string();
                unavailable.extend(KvmStatistics::counters().map(|it| (it, why.clone())));
                None
            }
        };
        Self {
            kvm,
            perf,
            unavailable,
        }
    }

    /// What cannot be counted on this host, and why.
    #[must_use]
    pub fn unavailable(&self) -> &BTreeMap<Counter, String> {
        &self.unavailable
    }

    /// The state before a block.
    #[must_use]
    pub fn begin(&mut self) -> Counts {
        let mut counts = Counts::NONE;
        if let Some(kvm) = &mut self.kvm {
            kvm.read(&mut counts);
        }
        self.perf.read(&mut counts);
        counts
    }

    /// What happened since `start`. `exits` is what the VMM counted meanwhile.
    #[must_use]
    pub fn end(&mut self, start: &Counts, disturbance: &Disturbance, exits: Exits) -> Counts {
        let mut counts = self.begin().since(start);
        for (counter, value) in [
            (Counter::PortExits, Some(exits.port)),
            (Counter::MmioExits, Some(exits.mmio)),
            (
                Counter::VoluntarySwitches,
                Some(disturbance.voluntary_switches),
            ),
            (
                Counter::InvoluntarySwitches,
                Some(disturbance.involuntary_switches),
            ),
            (Counter::RunDelay, disturbance.run_delay_nanos),
            (Counter::Missing, disturbance.missing_nanos),
            (Counter::Asleep, disturbance.asleep_nanos),
            (Counter::CpuTime, Some(disturbance.cpu_nanos)),
            (Counter::IoCpuTime, exits.io_nanos),
            (Counter::MinorFaults, Some(disturbance.minor_faults)),
            (Counter::MajorFaults, Some(disturbance.major_faults)),
        ] {
            counts.set(counter, value);
        }
        counts
    }
}
