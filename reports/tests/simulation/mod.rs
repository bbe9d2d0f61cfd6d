//! Simulated runs: blocks with known noise go through the code that real blocks go through, under the stopping rule
//! of `vtax run`.

use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, StandardNormal, StudentT};
use rayon::prelude::*;
use vtax_reports::{
    estimate::{BootValue, boot_value},
    record::{Marks, Sample, Side},
    stats::{mean::LogMean, series::Series},
};

/// Simulated runs per kind of noise and cap.
pub const REPETITIONS: u64 = 10_000;
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
pub const CAPS: [u32; 3] = [1_000, 20, 10];

/// What disturbs the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noise {
    /// Independent normal noise on every block.
    Normal,
    /// Independent Student t noise with 2.5 degrees of freedom.
    HeavyTailed,
    /// The machine drifts: AR(1) from block to block, through rounds and boots, both sides alike.
    Drift,
    /// The guest's cost wanders: AR(1) from round to round within a boot, the guest alone.
    Wandering,
    /// Boots differ ten times as much as blocks do.
    BootDominated,
    /// Every fifth block is delayed, and nothing marks it.
    OneSided,
    /// Every fifth block is preempted for long, and marked.
    Preempted,
    /// Every second block is preempted for long, and marked.
    Busy,
    /// As [`Noise::Wandering`], but through all boots: outside what the method promises.
    WanderingAcrossBoots,
}

impl Noise {
    /// The kinds for which the coverage is promised.
    pub const PROMISED: [Self; 8] = [
        Self::Normal,
        Self::HeavyTailed,
        Self::Drift,
        Self::Wandering,
        Self::BootDominated,
        Self::OneSided,
        Self::Preempted,
        Self::Busy,
    ];

    /// Its row in the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::HeavyTailed => "heavy-tailed: Student t, 2.5 degrees of freedom",
            Self::Drift => "autocorrelated: AR(1) 0.8 over blocks, through rounds and boots, both sides",
            Self::Wandering => "autocorrelated: AR(1) 0.8 over the rounds of a boot, guest alone",
            Self::BootDominated => "boot-dominated: 1.5 % between boots, 0.15 % between blocks",
            Self::OneSided => "one-sided: every fifth block delayed by 5 % on average, unmarked",
            Self::Preempted => "preempted: every fifth block delayed by 30 % on average, marked",
            Self::Busy => "busy: every second block delayed by 30 % on average, marked",
            Self::WanderingAcrossBoots => "AR(1) 0.8 over rounds and on through all boots, guest alone",
        }
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
        if self.noise == Noise::Wandering {
            self.wandering = self.normal();
        }
        let boot_effect = match self.noise {
            Noise::BootDominated => SIGMA * self.normal(),
            _ => 0.0,
        };
        let mut samples = Vec::with_capacity(3 * ROUNDS as usize);
        for round in 0..ROUNDS {
            if matches!(self.noise, Noise::Wandering | Noise::WanderingAcrossBoots) {
                self.wander();
            }
            let mut order = [Side::Native, Side::Guest, Side::Control];
            order.shuffle(&mut self.rng);
            for (position, side) in (0..).zip(order) {
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
                    ticks: (50e6 * (guest_only + noise).exp()) as u64,
                    outer_nanos: 25_000_000,
                    marks,
                    at_nanos: 0,
                });
            }
        }
        samples
    }

    fn guest_wandering(&self) -> f64 {
        match self.noise {
            Noise::Wandering | Noise::WanderingAcrossBoots => SIGMA * self.wandering,
            _ => 0.0,
        }
    }

    /// Noise of one block on the log scale, whatever its side, and its marks.
    fn block(&mut self) -> (f64, Marks) {
        match self.noise {
            Noise::Normal => (SIGMA * self.normal(), Marks::CLEAN),
            Noise::HeavyTailed => {
                let t = StudentT::new(2.5).unwrap().sample(&mut self.rng);
                (SIGMA * t, Marks::CLEAN)
            }
            Noise::Drift => {
                self.wander();
                (SIGMA * self.wandering, Marks::CLEAN)
            }
            Noise::Wandering | Noise::WanderingAcrossBoots | Noise::BootDominated => {
                (0.1 * SIGMA * self.normal(), Marks::CLEAN)
            }
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
        .map(|boot| boot_value(&machine.boot(boot)))
        .collect();
    let mut series = Series::new(&boots, PILOT);
    let size = series.size(HALF_WIDTH, CONFIDENCE) as usize;
    for boot in PILOT..cap {
        if series.boots.len() >= size {
            break;
        }
        boots.push(boot_value(&machine.boot(boot)));
        series = Series::new(&boots, PILOT);
    }
    Run {
        ratio: series.ratio().unwrap(),
        control: series.control().unwrap(),
        boots: series.boots.len(),
    }
}

/// What many simulated runs came to.
pub struct Outcome {
    /// Share of runs whose interval held the true ratio.
    pub coverage: f64,
    /// Share of runs whose A/A interval held 1.
    pub control_coverage: f64,
    /// Mean error of the ratio, on the log scale.
    pub bias: f64,
    /// Median number of boots.
    pub boots: usize,
}

/// [`REPETITIONS`] runs on machines whose guests keep `exp(effect)` of native.
pub fn outcome(noise: Noise, cap: u32, effect: f64) -> Outcome {
    let mut runs: Vec<(bool, bool, f64, usize)> = (0..REPETITIONS)
        .into_par_iter()
        .map(|repetition| {
            let mut machine = Machine::new(noise, effect, repetition);
            let run = run(&mut machine, cap);
            let error = run.ratio.mean - effect;
            (
                error.abs() <= run.ratio.half_width(CONFIDENCE),
                run.control.mean.abs() <= run.control.half_width(CONFIDENCE),
                error,
                run.boots,
            )
        })
        .collect();
    runs.sort_by_key(|run| run.3);
    let share = |counts: fn(&(bool, bool, f64, usize)) -> bool| {
        runs.iter().filter(|run| counts(run)).count() as f64 / runs.len() as f64
    };
    Outcome {
        coverage: share(|run| run.0),
        control_coverage: share(|run| run.1),
        bias: runs.iter().map(|run| run.2).sum::<f64>() / runs.len() as f64,
        boots: runs[runs.len() / 2].3,
    }
}

#[allow(dead_code)]
pub fn explore() {
    for noise in Noise::PROMISED.into_iter().chain([Noise::WanderingAcrossBoots]) {
        for cap in CAPS {
            let start = std::time::Instant::now();
            let o = outcome(noise, cap, -0.01);
            println!("{noise:?} cap {cap}: cov {:.2} aa {:.2} bias {:.5}% boots {} {:?}", o.coverage*100.0, o.control_coverage*100.0, o.bias*100.0, o.boots, start.elapsed());
        }
    }
}
