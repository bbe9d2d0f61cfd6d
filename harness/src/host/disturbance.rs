//! What took the CPU away from a block.
//!
//! ```text
//! begin ─► block ─► end ─► Disturbance ─► Marks
//! ```
//!
//! Sources, all per thread, opened once and parsed without allocation:
//!
//! - the CPU number before and after;
//! - involuntary context switches, from getrusage(RUSAGE_THREAD);
//! - run delay, the time that the thread was runnable but waited for a CPU, from `/proc/thread-self/schedstat`
//!   (Documentation/scheduler/sched-stats.rst);
//! - missing time: wall-clock time that is neither CPU time of the thread nor run delay. A Linux host that is itself
//!   a virtual machine subtracts the steal that its hypervisor reports from the thread's CPU time
//!   (CONFIG_PARAVIRT_TIME_ACCOUNTING), to the nanosecond. Time asleep is missing too, so it counts only where the
//!   thread did not give up the CPU by itself. On kernels with CONFIG_IRQ_TIME_ACCOUNTING it includes interrupts;
//! - steal of that CPU from `/proc/stat`. It counts whole ticks of 10 ms: a block that shows one was disturbed at its
//!   time, a block that shows none may still have lost up to 10 ms. It backs up missing time on kernels that do not
//!   account for it.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use rustix::thread::sched_getcpu;
use vtax_reports::record::Marks;

use super::cpu_time::thread_cpu_nanos;
use super::root::HostRoot;
use super::tsc::now_raw_nanos;

/// A block that lost a larger share of its time than this is marked. It is below half of the smallest slowdown that
/// `vtax selftest` plants (0.5 %), and above what timer ticks cost.
const DISTURBING_SHARE: f64 = 0.002;

/// Most that one reading of `/proc/stat` may take. The kernel sums over all CPUs and interrupts for it: a few
/// microseconds on a small host, milliseconds on a host with hundreds of CPUs.
const STAT_LIMIT: Duration = Duration::from_micros(60);

/// Longest line of a CPU in `/proc/stat`: a name and ten numbers.
const STAT_LINE: usize = 160;

/// Reads what disturbs the thread that made it; use it on that thread alone.
#[derive(Debug)]
pub struct DisturbanceProbe {
    schedstat: Option<File>,
    stat: Option<File>,
    stat_text: Vec<u8>,
    virtualized: bool,
    unavailable: Vec<(&'static str, String)>,
}

/// The state before a block; see [`DisturbanceProbe::begin`].
#[derive(Clone, Copy, Debug)]
pub struct Start(Snapshot);

#[derive(Clone, Copy, Debug, Default)]
struct Snapshot {
    cpu: u32,
    usage: Usage,
    run_delay_nanos: Option<u64>,
    steal_ticks: Option<u64>,
    wall_nanos: u64,
    cpu_nanos: u64,
}

/// What getrusage(2) counts of a thread.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    involuntary: u64,
    voluntary: u64,
    minor_faults: u64,
    major_faults: u64,
}

/// What happened to the thread during a block. `None`: the source is unavailable (or, for steal and missing time,
/// has no meaning for this block).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disturbance {
    /// CPU at the end.
    pub cpu: u32,
    /// Whether that is another one than at the start.
    pub migrated: bool,
    /// How often the scheduler took the CPU away.
    pub involuntary_switches: u64,
    /// How often the thread gave it up.
    pub voluntary_switches: u64,
    /// Page faults that needed no disk.
    pub minor_faults: u64,
    /// Page faults that did.
    pub major_faults: u64,
    /// CPU time of the thread.
    pub cpu_nanos: u64,
    /// Time spent runnable, waiting for a CPU.
    pub run_delay_nanos: Option<u64>,
    /// Time in which the thread ran by its own account but not by the wall clock's; `None` on bare metal and where
    /// the thread slept.
    pub missing_nanos: Option<u64>,
    /// Time that is neither CPU time nor run delay where the thread slept, and 0 where it did not.
    pub asleep_nanos: Option<u64>,
    /// Steal of this CPU in ticks of 10 ms; `None` on bare metal and after a migration.
    pub steal_ticks: Option<u64>,
    /// Length of the block.
    pub wall_nanos: u64,
}

