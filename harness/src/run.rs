//! The one loop: a plan in, a run directory with samples, results and report out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use vtax_reports::html::HtmlError;
use vtax_reports::record::{NotMeasured, RunRecord, SCHEMA};
use vtax_reports::result::Results;
use vtax_reports::store::StoreError;
use vtax_scenarios::plan::{Cell, Plan};

use crate::campaign::Campaign;
use crate::costs::{self, Prices};
use crate::disks::Disks;
use crate::experiments;
use crate::guest::embedded::devices::DeviceError;
use crate::host::fingerprint::fingerprint;
use crate::host::journal::{Journal, JournalError, Origin};
use crate::host::prepared::{Audit, Prepared};
use crate::host::root::HostRoot;
use crate::host::things::Thing;
use crate::host::tsc::now_raw_nanos;
use crate::measure::BootError;
use crate::measure::boot::{Baseline, Outcome, Spec, boot};
use crate::measure::plant::Planted;
use crate::neighbours::beside::Told;
use crate::neighbours::{Crowd, CrowdError};
use crate::notebook::Notebook;
use crate::progress::Progress;
use crate::resume::{ResumeError, Unfinished};
use crate::rig::{Rig, RigError};

/// Why a run ended without results. What it had measured is in its directory.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Nothing can be measured here.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// The run directory cannot be had.
    #[error("{0} (--out DIR says where to put a run)")]
    Directory(StoreError),
    /// The run directory cannot be written any more.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The run in the directory cannot go on here.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// What would be changed on the host cannot be written down.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The report.
    #[error(transparent)]
    Html(#[from] HtmlError),
}

/// What to run and where to put it.
#[derive(Debug)]
pub struct Job<'a> {
    /// What to measure.
    pub plan: &'a Plan,
    /// Cells that this host cannot run, and why.
    pub not_testable: BTreeMap<u32, String>,
    /// The run directory; must not hold a run yet.
    pub dir: &'a Path,
    /// The command line, for the record.
    pub command: Vec<String>,
    /// Set when the user wants to stop.
    pub stop: &'a AtomicBool,
    /// What the run directory holds of this plan already.
    pub unfinished: Option<Unfinished>,
}

/// Measures the plan.
///
/// # Errors
/// [`RunError`]. A guest that fails is no error: it costs its cell.
pub fn run(mut job: Job<'_>, progress: &Progress) -> Result<Results, RunError> {
    let mut rig = Rig::prepare()?;
    rig.cgroups.sweep();
    progress.calibrating();
    let (mut notebook, mut campaign) = match job.unfinished.take() {
        Some(unfinished) => unfinished.take_up(&mut rig, &job)?,
        None => {
            // Where nothing is set beside native there is no gap to account for.
            let prices = if job.plan.cells.is_empty() {
                Prices::default()
            } else {
                costs::measure(&rig)?
            };
            let notebook =
                Notebook::open(job.dir, head(&rig, &job, prices)).map_err(RunError::Directory)?;
            let campaign = Campaign::new(job.plan, &notebook.record().not_measured);
            (notebook, campaign)
        }
    };
    rig.disks = Disks::new(job.dir);
    let mut host = prepared(&rig, &job)?;
    progress.start(campaign.boots_left());

    for sweep in campaign.first_sweep().. {
        let cells = campaign.sweep(sweep);
        if cells.is_empty() {
            break;
        }
        for cell in cells {
            if stopping(&rig, &job) {
                break;
            }
            progress.boot(&cell.label, campaign.boots_left());
            if set_host(
                &rig,
                &mut host,
                cell,
                &mut campaign,
                &mut notebook,
                progress,
            )? {
                boot_once(
                    &rig,
                    &job,
                    &mut host,
                    cell,
                    &mut campaign,
                    &mut notebook,
                    progress,
                )?;
            }
        }
        if stopping(&rig, &job) {
            break;
        }
        if campaign.pilots_complete() {
            campaign.size(job.plan.cells_nanos().saturating_sub(elapsed(&rig)));
        }
    }
    experiments::run(
        &rig,
        job.plan,
        job.stop,
        job.plan.budget_nanos,
        &mut notebook,
        progress,
    )?;

    host.restore()
        .troubles()
        .for_each(|trouble| progress.say(&trouble));
    progress.finish();
    notebook.close(elapsed(&rig), job.stop.load(Ordering::Relaxed))
}

/// The host, to be set for each cell, and put back when the run is over.
fn prepared(rig: &Rig, job: &Job<'_>) -> Result<Prepared, JournalError> {
    let root = HostRoot::default();
    let journal = Journal::own(&root, Origin::Run)?;
    Ok(Prepared::new(
        root,
        journal,
        Audit::of_run(job.dir, rig.run_start),
    ))
}

/// Sets the host as the cell wants it. Where that fails the cell is over, and this is false.
fn set_host(
    rig: &Rig,
    host: &mut Prepared,
    cell: &Cell,
    campaign: &mut Campaign<'_>,
    notebook: &mut Notebook,
    progress: &Progress,
) -> Result<bool, StoreError> {
    let Err(error) = host.set(&cell.host, &cell.guest.measured_cpus(&rig.cpus)) else {
        return Ok(true);
    };
    let (number, _) = campaign.next(cell);
    campaign.give_up(cell);
    progress.failed(&cell.label, &error);
    let why = NotMeasured::NotTestable(error.to_string());
    notebook.cell_failed(elapsed(rig), cell, number, why)?;
    Ok(false)
}

