//! What explains a result.

use super::{Area, Check, Finding, Host};
use crate::host::probes::CounterTrouble;

pub(super) const CHECKS: &[Check] = &[hardware, kvm_statistics];

const HERE: Area = Area::Counters;

fn hardware(host: &Host) -> Finding {
    let subject = "hardware PMU";
    let means = "instructions, cycles and TLB misses cannot be counted; ratios do not need them, explanations do";
    let trouble = match &host.probes.instructions_counter {
        Ok(()) => return HERE.ok(subject, "counts instructions"),
        Err(trouble) => trouble,
    };
    let finding = HERE.missing(subject, trouble.to_string(), means);
    match trouble {
        CounterTrouble::Denied => {
            let level = host
                .root
                .text("proc/sys/kernel/perf_event_paranoid")
                .unwrap_or_else(|error| error.to_string());
            finding.remedy(format!(
                "sudo sysctl kernel.perf_event_paranoid=2   # now {level}; or give vtax CAP_PERFMON"
            ))
        }
        CounterTrouble::NoPmu if host.probes.hypervisor.is_some() => {
            finding.remedy("give this virtual machine a virtual PMU (QEMU: -cpu host,pmu=on)")
        }
        CounterTrouble::NoPmu => finding.remedy("a kernel with the CPU's PMU driver"),
        CounterTrouble::Other(_) => finding,
    }
}

fn kvm_statistics(host: &Host) -> Finding {
    let subject = "KVM statistics";
    let means = "exits and page faults of a guest cannot be counted";
    match &host.probes.kvm {
        Ok(kvm) if kvm.statistics => HERE.ok(subject, "readable per VM and vCPU"),
        Ok(_) => HERE
            .missing(subject, "KVM_CAP_BINARY_STATS_FD is not offered", means)
            .remedy("Linux 5.14 or newer"),
        Err(_) => HERE.missing(subject, "not known without /dev/kvm", means),
    }
}
