//! What else may take the CPU from a block.

use super::{Area, Check, Finding, Host};
use crate::host::{
    fingerprint::{
        cpu::{cpu_list, mitigations_count, smt},
        kernel::{cpu_quota, load, other_runnable_tasks},
    },
    root::format_list,
};

pub(super) const CHECKS: &[Check] = &[cpus, busy, stolen, quota, siblings, isolated, mitigated];

const HERE: Area = Area::Quiet;

/// Load per CPU above which a host is not quiet.
const QUIET_LOAD: f32 = 0.25;

/// Share of busy time that may be stolen before it is worth a remark.
const QUIET_STEAL: f64 = 0.001;

fn cpus(host: &Host) -> Finding {
    let subject = "CPUs for this process";
    match &host.probes.affinity {
        Ok(cpus) if cpus.len() > 1 => HERE.ok(subject, format_list(cpus)),
        Ok(cpus) => {
            let online = host.root.list("sys/devices/system/cpu/online");
            HERE.limited(
                subject,
                format_list(cpus),
                "cells with two or more vCPUs on CPUs of their own are not testable here",
            )
            .remedy(if online.is_ok_and(|online| online.len() > 1) {
                "taskset -c 0-1 vtax …, or widen the control group's cpuset.cpus"
            } else {
                "a host with two or more CPUs"
            })
        }
        Err(reason) => HERE.missing(subject, reason.clone(), "no thread can be pinned"),
    }
}

fn busy(host: &Host) -> Finding {
    let subject = "load";
    let (Ok(load), Ok(others)) = (load(host), other_runnable_tasks(host)) else {
        return HERE.missing(
            subject,
            "/proc/loadavg does not tell",
            "whether the host is quiet is not known",
        );
    };
    let cpus = host.probes.affinity.as_ref().map_or(1, Vec::len);
    let found = format!(
        "{:.2} in the last minute on {cpus} CPUs; {others} other tasks want a CPU now",
        load.one
    );
    if f64::from(load.one) <= f64::from(QUIET_LOAD) * cpus as f64 {
        return HERE.ok(subject, found);
    }
    HERE.limited(
        subject,
        found,
        "intervals are wider: time that blocks wait for the CPU is part of every ratio",
    )
    .remedy("stop what else runs, or give vtax CPUs of its own (taskset, cpuset)")
}

/// Steal since boot as a share of the time in which a CPU was busy or stolen: first line of /proc/stat, proc_stat(5).
fn stolen(host: &Host) -> Finding {
    let subject = "steal";
    if host.probes.hypervisor.is_none() {
        return HERE.ok(subject, "none: bare metal");
    }
    let text = host.root.text("proc/stat").unwrap_or_default();
    let ticks: Option<Vec<u64>> = text.lines().next().and_then(|line| {
        let words = line.strip_prefix("cpu ")?.split_whitespace();
        words.map(|word| word.parse().ok()).collect()
    });
    let Some(&[user, nice, system, _idle, _iowait, irq, softirq, steal, ..]) = ticks.as_deref()
    else {
        return HERE.missing(
            subject,
            "/proc/stat does not tell",
            "blocks from which the hypervisor took the CPU may go unmarked",
        );
    };
    let wanted = user + nice + system + irq + softirq + steal;
    let share = if wanted == 0 {
        0.0
    } else {
        steal as f64 / wanted as f64
    };
    let found = format!("{:.2} % of busy time since boot", share * 100.0);
    if share <= QUIET_STEAL {
        return HERE.ok(subject, found);
    }
    HERE.limited(
        subject,
        found,
        "the hypervisor under this host takes its CPUs away at times; blocks where that shows are marked as disturbed",
    )
    .remedy("a host with dedicated CPUs")
}

fn quota(host: &Host) -> Finding {
    let subject = "CPU quota";
    HERE.judge(
        subject,
        cpu_quota(host),
        "whether this process is throttled is not known",
        |found| {
            if found == "none" {
                return HERE.ok(subject, found);
            }
            HERE.limited(
                subject,
                found,
                "the control group is stopped when the quota is spent; guest and native alike, but the interval is \
                 wider",
            )
            .remedy("echo max | sudo tee cpu.max   # in the control group (v1: echo -1 > cpu.cfs_quota_us)")
        },
    )
}

fn siblings(host: &Host) -> Finding {
    let subject = "SMT";
    let means = "whether two CPUs of this host share a core is not known";
    HERE.judge(subject, smt(host), means, |found| match found.as_str() {
        "on" => HERE
            .limited(
                subject,
                found,
                "whatever runs on the other thread of a core slows this one down",
            )
            .remedy("echo off | sudo tee /sys/devices/system/cpu/smt/control"),
        _ if host.probes.hypervisor.is_some() => HERE.limited(
            subject,
            format!("{found}, as far as this virtual machine can see"),
            "the hypervisor under this host may still run two of its CPUs on one core",
        ),
        _ => HERE.ok(subject, found),
    })
}

fn isolated(host: &Host) -> Finding {
    let subject = "isolated CPUs";
    let means = "kernel threads, interrupts and other processes share the CPUs of a cell";
    HERE.judge(subject, cpu_list(host, "isolated"), means, |found| {
        if found != "none" {
            return HERE.ok(subject, found);
        }
        // The first CPU keeps the housekeeping.
        let rest = match host.probes.affinity.as_deref() {
            Ok([_, rest @ ..]) if !rest.is_empty() => format_list(rest),
            _ => return HERE.limited(subject, found, means),
        };
        HERE.limited(subject, found, means).remedy(format!(
            "boot with isolcpus={rest} nohz_full={rest} rcu_nocbs={rest} and pin to these CPUs"
        ))
    })
}

fn mitigated(host: &Host) -> Finding {
    let subject = "mitigations";
    let means =
        "they change what entering and leaving a guest costs; compare only hosts that agree here";
    HERE.judge(subject, mitigations_count(host), means, |found| {
        HERE.ok(subject, found).means(means)
    })
}
