//! Facts about the kernel and what else it runs.

use procfs::{LoadAverage, Uptime};

use super::{Fact, Found, Host, Unknown};
use crate::host::{cgroup::Cgroup, root::format_list};

pub(super) const FACTS: &[Fact] = &[
    ("kernel", |host| Ok(host.probes.kernel.clone())),
    ("kernel_command_line", command_line),
    ("distribution", distribution),
    ("uptime", uptime),
    ("load_average", load_average),
    ("other_runnable_tasks", other_runnable_tasks),
    ("aslr", aslr),
    ("perf_event_paranoid", |host| {
        Ok(host.root.text("proc/sys/kernel/perf_event_paranoid")?)
    }),
    ("cgroup_version", |host| {
        Ok(Cgroup::of(&host.root)?.version.to_string())
    }),
    ("cpu_quota", cpu_quota),
    ("affinity", affinity),
];

/// The kernel's own part of its command line; what follows `--` goes to init and is nobody's business here.
fn command_line(host: &Host) -> Found {
    let line = host.root.text("proc/cmdline")?;
    let own = line.split(" -- ").next().unwrap_or(&line);
    Ok(own.to_owned())
}

fn distribution(host: &Host) -> Found {
    host.root
        .text("etc/os-release")?
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .ok_or_else(|| Unknown("/etc/os-release has no PRETTY_NAME".to_owned()))
}

fn uptime(host: &Host) -> Found {
    let uptime: Uptime = host.root.parsed("proc/uptime", "two numbers")?;
    Ok(format!("{:.0} s", uptime.uptime))
}

/// The kernel's load averages and task counts.
pub(crate) fn load(host: &Host) -> Result<LoadAverage, Unknown> {
    Ok(host.root.parsed("proc/loadavg", "load averages")?)
}

fn load_average(host: &Host) -> Found {
    let load = load(host)?;
    Ok(format!(
        "{:.2} {:.2} {:.2}",
        load.one, load.five, load.fifteen
    ))
}

/// Tasks that want a CPU at this moment, but for the one that asks.
pub(crate) fn other_runnable_tasks(host: &Host) -> Found {
    Ok(load(host)?.cur.saturating_sub(1).to_string())
}

/// Address space layout randomization: Documentation/admin-guide/sysctl/kernel.rst.
fn aslr(host: &Host) -> Found {
    let level: u8 = host.root.number("proc/sys/kernel/randomize_va_space")?;
    Ok(match level {
        0 => "off".to_owned(),
        1 => "on, heap excepted".to_owned(),
        _ => "on".to_owned(),
    })
}

/// The tightest quota of CPU time on this process's control group.
pub(crate) fn cpu_quota(host: &Host) -> Found {
    let cpus = Cgroup::of(&host.root)?.cpus;
    Ok(cpus.map_or_else(|| "none".to_owned(), |cpus| format!("{cpus} CPUs")))
}

fn affinity(host: &Host) -> Found {
    match &host.probes.affinity {
        Ok(cpus) => Ok(format_list(cpus)),
        Err(reason) => Err(Unknown(reason.clone())),
    }
}
