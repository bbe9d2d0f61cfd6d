//! Facts about memory.

use procfs::Meminfo;

use super::{Fact, Found, Host, Unknown, switch};
use crate::host::cgroup::Cgroup;

pub(super) const FACTS: &[Fact] = &[
    ("memory_total", |host| {
        Ok(mebibytes(meminfo(host)?.mem_total))
    }),
    ("memory_available", memory_available),
    ("memory_limit", memory_limit),
    ("swap", swap),
    ("thp", |host| thp(host, "enabled")),
    ("thp_defrag", |host| thp(host, "defrag")),
    ("hugepages_2m", |host| huge_pages(host, 2048)),
    ("hugepages_1g", |host| huge_pages(host, 1_048_576)),
    ("ksm", ksm),
    ("numa_nodes", numa_nodes),
    ("numa_balancing", numa_balancing),
    ("memory_lock_limit", |host| Ok(memory_lock_limit(host))),
];

fn meminfo(host: &Host) -> Result<Meminfo, Unknown> {
    Ok(host.root.parsed("proc/meminfo", "memory figures")?)
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn memory_available(host: &Host) -> Found {
    meminfo(host)?
        .mem_available
        .map(mebibytes)
        .ok_or_else(|| Unknown("/proc/meminfo has no MemAvailable".to_owned()))
}

fn memory_limit(host: &Host) -> Found {
    let limit = Cgroup::of(&host.root)?.memory_limit;
    Ok(limit.map_or_else(|| "none".to_owned(), mebibytes))
}

fn swap(host: &Host) -> Found {
    let meminfo = meminfo(host)?;
    if meminfo.swap_total == 0 {
        return Ok("none".to_owned());
    }
    let used = meminfo.swap_total.saturating_sub(meminfo.swap_free);
    Ok(format!(
        "{} of {} in use",
        mebibytes(used),
        mebibytes(meminfo.swap_total)
    ))
}

/// A setting of transparent huge pages.
pub(crate) fn thp(host: &Host, setting: &str) -> Found {
    Ok(host
        .root
        .selected(&format!("sys/kernel/mm/transparent_hugepage/{setting}"))?)
}

/// Free and reserved huge pages of one size.
pub(crate) fn huge_pages(host: &Host, kibibytes: u32) -> Found {
    let count = |name| {
        host.root.number::<u64>(&format!(
            "sys/kernel/mm/hugepages/hugepages-{kibibytes}kB/{name}_hugepages"
        ))
    };
    Ok(format!("{} free of {}", count("free")?, count("nr")?))
}

/// Whether the kernel merges equal pages.
pub(crate) fn ksm(host: &Host) -> Found {
    let state: u8 = host.root.number("sys/kernel/mm/ksm/run")?;
    let sharing: u64 = host.root.number("sys/kernel/mm/ksm/pages_sharing")?;
    let state = match state {
        0 => "off",
        1 => "on",
        _ => "off, all pages unmerged",
    };
    Ok(format!("{state}, {sharing} pages saved"))
}

fn numa_nodes(host: &Host) -> Found {
    Ok(host.root.text("sys/devices/system/node/has_memory")?)
}

/// Whether the kernel moves pages to the node that uses them.
pub(crate) fn numa_balancing(host: &Host) -> Found {
    switch(host, "proc/sys/kernel/numa_balancing")
}

/// How much memory this process may lock.
pub(crate) fn memory_lock_limit(host: &Host) -> String {
    host.probes.memory_lock.map_or_else(
        || "unlimited".to_owned(),
        |bytes| format!("{} KiB", bytes >> 10),
    )
}
