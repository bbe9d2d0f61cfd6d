//! Clocks and frequency.

use super::{Area, Check, Finding, Host};
use crate::host::fingerprint::cpu::{clock_source, governor, tsc, turbo};

pub(super) const CHECKS: &[Check] = &[stability, source, frequency, boost];

const HERE: Area = Area::Timing;

/// Drift is harmless for ratios and bad for noise.
const DRIFT: &str = "the frequency may change while a cell runs; native and guest blocks alternate, so that the ratio \
                     is fair, but its interval is wider";

fn stability(host: &Host) -> Finding {
    let subject = "TSC";
    let means = "the payload's clock may change its rate; blocks in which it disagrees with the harness's clock are \
                 void";
    HERE.judge(subject, tsc(host), means, |found| {
        let promised = |flag| found.split_whitespace().any(|word| word == flag);
        if promised("constant_tsc") && promised("nonstop_tsc") {
            return HERE.ok(subject, found);
        }
        let finding = HERE.limited(subject, found, means);
        if host.probes.hypervisor.is_some() {
            finding.remedy("let the hypervisor under this host pass the invariant TSC on (QEMU: -cpu host,+invtsc)")
        } else {
            finding
        }
    })
}

fn source(host: &Host) -> Finding {
    let subject = "clock source";
    let means = "reading the time takes a system call and about a microsecond: edges of blocks are blurred, and the \
                 kernel may distrust the TSC for a reason (see `dmesg | grep -i tsc`)";
    HERE.judge(subject, clock_source(host), means, |found| {
        match found.as_str() {
            // These are read without a system call.
            "tsc" | "kvm-clock" | "hyperv_clocksource_tsc_page" => HERE.ok(subject, found),
            _ => HERE.limited(subject, found, means).remedy(
                "echo tsc | sudo tee /sys/devices/system/clocksource/clocksource0/current_clocksource",
            ),
        }
    })
}

fn frequency(host: &Host) -> Finding {
    let subject = "frequency governor";
    match governor(host) {
        Ok(found) if found == "performance" => HERE.ok(subject, found),
        Ok(found) => HERE
            .limited(subject, found, DRIFT)
            .remedy("sudo cpupower frequency-set -g performance"),
        Err(_) => HERE.limited(subject, not_shown(host), DRIFT),
    }
}

fn boost(host: &Host) -> Finding {
    let subject = "turbo";
    match turbo(host) {
        Ok(found) if found == "off" => HERE.ok(subject, found),
        Ok(found) => HERE.limited(subject, found, DRIFT).remedy(
            if host
                .root
                .exists("sys/devices/system/cpu/intel_pstate/no_turbo")
            {
                "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo"
            } else {
                "echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost"
            },
        ),
        Err(_) => HERE.limited(subject, not_shown(host), DRIFT),
    }
}

/// Without cpufreq somebody else decides.
fn not_shown(host: &Host) -> &'static str {
    if host.probes.hypervisor.is_some() {
        "not shown: the hypervisor under this host decides"
    } else {
        "not shown: the kernel has no cpufreq driver for this CPU; the firmware decides"
    }
}
