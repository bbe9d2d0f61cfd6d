//! How far to trust vtax on this host: the guest against itself, with slowdowns planted in one side's share of work.
//!
//! Every trial is a whole measurement as `vtax run` makes it: a pilot, the size that its variance asks for, the
//! interval. Only the native blocks are replaced by guest blocks without the planted work, so that the truth is known:
//! a ratio of 1 where nothing is planted, and `1 / (1 + planted)` where something is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vtax_reports::estimate::carry_over;
use vtax_reports::record::Sample;
use vtax_reports::selftest::{PlantedStalls, Selftest, Trial};
use vtax_scenarios::order::{child_seed, shuffle};
use vtax_scenarios::plan::Plan;
use vtax_scenarios::{Overrides, ScenarioError, parse};

use crate::campaign::Campaign;
use crate::host::fingerprint::fingerprint;
use crate::host::root::HostRoot;
use crate::host::tsc::now_raw_nanos;
use crate::measure::BootError;
use crate::measure::boot::{Baseline, Spec, boot};
use crate::measure::plant::Planted;
use crate::rig::{Rig, RigError};

/// The planted slowdowns; 0 is the A/A trial.
pub const LEVELS: [f64; 5] = [0.0, 0.005, 0.01, 0.02, 0.05];

/// The planted stalls: frequent short ones, and rare long ones.
pub const STALLS: [PlantedStalls; 2] = [
    PlantedStalls {
        one_in: 10,
        times: 1.5,
    },
    PlantedStalls {
        one_in: 100,
        times: 3.0,
    },
];

/// How trials with stalls are made: blocks are short, so that rare ones are met too. Both sides are guests, so that
/// entering and leaving one costs them alike.
const STALLS_BLOCK_NANOS: u64 = 2_000_000;
const STALLS_ROUNDS: u32 = 30;
/// A stall in a hundred blocks is met thirty times on average, and chance leaves enough of them to tell them from noise; of
/// frequent short ones there are as many more as a noisy host takes.
const STALLS_BOOTS: u32 = 100;
/// Meeting them takes this many times the patience for a slowdown.
const STALLS_PATIENCE: u32 = 3;

/// A trial aims at an interval of this share of the planted slowdown: then an interval that misses 1 is all but sure
/// where the slowdown is real. For A/A trials the smallest slowdown counts.
const HALF_WIDTH_SHARE: f64 = 0.5;

/// Why a selftest ended early.
#[derive(Debug, thiserror::Error)]
pub enum SelftestError {
    /// Nothing can be measured here.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// The guest failed.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The built-in scenario does not suit this host.
    #[error("the built-in scenario: {0}")]
    Scenario(#[from] ScenarioError),
}

/// How to test.
#[derive(Debug)]
pub struct Options<'a> {
    /// Slowdowns to plant.
    pub levels: &'a [f64],
    /// Stalls to plant.
    pub stalls: &'a [PlantedStalls],
    /// Trials of each.
    pub trials: u32,
    /// Longest time of one trial with a planted slowdown; one with stalls may take three times as long.
    pub patience: Duration,
    /// Seed of the order of the trials and of all else that is random.
    pub seed: u64,
    /// Set when the user wants to stop.
    pub stop: &'a AtomicBool,
}

/// Makes the trials, in seeded random order. `tell` hears of each one.
///
/// # Errors
/// [`SelftestError`].
pub fn selftest(
    options: &Options<'_>,
    mut tell: impl FnMut(&Trial),
) -> Result<Selftest, SelftestError> {
    let rig = Rig::prepare()?;
    let levels = options.levels.iter().map(|&level| Planted::Work(level));
    let stalls = options.stalls.iter().map(|&stalls| Planted::Stalls(stalls));
    let mut order: Vec<Planted<'_>> = levels
        .chain(stalls)
        .flat_map(|planted| (0..options.trials).map(move |_| planted))
        .collect();
    shuffle(&mut order, options.seed);
    let mut trials = Vec::new();
    for (place, planted) in (0..).zip(order) {
        let seed = child_seed(options.seed, &[place]);
        if let Some(trial) = one(&rig, options, planted, seed)? {
            tell(&trial);
            trials.push(trial);
        }
        if options.stop.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(Selftest::new(
        fingerprint(&HostRoot::default()),
        rig.image.sha256(),
        options.stop.load(Ordering::Relaxed),
        trials,
    ))
}

/// One trial; `None` where the user stopped it.
fn one(
    rig: &Rig,
    options: &Options<'_>,
    planted: Planted<'_>,
    seed: u64,
) -> Result<Option<Trial>, SelftestError> {
    let (share, stalls) = match planted {
        Planted::Work(share) => (share, None),
        Planted::Stalls(stalls) => (0.0, Some(stalls)),
        Planted::Nothing | Planted::Exits(_) | Planted::Rival(_) => (0.0, None),
    };
    let smallest = LEVELS[1];
    let mut plan = plan(
        HALF_WIDTH_SHARE * if share > 0.0 { share } else { smallest },
        seed,
    )?;
    let mut patience = options.patience;
    if stalls.is_some() {
        patience *= STALLS_PATIENCE;
        for cell in &mut plan.cells {
            cell.measure.block_nanos = STALLS_BLOCK_NANOS;
            cell.measure.rounds = STALLS_ROUNDS;
            (cell.measure.pilot_boots, cell.measure.max_boots) = (STALLS_BOOTS, STALLS_BOOTS);
        }
    }
    let mut samples: Vec<Sample> = Vec::new();
    let patience = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
    let start = now_raw_nanos();
    let elapsed = || now_raw_nanos() - start;
    let mut campaign = Campaign::new(&plan, &BTreeMap::new());
    for sweep in 0.. {
        let cells = campaign.sweep(sweep);
        if cells.is_empty() || elapsed() >= patience {
            break;
        }
        for cell in cells {
            let (number, known) = campaign.next(cell);
            let before = elapsed();
            let outcome = boot(
                rig,
                &Spec {
                    cell,
                    boot: number,
                    seed,
                    known,
                    planted,
                    baseline: Baseline::Guest,
                    stop: options.stop,
                },
            )?;
            campaign.add(cell, &outcome.samples, outcome.known, elapsed() - before);
            samples.extend(outcome.samples);
        }
        if options.stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if campaign.pilots_complete() {
            campaign.size(patience.saturating_sub(elapsed()));
        }
    }
    let seconds = Duration::from_nanos(elapsed()).as_secs_f64();
    Ok(plan.cells.first().map(|cell| {
        let (series, confidence) = (campaign.series(cell), cell.measure.confidence);
        // Two intervals may raise an alarm (Bonferroni).
        let shared = 1.0 - (1.0 - confidence) / 2.0;
        Trial {
            planted: share,
            stalls,
            stumbles: series
                .stalls(1.0, confidence)
                .is_some_and(|stalls| stalls.stumbles),
            carry_over: carry_over(&samples, confidence),
            ratio: series.ratio().map(|ratio| ratio.interval(shared)),
            typical: series.typical().map(|typical| typical.interval(shared)),
            boots: campaign.next(cell).0,
            seconds,
        }
    }))
}

fn plan(precision: f64, seed: u64) -> Result<Plan, ScenarioError> {
    let overrides = Overrides {
        seed: Some(seed),
        precision: Some(precision),
        ..Overrides::default()
    };
    Ok(parse("selftest.toml", include_str!("selftest.toml"), &overrides)?.plan)
}
