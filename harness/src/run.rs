//! The one loop: a plan in, a run directory with samples, results and report out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vtax_reports::html::HtmlError;
use vtax_reports::record::{NotMeasured, RunRecord, SCHEMA};
use vtax_reports::result::Results;
use vtax_reports::store::StoreError;
use vtax_reports::verdict::words;
use vtax_scenarios::Testability;
use vtax_scenarios::plan::{Cell, Neighbour, Plan};

use crate::campaign::Campaign;
use crate::costs::{self, Prices};
use crate::disks::Disks;
use crate::experiments;
use crate::host::fingerprint::fingerprint;
use crate::host::journal::{Journal, JournalError, Origin};
use crate::host::ksm;
use crate::host::prepared::{Audit, KnobError, Prepared};
use crate::host::root::HostRoot;
use crate::lack::Lack as _;
use crate::measure::BootError;
use crate::measure::boot::{Baseline, Outcome, Spec, boot};
use crate::measure::plant::Planted;
use crate::neighbours::{Crowd, Told};
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
    /// What this host lacks for some of it.
    pub here: Testability,
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
pub fn run(job: Job<'_>, progress: &Progress) -> Result<Results, RunError> {
    let mut session = Session::begin(job, progress)?;
    session.cells()?;
    // Experiments set the host themselves, and start from how it was found.
    session.restore();
    session.experiments()?;
    session.end()
}

/// A run under way.
struct Session<'a> {
    rig: Rig,
    job: Job<'a>,
    host: Prepared,
    campaign: Campaign<'a>,
    notebook: Notebook,
    progress: &'a Progress,
}

impl<'a> Session<'a> {
    /// Looks at the host, and opens the run directory or goes on with the one that is there.
    fn begin(mut job: Job<'a>, progress: &'a Progress) -> Result<Self, RunError> {
        let mut rig = Rig::prepare()?;
        rig.cgroups.sweep();
        progress.calibrating();
        let (notebook, campaign) = match job.unfinished.take() {
            Some(unfinished) => unfinished.take_up(&mut rig, &job)?,
            None => {
                // Where nothing is set beside native there is no gap to account for.
                let prices = if job.plan.cells.is_empty() {
                    Prices::default()
                } else {
                    costs::measure(&rig)?
                };
                let notebook = Notebook::open(job.dir, head(&rig, &job, prices))
                    .map_err(RunError::Directory)?;
                let campaign = Campaign::new(job.plan, &notebook.record().not_measured);
                (notebook, campaign)
            }
        };
        rig.disks = Disks::new(job.dir);
        let root = HostRoot::default();
        let journal = Journal::own(&root, Origin::Run)?;
        let audit = Audit::of_run(job.dir, rig.run_start);
        Ok(Self {
            host: Prepared::new(root, journal, audit),
            rig,
            job,
            campaign,
            notebook,
            progress,
        })
    }

    /// All cells, sweep by sweep, until each has its boots or the time is up.
    fn cells(&mut self) -> Result<(), RunError> {
        for cell in self.campaign.hopeless() {
            self.progress.say(&format!(
                "{}: not begun, since two of its boots wait {} or more for KSM and all cells together have {}; `vtax scenario \
                 explain` says what budget would do",
                cell.label,
                words::duration(Duration::from_nanos(2 * cell.ksm_wait_nanos())),
                words::duration(Duration::from_nanos(self.job.plan.cells_nanos()))
            ));
        }
        self.progress.start(self.campaign.boots_left());
        // The pilots of a run that goes on may be complete already.
        self.size();
        for sweep in self.campaign.first_sweep().. {
            let cells = self.campaign.sweep(sweep);
            if cells.is_empty() {
                break;
            }
            for cell in cells {
                if self.stopping() {
                    return Ok(());
                }
                self.progress.boot(&cell.label, self.campaign.boots_left());
                if self.set_host(cell)? {
                    self.boot_once(cell)?;
                }
            }
            if self.stopping() {
                return Ok(());
            }
            self.size();
        }
        Ok(())
    }

    /// Sizes the second stage, as soon as there is something to size it by.
    fn size(&mut self) {
        if self.campaign.pilots_complete() {
            let nanos = self.job.plan.cells_nanos();
            self.campaign.size(nanos.saturating_sub(self.rig.elapsed()));
        }
    }

    fn experiments(&mut self) -> Result<(), RunError> {
        experiments::run(
            &self.rig,
            self.job.plan,
            &mut self.host,
            self.job.stop,
            &mut self.notebook,
            self.progress,
        )
    }

    /// Puts the host back, and says what is not as it was.
    fn restore(&mut self) {
        let restored = self.host.restore();
        restored
            .troubles()
            .for_each(|trouble| self.progress.say(&trouble));
    }

    fn end(mut self) -> Result<Results, RunError> {
        self.restore();
        self.progress.finish();
        let interrupted = self.job.stop.load(Ordering::Relaxed);
        self.notebook.close(self.rig.elapsed(), interrupted)
    }

