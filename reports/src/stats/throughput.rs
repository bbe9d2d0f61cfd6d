//! The ratio that decides: work per time, all that happens in it included.
//!
//! ```text
//! times by round, vCPU and side ──Times──► times of rounds ──split──► without stalls (mean, a residual per boot)
//!                                                                └──► stalls (excess per boot)
//!             both sides ──► Throughput: ln(mean native / mean guest) = base + excess of native − excess of guest
//! ```
//!
//! The point estimate is the quotient of two plain means over all blocks: sums over all boots first, the logarithm last. A
//! mean of logarithms, or of boots' medians, says what a typical block keeps and not what gets done.
//!
//! The interval is made of two parts, because a mean has two kinds of error. Blocks that take far longer than the others
//! are *stalls*; which they are is decided by value, but nothing is removed by it: mean = mean without stalls × (1 + excess), an
//! identity. What is left is noise of the usual kind, whose boots have a t interval by Stein's rule; stalls are rare events,
//! whose excess has gamma limits ([`super::excess`]). They are joined by the square-and-add rule for limits that are not
//! symmetric (MOVER: Zou and Donner 2008, "Construction of confidence limits about effect measures", Statistics in Medicine
//! 27), with the correlation of both sides' stalls. Stalls never size a run: a pilot that happens to see none would end it early.

use super::boot::BootValue;
use super::excess::Excess;
use super::mean::{LogMean, combine};
use super::stein;
use crate::record::Side;
use crate::result::Interval;

/// A block is a stall from this many standard deviations above the median on, as the blocks below the median show them:
/// those no delay has touched. Of normal noise that is one block in three million.
const STALL: f64 = 5.0;

/// It is at least this much longer than the median: clocks have ticks, and blocks that agree to the tick have no spread.
const LEAST_STALL: f64 = 0.01;

/// The share of a normal distribution that lies a standard deviation and more below its middle.
const LOWER_SIGMA: f64 = 0.158_655;

/// The native side of a round: native ran twice.
pub const NATIVE: &[Side] = &[Side::Native, Side::Control];
/// The guest's side of a round.
pub const GUEST: &[Side] = &[Side::Guest];

/// Times of rounds on one side, boot by boot: ticks per unit of work, and per vCPU where there are several.
#[derive(Clone, Debug, PartialEq)]
pub struct Times {
    times: Vec<f64>,
    /// For each boot, where its times end.
    ends: Vec<usize>,
}

impl Times {
    /// The blocks of `sides` of these boots.
    ///
    /// Several vCPUs work at the same time, so what counts is the sum of their work per time. A round's time is the sum of
    /// its vCPUs' times with weights that make the mean over all rounds the time at which as many equal vCPUs would reach
    /// the same throughput (the harmonic mean of the vCPUs' means), and that are that mean's derivatives.
    #[must_use]
    pub fn new(boots: &[BootValue], sides: &[Side]) -> Self {
        let weights = weights(boots, sides);
        let (mut times, mut ends) = (Vec::new(), Vec::new());
        for boot in boots {
            for round in boot.times.chunks_exact(boot.vcpus.max(1)) {
                times.extend(sides.iter().map(|&side| {
                    let weighted = round.iter().zip(&weights);
                    weighted
                        .map(|(vcpu, weight)| vcpu[side as usize] * weight)
                        .sum::<f64>()
                }));
            }
            ends.push(times.len());
        }
        Self { times, ends }
    }

