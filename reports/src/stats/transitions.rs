//! Whether taking turns has a price of its own: does a block that follows one of the other side take longer than one that
//! follows its own?
//!
//! A block after a switch of sides finds caches and TLBs as the other side left them. The run-in before each block is there
//! to make that good; here it is checked, in every run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mean::{LogMean, combine};
use super::{median, student_t};
use crate::record::{Marks, Sample, Side};
use crate::result::Interval;

/// Blocks that take longer than the median of their boot and side by more than this share are stalls, and say nothing of caches.
const STALL: f64 = 0.1;

/// By how much longer a block takes after a block of the other side than after one of its own, as a share of it, for each side;
/// `None` with too few blocks of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CarryOver {
    /// Blocks on the host.
    pub native: Option<Interval>,
    /// Blocks in the guest.
    pub guest: Option<Interval>,
}

/// Both sides of one cell, before they are set beside a confidence.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Switches {
    native: Option<LogMean>,
    guest: Option<LogMean>,
}

impl Switches {
    /// From the blocks of a cell's boots.
    pub fn new<'a>(boots: impl Iterator<Item = &'a [Sample]>) -> Self {
        let mut sides = [Vec::new(), Vec::new()];
        for boot in boots {
            for (side, guest) in sides.iter_mut().zip([false, true]) {
                side.push(Kinds::new(boot, guest));
            }
        }
        let [native, guest] = sides.map(|boots| difference(&boots));
        Self { native, guest }
    }

    /// The mean over several cells, each counting alike.
    pub fn combined(cells: &[Self]) -> Self {
        let of = |side: fn(&Self) -> Option<LogMean>| {
            combine(&cells.iter().filter_map(side).collect::<Vec<_>>())
        };
        Self {
            native: of(|cell| cell.native),
            guest: of(|cell| cell.guest),
        }
    }

    /// With intervals.
    pub fn interval(&self, confidence: f64) -> CarryOver {
        let of = |mean: LogMean| {
            let reach = student_t(mean.degrees_of_freedom, confidence) * mean.standard_error;
            Interval {
                value: mean.mean,
                low: mean.mean - reach,
                high: mean.mean + reach,
                confidence,
            }
        };
        CarryOver {
            native: self.native.map(of),
            guest: self.guest.map(of),
        }
    }
}

impl CarryOver {
    /// Whether a side's blocks take longer, or shorter, after a switch, beyond chance.
    #[must_use]
    pub fn shows(&self) -> bool {
        [self.native, self.guest]
            .into_iter()
            .flatten()
            .any(|it| it.low > 0.0 || it.high < 0.0)
    }
}

/// One side's blocks in one boot, each as a share of their median less 1: after their own side, and after the other.
#[derive(Clone, Debug, Default, PartialEq)]
struct Kinds([Vec<f64>; 2]);

impl Kinds {
    fn new(boot: &[Sample], guest: bool) -> Self {
        let is_guest = |sample: &Sample| sample.side == Side::Guest;
        // Several vCPUs take their turns together: one of them tells of all.
        let mut blocks: Vec<&Sample> = boot.iter().filter(|block| block.vcpu == 0).collect();
        blocks.sort_by_key(|block| block.at_nanos);
        let counts = |block: &Sample| {
            let marks = block.marks;
            !marks.is_void() && !marks.intersects(Marks::WARMUP) && block.cost().is_finite()
        };
        let own = |block: &&&Sample| is_guest(block) == guest && counts(block);
        let mut times: Vec<f64> = blocks
            .iter()
            .filter(own)
            .map(|block| block.cost())
            .collect();
        let mut kinds = Self::default();
        let Some(middle) = median(&mut times) else {
            return kinds;
        };
        for pair in blocks.windows(2) {
            let off = pair[1].cost() / middle - 1.0;
            if own(&&pair[1]) && off.abs() <= STALL {
                kinds.0[usize::from(is_guest(pair[0]) != guest)].push(off);
            }
        }
        kinds
    }
}

/// The mean of the second kind less that of the first, within boots, since boots differ: each boot's own difference, weighed
/// by how many blocks it stands on. The boot is the unit, and its error that of a quotient of sums.
fn difference(boots: &[Kinds]) -> Option<LogMean> {
    let of_boot = |Kinds([own, other]): &Kinds| {
        let (one, two) = (own.len() as f64, other.len() as f64);
        let mean = |offs: &[f64]| offs.iter().sum::<f64>() / offs.len() as f64;
        (one * two > 0.0).then(|| (one * two / (one + two), mean(other) - mean(own)))
    };
    let parts: Vec<(f64, f64)> = boots.iter().filter_map(of_boot).collect();
    if parts.len() < 2 {
        return None;
    }
    let count = parts.len() as f64;
    let weight: f64 = parts.iter().map(|(weight, _)| weight).sum();
    let mean = parts.iter().map(|(weight, off)| weight * off).sum::<f64>() / weight;
    let squares: f64 = parts
        .iter()
        .map(|(part, off)| (part / weight * (off - mean)).powi(2))
        .sum();
    Some(LogMean {
        mean,
        standard_error: (squares * count / (count - 1.0)).sqrt(),
        degrees_of_freedom: count - 1.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt as _, SeedableRng as _};

    /// Boots of blocks in random order; one that follows the other side takes `native` or `guest` longer.
    fn boots(native: f64, guest: f64) -> Vec<Vec<Sample>> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        (0..40)
            .map(|boot| {
                let mut last = Side::Native;
                (0..27)
                    .map(|block| {
                        let in_guest: bool = rng.random_bool(0.33);
                        let side = if in_guest { Side::Guest } else { Side::Native };
                        let after_other = f64::from(u8::from(side != last));
                        last = side;
                        let slower = after_other * if in_guest { guest } else { native };
                        let noise: f64 = rng.random_range(-0.005..0.005);
                        // Positive, and far below 2^53.
                        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                        let ticks = (1e9 * (1.0 + slower + noise)) as u64;
                        Sample {
                            cell: 0,
                            boot,
                            round: block / 3,
                            position: 0,
                            side,
                            vcpu: 0,
                            cpu: 0,
                            iterations: 1_000,
                            ticks,
                            outer_nanos: 0,
                            run_in_ticks: 0,
                            latency_ticks: 0,
                            marks: Marks::CLEAN,
                            at_nanos: u64::from(block),
                        }
                    })
                    .collect()
            })
            .collect()
    }

    fn found(native: f64, guest: f64) -> CarryOver {
        let boots = boots(native, guest);
        Switches::new(boots.iter().map(Vec::as_slice)).interval(0.99)
    }

    #[test]
    fn what_a_switch_costs_each_side_is_found() {
        let found = found(0.004, 0.012);
        let (native, guest) = (found.native.unwrap(), found.guest.unwrap());
        assert!((native.low..=native.high).contains(&0.004), "{native:?}");
        assert!((guest.low..=guest.high).contains(&0.012), "{guest:?}");
        assert!(native.low > 0.0 && guest.low > 0.0 && found.shows());
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        assert!(!found(0.0, 0.0).shows());
    }

    #[test]
    fn too_few_blocks_say_nothing() {
        assert_eq!(Switches::new([].into_iter()), Switches::default());
    }
}
