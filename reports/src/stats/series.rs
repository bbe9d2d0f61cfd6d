//! The boots of one cell, and what they say together.

use super::boot::BootValue;
use super::mean::LogMean;
use super::stalls::{Lengths, Stalls};
use super::stein;
use super::throughput::{GUEST, NATIVE, Split, Throughput, Times};
use crate::record::Side;

/// So many stalls in a pilot, of both sides together, tell how many boots they ask for: their count is then known to a
/// quarter or so. `reports/STATISTICS.md` has the simulated coverage.
const STALLS_THAT_SIZE: usize = 20;

/// The boots of one cell that count, in the order in which they were measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// The boots.
    pub boots: Vec<BootValue>,
    /// How many of them, from the first, belong to the pilot.
    pilot: usize,
}

impl Series {
    /// All boots at once, `None` where no round counts, of which the first `pilot_boots` are the pilot.
    #[must_use]
    pub fn new(boots: impl IntoIterator<Item = Option<BootValue>>, pilot_boots: u32) -> Self {
        let mut series = Self::default();
        for (number, boot) in (0..).zip(boots) {
            series.boots.extend(boot);
            if number < pilot_boots {
                series.pilot = series.boots.len();
            }
        }
        series
    }

    /// How many of [`Self::boots`], from the first, belong to the pilot.
    #[must_use]
    pub fn pilot(&self) -> usize {
        self.pilot
    }

    /// Rounds of all boots.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.boots.iter().map(BootValue::rounds).sum()
    }

    /// How many boots must count in the end, so that the ratio's interval gets the wanted `half_width` (log scale).
    ///
    /// Stein's rule over the pilot's boots, stalls apart: a pilot that happens to see few of them would end the run early, on
    /// the very sample in which they are too few. Only where the pilot saw so many that chance is small beside them do they
    /// size the run too. How many blocks stalls are looked for in at least is settled beforehand, by the pilot's boots and
    /// rounds. The answer is the same during the whole run.
    #[must_use]
    pub fn size(&self, half_width: f64, confidence: f64) -> u32 {
        let boots = &self.boots[..self.pilot];
        let Some((native, guest)) = splits(boots, NATIVE, GUEST) else {
            return stein::sample_size(&[], half_width, confidence);
        };
        let base = stein::sample_size(&residuals(&native, &guest), half_width, confidence);
        let stalls = native.stalls.len() + guest.stalls.len();
        match Throughput::new(&native, &guest, boots.len()) {
            Some(ratio) if stalls >= STALLS_THAT_SIZE => {
                let wider = ratio.half_width(confidence) / half_width;
                base.max(stein::saturating_ceil(boots.len() as f64 * wider.powi(2)))
            }
            _ => base,
        }
    }

    /// Guest performance as a share of native, by work per time; `None` with fewer than two boots.
    #[must_use]
    pub fn ratio(&self) -> Option<Throughput> {
        let (native, guest) = splits(&self.boots, NATIVE, GUEST)?;
        Throughput::new(&native, &guest, self.pilot)
    }

    /// The same of the typical block: what the guest keeps where nothing stalls.
    #[must_use]
    pub fn typical(&self) -> Option<LogMean> {
        let values: Vec<f64> = self.boots.iter().map(|boot| boot.log_typical).collect();
        stein::estimate(&values, self.pilot)
    }

    /// Native against native (A/A), by work per time.
    ///
    /// The control's variance did not size the run, so all boots may tell it: the ordinary t interval.
    #[must_use]
    pub fn control(&self) -> Option<Throughput> {
        let (native, control) = splits(&self.boots, &[Side::Native], &[Side::Control])?;
        Throughput::new(&native, &control, self.boots.len())
    }

    /// Time per unit of work in the guest, in ticks; all boots tell its variance.
    #[must_use]
    pub fn guest_time(&self) -> Option<Throughput> {
        Throughput::time(&Times::new(&self.boots, GUEST).split()?)
    }

    /// How the guest stumbles, where `nanos_per_time` of a guest's block are its units of work times nanoseconds per tick;
    /// `None` with fewer than two boots.
    #[must_use]
    pub fn stalls(&self, nanos_per_time: f64, confidence: f64) -> Option<Stalls> {
        let (native, guest) = splits(&self.boots, NATIVE, GUEST)?;
        let ratio = Throughput::new(&native, &guest, self.pilot)?;
        let high = ratio.mean() + ratio.distances(confidence).1;
        Some(Stalls::new(
            &native,
            &guest,
            ratio.stalls(confidence),
            (ratio.mean(), high),
            Lengths { nanos_per_time },
        ))
    }

    /// The correlation of each boot's ratio with that of the boot before, where it is too large for chance (one series in
    /// two hundred, Bartlett 1946, "On the theoretical specification and sampling properties of autocorrelated
    /// time-series"): boots are not independent then, and the interval is too narrow.
    #[must_use]
    pub fn serial_correlation(&self) -> Option<f64> {
        const ONE_IN_TWO_HUNDRED: f64 = 2.576;
        if self.boots.len() < 2 {
            return None;
        }
        let (native, guest) = splits(&self.boots, NATIVE, GUEST)?;
        let deviations = residuals(&native, &guest);
        let products: f64 = deviations.windows(2).map(|pair| pair[0] * pair[1]).sum();
        let squares: f64 = deviations.iter().map(|deviation| deviation.powi(2)).sum();
        let correlation = products / squares;
        (correlation * (deviations.len() as f64).sqrt() > ONE_IN_TWO_HUNDRED).then_some(correlation)
    }
}

