//! The scenarios that ship: which of them this host can measure.

use super::{Area, Check, Finding, Host, kvm::usable};
use crate::host::facts::facts;

pub(super) const CHECKS: &[Check] = &[cpu, memory, huge_pages, pinning, rate];

const HERE: Area = Area::Scenarios;

const MEASURABLE: &str = "can be measured";

/// Without KVM no family can be measured.
fn with_kvm(host: &Host, subject: &'static str, judge: impl FnOnce() -> Finding) -> Finding {
    if usable(host) {
        judge()
    } else {
        HERE.missing(
            subject,
            "not testable here",
            "/dev/kvm is not usable: see above",
        )
    }
}

fn cpu(host: &Host) -> Finding {
    let subject = "CPU-bound work (quick, cpu-97)";
    with_kvm(host, subject, || {
        let names: Vec<&str> = host.probes.features.names().collect();
        HERE.ok(subject, format!("{MEASURABLE}, with {}", names.join(", ")))
    })
}

fn memory(host: &Host) -> Finding {
    let subject = "memory (quick, memory-latency)";
    with_kvm(host, subject, || HERE.ok(subject, MEASURABLE))
}

fn huge_pages(host: &Host) -> Finding {
    let subject = "huge pages (hugepages)";
    with_kvm(host, subject, || {
        let facts = facts(&host.root, &host.probes);
        let lacking: Vec<&str> = [
            (facts.thp, "backing \"thp\""),
            (facts.free_huge_2m > 0, "backing \"2M\""),
            (facts.free_huge_1g > 0, "backing \"1G\""),
            (facts.guest_1g_pages, "guest pages \"1G\""),
        ]
        .into_iter()
        .filter(|&(there, _)| !there)
        .map(|(_, name)| name)
        .collect();
        if lacking.is_empty() {
            return HERE.ok(subject, MEASURABLE);
        }
        HERE.limited(
            subject,
            format!("{MEASURABLE} in part"),
            format!(
                "not testable here: {}; see the lines above",
                lacking.join(", ")
            ),
        )
    })
}

fn pinning(host: &Host) -> Finding {
    several_cpus(host, "pinning (pinning)")
}

fn rate(host: &Host) -> Finding {
    several_cpus(host, "one copy per CPU (rate-all-cores)")
}

fn several_cpus(host: &Host, subject: &'static str) -> Finding {
    with_kvm(host, subject, || {
        match host.probes.affinity.as_deref().unwrap_or_default() {
            [] | [_] => HERE.missing(
                subject,
                "not testable here",
                "it takes two CPUs, and this process may use one",
            ),
            cpus => HERE.ok(subject, format!("{MEASURABLE}, on {} CPUs", cpus.len())),
        }
    })
}
