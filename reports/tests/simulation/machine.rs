//! Simulated machines: blocks with known noise and known stalls, so that the true ratio is known.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, Poisson, StandardNormal, StudentT};
use vtax_reports::record::{Marks, Sample, Side};
use vtax_scenarios::order::{BlockKind, round_order};

/// What disturbs the blocks. Noise and delays are factors on a linear scale with a mean that is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Noise {
    /// Independent normal noise on every block.
    Normal,
    /// Independent Student t noise with 2.5 degrees of freedom, cut at 20 standard deviations.
    HeavyTailed,
    /// The machine drifts: AR(1) from block to block, through rounds and boots, both sides alike.
    Drift,
    /// The guest's cost wanders: AR(1) from round to round, from a new start in every boot.
    Wandering,
    /// The guest's cost wanders through all boots, and eight cells are measured in turn.
    WanderingInTurn,
    /// The guest's cost wanders through all boots of the only cell.
    WanderingAlone,
    /// Boots differ ten times as much as blocks do.
    BootDominated,
    /// A share of blocks on either side is delayed, by this share of their length on average, exponentially distributed.
    Delayed { share: f64, mean: f64 },
    /// Delays arrive per unit of time on either side: longer blocks meet more of them.
    Arriving { per_block: f64, length: f64 },
    /// A neighbour comes and goes: in a share of boots all blocks of both sides take longer, by this share of their length on
    /// average, exponentially distributed.
    Neighbour { share: f64, mean: f64 },
    /// Of the guest's blocks a share takes so many times as long.
    Bursts { share: f64, factor: f64 },
    /// The same in clusters of five of the guest's blocks in a row, within a boot or through boots.
    Clusters {
        share: f64,
        factor: f64,
        through_boots: bool,
    },
    /// The guest alone is preempted in a share of its blocks, by this share of their length on average, and marked.
    Preempted { share: f64, mean: f64 },
}

/// Blocks of a cluster.
const CLUSTER: u32 = 5;
/// Coefficient of the AR(1) processes.
const PERSISTENCE: f64 = 0.8;
/// Standard deviation of the noise that is not said to be of another size, as a share of a block.
const SIGMA: f64 = 0.015;
/// The same between boots, where stalls are the subject.
const BOOT_SIGMA: f64 = 0.003;
/// Length of a block without noise.
pub const BLOCK_NANOS: f64 = 25e6;

impl Noise {
    /// The mean of what stalls make of a guest's block, without one 1.
    fn guest_factor(self) -> f64 {
        match self {
            Self::Bursts { share, factor } => 1.0 + share * (factor - 1.0),
            Self::Clusters {
                share,
                factor,
                through_boots,
            } => {
                let hit = if through_boots {
                    let start = cluster_start(share);
                    let cluster = f64::from(CLUSTER);
                    cluster / (cluster + (1.0 - start) / start)
                } else {
                    share
                };
                1.0 + hit * (factor - 1.0)
            }
            Self::Preempted { share, mean } => 1.0 + share * mean,
            _ => 1.0,
        }
    }

    /// How many of the guest's blocks there are for each of its stalls, or clusters of them; `None` where it has none of its
    /// own.
    pub fn blocks_per_stall(self) -> Option<f64> {
        match self {
            Self::Bursts { share, .. } | Self::Preempted { share, .. } => Some(1.0 / share),
            Self::Clusters { share, .. } => Some(1.0 / cluster_start(share)),
            _ => None,
        }
    }

    /// The logarithm of the true ratio where the guest keeps `exp(effect)` without stalls.
    pub fn truth(self, effect: f64) -> f64 {
        effect - self.guest_factor().ln()
    }

    fn wanders(self) -> bool {
        matches!(
            self,
            Self::Wandering | Self::WanderingInTurn | Self::WanderingAlone
        )
    }

    fn boot_sigma(self) -> f64 {
        match self {
            Self::BootDominated => SIGMA,
            Self::Bursts { .. } | Self::Clusters { .. } | Self::Preempted { .. } => BOOT_SIGMA,
            _ => 0.0,
        }
    }
}

/// How likely a cluster starts at a block, so that a share of all blocks lies in one.
fn cluster_start(share: f64) -> f64 {
    1.0 - (1.0 - share).powf(1.0 / f64::from(CLUSTER))
}

/// A machine that disturbs blocks, one after the other.
pub struct Machine {
    noise: Noise,
    /// Guest performance as a share of native, ln, without stalls.
    effect: f64,
    rounds: u32,
    seed: u64,
    rng: ChaCha8Rng,
    /// State of the AR(1) processes, in standard deviations.
    wandering: f64,
    /// Blocks of the present cluster that are still to come.
    cluster: u32,
    /// Whether a neighbour is there.
    busy: bool,
}

