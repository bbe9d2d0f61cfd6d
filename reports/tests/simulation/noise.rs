//! Noise that both sides share, and guests that wander: does the interval hold the true ratio as often as it says?

use std::fmt::Write;

use rayon::prelude::*;
use vtax_reports::stats::mean::LogMean;
use vtax_reports::stats::throughput::Throughput;

use super::machine::{Machine, Noise};
use super::{CONFIDENCE, REPETITIONS, percent, run};

/// Rounds of a boot.
pub const ROUNDS: u32 = 3;
/// Wanted half-width on the log scale.
pub const HALF_WIDTH: f64 = 0.005;
/// Caps on the number of boots, as a time budget that is settled when the pilot ends sets them: none that matters,
/// a tight one, and a budget that is spent with the pilot.
pub const CAPS: [u32; 3] = [400, 20, 10];

/// What is promised of a kind of noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// The coverage is the confidence, within 1.5 %.
    Exact,
    /// The coverage is not less than the confidence, within 1.5 %, and a loss may need more boots to be found.
    Cautious,
    /// Nothing: the table shows how far it is off.
    None,
}

/// All kinds, with their rows in the table and what is promised.
pub const ALL: [(Noise, &str, Promise); 12] = [
    (Noise::Normal, "normal, 1.5 % per block", Promise::Exact),
    (
        Noise::HeavyTailed,
        "heavy-tailed: Student t with 2.5 degrees of freedom, cut at 20 standard deviations",
        Promise::Cautious,
    ),
    (
        Noise::Drift,
        "autocorrelated: the machine drifts, AR(1) 0.8 over blocks, through rounds and boots",
        Promise::Exact,
    ),
    (
        Noise::Wandering,
        "autocorrelated: the guest alone wanders, AR(1) 0.8 over a boot's rounds",
        Promise::Exact,
    ),
    (
        Noise::WanderingInTurn,
        "autocorrelated: the guest alone wanders, AR(1) 0.8 through rounds and boots, eight cells in turn",
        Promise::Exact,
    ),
    (
        Noise::BootDominated,
        "boot-dominated: 1.5 % between boots, 0.15 % between blocks",
        Promise::Exact,
    ),
    (
        Noise::Delayed {
            share: 0.2,
            mean: 0.05,
        },
        "every fifth block delayed, +5 % on average",
        Promise::Cautious,
    ),
    (
        Noise::Delayed {
            share: 0.2,
            mean: 0.3,
        },
        "every fifth block delayed, +30 % on average",
        Promise::Cautious,
    ),
    (
        Noise::Delayed {
            share: 0.5,
            mean: 0.3,
        },
        "every second block delayed, +30 % on average",
        Promise::Cautious,
    ),
    (
        Noise::Arriving {
            per_block: 0.3,
            length: 0.2,
        },
        "delays of a fifth of a block arrive per unit of time, on either side alike, 0.3 a block",
        Promise::Cautious,
    ),
    (
        Noise::Neighbour {
            share: 0.2,
            mean: 0.3,
        },
        "a neighbour comes and goes: in every fifth boot all blocks of both sides + 30 % on average",
        Promise::Cautious,
    ),
    (
        Noise::WanderingAlone,
        "the guest alone wanders, AR(1) 0.8 through rounds and boots, and its cell is the only one",
        Promise::None,
    ),
];

/// What many simulated runs came to.
pub struct Outcome {
    /// Share of runs whose interval held the true ratio.
    pub coverage: f64,
    /// Share of runs whose A/A interval held 1.
    pub control_coverage: f64,
    /// Share of runs whose whole interval lay below 1.
    pub below_native: f64,
    /// The same of the typical block.
    pub typical_below: f64,
    /// Mean error of the ratio, on the log scale.
    pub mean_error: f64,
    /// Median number of boots.
    pub boots: usize,
}

/// [`REPETITIONS`] runs on machines whose guests keep `exp(effect)` of native.
pub fn outcome(noise: Noise, cap: u32, effect: f64) -> Outcome {
    struct Run {
        ratio: Throughput,
        control: Throughput,
        typical: LogMean,
        boots: usize,
    }
    const BOOTS_COUNT: &str = "no simulated noise voids a block, so boots count";
    let runs: Vec<Run> = (0..REPETITIONS)
        .into_par_iter()
        .map(|repetition| {
            let machine = &mut Machine::new(noise, effect, ROUNDS, repetition);
            let series = run(machine, HALF_WIDTH, cap);
            Run {
                ratio: series.ratio().expect(BOOTS_COUNT),
                control: series.control().expect(BOOTS_COUNT),
                typical: series.typical().expect(BOOTS_COUNT),
                boots: series.boots.len(),
            }
        })
        .collect();
    let share = |counts: &dyn Fn(&Run) -> bool| {
        runs.iter().filter(|run| counts(run)).count() as f64 / runs.len() as f64
    };
    let holds = |ratio: &Throughput, truth: f64| {
        let interval = ratio.interval(CONFIDENCE);
        (interval.low..=interval.high).contains(&truth.exp())
    };
    let mut boots: Vec<usize> = runs.iter().map(|run| run.boots).collect();
    boots.sort_unstable();
    Outcome {
        coverage: share(&|run| holds(&run.ratio, noise.truth(effect))),
        control_coverage: share(&|run| holds(&run.control, 0.0)),
        below_native: share(&|run| run.ratio.interval(CONFIDENCE).high < 1.0),
        typical_below: share(&|run| run.typical.interval(CONFIDENCE).high < 1.0),
        mean_error: runs
            .iter()
            .map(|run| run.ratio.mean() - noise.truth(effect))
            .sum::<f64>()
            / runs.len() as f64,
        boots: boots[boots.len() / 2],
    }
}

/// A kind of noise, its row's title, what is promised of it, and its outcomes under all caps.
pub type Row = (Noise, &'static str, Promise, [Outcome; CAPS.len()]);

/// The outcomes of all kinds of noise under all caps, with a true loss of 1 %.
pub fn outcomes() -> Vec<Row> {
    ALL.into_iter()
        .map(|(noise, title, promise)| {
            let outcomes = CAPS.map(|cap| outcome(noise, cap, 0.99_f64.ln()));
            (noise, title, promise, outcomes)
        })
        .collect()
}

/// The outcomes as a table in Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut table = String::from(
        "| noise | boots (median) | coverage | …, at most 20 boots | …, pilot only | A/A coverage | mean error | 1 % loss \
         found | …, typical block |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for (_, title, promise, [uncapped, tight, pilot]) in rows {
        let note = match promise {
            Promise::Exact => "",
            Promise::Cautious => " ¹",
            Promise::None => " ²",
        };
        writeln!(
            table,
            "| {title}{note} | {} | {} | {} | {} | {} | {:.2} % | {} | {} |",
            uncapped.boots,
            percent(uncapped.coverage),
            percent(tight.coverage),
            percent(pilot.coverage),
            percent(uncapped.control_coverage),
            100.0 * uncapped.mean_error.abs(),
            percent(uncapped.below_native),
            percent(uncapped.typical_below),
        )
        .expect("a string takes all");
    }
    table
}