fn splits(boots: &[BootValue], reference: &[Side], measured: &[Side]) -> Option<(Split, Split)> {
    let split = |sides| Times::new(boots, sides).split();
    split(reference).zip(split(measured))
}

fn residuals(reference: &Split, measured: &Split) -> Vec<f64> {
    let both = reference.residuals.iter().zip(&measured.residuals);
    both.map(|(reference, measured)| reference - measured)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A boot of three rounds whose guest takes so many ticks.
    fn boot(guest: f64) -> Option<BootValue> {
        Some(BootValue {
            times: vec![[100.0, guest, 100.0]; 3],
            vcpus: 1,
            log_typical: (100.0 / guest).ln(),
        })
    }

    #[test]
    fn boots_without_a_round_that_counts_are_dropped_from_the_pilot_too() {
        let mut boots = vec![boot(100.0); 12];
        boots[3] = None;
        boots[11] = None;
        let series = Series::new(boots, 10);
        assert_eq!((series.boots.len(), series.pilot()), (10, 9));
        assert_eq!(series.rounds(), 30);
    }

    #[test]
    fn the_size_stays_the_pilot_s_while_boots_arrive() {
        let pilot = || (0..10).map(|number| boot(100.0 + f64::from(number % 3)));
        let size = Series::new(pilot(), 10).size(0.001, 0.95);
        assert!(size > 10);
        let more = pilot().chain([boot(900.0), boot(1.0)]);
        assert_eq!(Series::new(more, 10).size(0.001, 0.95), size);
    }

    #[test]
    fn a_stall_in_the_pilot_does_not_size_the_run() {
        let pilot = |stall: f64| {
            (0..10).map(move |number| {
                let mut boot = boot(100.0 + 0.1 * f64::from(number % 3));
                if let (4, Some(boot)) = (number, &mut boot) {
                    boot.times[1][1] = stall;
                }
                boot
            })
        };
        let quiet = Series::new(pilot(100.1), 10).size(0.0005, 0.95);
        let stalled = Series::new(pilot(500.0), 10).size(0.0005, 0.95);
        // One block fewer is left to tell the noise.
        assert!(stalled.abs_diff(quiet) <= 1, "{stalled}, {quiet}");
    }

    #[test]
    fn boots_that_follow_each_other_are_told_from_those_that_do_not() {
        let slow = (0..40).map(|number| boot(100.0 + f64::from(number / 10)));
        assert!(Series::new(slow, 10).serial_correlation().unwrap() > 0.8);
        let fast = (0..40).map(|number| boot(100.0 + f64::from(number % 3)));
        assert_eq!(Series::new(fast, 10).serial_correlation(), None);
    }
}