impl Machine {
    /// A machine on which guests lose `effect` on the log scale (negative: slower).
    pub fn new(noise: Noise, effect: f64, rounds: u32, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let wandering = rng.sample(StandardNormal);
        Self {
            noise,
            effect,
            rounds,
            seed,
            rng,
            wandering,
            cluster: 0,
            busy: false,
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
            Noise::Neighbour { share, .. } => self.busy = self.rng.random_bool(share),
            Noise::WanderingInTurn => (0..7 * self.rounds).for_each(|_| self.wander()),
            Noise::Clusters {
                share,
                through_boots: false,
                ..
            } => {
                // A cluster may have begun before the boot's first block.
                self.cluster = 0;
                for before in 1..CLUSTER {
                    if self.rng.random_bool(cluster_start(share)) {
                        self.cluster = self.cluster.max(before);
                    }
                }
            }
            _ => {}
        }
        let of_boot = 1.0 + self.noise.boot_sigma() * self.normal();
        let mut samples = Vec::with_capacity(3 * self.rounds as usize);
        for round in 0..self.rounds {
            if self.noise.wanders() {
                self.wander();
            }
            for (position, kind) in (0..).zip(round_order(self.seed, 0, boot, round)) {
                let side = match kind {
                    BlockKind::Native => Side::Native,
                    BlockKind::Guest => Side::Guest,
                    BlockKind::Control => Side::Control,
                };
                let (mut time, mut marks) = (self.block(), Marks::CLEAN);
                if side == Side::Guest {
                    let (factor, mark) = self.guest();
                    time *= of_boot * factor * (-self.effect).exp();
                    marks = mark;
                }
                samples.push(Sample {
                    cell: 0,
                    boot,
                    round,
                    position,
                    side,
                    vcpu: 0,
                    cpu: 0,
                    iterations: 1_000_000,
                    ticks: whole(50e6 * time),
                    outer_nanos: whole(BLOCK_NANOS * time),
                    run_in_ticks: 0,
                    latency_ticks: 0,
                    marks,
                    at_nanos: 0,
                });
            }
        }
        samples
    }

    /// What makes the guest's next block longer than native, but for its constant loss.
    fn guest(&mut self) -> (f64, Marks) {
        match self.noise {
            noise if noise.wanders() => (1.0 + SIGMA * self.wandering, Marks::CLEAN),
            Noise::Bursts { share, factor } => {
                let hit = self.rng.random_bool(share);
                (if hit { factor } else { 1.0 }, Marks::CLEAN)
            }
            Noise::Clusters {
                share,
                factor,
                through_boots,
            } => {
                let starts = self.rng.random_bool(cluster_start(share));
                if starts && (self.cluster == 0 || !through_boots) {
                    self.cluster = CLUSTER;
                }
                let hit = self.cluster > 0;
                self.cluster = self.cluster.saturating_sub(1);
                (if hit { factor } else { 1.0 }, Marks::CLEAN)
            }
            Noise::Preempted { share, mean } => match self.delay(share, mean) {
                Some(delay) => (1.0 + delay, Marks::PREEMPTED),
                None => (1.0, Marks::CLEAN),
            },
            _ => (1.0, Marks::CLEAN),
        }
    }

    /// The length of a block of either side, 1 on average but for delays.
    fn block(&mut self) -> f64 {
        match self.noise {
            Noise::Normal
            | Noise::Bursts { .. }
            | Noise::Clusters { .. }
            | Noise::Preempted { .. } => 1.0 + SIGMA * self.normal(),
            Noise::HeavyTailed => {
                let t: f64 = StudentT::new(2.5)
                    .expect("2.5 degrees of freedom are positive")
                    .sample(&mut self.rng);
                1.0 + SIGMA * t.clamp(-20.0, 20.0)
            }
            Noise::Drift => {
                self.wander();
                1.0 + SIGMA * self.wandering
            }
            Noise::Wandering
            | Noise::WanderingInTurn
            | Noise::WanderingAlone
            | Noise::BootDominated => 1.0 + 0.1 * SIGMA * self.normal(),
            Noise::Delayed { share, mean } => {
                1.0 + self.delay(share, mean).unwrap_or(0.0) + 0.2 * SIGMA * self.normal()
            }
            Noise::Neighbour { mean, .. } => {
                let delay = if self.busy {
                    mean * self.rng.sample::<f64, _>(Exp1)
                } else {
                    0.0
                };
                1.0 + delay + SIGMA * self.normal()
            }
            Noise::Arriving { per_block, length } => {
                let delays: f64 = Poisson::new(per_block)
                    .expect("a rate above 0")
                    .sample(&mut self.rng);
                1.0 + delays * length + SIGMA * self.normal()
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
