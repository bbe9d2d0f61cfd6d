//! Guests that stumble: does the interval hold what is left of their throughput, how wide is it, and how often would a
//! claim be called true that is not?

use std::fmt::Write;

use rayon::prelude::*;

use super::machine::{BLOCK_NANOS, Machine, Noise};
use super::{CONFIDENCE, REPETITIONS, percent, run};

/// Rounds of a boot.
pub const ROUNDS: [u32; 2] = [3, 9];
/// Wanted half-widths on the log scale.
pub const HALF_WIDTHS: [f64; 2] = [0.005, 0.002];
/// At most so many boots.
const CAP: u32 = 400;
/// Boots from which the true spread of a boot's value is taken.
const ORACLE_BOOTS: u32 = 20_000;
/// So many stalls or clusters must be expected in a run for its interval to be promised.
pub const EXPECTED: f64 = 10.0;

/// The rows: what stalls, and whether anything is promised.
pub fn all() -> Vec<(Noise, String, bool)> {
    let mut all = Vec::new();
    for share in [0.01, 0.05, 0.1, 0.2] {
        for factor in [1.5, 2.0, 5.0] {
            let title = format!("{:.0} % of blocks × {factor}", 100.0 * share);
            all.push((Noise::Bursts { share, factor }, title, true));
        }
    }
    let rare = Noise::Bursts {
        share: 1.0 / 300.0,
        factor: 50.0,
    };
    all.push((rare, "one block in 300 × 50".to_owned(), true));
    let preempted = Noise::Preempted {
        share: 0.2,
        mean: 0.3,
    };
    let title = "20 % of blocks preempted and marked, + 30 % on average".to_owned();
    all.push((preempted, title, true));
    for (share, through_boots) in [(0.1, false), (0.2, false), (0.1, true), (0.2, true)] {
        let clusters = Noise::Clusters {
            share,
            factor: 2.0,
            through_boots,
        };
        let where_ = if through_boots {
            "through boots"
        } else {
            "within boots"
        };
        let title = format!(
            "{:.0} % of blocks × 2, in clusters of five {where_}",
            100.0 * share
        );
        all.push((clusters, title, !through_boots));
    }
    all
}

/// What many simulated runs of a guest that stumbles came to.
pub struct Outcome {
    /// Median number of boots.
    pub boots: usize,
    /// Stalls or clusters that a run of so many boots meets on average.
    pub expected: f64,
    /// Share of runs whose interval held the true ratio.
    pub coverage: f64,
    /// Mean width of the interval over that of one which knows the true variance.
    pub width: f64,
    /// Share of runs whose whole interval lay above the true ratio: a claim just above it would be called true.
    pub false_holds: f64,
    /// Share of runs in which that happened and the stalls come more often than the verdict's sentence excludes: what it
    /// says would not be true.
    pub false_statements: f64,
}

