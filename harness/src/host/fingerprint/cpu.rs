//! Facts about the processor.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fact, Found, Host, Unknown, switch};
use crate::host::{caches, root::format_list};

pub(super) const FACTS: &[Fact] = &[
    ("cpu_model", |host| host.cpuinfo("model name")),
    ("cpu_vendor", |host| host.cpuinfo("vendor_id")),
    ("cpu_signature", signature),
    ("cpus", |host| Ok(format_list(&online(host)?))),
    ("sockets", |host| distinct(host, &["physical_package_id"])),
    ("cores", |host| {
        distinct(host, &["physical_package_id", "die_id", "core_id"])
    }),
    ("threads", |host| Ok(online(host)?.len().to_string())),
    ("caches", caches),
    ("microcode", |host| host.cpuinfo("microcode")),
    ("smt", smt),
    ("governor", governor),
    ("frequency_driver", |host| {
        per_cpu(host, "cpufreq/scaling_driver")
    }),
    ("turbo", turbo),
    ("clock_source", clock_source),
    ("tsc", tsc),
    ("isolated_cpus", |host| cpu_list(host, "isolated")),
    ("nohz_full", |host| cpu_list(host, "nohz_full")),
    ("mitigations", mitigations),
];

const CPUS: &str = "sys/devices/system/cpu";

fn signature(host: &Host) -> Found {
    Ok(format!(
        "family {} model {} stepping {}",
        host.cpuinfo("cpu family")?,
        host.cpuinfo("model")?,
        host.cpuinfo("stepping")?
    ))
}

fn online(host: &Host) -> Result<Vec<u32>, Unknown> {
    Ok(host.root.list(&format!("{CPUS}/online"))?)
}

/// How many different combinations of these topology numbers the online CPUs have.
fn distinct(host: &Host, numbers: &[&str]) -> Found {
    let mut seen = BTreeSet::new();
    for cpu in online(host)? {
        let place: Result<Vec<String>, _> = numbers
            .iter()
            .map(|number| {
                host.root
                    .text(&format!("{CPUS}/cpu{cpu}/topology/{number}"))
            })
            .collect();
        seen.insert(place?);
    }
    Ok(seen.len().to_string())
}

fn caches(host: &Host) -> Found {
    let texts: Vec<String> = caches::caches(&host.root)?
        .iter()
        .map(|cache| {
            let kind = match cache.kind.as_str() {
                "Data" => "d",
                "Instruction" => "i",
                _ => "",
            };
            format!("L{}{kind} {}K", cache.level, cache.bytes >> 10)
        })
        .collect();
    Ok(texts.join(", "))
}

/// Whether two hardware threads of one core are in use.
pub(crate) fn smt(host: &Host) -> Found {
    let control = host.root.text(&format!("{CPUS}/smt/control"))?;
    Ok(match control.as_str() {
        "notsupported" | "notimplemented" => "not there".to_owned(),
        _ => control,
    })
}

/// The frequency governor, with the CPUs where it is not the same on all.
pub(crate) fn governor(host: &Host) -> Found {
    per_cpu(host, "cpufreq/scaling_governor")
}

fn per_cpu(host: &Host, file: &str) -> Found {
    let mut cpus_by_text: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for cpu in online(host)? {
        let text = host.root.text(&format!("{CPUS}/cpu{cpu}/{file}"))?;
        cpus_by_text.entry(text).or_default().push(cpu);
    }
    if cpus_by_text.len() == 1 {
        return Ok(cpus_by_text.into_keys().collect());
    }
    let texts: Vec<String> = cpus_by_text
        .iter()
        .map(|(text, cpus)| format!("{text} (CPU {})", format_list(cpus)))
        .collect();
    Ok(texts.join(", "))
}

/// Whether the CPU may run above its base frequency, from the driver in use.
pub(crate) fn turbo(host: &Host) -> Found {
    let no_turbo = format!("{CPUS}/intel_pstate/no_turbo");
    if host.root.exists(&no_turbo) {
        let off: u8 = host.root.number(&no_turbo)?;
        return Ok(if off == 0 { "on" } else { "off" }.to_owned());
    }
    switch(host, &format!("{CPUS}/cpufreq/boost"))
}

/// What the kernel keeps time with.
pub(crate) fn clock_source(host: &Host) -> Found {
    Ok(host
        .root
        .text("sys/devices/system/clocksource/clocksource0/current_clocksource")?)
}

/// Which promises about the TSC the CPU makes.
pub(crate) fn tsc(host: &Host) -> Found {
    let flags = host.cpuinfo("flags")?;
    let kept: Vec<&str> = [
        "constant_tsc",
        "nonstop_tsc",
        "tsc_known_freq",
        "tsc_reliable",
    ]
    .into_iter()
    .filter(|wanted| flags.split_whitespace().any(|flag| flag == *wanted))
    .collect();
    if kept.is_empty() {
        return Ok("the CPU promises neither a constant rate nor that it never stops".to_owned());
    }
    Ok(kept.join(" "))
}

/// A list of CPUs that the kernel sets apart.
pub(crate) fn cpu_list(host: &Host, file: &str) -> Found {
    let text = host.root.text(&format!("{CPUS}/{file}"))?;
    // The kernel writes `(null)` where nohz_full was not asked for.
    Ok(match text.as_str() {
        "" | "(null)" => "none".to_owned(),
        _ => text,
    })
}

/// Every vulnerability that affects this CPU, with what is done about it.
fn mitigations(host: &Host) -> Found {
    let states = vulnerabilities(host)?;
    let (affected, spared): (Vec<_>, Vec<_>) = states
        .into_iter()
        .partition(|(_, state)| state != NOT_AFFECTED);
    let mut texts: Vec<String> = affected
        .into_iter()
        .map(|(name, state)| format!("{name}: {state}"))
        .collect();
    texts.push(format!("not affected by {} more", spared.len()));
    Ok(texts.join(" | "))
}

/// How many vulnerabilities are mitigated, and how many are not.
pub(crate) fn mitigations_count(host: &Host) -> Found {
    let states = vulnerabilities(host)?;
    let count = |start| {
        states
            .iter()
            .filter(|(_, state)| state.starts_with(start))
            .count()
    };
    Ok(format!(
        "{} mitigated, {} vulnerable, {} of no concern to this CPU",
        count("Mitigation"),
        count("Vulnerable"),
        count(NOT_AFFECTED)
    ))
}

/// How the kernel says that a vulnerability does not concern the CPU.
const NOT_AFFECTED: &str = "Not affected";

fn vulnerabilities(host: &Host) -> Result<Vec<(String, String)>, Unknown> {
    let directory = format!("{CPUS}/vulnerabilities");
    let mut states = Vec::new();
    for name in host.root.entries(&directory)? {
        let state = host.root.text(&format!("{directory}/{name}"))?;
        states.push((name, state));
    }
    Ok(states)
}
