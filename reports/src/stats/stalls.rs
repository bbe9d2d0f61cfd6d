//! How a guest stumbles: how often its blocks stall, for how long, and what could not be seen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::throughput::Split;

/// Stalls of one cell's blocks on both sides.
///
/// A stall is a block far longer than its side's others (`stats/throughput.rs` says from when on).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stalls {
    /// Whether they cost the guest more than native, beyond chance: the lower end of `cost` is above 0.
    pub stumbles: bool,
    /// Blocks in the guest that stalled.
    pub guest: u64,
    /// Blocks in the guest.
    pub guest_blocks: u64,
    /// Blocks on the host that stalled, control included.
    pub native: u64,
    /// Blocks on the host, control included.
    pub native_blocks: u64,
    /// What stalls cost the guest more than native, as a share of its throughput: 0.05 is a twentieth of the work.
    pub cost: f64,
    /// Lower end of its interval.
    pub cost_low: f64,
    /// Upper end of its interval.
    pub cost_high: f64,
    /// What part of the loss against native that is; `None` where the guest loses nothing that stands out.
    pub share_of_loss: Option<f64>,
    /// By how much the guest's stalls exceed a block without one, in nanoseconds: their median, ninth decile and longest;
    /// `None` where there are none.
    pub excess_nanos: Option<[f64; 3]>,
    /// Time from one of the guest's stalls to the next, in nanoseconds of its work: on average; `None` where there are none.
    pub every_nanos: Option<f64>,
    /// Stalls that come more often than once in so many nanoseconds of the guest's work would have been seen, whatever
    /// their length; rarer ones may have been missed.
    pub excluded_nanos: f64,
}

/// What is known of the length of a guest's blocks.
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    /// Nanoseconds that one unit of [`Split::mean`]'s time takes in a block: iterations times nanoseconds per tick.
    pub nanos_per_time: f64,
}

/// How surely a stall that comes as often as [`Stalls::excluded_nanos`] would have been seen: as surely as a truth below a
/// 95 % interval is excluded.
pub const EXCLUDED_WITH: f64 = 0.975;

/// For how many nanoseconds between two stalls `nanos` of work would have shown one, with [`EXCLUDED_WITH`].
///
/// Of independent events at a rate r, none comes in a time T with probability e^(−rT): the rule of three (Hanley and
/// Lippman-Hand 1983, "If nothing goes wrong, is everything all right?", JAMA 249).
#[must_use]
pub fn excluded_nanos(nanos: f64) -> f64 {
    nanos / -(1.0 - EXCLUDED_WITH).ln()
}

impl Stalls {
    /// From both sides' blocks. `(cost, low, high)` is what stalls take from the ratio, on the log scale, and
    /// `log_ratio` the ratio's estimate and the upper end of its interval.
    #[must_use]
    pub fn new(
        native: &Split,
        guest: &Split,
        (cost, low, high): (f64, f64, f64),
        (log_ratio, log_high): (f64, f64),
        Lengths { nanos_per_time }: Lengths,
    ) -> Self {
        let block_nanos = guest.mean * nanos_per_time;
        let stalled: f64 = guest.stalls.iter().sum();
        let work_nanos = block_nanos * (guest.blocks as f64 + stalled);
        let share = |log: f64| -(-log).exp_m1();
        let quantile = |permille: usize| {
            let place = (guest.stalls.len() * permille).div_ceil(1000);
            guest.stalls.get(place.saturating_sub(1)).copied()
        };
        let excess_nanos = quantile(500)
            .zip(quantile(900))
            .zip(guest.stalls.last())
            .map(|((half, most), longest)| [half, most, *longest].map(|it| it * block_nanos));
        Self {
            stumbles: low > 0.0,
            guest: guest.stalls.len() as u64,
            guest_blocks: guest.blocks as u64,
            native: native.stalls.len() as u64,
            native_blocks: native.blocks as u64,
            cost: share(cost),
            cost_low: share(low),
            cost_high: share(high),
            share_of_loss: (log_high < 0.0).then(|| (cost / -log_ratio).clamp(0.0, 1.0)),
            excess_nanos,
            every_nanos: (!guest.stalls.is_empty()).then(|| work_nanos / guest.stalls.len() as f64),
            excluded_nanos: excluded_nanos(work_nanos),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::excess::Excess;

    fn split(stalls: Vec<f64>) -> Split {
        Split {
            mean: 2.0,
            residuals: Vec::new(),
            excess: Excess::default(),
            by_boot: Vec::new(),
            stalls,
            blocks: 100,
        }
    }

    #[test]
    fn what_the_guest_loses_in_stalls_is_counted_in_time() {
        // Blocks of 2 ticks a unit, 5 ms each: 4 stalls of 0.5, 0.5, 1 and 8 blocks more.
        let (native, guest) = (split(Vec::new()), split(vec![0.5, 0.5, 1.0, 8.0]));
        let lengths = Lengths {
            nanos_per_time: 2.5e6,
        };
        let cost = 1.1_f64.ln();
        let found = Stalls::new(
            &native,
            &guest,
            (cost, 0.5 * cost, 2.0 * cost),
            (-2.0 * cost, -cost),
            lengths,
        );
        assert!(found.stumbles);
        assert_eq!((found.guest, found.guest_blocks), (4, 100));
        assert!((found.cost - 1.0 / 11.0).abs() < 1e-12, "{}", found.cost);
        assert_eq!(found.share_of_loss, Some(0.5));
        assert_eq!(found.excess_nanos, Some([2.5e6, 40e6, 40e6]));
        assert!((found.every_nanos.unwrap() - 110.0 * 5e6 / 4.0).abs() < 1.0);
        // Once in 550 ms of work: e^(−3.6889) = 2.5 %.
        assert!((found.excluded_nanos - 550e6 / 3.6889).abs() < 1e4);
    }

    #[test]
    fn no_stalls_are_none_and_still_have_a_limit() {
        let none = split(Vec::new());
        let lengths = Lengths {
            nanos_per_time: 1.0,
        };
        let found = Stalls::new(&none, &none, (0.0, -0.1, 0.1), (0.0, 0.01), lengths);
        assert!(!found.stumbles);
        assert_eq!((found.excess_nanos, found.every_nanos), (None, None));
        assert_eq!(found.share_of_loss, None);
        assert!((found.excluded_nanos - 200.0 / 3.6889).abs() < 0.01);
    }
}