/// [`REPETITIONS`] runs.
pub fn outcome(noise: Noise, rounds: u32, half_width: f64) -> Outcome {
    struct Run {
        boots: usize,
        width: f64,
        covers: bool,
        above: bool,
        excluded_nanos: f64,
    }
    const BOOTS_COUNT: &str = "no simulated noise voids a block, so boots count";
    let truth = noise.truth(0.0).exp();
    let runs: Vec<Run> = (0..REPETITIONS)
        .into_par_iter()
        .map(|repetition| {
            let machine = &mut Machine::new(noise, 0.0, rounds, repetition);
            let series = run(machine, half_width, CAP);
            let interval = series.ratio().expect(BOOTS_COUNT).interval(CONFIDENCE);
            // A tick of the simulated payload is half a nanosecond.
            let stalls = series.stalls(0.5e6, CONFIDENCE).expect(BOOTS_COUNT);
            Run {
                boots: series.boots.len(),
                width: (interval.high / interval.low).ln(),
                covers: (interval.low..=interval.high).contains(&truth),
                above: interval.low > truth,
                excluded_nanos: stalls.excluded_nanos,
            }
        })
        .collect();
    let mean = |of: &dyn Fn(&Run) -> f64| runs.iter().map(of).sum::<f64>() / runs.len() as f64;
    let share = |counts: &dyn Fn(&Run) -> bool| mean(&|run| f64::from(u8::from(counts(run))));
    let mut boots: Vec<usize> = runs.iter().map(|run| run.boots).collect();
    boots.sort_unstable();
    let boots = boots[boots.len() / 2];
    let between = noise.blocks_per_stall().unwrap_or(f64::INFINITY);
    let z = 1.959_964;
    let oracle = 2.0 * z * spread(noise, rounds) * mean(&|run| 1.0 / (run.boots as f64).sqrt());
    Outcome {
        boots,
        expected: boots as f64 * f64::from(rounds) / between,
        coverage: share(&|run| run.covers),
        width: mean(&|run| run.width) / oracle,
        false_holds: share(&|run| run.above),
        false_statements: share(&|run| run.above && run.excluded_nanos > between * BLOCK_NANOS),
    }
}

/// The true standard deviation of one boot's part in the ratio's logarithm.
fn spread(noise: Noise, rounds: u32) -> f64 {
    let mut machine = Machine::new(noise, 0.0, rounds, u64::MAX);
    let boots: Vec<[f64; 2]> = (0..ORACLE_BOOTS)
        .map(|boot| {
            let mut means = [0.0; 2];
            for sample in machine.boot(boot) {
                let guest = sample.side == vtax_reports::record::Side::Guest;
                let (place, blocks) = if guest { (1, 1.0) } else { (0, 2.0) };
                means[place] += sample.ticks as f64 / (blocks * f64::from(rounds));
            }
            means
        })
        .collect();
    let count = boots.len() as f64;
    let mean = |side: usize| boots.iter().map(|boot| boot[side]).sum::<f64>() / count;
    let (native, guest) = (mean(0), mean(1));
    let squares: f64 = boots
        .iter()
        .map(|boot| (boot[0] / native - boot[1] / guest).powi(2))
        .sum();
    (squares / count).sqrt()
}

/// A row of the table: what stalls, its title, whether anything is promised, rounds, and the outcome for each half-width.
pub struct Row {
    #[allow(dead_code, reason = "the test names it, the example does not")]
    pub noise: Noise,
    pub title: String,
    pub promised: bool,
    pub rounds: u32,
    pub outcomes: [Outcome; HALF_WIDTHS.len()],
}

/// The outcomes of all rows.
pub fn outcomes() -> Vec<Row> {
    let mut rows = Vec::new();
    for (noise, title, promised) in all() {
        for rounds in ROUNDS {
            rows.push(Row {
                noise,
                title: title.clone(),
                promised,
                rounds,
                outcomes: HALF_WIDTHS.map(|half_width| outcome(noise, rounds, half_width)),
            });
        }
    }
    rows
}

/// The outcomes as a table in Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut table = String::from(
        "| the guest's stalls | rounds | wanted | boots (median) | stalls expected | coverage | width / oracle | false holds \
         | …, against its sentence |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in rows {
        for (half_width, outcome) in HALF_WIDTHS.iter().zip(&row.outcomes) {
            let note = match (row.promised, outcome.expected >= EXPECTED) {
                (true, true) => "",
                (true, false) => " ³",
                (false, _) => " ²",
            };
            writeln!(
                table,
                "| {}{note} | {} | ± {} % | {} | {:.1} | {} | {:.2} | {} | {} |",
                row.title,
                row.rounds,
                100.0 * half_width,
                outcome.boots,
                outcome.expected,
                percent(outcome.coverage),
                outcome.width,
                percent(outcome.false_holds),
                percent(outcome.false_statements),
            )
            .expect("a string takes all");
        }
    }
    table
}
