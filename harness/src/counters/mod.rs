//! What is counted around a block, on the thread that is the vCPU's and its native twin's.
//!
//! ```text
//! begin ─► block ─► end ─► Counts      KVM: one pread · perf: one read an event · VMM: its own count
//!                                      scheduler, faults, CPU time: host::disturbance, which reads them anyhow
//!                                      frequency: APERF and MPERF by perf, else cpufreq at the end
//! ```

pub mod kvm;
pub mod perf;

use std::collections::BTreeMap;

use vtax_reports::counters::{Counter, Counts};

use crate::guest::Exits;
use crate::guest::embedded::vcpu::EmbeddedVcpu;
use crate::host::disturbance::Disturbance;
use crate::host::root::HostRoot;
use kvm::KvmStatistics;
use perf::Perf;

/// The counters of one vCPU's thread.
#[derive(Debug)]
pub struct Counters {
    kvm: Option<KvmStatistics>,
    perf: Perf,
    /// Where cpufreq is asked for the frequency.
    cpufreq: Option<HostRoot>,
    unavailable: BTreeMap<Counter, String>,
}

/// The CPU's present frequency in kHz, relative to the root (Documentation/admin-guide/pm/cpufreq.rst).
fn cpufreq_file(cpu: u32) -> String {
    format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq")
}

/// Where cpufreq is to be asked, if the CPU's own counters are not there.
fn cpufreq(host: HostRoot, has_counters: bool) -> Result<HostRoot, String> {
    if has_counters {
        return Err("APERF and MPERF are counted, which are exact".to_owned());
    }
    match host.number::<u64>(&cpufreq_file(0)) {
        Ok(_) => Ok(host),
        Err(error) => Err(error.to_string()),
    }
}

impl Counters {
    /// Opens what can be counted of `vcpu` and of the calling thread. Never fails: what cannot be counted is in
    /// [`Self::unavailable`].
    #[must_use]
    pub fn new(vcpu: &EmbeddedVcpu<'_>) -> Self {
        let perf = Perf::for_this_thread();
        let mut unavailable: BTreeMap<Counter, String> =
            perf.unavailable().iter().cloned().collect();
        let has_counters = [Counter::Aperf, Counter::Mperf]
            .iter()
            .all(|counter| !unavailable.contains_key(counter));
        let cpufreq = cpufreq(HostRoot::default(), has_counters)
            .map_err(|why| unavailable.insert(Counter::Cpufreq, why))
            .ok();
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
            cpufreq,
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
        let frequency = self.cpufreq.as_ref().map(|host| {
            let file = cpufreq_file(disturbance.cpu);
            host.number::<u64>(&file).ok()
        });
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
            (Counter::Cpufreq, frequency.flatten()),
        ] {
            counts.set(counter, value);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Tree;

    #[test]
    fn cpufreq_is_asked_where_the_cpu_does_not_count_itself() {
        let tree = Tree::new(&[]);
        let reason = cpufreq(tree.root(), false).unwrap_err();
        assert!(
            reason.contains("scaling_cur_freq does not exist"),
            "{reason}"
        );
        tree.write(&cpufreq_file(0), "2600000\n");
        assert!(cpufreq(tree.root(), false).is_ok());
        let reason = cpufreq(tree.root(), true).unwrap_err();
        assert!(reason.contains("APERF"), "{reason}");
    }
}
