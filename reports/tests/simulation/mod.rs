//! Simulated runs: blocks with known noise go through the code that real blocks go through, under the stopping rule
//! of `vtax run`. Shared by the coverage test and the example that writes the table.

use std::{fmt::Write, ops::Range};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, StandardNormal, StudentT};
use rayon::prelude::*;
use vtax_reports::{
    estimate::{BootValue, Question, boot_value},
    record::{Marks, Sample, Side},
    stats::{mean::LogMean, series::Series},
};
use vtax_scenarios::order::{BlockKind, round_order};

/// Simulated runs per kind of noise and cap.
pub const REPETITIONS: u64 = 5_000;
/// Boots of the pilot.
pub const PILOT: u32 = 10;
/// Rounds of a boot.
pub const ROUNDS: u32 = 3;
/// Wanted half-width on the log scale.
pub const HALF_WIDTH: f64 = 0.005;
/// Confidence of every interval.
pub const CONFIDENCE: f64 = 0.95;
/// Caps on the number of boots, as a time budget that is settled when the pilot ends sets them: none that matters,
/// a tight one, and a budget that is spent with the pilot.
pub const CAPS: [u32; 3] = [400, 20, 10];

/// What disturbs the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noise {
    /// Independent normal noise on every block.
    Normal,
    /// Independent Student t noise with 2.5 degrees of freedom.
    HeavyTailed,
    /// The machine drifts: AR(1) from block to block, through rounds and boots, both sides alike.
    Drift,
    /// The guest's cost wanders: AR(1) from round to round, anew in every boot.
    Wandering,
    /// The guest's cost wanders through all boots, and eight cells are measured in turn.
    WanderingInTurn,
    /// Boots differ ten times as much as blocks do.
    BootDominated,
    /// Every fifth block is preempted for long, and marked.
    Preempted,
    /// Every fifth block is delayed, and nothing marks it.
    OneSided,
    /// Every second block is preempted for long, and marked.
    Busy,
    /// The guest's cost wanders through all boots of the only cell.
    WanderingAlone,
}

/// What is promised of a kind of noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// The coverage is the confidence, within 1.5 %.
    Exact,
    /// The coverage is not less than the confidence, within 1.5 %.
    Cautious,
    /// Nothing: the table shows how far it is off.
    None,
}

impl Noise {
    /// All kinds, in the table's order.
    pub const ALL: [Self; 10] = [
        Self::Normal,
        Self::HeavyTailed,
        Self::Drift,
        Self::Wandering,
        Self::WanderingInTurn,
        Self::BootDominated,
        Self::Preempted,
        Self::OneSided,
        Self::Busy,
        Self::WanderingAlone,
    ];

    /// What is promised.
    pub fn promise(self) -> Promise {
        match self {
            Self::OneSided => Promise::Cautious,
            Self::Busy | Self::WanderingAlone => Promise::None,
            _ => Promise::Exact,
        }
    }

    /// Its row in the table.
    fn title(self) -> &'static str {
        match self {
            Self::Normal => "normal, 1.5 % per block",
            Self::HeavyTailed => "heavy-tailed: Student t with 2.5 degrees of freedom",
            Self::Drift => {
                "autocorrelated: the machine drifts, AR(1) 0.8 over blocks, through rounds and boots"
            }
            Self::Wandering => {
                "autocorrelated: the guest alone wanders, AR(1) 0.8 over a boot's rounds"
            }
            Self::WanderingInTurn => {
                "autocorrelated: the guest alone wanders, AR(1) 0.8 through rounds and boots, eight cells in turn"
            }
            Self::BootDominated => "boot-dominated: 1.5 % between boots, 0.15 % between blocks",
            Self::Preempted => "every fifth block preempted, +30 % on average, marked",
            Self::OneSided => "every fifth block delayed, +5 % on average, unmarked",
            Self::Busy => "every second block preempted, +30 % on average, marked",
            Self::WanderingAlone => {
                "the guest alone wanders, AR(1) 0.8 through rounds and boots, and its cell is the only one"
            }
        }
    }

    fn wanders(self) -> bool {
        matches!(
            self,
            Self::Wandering | Self::WanderingInTurn | Self::WanderingAlone
        )
    }
}

/// Coefficient of the AR(1) processes.
const PERSISTENCE: f64 = 0.8;
/// Standard deviation, on the log scale, of the noise that is not said to be of another size.
const SIGMA: f64 = 0.015;

