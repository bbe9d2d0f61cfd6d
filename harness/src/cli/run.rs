//! `vtax run`: scenario, plan, measurement, results.

use std::collections::{BTreeMap, BTreeSet};
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
use vtax_scenarios::plan::{Form, HostFacts, Plan};
use vtax_scenarios::spans::SpanMap;
use vtax_scenarios::units::{parse_duration, parse_percent};
use vtax_scenarios::{Loaded, Overrides, explain, host};

use super::difference;
use super::exit::{self, Failure};
use super::output::OutputArgs;
use super::source;
use crate::host::exclusive::Exclusive;
use crate::host::journal::state_directory;
use crate::host::root::HostRoot;
use crate::progress::{Progress, Talk};
use crate::resume::Unfinished;
use crate::run::{Job, RunError, run as measure};

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Scenario files, or names of shipped scenarios (`vtax scenario list`).
    #[arg(value_name = "SCENARIO", default_value = "quick")]
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
    let mut loaded = Vec::new();
    for name in &args.scenarios {
        let mut scenario = source::load(name, &overrides)?;
        if let Some(filter) = &args.filter {
            scenario = filtered(scenario, filter)?;
        }
        loaded.push(scenario);
    }
    if args.dry_run {
        let mut text = String::new();
        for scenario in &loaded {
            text += &explain(&scenario.plan);
            text += &difference::text(&HostRoot::default(), &scenario.plan);
        }
        write!(anstream::stdout(), "{text}").context("writing to stdout")?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(out) = &args.out {
        directories_are_free(out, &loaded)?;
    }
    let stop = stop_on_signals()?;
    let _alone = alone_on_a_tidy_host(talk)?;
    let several = loaded.len() > 1;
    let mut worst = 0;
    for scenario in &loaded {
        let code = match one(args, scenario, several, talk, &stop) {
            // What this host lacks for one of them is no reason to leave the others out.
            Err(lack) if several && lack.code() == exit::HOST => {
                lack.report();
                exit::HOST
            }
            code => code?,
        };
        worst = exit::worse(worst, code);
        if stop.load(Ordering::Relaxed) {
            return Ok(ExitCode::from(code));
        }
    }
    Ok(ExitCode::from(worst))
}

/// The run directory of a scenario under `--out`.
fn directory(out: &Path, scenario: &Loaded, several: bool) -> PathBuf {
    if several {
        out.join(&scenario.plan.scenario)
    } else {
        out.to_owned()
    }
}

/// Each scenario needs a run directory of its own. Asked before the first is measured: the last must not cost the others.
fn directories_are_free(out: &Path, loaded: &[Loaded]) -> Result<(), Failure> {
    let mut taken = BTreeSet::new();
    for scenario in loaded {
        let dir = directory(out, scenario, loaded.len() > 1);
        if dir.join(RECORD_FILE).exists() {
            return Err(RunError::Directory(StoreError::Occupied(dir)).into());
        }
        if !taken.insert(dir) {
            return Err(Failure::usage(anyhow!(
                "two of these scenarios are called {}: each needs a run directory of its own",
                scenario.plan.scenario
            )));
        }
    }
    Ok(())
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
    loaded: &Loaded,
    several: bool,
    talk: Talk,
    stop: &AtomicBool,
) -> Result<u8, Failure> {
    if let Form::NotTestable(why) = &loaded.plan.claim.form {
        let text = format!("{}: not testable yet: {why}", loaded.plan.scenario);
        return Err(Failure::Rendered(text, exit::HOST));
    }
    let facts = source::facts();
    let plan = loaded.plan.settled(&facts);
    let not_testable = not_testable(&plan, &facts, &loaded.spans)?;
    if let Some(why) = host::premise_lacking(&plan, &facts) {
        let text = format!("{}: not testable here: {why}", plan.scenario);
        return Err(Failure::Rendered(text, exit::HOST));
    }
    let dir = match &args.out {
        Some(out) => directory(out, loaded, several),
        None => default_dir(&loaded.plan.scenario)?,
    };
    let job = Job {
        plan: &plan,
        not_testable,
        dir: &dir,
        command: std::env::args().collect(),
        stop,
        unfinished: None,
    };
    measured(args, job, talk)
}

/// Goes on with the run in `dir`.
fn resume(args: &RunArgs, dir: &Path, talk: Talk) -> Result<ExitCode, Failure> {
    let find = || Unfinished::find(dir, args.budget).map_err(RunError::from);
    // A mistake is told whoever is at work; and only alone is it sure that nobody else goes on with the run.
    find()?;
    let stop = stop_on_signals()?;
    let _alone = alone_on_a_tidy_host(talk)?;
    let Some(unfinished) = find()? else {
        anstream::eprintln!(
            "vtax: {} holds a finished run: there is nothing to do (`vtax report` shows it)",
            dir.display()
        );
        return Ok(ExitCode::SUCCESS);
    };
    let plan = unfinished.record().plan.clone();
    let job = Job {
        plan: &plan,
        not_testable: BTreeMap::new(),
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
        anstream::eprintln!("report: {}", report.display());
    }
    Ok(exit::of(&results))
}

/// What the host lacks, by cell; an error where no cell at all can run.
fn not_testable(
    plan: &Plan,
    facts: &HostFacts,
    spans: &SpanMap,
) -> Result<BTreeMap<u32, String>, Failure> {
    if facts.max_vcpus == 0 {
        // No KVM: no cell is to blame, and the run itself says what is missing.
        return Ok(BTreeMap::new());
    }
    let untestable = host::check(plan, facts);
    let lacking: BTreeMap<u32, String> = (0..)
        .zip(&untestable)
        .filter_map(|(cell, lack)| Some((cell, lack.as_ref()?.to_string())))
        .collect();
    if lacking.len() == plan.cells.len() && plan.experiments.is_empty() {
        return Err(Failure::Rendered(
            host::render_untestable(plan, spans, &untestable, true),
            exit::HOST,
        ));
    }
    Ok(lacking)
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
