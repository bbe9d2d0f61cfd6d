//! Huge pages, and what moves or merges pages.

use super::{Area, Check, Finding, Host};
use crate::host::{
    facts::available_memory,
    fingerprint::memory::{huge_pages, ksm, memory_lock_limit, numa_balancing, thp},
};

pub(super) const CHECKS: &[Check] = &[
    available,
    |host| huge(host, "2 MiB huge pages", 2048, 512),
    |host| huge(host, "1 GiB huge pages", 1 << 20, 1),
    transparent,
    merging,
    balancing,
    locked,
];

const HERE: Area = Area::Memory;

/// Least memory with which all shipped memory scenarios fit: working sets of up to 1 GiB and a guest around them.
const ENOUGH: u64 = 2 << 30;

fn available(host: &Host) -> Finding {
    let subject = "available memory";
    match available_memory(&host.root) {
        Some(bytes) => {
            let found = format!("{} MiB", bytes >> 20);
            if bytes >= ENOUGH {
                HERE.ok(subject, found)
            } else {
                HERE.limited(
                    subject,
                    found,
                    "working sets of 1 GiB do not fit; their cells are not testable here",
                )
                .remedy("free memory, or raise the control group's memory limit, up to 2 GiB")
            }
        }
        None => HERE.missing(
            subject,
            "/proc/meminfo does not tell",
            "whether a cell's memory fits shows only when it runs",
        ),
    }
}

/// `needed` pages of this size make 1 GiB.
fn huge(host: &Host, subject: &'static str, kibibytes: u32, needed: u32) -> Finding {
    let cells = "cells that are backed by them are not testable here";
    let file = format!("/sys/kernel/mm/hugepages/hugepages-{kibibytes}kB/nr_hugepages");
    HERE.judge(subject, huge_pages(host, kibibytes), cells, |found| {
        if !found.starts_with("0 ") {
            return HERE.ok(subject, found);
        }
        let finding = HERE.limited(subject, found, cells);
        let command = format!("echo {needed} | sudo tee {file}");
        if kibibytes == 2048 {
            finding.remedy(command)
        } else {
            finding.remedy(format!(
                "{command}   # or boot with hugepagesz=1G hugepages=4 where memory is fragmented"
            ))
        }
    })
}

fn transparent(host: &Host) -> Finding {
    let subject = "transparent huge pages";
    let without = "cells with backing \"thp\" are not testable here";
    HERE.judge(subject, thp(host, "enabled"), without, |found| {
        if found == "never" {
            HERE.limited(subject, found, without)
                .remedy("echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled")
        } else {
            HERE.ok(subject, found)
        }
    })
}

fn merging(host: &Host) -> Finding {
    let subject = "KSM";
    let without = "merging of equal pages can neither happen nor be measured";
    HERE.judge(subject, ksm(host), without, |found| {
        if found.starts_with("on") {
            HERE.limited(
                subject,
                found,
                "the kernel scans memory meanwhile, which takes CPU time from whatever is measured",
            )
            .remedy("echo 0 | sudo tee /sys/kernel/mm/ksm/run")
        } else {
            HERE.ok(subject, found)
        }
    })
}

fn balancing(host: &Host) -> Finding {
    let subject = "NUMA balancing";
    let without = "the kernel has none, so pages stay where they are";
    match numa_balancing(host) {
        Err(_) => HERE.ok(subject, without),
        Ok(found) if found == "on" => HERE
            .limited(
                subject,
                found,
                "pages are unmapped and moved between nodes while a cell runs",
            )
            .remedy("echo 0 | sudo tee /proc/sys/kernel/numa_balancing"),
        Ok(found) => HERE.ok(subject, found),
    }
}

fn locked(host: &Host) -> Finding {
    let subject = "memory lock limit";
    let found = memory_lock_limit(host);
    if host.probes.memory_lock.is_none() {
        return HERE.ok(subject, found);
    }
    if may_lock_anyway(host) {
        return HERE.ok(subject, format!("{found}, lifted by CAP_IPC_LOCK"));
    }
    HERE.limited(
        subject,
        found,
        "device assignment (VFIO) locks all guest memory and fails above this; other scenarios need none",
    )
    .remedy("`* - memlock unlimited` in /etc/security/limits.conf, or LimitMEMLOCK=infinity in the unit")
}

/// Whether this process has CAP_IPC_LOCK, bit 14 (capabilities(7)).
fn may_lock_anyway(host: &Host) -> bool {
    let status = host.root.text("proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> 14 & 1 == 1)
}