/// A machine that disturbs blocks, one after the other.
pub struct Machine {
    noise: Noise,
    /// Guest performance as a share of native, ln.
    effect: f64,
    seed: u64,
    rng: ChaCha8Rng,
    /// State of the AR(1) processes, in standard deviations.
    wandering: f64,
}

impl Machine {
    /// A machine on which guests lose `effect` on the log scale (negative: slower).
    pub fn new(noise: Noise, effect: f64, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let wandering = rng.sample(StandardNormal);
        Self {
            noise,
            effect,
            seed,
            rng,
            wandering,
        }
    }

    fn normal(&mut self) -> f64 {
        self.rng.sample(StandardNormal)
    }

    fn wander(&mut self) {
        let shock = self.normal();
        self.wandering = PERSISTENCE * self.wandering + (1.0 - PERSISTENCE.powi(2)).sqrt() * shock;
    }

    /// The samples of boot `boot`.
    pub fn boot(&mut self, boot: u32) -> Vec<Sample> {
        match self.noise {
            Noise::Wandering => self.wandering = self.normal(),
            Noise::WanderingInTurn => (0..7 * ROUNDS).for_each(|_| self.wander()),
            _ => {}
        }
        let boot_effect = match self.noise {
            Noise::BootDominated => SIGMA * self.normal(),
            _ => 0.0,
        };
        let mut samples = Vec::with_capacity(3 * ROUNDS as usize);
        for round in 0..ROUNDS {
            if self.noise.wanders() {
                self.wander();
            }
            for (position, kind) in (0..).zip(round_order(self.seed, 0, boot, round)) {
                let side = match kind {
                    BlockKind::Native => Side::Native,
                    BlockKind::Guest => Side::Guest,
                    BlockKind::Control => Side::Control,
                };
                let guest_only = match side {
                    Side::Guest => boot_effect - self.effect + self.guest_wandering(),
                    Side::Native | Side::Control => 0.0,
                };
                let (noise, marks) = self.block();
                samples.push(Sample {
                    cell: 0,
                    boot,
                    round,
                    position,
                    side,
                    vcpu: 0,
                    cpu: 0,
                    iterations: 1_000_000,
                    ticks: whole(50e6 * (guest_only + noise).exp()),
                    outer_nanos: 25_000_000,
                    marks,
                    at_nanos: 0,
                });
            }
        }
        samples
    }

    fn guest_wandering(&self) -> f64 {
        if self.noise.wanders() {
            SIGMA * self.wandering
        } else {
            0.0
        }
    }

    /// Noise of one block on the log scale, whatever its side, and its marks.
    fn block(&mut self) -> (f64, Marks) {
        match self.noise {
            Noise::Normal => (SIGMA * self.normal(), Marks::CLEAN),
            Noise::HeavyTailed => {
                let t = StudentT::new(2.5)
                    .expect("2.5 degrees of freedom are positive")
                    .sample(&mut self.rng);
                (SIGMA * t, Marks::CLEAN)
            }
            Noise::Drift => {
                self.wander();
                (SIGMA * self.wandering, Marks::CLEAN)
            }
            Noise::Wandering
            | Noise::WanderingInTurn
            | Noise::WanderingAlone
            | Noise::BootDominated => (0.1 * SIGMA * self.normal(), Marks::CLEAN),
            Noise::OneSided => {
                let delay = self.delay(0.2, 0.05).unwrap_or(0.0);
                (delay + 0.2 * SIGMA * self.normal(), Marks::CLEAN)
            }
            Noise::Preempted | Noise::Busy => {
                let share = if self.noise == Noise::Busy { 0.5 } else { 0.2 };
                let base = 0.2 * SIGMA * self.normal();
                match self.delay(share, 0.3) {
                    Some(delay) => (base + delay, Marks::PREEMPTED),
                    None => (base, Marks::CLEAN),
                }
            }
        }
    }

    /// For this share of blocks, an exponential delay of this mean.
    fn delay(&mut self, share: f64, mean: f64) -> Option<f64> {
        self.rng
            .random_bool(share)
            .then(|| mean * self.rng.sample::<f64, _>(Exp1))
    }
}

/// The number of ticks nearest below `ticks`.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "simulated times are positive and far below 2^63"
)]
fn whole(ticks: f64) -> u64 {
    ticks as u64
}

