//! Like guests whose equal pages the kernel merges: how much memory that saves, how soon, and what it takes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use vtax_scenarios::plan::{
    Backing, Content, Experiment, HostSettings, Neighbour, Work, child_seed,
};
use vtax_workloads::machine::RAM_BASE;

use super::{ExperimentError, Outcome, guests};
use crate::guest::ram::{Ram, RamConfig};
use crate::host::cpu_time::process_cpu_nanos;
use crate::host::ksm::{SCANS, merged_pages};
use crate::host::prepared::Prepared;
use crate::host::root::HostRoot;
use crate::host::tsc::now_raw_nanos;
use crate::rig::Rig;

const PAGE: u64 = 4096;
/// How often it is looked what was merged.
const LOOK: Duration = Duration::from_millis(20);
/// Merging has settled when it saved no more than this share in addition in [`SCANS`] passes over all memory.
const STILL: f64 = 0.002;
/// Others' merged memory may change by this share of the guests' before nothing can be told of the guests any more.
const OTHERS: f64 = 0.05;
/// What to say of it.
const OTHERS_CHANGE: &str = "other processes give memory to KSM or take it back, so that what it saves of vtax's guests cannot be \
                             told apart; end them, or keep their memory from KSM (QEMU: mem-merge=off)";
/// By then KSM has begun to look through memory where anybody offers some.
const BEGIN: Duration = Duration::from_millis(200);
/// It has this long to settle.
const PATIENCE: Duration = Duration::from_secs(60);
/// Equal pages of vtax's own that are merged to be broken up: fewer than KSM merges into one (`max_page_sharing`).
const PROBES: u64 = 200;
/// Where they lie: clear of what else a run maps at fixed addresses.
const PROBES_AT: u64 = RAM_BASE + (1 << 45);
/// Keeps their content apart from all guests'.
const PROBE_STREAM: u64 = 19;

/// Starts the guests with merging off, turns it on, watches, and puts the host back.
pub(super) fn repeat(
    rig: &Rig,
    experiment: &Experiment,
    seed: u64,
    host: &mut Prepared,
    stop: &AtomicBool,
) -> Result<Outcome, ExperimentError> {
    let outcome = merge(rig, experiment, seed, host, stop);
    host.set(&HostSettings::new(), &[])?;
    outcome
}

fn merge(
    rig: &Rig,
    experiment: &Experiment,
    seed: u64,
    host: &mut Prepared,
    stop: &AtomicBool,
) -> Result<Outcome, ExperimentError> {
    let share = |name| experiment.param(name) as f64 / 100.0;
    let (zero, common) = (share("zero-percent"), share("common-percent"));
    let settings = |run| experiment.host_settings(run).unwrap_or_default();
    host.set(&settings("on"), &[])?;
    let watch = Watch {
        root: HostRoot::default(),
        processes: vec![std::process::id()],
        resident: 0.0,
        before: Saved::default(),
    };
    let all = experiment.param("guests") * experiment.param("memory");
    watch.until_others_settled(STILL * all as f64, stop)?;
    host.set(&settings("off"), &[])?;
    let plan = Neighbour {
        count: u32::try_from(experiment.param("guests")).unwrap_or(u32::MAX),
        memory: experiment.param("memory") / (2 << 20) * (2 << 20),
        mergeable: true,
        content: Some(Content { zero, common }),
        ..guests::of(Work::Idle)
    };
    let mut crowd = guests::start(rig, &[plan], seed)?;
    let mut resident = 0;
    for footprint in crowd.memory() {
        resident += footprint?.guest;
    }
    let probes = probes(seed)?;
    let mut watch = Watch {
        resident: resident as f64,
        ..watch
    };
    watch.processes.extend(crowd.pids());
    watch.before = watch.saved()?;
    let daemon = daemon(&watch.root);
    let used = || daemon.and_then(process_cpu_nanos);
    let before = used();
    host.set(&settings("on"), &[])?;
    let mut outcome = Outcome::default();
    let settled = watch.until_settled(&mut outcome, stop)?;
    let after = used();
    crowd.check()?;
    let saved = outcome.series.last().map_or(0.0, |&(_, _, saved)| saved);
    outcome.values = vec![
        ("saved", saved),
        ("gain", 1.0 / (1.0 - saved)),
        ("settled", settled as f64),
    ];
    match before.zip(after) {
        Some((before, after)) => {
            let used = after.saturating_sub(before) as f64;
            outcome.values.push(("ksmd", used));
        }
        None => {
            let why = "the kernel's thread ksmd cannot be seen from here (another PID namespace); run vtax on the host itself";
            outcome.unavailable.push(("ksmd", why.to_owned()));
        }
    }
    match break_up(&probes, &watch.root)? {
        Some(nanos) => outcome.values.push(("break", nanos)),
        None => {
            let why = "vtax's own equal pages were not all merged".to_owned();
            outcome.unavailable.push(("break", why));
        }
    }
    Ok(outcome)
}

/// What KSM has saved of the guests' memory.
struct Watch {
    root: HostRoot,
    /// vtax and its guests.
    processes: Vec<u32>,
    /// Guest RAM that was resident before.
    resident: f64,
    /// What was saved before.
    before: Saved,
}

/// What KSM saves on the host, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Saved {
    all: f64,
    /// Merged memory of processes that are none of vtax's; nearly all of it is saved.
    others: f64,
}