    /// The plain mean; `None` of no block.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let sum: f64 = self.times.iter().sum();
        (!self.times.is_empty()).then(|| sum / self.times.len() as f64)
    }

    /// Times boot by boot.
    pub fn boots(&self) -> impl Iterator<Item = &[f64]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, &end)| &self.times[start..end])
    }

    /// Tells stalls from the rest; `None` of no block.
    #[must_use]
    pub fn split(&self) -> Option<Split> {
        let limit = self.stall_from()?;
        let quiet = |time: &&f64| **time <= limit;
        let (count, sum) = self
            .times
            .iter()
            .filter(quiet)
            .fold((0.0, 0.0), |(count, sum), time| (count + 1.0, sum + time));
        let (mean, boots) = (sum / count, self.ends.len() as f64);
        let residual = |times: &[f64]| {
            let off: f64 = times
                .iter()
                .filter(quiet)
                .map(|time| time / mean - 1.0)
                .sum();
            off * boots / count
        };
        let excess = |times: &[f64]| -> f64 { stalls(times, limit, mean).sum() };
        let by_boot: Vec<f64> = self.boots().map(excess).collect();
        let mut stalls: Vec<f64> = stalls(&self.times, limit, mean).collect();
        stalls.sort_unstable_by(f64::total_cmp);
        let largest = stalls.last().copied().unwrap_or(0.0);
        Some(Split {
            mean,
            residuals: self.boots().map(residual).collect(),
            excess: Excess::new(&by_boot, largest, self.times.len()),
            by_boot,
            stalls,
            blocks: self.times.len(),
        })
    }

    /// From which time on a block is a stall.
    fn stall_from(&self) -> Option<f64> {
        let mut times = self.times.clone();
        let count = times.len() as f64;
        let middle = times.len() / 2;
        let (below, &mut middle, _) =
            (!times.is_empty()).then(|| times.select_nth_unstable_by(middle, f64::total_cmp))?;
        let place = (count * LOWER_SIGMA).floor();
        // In range: a small share of the number of blocks, and below the middle where there is anything below it.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let place = (place as usize).min(below.len().saturating_sub(1));
        let lower = if below.is_empty() {
            middle
        } else {
            *below.select_nth_unstable_by(place, f64::total_cmp).1
        };
        Some(middle + (STALL * (middle - lower)).max(LEAST_STALL * middle))
    }
}

/// By how much each time beyond `limit` is longer than `mean`, in units of that.
fn stalls(times: &[f64], limit: f64, mean: f64) -> impl Iterator<Item = f64> {
    times
        .iter()
        .filter(move |time| **time > limit)
        .map(move |time| time / mean - 1.0)
}

/// A weight for each vCPU's time; see [`Times::new`].
fn weights(boots: &[BootValue], sides: &[Side]) -> Vec<f64> {
    let vcpus = boots.first().map_or(0, |boot| boot.vcpus);
    if vcpus == 1 {
        return vec![1.0];
    }
    let mut sums = vec![0.0; vcpus];
    let mut count = 0.0;
    for round in boots.iter().flat_map(|boot| boot.times.chunks_exact(vcpus)) {
        for (sum, vcpu) in sums.iter_mut().zip(round) {
            *sum += sides.iter().map(|&side| vcpu[side as usize]).sum::<f64>();
        }
        count += sides.len() as f64;
    }
    let speed: f64 = sums.iter().map(|sum| count / sum).sum();
    let weight = |sum: &f64| vcpus as f64 * (count / (sum * speed)).powi(2);
    sums.iter().map(weight).collect()
}

/// One side, with its stalls told from the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Mean time without stalls.
    pub mean: f64,
    /// For each boot, by what share of `mean` it moves that mean; their sum is 0.
    pub residuals: Vec<f64>,
    /// What stalls add.
    pub excess: Excess,
    /// The same boot by boot, in lengths of a block without a stall.
    pub by_boot: Vec<f64>,
    /// By how much each stall is longer than `mean`, in units of that, ascending.
    pub stalls: Vec<f64>,
    /// Blocks, stalls included.
    pub blocks: usize,
}

/// Work per time on one side as a share of that on another, with what is known of its error; on the log scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throughput {
    /// Without stalls.
    base: LogMean,
    /// What stalls on the reference's side add to the ratio.
    adds: Excess,
    /// What stalls on the measured side take from it.
    takes: Excess,
    /// How both vary together.
    covariance: f64,
}

impl Throughput {
    /// `measured` against `reference`, boots in the order in which they were measured, the first `pilot` of which sized the
    /// run; `None` with fewer than two boots.
    #[must_use]
    pub fn new(reference: &Split, measured: &Split, pilot: usize) -> Option<Self> {
        let both = reference.residuals.iter().zip(&measured.residuals);
        let residuals: Vec<f64> = both
            .map(|(reference, measured)| reference - measured)
            .collect();
        let base = stein::estimate(&residuals, pilot)?;
        let boots = reference.by_boot.iter().copied();
        let boots = boots.zip(measured.by_boot.iter().copied());
        Some(Self {
            base: LogMean {
                mean: (reference.mean / measured.mean).ln(),
                ..base
            },
            adds: reference.excess,
            takes: measured.excess,
            covariance: reference.excess.covariance(&measured.excess, boots),
        })
    }