impl DisturbanceProbe {
    /// A probe for the calling thread. Never fails: what cannot be read is in [`Self::unavailable`].
    #[must_use]
    pub fn for_this_thread(root: &HostRoot) -> Self {
        let mut probe = Self {
            schedstat: None,
            stat: None,
            stat_text: Vec::new(),
            virtualized: is_virtualized(root),
            unavailable: Vec::new(),
        };
        match open(root, "proc/thread-self/schedstat") {
            Ok(file) => probe.schedstat = Some(file),
            Err(reason) => probe.unavailable.push(("run delay", reason)),
        }
        // On bare metal nothing can take the CPU away: no steal to read.
        if probe.virtualized
            && let Err(reason) = probe.open_stat(root)
        {
            probe.stat = None;
            probe.unavailable.push(("steal", reason));
        }
        // A file that opens but does not hold what it should shows itself in a first reading.
        let first = probe.snapshot_files(current_cpu());
        if probe.schedstat.is_some() && first.run_delay_nanos.is_none() {
            probe.schedstat = None;
            let reason = "/proc/thread-self/schedstat holds no run delay \
                          (a kernel without CONFIG_SCHED_INFO)";
            probe.unavailable.push(("run delay", reason.to_owned()));
        }
        if probe.stat.is_some() && first.steal_ticks.is_none() {
            probe.stat = None;
            let reason = "/proc/stat has no steal for this CPU";
            probe.unavailable.push(("steal", reason.to_owned()));
        }
        probe
    }

    /// Sources that this host does not offer, and why; the same for the life of the probe. Say it once per run.
    #[must_use]
    pub fn unavailable(&self) -> &[(&'static str, String)] {
        &self.unavailable
    }

    /// Whether a hypervisor is below this host, which may take time from it.
    #[must_use]
    pub const fn is_virtualized(&self) -> bool {
        self.virtualized
    }

    /// The state right before a block.
    #[must_use]
    pub fn begin(&mut self) -> Start {
        let cpu = current_cpu();
        let usage = thread_usage();
        let files = self.snapshot_files(cpu);
        // Clocks last here and first in `end`, the wall clock innermost: whatever comes between the readings makes
        // missing time smaller, never larger.
        let cpu_nanos = thread_cpu_nanos();
        let wall_nanos = now_raw_nanos();
        Start(Snapshot {
            cpu,
            usage,
            wall_nanos,
            cpu_nanos,
            ..files
        })
    }

    /// What happened since `start`.
    #[must_use]
    pub fn end(&mut self, start: &Start) -> Disturbance {
        let wall_nanos = now_raw_nanos();
        let cpu_nanos = thread_cpu_nanos();
        let cpu = current_cpu();
        let usage = thread_usage();
        let end = Snapshot {
            cpu,
            usage,
            wall_nanos,
            cpu_nanos,
            ..self.snapshot_files(cpu)
        };
        Disturbance::between(&start.0, &end, self.virtualized)
    }

    fn snapshot_files(&mut self, cpu: u32) -> Snapshot {
        Snapshot {
            run_delay_nanos: self.schedstat.as_ref().and_then(run_delay),
            steal_ticks: self.steal_ticks(cpu),
            ..Snapshot::default()
        }
    }

    fn steal_ticks(&mut self, cpu: u32) -> Option<u64> {
        let len = self.stat.as_ref()?.read_at(&mut self.stat_text, 0).ok()?;
        steal_of(&self.stat_text[..len], cpu)
    }

    /// Opens `/proc/stat` and makes room for the lines of all CPUs; an error where reading it takes too long.
    fn open_stat(&mut self, root: &HostRoot) -> Result<(), String> {
        let possible = root
            .list("sys/devices/system/cpu/possible")
            .map_err(|error| error.to_string())?;
        let lines = possible.last().map_or(0, |&last| last as usize) + 2;
        self.stat_text = vec![0; lines * STAT_LINE];
        self.stat = Some(open(root, "proc/stat")?);
        let quickest = (0..5)
            .map(|_| {
                let start = Instant::now();
                self.steal_ticks(0);
                start.elapsed()
            })
            .min()
            .unwrap_or_default();
        if quickest > STAT_LIMIT {
            return Err(format!(
                "reading /proc/stat takes {} µs on this host, too long beside a block (limit {} µs); missing time \
                 shows steal where the kernel has CONFIG_PARAVIRT_TIME_ACCOUNTING",
                quickest.as_micros(),
                STAT_LIMIT.as_micros()
            ));
        }
        Ok(())
    }
}

impl Disturbance {
    fn between(start: &Snapshot, end: &Snapshot, virtualized: bool) -> Self {
        let wall_nanos = end.wall_nanos.saturating_sub(start.wall_nanos);
        let run_delay_nanos = difference(start.run_delay_nanos, end.run_delay_nanos);
        let accounted = end.cpu_nanos.saturating_sub(start.cpu_nanos);
        let grown = |of: fn(&Usage) -> u64| of(&end.usage).saturating_sub(of(&start.usage));
        let voluntary_switches = grown(|usage| usage.voluntary);
        let slept = voluntary_switches > 0;
        let off_cpu =
            run_delay_nanos.map(|delay| wall_nanos.saturating_sub(accounted).saturating_sub(delay));
        Self {
            cpu: end.cpu,
            migrated: end.cpu != start.cpu,
            involuntary_switches: grown(|usage| usage.involuntary),
            voluntary_switches,
            minor_faults: grown(|usage| usage.minor_faults),
            major_faults: grown(|usage| usage.major_faults),
            cpu_nanos: accounted,
            run_delay_nanos,
            missing_nanos: off_cpu.filter(|_| virtualized && !slept),
            asleep_nanos: off_cpu.map(|nanos| if slept { nanos } else { 0 }),
            steal_ticks: difference(start.steal_ticks, end.steal_ticks)
                .filter(|_| start.cpu == end.cpu),
            wall_nanos,
        }
    }