impl Watch {
    fn number(&self, name: &str) -> Result<u64, ExperimentError> {
        Ok(self.root.number(&format!("sys/kernel/mm/ksm/{name}"))?)
    }

    /// What is saved now. Zero pages count by themselves where the kernel has its own zero page for them.
    fn saved(&self) -> Result<Saved, ExperimentError> {
        let zero = self.number("ksm_zero_pages").unwrap_or(0);
        let (sharing, shared) = (self.number("pages_sharing")?, self.number("pages_shared")?);
        let ours: Option<u64> = self
            .processes
            .iter()
            .map(|process| merged_pages(&self.root, *process))
            .sum();
        let others = ours.map_or(0, |ours| (sharing + shared).saturating_sub(ours));
        Ok(Saved {
            all: ((sharing + zero) * PAGE) as f64,
            others: (others * PAGE) as f64,
        })
    }

    /// What is saved of the guests' memory, as a share of what they had.
    fn share(&self) -> Result<f64, ExperimentError> {
        let now = self.saved()?;
        let others = now.others - self.before.others;
        if others.abs() > OTHERS * self.resident {
            return Err(ExperimentError::Disturbed(OTHERS_CHANGE));
        }
        // vtax's own pages are merged into one: they are no guest's.
        let own = merged_pages(&self.root, std::process::id()).unwrap_or(0);
        let own = (own.saturating_sub(1) * PAGE) as f64;
        Ok((now.all - self.before.all - others - own) / self.resident)
    }

    /// Lets KSM look through the memory of others, such as guests that are no business of vtax, until it saves no more of
    /// it, give or take `slack` bytes, and no longer counts what processes had that have ended.
    fn until_others_settled(&self, slack: f64, stop: &AtomicBool) -> Result<(), ExperimentError> {
        let start = Instant::now();
        let (mut scans, mut mark) = (self.number("full_scans")?, self.saved()?.all);
        while !stop.load(Ordering::Relaxed) {
            sleep(LOOK);
            let (passes, saved) = (self.number("full_scans")?, self.saved()?.all);
            if (saved - mark).abs() > slack {
                (scans, mark) = (passes, saved);
            } else if passes >= scans + SCANS || start.elapsed() > BEGIN && !self.has_pages()? {
                break;
            }
            if start.elapsed() > PATIENCE {
                return Err(ExperimentError::Disturbed(OTHERS_CHANGE));
            }
        }
        Ok(())
    }

    /// Whether anybody's pages are with KSM, merged or not (Linux, admin-guide/mm/ksm.rst).
    fn has_pages(&self) -> Result<bool, ExperimentError> {
        for name in ["pages_shared", "pages_unshared", "pages_volatile"] {
            if self.number(name)? > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Keeps the time series, and says after how many nanoseconds it had reached its end.
    fn until_settled(
        &self,
        outcome: &mut Outcome,
        stop: &AtomicBool,
    ) -> Result<u64, ExperimentError> {
        let start = Instant::now();
        let (mut scans, mut mark, mut settled) = (self.number("full_scans")?, 0.0, 0);
        loop {
            let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let saved = self.share()?;
            outcome.series.push(("saved", nanos, saved));
            let passes = self.number("full_scans")?;
            if saved > mark + STILL {
                (mark, settled, scans) = (saved, nanos, passes);
            } else if (mark > 0.0 || passes > 2 * SCANS + scans) && passes >= scans + SCANS {
                return Ok(settled);
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(nanos);
            }
            if start.elapsed() > PATIENCE {
                return Err(ExperimentError::Silent {
                    what: "KSM, which merges more and more,",
                    seconds: PATIENCE.as_secs(),
                });
            }
            sleep(LOOK);
        }
    }
}

/// The process of the kernel's thread that merges.
fn daemon(root: &HostRoot) -> Option<u32> {
    let processes = root.entries("proc").ok()?;
    processes
        .iter()
        .filter_map(|name| name.parse().ok())
        .find(|process: &u32| {
            root.text(&format!("proc/{process}/comm"))
                .is_ok_and(|name| name == "ksmd")
        })
}

/// Equal pages that may be merged.
fn probes(seed: u64) -> Result<Ram, ExperimentError> {
    let ram = Ram::map(&RamConfig {
        address: PROBES_AT,
        len: PROBES * PAGE,
        backing: Backing::Small,
        numa_node: None,
    })?;
    let content = child_seed(seed, &[PROBE_STREAM]);
    for page in 0..PROBES {
        ram.write(page * PAGE, &content)?;
    }
    ram.mergeable()?;
    Ok(ram)
}

/// Writes to each of the merged pages, then again: nanoseconds that the first write takes more, the medians of both.
/// `None` where they are not merged.
fn break_up(probes: &Ram, root: &HostRoot) -> Result<Option<f64>, ExperimentError> {
    if merged_pages(root, std::process::id()).is_none_or(|pages| pages < PROBES) {
        return Ok(None);
    }
    let write = || -> Result<f64, ExperimentError> {
        let mut nanos = Vec::new();
        for page in 0..PROBES {
            let start = now_raw_nanos();
            probes.write(page * PAGE + PAGE / 2, &page)?;
            nanos.push(now_raw_nanos() - start);
        }
        nanos.sort_unstable();
        Ok(nanos.get(nanos.len() / 2).copied().unwrap_or(0) as f64)
    };
    Ok(Some(write()? - write()?))
}