    /// Time per unit of work on one side alone, all boots telling its variance; `None` with fewer than two boots.
    #[must_use]
    pub fn time(side: &Split) -> Option<Self> {
        let base = stein::estimate(&side.residuals, side.residuals.len())?;
        Some(Self {
            base: LogMean {
                mean: side.mean.ln(),
                ..base
            },
            adds: side.excess,
            takes: Excess::default(),
            covariance: 0.0,
        })
    }

    /// The ratio's logarithm.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.base.mean + self.adds.total - self.takes.total
    }

    /// Without stalls on either side.
    #[must_use]
    pub fn base(&self) -> LogMean {
        self.base
    }

    /// What stalls take from the ratio, on the log scale, and its limits: below 0 where the reference has more of them.
    #[must_use]
    pub fn stalls(&self, confidence: f64) -> (f64, f64, f64) {
        let (below, above) = self.reach(0.0, confidence);
        let value = self.takes.total - self.adds.total;
        (value, value - above, value + below)
    }

    /// The inverse ratio.
    #[must_use]
    pub fn inverse(self) -> Self {
        Self {
            base: self.base.inverse(),
            adds: self.takes,
            takes: self.adds,
            covariance: self.covariance,
        }
    }

    /// The quotient of two independent ratios.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            base: self.base.minus(other.base),
            adds: self.adds.plus(other.takes),
            takes: self.takes.plus(other.adds),
            covariance: self.covariance + other.covariance,
        }
    }

    /// The geometric mean of independent ratios, a fixed set; `None` of none.
    ///
    /// Their stalls are events of one kind, the host's: together they tell more of how often one comes than each alone
    /// (Fay and Feuer's limits are made for such sums over strata).
    #[must_use]
    pub fn combined(parts: &[Self]) -> Option<Self> {
        let share = 1.0 / parts.len() as f64;
        let sum = |of: fn(&Self) -> Excess| {
            parts.iter().fold(Excess::default(), |sum, part| {
                sum.plus(of(part).times(share))
            })
        };
        let bases: Vec<LogMean> = parts.iter().map(|part| part.base).collect();
        Some(Self {
            base: combine(&bases)?,
            adds: sum(|part| part.adds),
            takes: sum(|part| part.takes),
            covariance: share.powi(2) * parts.iter().map(|part| part.covariance).sum::<f64>(),
        })
    }

    /// The larger of the distances from the estimate to the interval's ends, on the log scale: for small values the
    /// relative half-width of the ratio.
    #[must_use]
    pub fn half_width(&self, confidence: f64) -> f64 {
        let (below, above) = self.distances(confidence);
        below.max(above)
    }

    /// How far below and above the estimate the interval reaches, on the log scale.
    #[must_use]
    pub fn distances(&self, confidence: f64) -> (f64, f64) {
        self.reach(self.base.half_width(confidence), confidence)
    }

    /// The ratio with its interval: 1.0 is no difference.
    #[must_use]
    pub fn interval(&self, confidence: f64) -> Interval {
        let (mean, (below, above)) = (self.mean(), self.distances(confidence));
        Interval {
            value: mean.exp(),
            low: (mean - below).exp(),
            high: (mean + above).exp(),
            confidence,
        }
    }

    /// The distances with this one of the part without stalls.
    fn reach(&self, base: f64, confidence: f64) -> (f64, f64) {
        let tail = (1.0 - confidence) / 2.0;
        let event = self.adds.event_of_either(&self.takes);
        let correlation = self.adds.correlation(&self.takes, self.covariance);
        let join = |falls: f64, grows: f64| {
            let together = 2.0 * correlation * falls * grows;
            (base.powi(2) + falls.powi(2) + grows.powi(2) - together)
                .max(0.0)
                .sqrt()
        };
        let below = join(self.adds.below(tail), self.takes.above(tail, event));
        let above = join(self.takes.below(tail), self.adds.above(tail, event));
        (below, above)
    }
}