    /// Sets the host as the cell wants it. Where that fails the cell is over, and this is false.
    fn set_host(&mut self, cell: &'a Cell) -> Result<bool, RunError> {
        let measured = cell.guest.measured_cpus(&self.rig.cpus);
        match self.host.set(&cell.host, &measured) {
            Ok(()) => Ok(true),
            // What cannot be written down must not be done, in this cell or in another.
            Err(KnobError::Journal(error)) => Err(error.into()),
            Err(KnobError::Audit(error)) => Err(error.into()),
            Err(error) => {
                let (number, _) = self.campaign.next(cell);
                self.give_up(cell, number, &error, error.not_measured())?;
                Ok(false)
            }
        }
    }

    /// Boots a cell once and keeps what it brings.
    fn boot_once(&mut self, cell: &'a Cell) -> Result<(), RunError> {
        let (number, known) = self.campaign.next(cell);
        let start = self.rig.elapsed();
        let spec = Spec {
            cell,
            boot: number,
            seed: self.job.plan.seed,
            known,
            planted: Planted::Nothing,
            baseline: Baseline::Native,
            stop: self.job.stop,
        };
        let result = self.beside_neighbours(&spec)?;
        let end = self.rig.elapsed();
        match result {
            Ok(outcome) => {
                self.notebook
                    .guest_stopped(start..end, cell, number, &outcome)?;
                let Outcome {
                    samples,
                    counters,
                    known,
                    native_disk,
                    ..
                } = outcome;
                if let Some(disk) = native_disk {
                    self.notebook.native_disk(cell, disk)?;
                }
                self.campaign.add(cell, &samples, known, end - start);
                self.notebook.keep(samples, counters);
                Ok(())
            }
            Err(error) => self.give_up(cell, number, &error, error.not_measured()),
        }
    }

    /// Boots the guest while its neighbours run.
    fn beside_neighbours(
        &mut self,
        spec: &Spec<'_>,
    ) -> Result<Result<Outcome, BootError>, StoreError> {
        let (rig, notebook) = (&self.rig, &mut self.notebook);
        let (cell, number) = (spec.cell, spec.boot);
        let mut crowd = match Crowd::beside(rig, cell, spec.seed, self.job.dir) {
            Ok(crowd) => crowd,
            Err(error) => return Ok(Err(error.into())),
        };
        notebook.neighbours_started(rig.elapsed(), cell, number, &crowd.told())?;
        notebook.guest_started(rig.elapsed(), cell, number)?;
        let result = boot(rig, spec);
        // What was measured beside neighbours that were not there is not the cell's.
        let all_there = crowd.check();
        let told = crowd.told();
        drop(crowd);
        notebook.neighbours_stopped(rig.elapsed(), cell, number, &told)?;
        let unmerged = unmerged(cell, &told, self.job.stop);
        Ok(result.and_then(|outcome| match unmerged {
            true => Err(BootError::NothingMerged),
            false => Ok(all_there.map(|()| outcome)?),
        }))
    }

    /// The cell is over before its time.
    fn give_up(
        &mut self,
        cell: &Cell,
        number: u32,
        error: &dyn std::error::Error,
        why: NotMeasured,
    ) -> Result<(), RunError> {
        self.campaign.give_up(cell);
        self.progress.failed(&cell.label, error);
        let now = self.rig.elapsed();
        Ok(self.notebook.cell_failed(now, cell, number, why)?)
    }

    /// The user wants it, or the time is up. The budget bounds the run whatever its samples say.
    fn stopping(&self) -> bool {
        self.job.stop.load(Ordering::Relaxed) || self.rig.elapsed() >= self.job.plan.cells_nanos()
    }
}

/// Whether KSM ran beside neighbours that offered it their memory, and merged none of it.
fn unmerged(cell: &Cell, told: &[Told], stop: &AtomicBool) -> bool {
    let offered = cell.neighbours.iter().any(Neighbour::offers_memory);
    let merged: Option<u64> = told.iter().map(|it| it.merged_pages).sum();
    offered
        && merged == Some(0)
        && ksm::is_on(&HostRoot::default())
        && !stop.load(Ordering::Relaxed)
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
        payload_sha256: rig.image.sha256(),
        nanos_per_tick: rig.clock.nanos_per_tick,
        clock_bound: rig.bound,
        plan: job.plan.clone(),
        counters_unavailable: prices.counters_unavailable,
        unit_costs: prices.unit_costs,
        not_measured: not_testable(job.here.cells_text()),
        native_disks: BTreeMap::new(),
        experiments_not_measured: not_testable(job.here.experiments_text()),
        metrics_unavailable: BTreeMap::new(),
        resumed: Vec::new(),
    }
}

fn not_testable(lacks: BTreeMap<u32, String>) -> BTreeMap<u32, NotMeasured> {
    let lacks = lacks.into_iter();
    lacks
        .map(|(id, why)| (id, NotMeasured::NotTestable(why)))
        .collect()
}