/// Boots a cell once and keeps what it brings.
fn boot_once(
    rig: &Rig,
    job: &Job<'_>,
    host: &mut Prepared,
    cell: &Cell,
    campaign: &mut Campaign<'_>,
    notebook: &mut Notebook,
    progress: &Progress,
) -> Result<(), RunError> {
    let (number, known) = campaign.next(cell);
    let start = elapsed(rig);
    let spec = Spec {
        cell,
        boot: number,
        seed: job.plan.seed,
        known,
        planted: Planted::Nothing,
        baseline: Baseline::Native,
        stop: job.stop,
    };
    let result = beside_neighbours(rig, job, host, &spec, notebook)?;
    let end = elapsed(rig);
    match result {
        Ok(outcome) => {
            notebook.guest_stopped(start..end, cell, number, &outcome)?;
            let Outcome {
                samples,
                counters,
                known,
                ..
            } = outcome;
            campaign.add(cell, &samples, known, end - start);
            notebook.keep(samples, counters);
        }
        Err(error) => {
            campaign.give_up(cell);
            progress.failed(&cell.label, &error);
            notebook.cell_failed(end, cell, number, why(&error))?;
        }
    }
    Ok(())
}

/// Boots the guest while its neighbours run.
fn beside_neighbours(
    rig: &Rig,
    job: &Job<'_>,
    host: &mut Prepared,
    spec: &Spec<'_>,
    notebook: &mut Notebook,
) -> Result<Result<Outcome, BootError>, RunError> {
    let (cell, number) = (spec.cell, spec.boot);
    let mut crowd = match Crowd::beside(rig, cell, spec.seed, job.dir) {
        Ok(crowd) => crowd,
        Err(error) => return Ok(Err(error.into())),
    };
    let groups = groups(&crowd.told());
    for group in &groups {
        host.journal().made(group)?;
    }
    notebook.neighbours_started(elapsed(rig), cell, number, &crowd.told())?;
    notebook.guest_started(elapsed(rig), cell, number)?;
    let result = boot(rig, spec);
    // What was measured beside neighbours that were not there is not the cell's.
    let all_there = crowd.check();
    let told = crowd.told();
    drop(crowd);
    for group in &groups {
        host.journal().gone(group)?;
    }
    notebook.neighbours_stopped(elapsed(rig), cell, number, &told)?;
    Ok(result.and_then(|outcome| Ok(all_there.map(|()| outcome)?)))
}

/// The control groups of the neighbours, as the journal names them.
fn groups(told: &[Told]) -> Vec<Thing> {
    let paths = told.iter().flat_map(|neighbour| &neighbour.cgroups);
    paths
        .map(|path| Thing::Cgroup(path.trim_start_matches('/').to_owned()))
        .collect()
}

/// A host that has no memory or CPU for the cell cannot test it; anything else is a failure.
fn why(error: &BootError) -> NotMeasured {
    match error {
        BootError::Ram(_)
        | BootError::Affinity(_)
        | BootError::Scheduling(_)
        | BootError::OtherTsc
        | BootError::Disk(_)
        | BootError::Network(_)
        | BootError::Device(DeviceError::Vhost(_))
        | BootError::Neighbour(CrowdError::Cgroup(_) | CrowdError::Lacking { .. }) => {
            NotMeasured::NotTestable(error.to_string())
        }
        _ => NotMeasured::Failed(error.to_string()),
    }
}

/// The user wants it, or the time is up. The budget bounds the run whatever its samples say.
fn stopping(rig: &Rig, job: &Job<'_>) -> bool {
    job.stop.load(Ordering::Relaxed) || elapsed(rig) >= job.plan.cells_nanos()
}

fn elapsed(rig: &Rig) -> u64 {
    now_raw_nanos().wrapping_sub(rig.run_start)
}

/// All that is known before the first sample.
fn head(rig: &Rig, job: &Job<'_>, prices: Prices) -> RunRecord {
    RunRecord {
        schema: SCHEMA,
        vtax_version: env!("CARGO_PKG_VERSION").to_owned(),
        started: jiff::Timestamp::now().to_string(),
        finished: None,
        interrupted: false,
        command: job.command.clone(),
        host: fingerprint(&HostRoot::default()),
        payload_sha256: rig.image.sha256.clone(),
        nanos_per_tick: rig.clock.nanos_per_tick,
        clock_bound: rig.bound,
        plan: job.plan.clone(),
        counters_unavailable: prices.counters_unavailable,
        unit_costs: prices.unit_costs,
        not_measured: job
            .not_testable
            .iter()
            .map(|(&cell, reason)| (cell, NotMeasured::NotTestable(reason.clone())))
            .collect(),
        experiments_not_measured: BTreeMap::new(),
        metrics_unavailable: BTreeMap::new(),
        resumed: Vec::new(),
    }
}