impl From<LogMean> for Throughput {
    /// A ratio of which no stalls are known.
    fn from(base: LogMean) -> Self {
        Self {
            base,
            adds: Excess::default(),
            takes: Excess::default(),
            covariance: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Boots of one vCPU, native and control taking 100 ticks and the guest these.
    fn boots(guest: &[&[f64]]) -> Vec<BootValue> {
        let boot = |times: &&[f64]| BootValue {
            times: times.iter().map(|&guest| [100.0, guest, 100.0]).collect(),
            vcpus: 1,
            log_typical: 0.0,
        };
        guest.iter().map(boot).collect()
    }

    fn against_native(boots: &[BootValue]) -> Throughput {
        let split = |sides| Times::new(boots, sides).split().unwrap();
        Throughput::new(&split(NATIVE), &split(GUEST), boots.len()).unwrap()
    }

    #[test]
    fn the_ratio_is_the_quotient_of_the_means_stalls_included() {
        let ratio = against_native(&boots(&[
            &[100.0, 101.0, 99.0],
            &[100.0, 99.0, 500.0],
            &[101.0, 100.0, 100.0],
        ]));
        assert!((ratio.mean().exp() - 100.0 / (1300.0 / 9.0)).abs() < 1e-12);
        assert!((ratio.base().mean.exp() - 1.0).abs() < 1e-12);
        let (value, low, high) = ratio.stalls(0.95);
        assert!((value.exp() - 13.0 / 9.0).abs() < 1e-12);
        // A single stall is no proof that the guest has more of them: native may have had none by chance.
        assert!(low < 0.0 && value < high);
    }

    #[test]
    fn without_stalls_it_is_the_t_interval() {
        let ratio = against_native(&boots(&[&[100.0, 102.0], &[104.0, 98.0], &[101.0, 95.0]]));
        let (below, above) = ratio.distances(0.95);
        assert_eq!(below, above);
        assert_eq!(below, ratio.base().half_width(0.95));
        assert!(below > 0.0);
    }

    #[test]
    fn the_inverse_has_the_inverse_interval() {
        let ratio = against_native(&boots(&[&[100.0, 101.0], &[102.0, 900.0], &[99.0, 100.0]]));
        let (there, back) = (ratio.interval(0.95), ratio.inverse().interval(0.95));
        assert!((there.low * back.high - 1.0).abs() < 1e-12);
        assert!((there.high * back.low - 1.0).abs() < 1e-12);
        assert!((there.value * back.value - 1.0).abs() < 1e-12);
    }

    #[test]
    fn many_cells_of_one_host_know_more_of_its_stalls_than_one() {
        let one = against_native(&boots(&[
            &[100.0, 101.0, 99.0],
            &[100.0, 99.0, 200.0],
            &[101.0, 100.0, 100.0],
        ]));
        let sixteen = Throughput::combined(&[one; 16]).unwrap();
        assert!((sixteen.mean() - one.mean()).abs() < 1e-12);
        assert!(sixteen.half_width(0.95) < one.half_width(0.95) / 3.0);
        assert_eq!(Throughput::combined(&[]), None);
    }

    /// A stall of one vCPU costs that vCPU's share of the work, however often it is stalled.
    #[test]
    fn several_vcpus_count_as_the_sum_of_their_work_per_time() {
        let round = |one: f64| [[100.0, one, 100.0], [100.0, 100.0, 100.0]];
        let boot = |one: f64| BootValue {
            times: [round(one), round(one)].concat(),
            vcpus: 2,
            log_typical: 0.0,
        };
        let always = against_native(&[boot(300.0), boot(300.0)]);
        assert!((always.mean().exp() - 2.0 / 3.0).abs() < 1e-12);
        // On average 200: 1/200 + 1/100 of 2/100.
        let at_times = against_native(&[boot(300.0), boot(100.0)]);
        assert!((at_times.mean().exp() - 0.75).abs() < 1e-12);
    }

    #[test]
    fn no_boots_are_no_ratio() {
        assert_eq!(Times::new(&[], GUEST).split(), None);
        let one = boots(&[&[100.0]]);
        let split = Times::new(&one, GUEST).split().unwrap();
        assert_eq!(Throughput::new(&split, &split, 1), None);
    }
}