/// One simulated cell.
pub struct Run {
    /// Its ratio.
    pub ratio: LogMean,
    /// Its A/A control.
    pub control: LogMean,
    /// Its boots.
    pub boots: usize,
}

/// Measures a cell as `vtax run` does: pilot, one computation of the size, at most `cap` boots.
pub fn run(machine: &mut Machine, cap: u32) -> Run {
    let mut boots: Vec<Option<BootValue>> = (0..PILOT)
        .map(|boot| boot_value(&machine.boot(boot), Question::Ratio))
        .collect();
    let mut series = Series::from_pilot(&boots);
    let size = series.size(HALF_WIDTH, CONFIDENCE) as usize;
    for boot in PILOT..cap {
        if series.boots.len() >= size {
            break;
        }
        let value = boot_value(&machine.boot(boot), Question::Ratio);
        series.push(value);
        boots.push(value);
    }
    let series = Series::new(&boots, PILOT);
    const BOOTS_COUNT: &str = "no simulated noise voids a block, so boots count";
    Run {
        ratio: series.ratio().expect(BOOTS_COUNT),
        control: series.control().expect(BOOTS_COUNT),
        boots: series.boots.len(),
    }
}

/// What many simulated runs came to.
pub struct Outcome {
    /// Share of runs whose interval held the true ratio.
    pub coverage: f64,
    /// Share of runs whose A/A interval held 1.
    pub control_coverage: f64,
    /// Share of runs whose whole interval lay below 1.
    pub below_native: f64,
    /// Mean error of the ratio, on the log scale.
    pub mean_error: f64,
    /// Median number of boots.
    pub boots: usize,
}

/// [`REPETITIONS`] runs on machines whose guests keep `exp(effect)` of native.
pub fn outcome(noise: Noise, cap: u32, effect: f64) -> Outcome {
    let runs: Vec<Run> = (0..REPETITIONS)
        .into_par_iter()
        .map(|repetition| run(&mut Machine::new(noise, effect, repetition), cap))
        .collect();
    let share = |counts: &dyn Fn(&Run) -> bool| {
        runs.iter().filter(|run| counts(run)).count() as f64 / runs.len() as f64
    };
    let holds =
        |mean: &LogMean, truth: f64| (mean.mean - truth).abs() <= mean.half_width(CONFIDENCE);
    let mut boots: Vec<usize> = runs.iter().map(|run| run.boots).collect();
    boots.sort_unstable();
    Outcome {
        coverage: share(&|run| holds(&run.ratio, effect)),
        control_coverage: share(&|run| holds(&run.control, 0.0)),
        below_native: share(&|run| run.ratio.interval(CONFIDENCE).high < 1.0),
        mean_error: runs.iter().map(|run| run.ratio.mean - effect).sum::<f64>() / runs.len() as f64,
        boots: boots[boots.len() / 2],
    }
}

/// The outcomes of all kinds of noise under all caps, with a true loss of 1 %.
pub fn outcomes() -> Vec<(Noise, [Outcome; CAPS.len()])> {
    Noise::ALL
        .into_iter()
        .map(|noise| (noise, CAPS.map(|cap| outcome(noise, cap, 0.99_f64.ln()))))
        .collect()
}

/// The outcomes as a table in Markdown.
pub fn table(outcomes: &[(Noise, [Outcome; CAPS.len()])]) -> String {
    let mut table = String::from(
        "| noise | boots (median) | coverage | …, at most 20 boots | …, pilot only | A/A coverage | mean error | 1 % loss \
         found |\n|---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for (noise, [uncapped, tight, pilot]) in outcomes {
        let note = match noise.promise() {
            Promise::Exact => "",
            Promise::Cautious => " ¹",
            Promise::None => " ²",
        };
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        writeln!(
            table,
            "| {}{note} | {} | {} | {} | {} | {} | {:.2} % | {} |",
            noise.title(),
            uncapped.boots,
            percent(uncapped.coverage),
            percent(tight.coverage),
            percent(pilot.coverage),
            percent(uncapped.control_coverage),
            100.0 * uncapped.mean_error.abs(),
            percent(uncapped.below_native),
        )
        .expect("a string takes all");
    }
    table
}

/// The table's place in the document, between its marks.
pub fn section(document: &str) -> Range<usize> {
    let begin = "<!-- coverage table: begin -->\n";
    let from = document.find(begin).expect("the table's first mark") + begin.len();
    let to = document
        .find("<!-- coverage table: end -->")
        .expect("the table's last mark");
    from..to
}
