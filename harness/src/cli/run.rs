//! `vtax run`: scenario, plan, measurement, results.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context as _, anyhow};
use clap::Args;
use procfs::process::Process;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use vtax_reports::store::{RECORD_FILE, REPORT_FILE, StoreError};
use vtax_scenarios::units::{parse_duration, parse_percent};
use vtax_scenarios::{Loaded, Overrides, Testability, explain_here};

use super::difference;
use super::exit::{self, Failure};
use super::judged::Judged;
use super::output::OutputArgs;
use super::{names, place, source};
use crate::host::exclusive::Exclusive;
use crate::host::journal::state_directory;
use crate::host::root::HostRoot;
use crate::progress::{Progress, Talk};
use crate::resume::Unfinished;
use crate::rig::Rig;
use crate::run::{Job, RunError, run as measure};
use crate::say::{self, say};

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Scenario files, or names of shipped scenarios (`vtax scenario list`).
    #[arg(
        value_name = "SCENARIO",
        default_value = "quick",
        value_parser = names::scenarios(),
        hide_possible_values = true
    )]
    scenarios: Vec<String>,
    /// Run directory to make; with several scenarios, the folder that gets one for each.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Seed of every random choice, in place of the scenario's.
    #[arg(long)]
    seed: Option<u64>,
    /// Wall-clock budget such as `60s`, in place of the scenario's.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    budget: Option<u64>,
    /// Wanted half-width of the intervals such as `0.5%`, in place of the scenario's.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    precision: Option<f64>,
    /// Measure only the cells whose label contains this text (`*` stands for any).
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Go on with a run that was killed or interrupted: what it has finished is not measured again. `--budget` may extend
    /// the budget of the whole run; all else is as it was planned.
    #[arg(
        long,
        value_name = "RUN_DIR",
        conflicts_with_all = ["scenarios", "out", "seed", "precision", "filter", "dry_run"]
    )]
    resume: Option<PathBuf>,
    /// Say what would be measured, and measure nothing.
    #[arg(long, conflicts_with = "json")]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn duration(text: &str) -> Result<u64, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

fn percent(text: &str) -> Result<f64, String> {
    parse_percent(text).map_err(|error| error.to_string())
}

pub fn run(args: &RunArgs, talk: Talk) -> Result<ExitCode, Failure> {
    if let Some(dir) = &args.resume {
        return resume(args, dir, talk);
    }
    let overrides = Overrides {
        seed: args.seed,
        budget_nanos: args.budget,
        precision: args.precision,
        ..Overrides::default()
    };
    // All files are read before the first is measured: a typo in the last must not cost the time of the others.
    let facts = source::facts();
    let mut all = Vec::new();
    for name in &args.scenarios {
        let mut loaded = source::load(name, &overrides)?;
        if let Some(filter) = &args.filter {
            loaded = filtered(loaded, filter)?;
        }
        all.push(Judged::new(loaded, &facts));
    }
    if args.dry_run {
        let text: String = all.iter().map(dry).collect();
        write!(say::stdout(), "{text}").context("writing to stdout")?;
        return Ok(ExitCode::SUCCESS);
    }
    args.output.can_be_written()?;
    let dirs = directories(args.out.as_deref(), &all)?;
    if facts.max_vcpus == 0 {
        // No cell is to blame: what opening KVM answers says what is missing.
        Rig::prepare().map_err(RunError::from)?;
    }
    for judged in &all {
        judged.tell(talk);
    }
    if all.iter().all(|judged| judged.here.whole.is_some()) {
        return Ok(ExitCode::from(exit::HOST));
    }
    let stop = stop_on_signals()?;
    let _alone = alone_on_a_tidy_host(talk)?;
    let mut worst = 0;
    for (judged, dir) in all.iter().zip(&dirs) {
        // What this host lacks for one of them is no reason to leave the others out.
        let code = match judged.here.whole {
            Some(_) => exit::HOST,
            None => one(args, judged, dir, talk, &stop)?,
        };
        worst = exit::worse(worst, code);
        if stop.load(Ordering::Relaxed) {
            return Ok(ExitCode::from(code));
        }
    }
    Ok(ExitCode::from(worst))
}

/// What would be measured, changed on the host, and be lacking.
fn dry(judged: &Judged) -> String {
    let Judged { loaded, here } = judged;
    let mut text = explain_here(&loaded.plan, here);
    text += &difference::text(&HostRoot::default(), &loaded.plan);
    let lacks = judged.lacks();
    if !lacks.is_empty() {
        text += &format!("\n{lacks}\n");
    }
    text
}

/// The run directory of each scenario. Each needs one of its own that can be made: asked before the first is measured, since
/// the last must not cost the others.
fn directories(out: Option<&Path>, all: &[Judged]) -> Result<Vec<PathBuf>, Failure> {
    let mut dirs = Vec::new();
    for judged in all {
        let name = &judged.loaded.plan.scenario;
        let dir = match out {
            Some(out) if all.len() > 1 => out.join(name),
            Some(out) => out.to_owned(),
            None => default_dir(name)?,
        };
        if dir.join(RECORD_FILE).exists() {
            return Err(RunError::Directory(StoreError::Occupied(dir)).into());
        }
        if out.is_some() && dirs.contains(&dir) {
            return Err(Failure::usage(anyhow!(
                "two of these scenarios are called {name}: each needs a run directory of its own"
            )));
        }
        place::can_hold_files(&dir)?;
        dirs.push(dir);
    }
    Ok(dirs)
}