    /// The marks of the block, by the time that it lost: PREEMPTED for a run delay above 0.2 % of it, STEAL for missing time
    /// above 0.2 % of it; MIGRATION for another CPU. Where the kernel does not say how long, an involuntary switch and a
    /// tick of steal stand for it. A kernel worker that had the CPU for some microseconds marks nothing.
    #[must_use]
    pub fn marks(&self) -> Marks {
        let lost = |nanos: Option<u64>, else_by_count: bool| {
            nanos.map_or(else_by_count, |nanos| {
                nanos as f64 > DISTURBING_SHARE * self.wall_nanos as f64
            })
        };
        let ticked = self.steal_ticks.is_some_and(|ticks| ticks > 0);
        let switched = self.involuntary_switches > 0;
        [
            (self.migrated, Marks::MIGRATION),
            (lost(self.run_delay_nanos, switched), Marks::PREEMPTED),
            (lost(self.missing_nanos, ticked), Marks::STEAL),
        ]
        .into_iter()
        .filter(|&(applies, _)| applies)
        .fold(Marks::CLEAN, |marks, (_, mark)| marks.union(mark))
    }
}

fn difference(start: Option<u64>, end: Option<u64>) -> Option<u64> {
    Some(end?.saturating_sub(start?))
}

fn open(root: &HostRoot, relative: &str) -> Result<File, String> {
    File::open(root.path(relative)).map_err(|error| format!("/{relative}: {error}"))
}

/// Whether the CPU says that a hypervisor is under this host (CPUID.1:ECX bit 31, by way of the kernel). Reads no
/// further than the first CPU: on large hosts the whole file takes milliseconds.
fn is_virtualized(root: &HostRoot) -> bool {
    let Ok(file) = File::open(root.path("proc/cpuinfo")) else {
        return false;
    };
    BufReader::new(file)
        .lines()
        .map_while(Result::ok)
        .find(|line| line.starts_with("flags"))
        .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"))
}

fn current_cpu() -> u32 {
    u32::try_from(sched_getcpu()).unwrap_or(u32::MAX)
}

/// What getrusage(2) says of the calling thread.
fn thread_usage() -> Usage {
    // SAFETY: rusage holds integers only, so all zeroes is a valid value of it.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live rusage that the kernel may write. The call cannot fail: RUSAGE_THREAD is
    // known to every Linux since 2.6.26.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    Usage {
        involuntary: usage.ru_nivcsw.unsigned_abs(),
        voluntary: usage.ru_nvcsw.unsigned_abs(),
        minor_faults: usage.ru_minflt.unsigned_abs(),
        major_faults: usage.ru_majflt.unsigned_abs(),
    }
}

/// The second number of `/proc/thread-self/schedstat`: nanoseconds spent waiting on a run queue.
fn run_delay(schedstat: &File) -> Option<u64> {
    let mut text = [0; 64];
    let len = schedstat.read_at(&mut text, 0).ok()?;
    numbers(&text[..len]).nth(1)?
}

/// Steal of `cpu` in ticks: the eighth number of its line in `/proc/stat` (proc_stat(5)).
fn steal_of(stat: &[u8], cpu: u32) -> Option<u64> {
    stat.split(|&byte| byte == b'\n').find_map(|line| {
        let line = line.strip_prefix(b"cpu")?;
        let end_of_name = line.iter().position(|&byte| byte == b' ')?;
        let (name, times) = line.split_at(end_of_name);
        (decimal(name)? == u64::from(cpu)).then(|| numbers(times).nth(7)?)?
    })
}

fn numbers(text: &[u8]) -> impl Iterator<Item = Option<u64>> {
    text.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .map(decimal)
}

fn decimal(word: &[u8]) -> Option<u64> {
    str::from_utf8(word).ok()?.parse().ok()
}

#[cfg(test)]
#[path = "disturbance_tests.rs"]
mod tests;