/// The right to measure on this host and to change it, which one vtax has at a time.
pub(super) fn alone() -> Result<Exclusive, Failure> {
    Exclusive::take().map_err(|error| Failure::Message(error.into(), exit::HOST))
}

/// The same, before something is measured: what killed runs left is put back, and what else there is is told.
pub(super) fn alone_on_a_tidy_host(talk: Talk) -> Result<Exclusive, Failure> {
    let alone = alone()?;
    super::host::recover(talk)?;
    Ok(alone)
}

fn filtered(mut loaded: Loaded, filter: &str) -> Result<Loaded, Failure> {
    loaded.plan = loaded.plan.filter(filter);
    if loaded.plan.cells.is_empty() && loaded.plan.experiments.is_empty() {
        return Err(Failure::usage(anyhow!(
            "no cell's label contains {filter:?}; `vtax run --dry-run` lists them"
        )));
    }
    Ok(loaded)
}

/// Measures one scenario.
fn one(
    args: &RunArgs,
    judged: &Judged,
    dir: &Path,
    talk: Talk,
    stop: &AtomicBool,
) -> Result<u8, Failure> {
    let default;
    let dir = match &args.out {
        Some(_) => dir,
        // Another scenario of this name may have taken its place meanwhile.
        None => {
            default = first_free(dir);
            &default
        }
    };
    let job = Job {
        plan: &judged.loaded.plan,
        here: judged.here.clone(),
        dir,
        command: std::env::args().collect(),
        stop,
        unfinished: None,
    };
    measured(args, job, talk)
}

/// Goes on with the run in `dir`.
fn resume(args: &RunArgs, dir: &Path, talk: Talk) -> Result<ExitCode, Failure> {
    args.output.can_be_written()?;
    let find = || Unfinished::find(dir, args.budget).map_err(RunError::from);
    // A mistake is told whoever is at work; and only alone is it sure that nobody else goes on with the run.
    find()?;
    let stop = stop_on_signals()?;
    let _alone = alone_on_a_tidy_host(talk)?;
    let Some(unfinished) = find()? else {
        say!(
            "vtax: {} holds a finished run: there is nothing to do (`vtax report` shows it)",
            dir.display()
        );
        return Ok(ExitCode::SUCCESS);
    };
    let plan = unfinished.record().plan.clone();
    let job = Job {
        plan: &plan,
        here: Testability::default(),
        dir,
        command: std::env::args().collect(),
        stop: &stop,
        unfinished: Some(unfinished),
    };
    measured(args, job, talk).map(ExitCode::from)
}

/// Runs the job and shows what comes of it.
fn measured(args: &RunArgs, job: Job<'_>, talk: Talk) -> Result<u8, Failure> {
    let report = job.dir.join(REPORT_FILE);
    let results = measure(job, &Progress::new(talk))?;
    args.output.show(&results)?;
    if talk != Talk::Quiet {
        say!("report: {}", report.display());
    }
    Ok(exit::of(&results))
}

/// What is said to one who cannot wait, and to one who did not.
const STOPPING: &[u8] = b"\nvtax: it stops as soon as the host is as it was before; a third signal ends it at once, and then \
`vtax host restore` puts back what is still changed\n";
const ENDED: &[u8] =
    b"\nvtax: ended at once; `vtax host restore` puts back what is still changed on this host\n";

/// SIGINT, SIGTERM and SIGHUP ask the run to stop after its round and to put the host back. A second SIGINT or SIGTERM
/// takes nothing of that away, since `timeout` and impatient people send two; a third ends the process at once. However
/// many hangups there are, they are one: the kernel and the shell send it, and nobody is there to be told anything.
pub(super) fn stop_on_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let context = "installing a signal handler";
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM] {
        let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
        let act = move || match asked.fetch_add(1, Ordering::Relaxed) {
            0 => stop.store(true, Ordering::Relaxed),
            1 => tell(STOPPING),
            _ => {
                tell(ENDED);
                signal_hook::low_level::exit(exit::INTERRUPTED.into());
            }
        };
        // SAFETY: atomic words, write(2) and _exit(2) are all that it touches, and all of them are async-signal-safe
        // (signal-safety(7)); it does not panic.
        unsafe { signal_hook::low_level::register(signal, act) }.context(context)?;
    }
    // nohup(1) has it ignored, and then it is to stay so.
    let ignored = Process::myself().and_then(|process| process.status());
    if ignored.is_ok_and(|status| status.sigign & (1 << (SIGHUP - 1)) == 0) {
        signal_hook::flag::register(SIGHUP, Arc::clone(&stop)).context(context)?;
    }
    Ok(stop)
}

/// Says something from within a signal handler, if there is somebody to listen.
fn tell(text: &[u8]) {
    let _ = rustix::io::write(std::io::stderr(), text);
}

/// A new directory under the user's state directory.
pub(super) fn default_dir(scenario: &str) -> anyhow::Result<PathBuf> {
    let state = state_directory().context(
        "neither XDG_STATE_HOME nor HOME is set; say where to put the run with --out DIR",
    )?;
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    Ok(first_free(
        &state.join("runs").join(format!("{now}-{scenario}")),
    ))
}

/// The path, or the path with a number behind it: two runs may start in one second.
fn first_free(path: &Path) -> PathBuf {
    std::iter::once(path.to_owned())
        .chain((2..).map(|number| path.with_added_extension(number.to_string())))
        .find(|candidate| !candidate.exists())
        .unwrap_or_else(|| path.to_owned())
}
