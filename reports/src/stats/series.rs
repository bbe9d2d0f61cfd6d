//! The boots of one cell: which of them count, and what they say together.

use super::{boot::BootValue, mean::LogMean, stein};

/// The boots of one cell, in the order in which they were measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The boots that count.
    pub boots: Vec<BootValue>,
    /// How many of [`Self::boots`] belong to the pilot.
    pilot: usize,
    /// The same of every boot with a round that is not void.
    all: (Vec<f64>, usize),
    /// Whether boots without a clean round are left out.
    leaves_out: bool,
}

impl Series {
    /// Begins with the boots of the pilot, `None` where no round counts.
    ///
    /// Boots without a clean round are left out where at least half of the pilot's boots have one: a rare boot under
    /// a neighbour's load says little of the guest, and so rarely enters a pilot that the variance misses it.
    /// The marks decide, not the values: the interval stays honest.
    #[must_use]
    pub fn from_pilot(pilot: &[Option<BootValue>]) -> Self {
        let clean = pilot.iter().flatten().filter(|boot| !boot.disturbed);
        let mut series = Self {
            boots: Vec::new(),
            pilot: 0,
            all: (Vec::new(), 0),
            leaves_out: 2 * clean.count() >= pilot.len(),
        };
        series.extend(pilot.iter().copied());
        series.pilot = series.boots.len();
        series.all.1 = series.all.0.len();
        series
    }

    /// All boots at once, of which the first `pilot_boots` are the pilot.
    ///
    /// Where the pilot fell into a busy time, but in the end as many boots as a pilot has are clean, those alone count:
    /// a load that comes and goes leaves the quiet times as they are. Their variance did not size the run, so all of
    /// them may tell it.
    #[must_use]
    pub fn new(boots: &[Option<BootValue>], pilot_boots: u32) -> Self {
        let pilot = usize::try_from(pilot_boots).unwrap_or(usize::MAX);
        let (first, rest) = boots.split_at(boots.len().min(pilot));
        let mut series = Self::from_pilot(first);
        series.extend(rest.iter().copied());
        let is_clean = |boot: &&BootValue| !boot.disturbed;
        if !series.leaves_out && series.boots.iter().filter(is_clean).count() >= pilot.max(2) {
            series.boots.retain(|boot| !boot.disturbed);
            series.pilot = series.boots.len();
            series.leaves_out = true;
        }
        series
    }

    /// Whether boots without a clean round are left out.
    #[must_use]
    pub fn leaves_out_disturbed(&self) -> bool {
        self.leaves_out
    }

    /// Whether this boot is among [`Self::boots`] (or would be, were it added).
    #[must_use]
    pub fn takes(&self, boot: &BootValue) -> bool {
        !(self.leaves_out && boot.disturbed)
    }

    /// How many of [`Self::boots`], from the first, belong to the pilot.
    #[must_use]
    pub fn pilot(&self) -> usize {
        self.pilot
    }

    /// Adds a boot after the pilot, `None` where no round counts. [`Self::boots`] grows if it counts.
    pub fn push(&mut self, boot: Option<BootValue>) {
        let Some(boot) = boot else { return };
        self.all.0.push(boot.log_ratio_all);
        if self.takes(&boot) {
            self.boots.push(boot);
        }
    }

    /// How many boots must count in the end, so that the ratio's interval gets the wanted `half_width` (log scale).
    ///
    /// Stein's rule over the pilot's boots: the answer is the same during the whole run.
    #[must_use]
    pub fn size(&self, half_width: f64, confidence: f64) -> u32 {
        let pilot: Vec<f64> = self.boots[..self.pilot]
            .iter()
            .map(|boot| boot.log_ratio)
            .collect();
        stein::sample_size(&pilot, half_width, confidence)
    }

    /// Guest performance as a share of native; `None` with fewer than two boots that count.
    #[must_use]
    pub fn ratio(&self) -> Option<LogMean> {
        let values: Vec<f64> = self.boots.iter().map(|boot| boot.log_ratio).collect();
        stein::estimate(&values, self.pilot)
    }

    /// [`Self::ratio`] with nothing left out for spoiling, neither rounds nor boots.
    #[must_use]
    pub fn ratio_all(&self) -> Option<LogMean> {
        stein::estimate(&self.all.0, self.all.1)
    }

    /// Native against native (A/A).
    ///
    /// The control's variance did not size the run, so all boots may tell it: the ordinary t interval.
    #[must_use]
    pub fn control(&self) -> Option<LogMean> {
        let values: Vec<f64> = self.boots.iter().map(|boot| boot.log_control).collect();
        stein::estimate(&values, values.len())
    }

    /// The correlation of each boot's ratio with that of the boot before, where it is too large for chance (one series in
    /// two hundred, Bartlett 1946, "On the theoretical specification and sampling properties of autocorrelated
    /// time-series"): boots are not independent then, and the interval is too narrow.
    #[must_use]
    pub fn serial_correlation(&self) -> Option<f64> {
        const ONE_IN_TWO_HUNDRED: f64 = 2.576;
        let mean = self.ratio()?.mean;
        let deviations: Vec<f64> = self
            .boots
            .iter()
            .map(|boot| boot.log_ratio - mean)
            .collect();
        let products: f64 = deviations.windows(2).map(|pair| pair[0] * pair[1]).sum();
        let squares: f64 = deviations.iter().map(|deviation| deviation.powi(2)).sum();
        let correlation = products / squares;
        (correlation * (deviations.len() as f64).sqrt() > ONE_IN_TWO_HUNDRED).then_some(correlation)
    }
}

impl Extend<Option<BootValue>> for Series {
    fn extend<I: IntoIterator<Item = Option<BootValue>>>(&mut self, boots: I) {
        for boot in boots {
            self.push(boot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(log_ratio: f64, disturbed: bool) -> Option<BootValue> {
        Some(BootValue {
            log_ratio,
            log_ratio_all: log_ratio,
            log_control: 0.0,
            log_native_ticks: 0.0,
            log_guest_ticks: 0.0,
            rounds: 3,
            disturbed,
        })
    }

    #[test]
    fn rare_disturbed_boots_are_left_out_before_and_after_the_pilot() {
        let mut boots = vec![boot(0.0, false); 12];
        boots[3] = boot(1.0, true);
        boots[11] = boot(1.0, true);
        boots[5] = None;
        let series = Series::new(&boots, 10);
        assert_eq!((series.boots.len(), series.pilot), (9, 8));
        assert_eq!((series.all.0.len(), series.all.1), (11, 9));
        assert_eq!(series.ratio().unwrap().mean, 0.0);
    }

    #[test]
    fn on_a_busy_host_every_boot_counts() {
        let boots: Vec<_> = (0..10).map(|number| boot(0.0, number >= 4)).collect();
        let series = Series::new(&boots, 10);
        assert!(!series.leaves_out_disturbed());
        assert_eq!(series.boots.len(), 10);
    }

    #[test]
    fn quiet_times_after_a_busy_pilot_count_alone() {
        let boots: Vec<_> = (0..30)
            .map(|number| match number {
                0..8 | 20..24 => boot(1.0, true),
                _ => boot(0.0, false),
            })
            .collect();
        let series = Series::new(&boots, 10);
        assert!(series.leaves_out_disturbed());
        assert_eq!((series.boots.len(), series.pilot), (18, 18));
        assert_eq!(series.ratio().unwrap().mean, 0.0);
        // Too few of them are no replacement for the pilot.
        assert_eq!(Series::new(&boots[..15], 10).boots.len(), 15);
    }

    #[test]
    fn the_size_stays_the_pilot_s_while_boots_arrive() {
        let pilot: Vec<_> = (0..10)
            .map(|number| boot(f64::from(number % 3), false))
            .collect();
        let mut series = Series::from_pilot(&pilot);
        let size = series.size(0.3, 0.95);
        assert!(size > 10);
        series.extend([boot(100.0, false), boot(-100.0, false)]);
        assert_eq!(series.size(0.3, 0.95), size);
    }

    #[test]
    fn boots_that_follow_each_other_are_told_from_those_that_do_not() {
        let slow: Vec<_> = (0..40)
            .map(|number| boot(f64::from(number / 10), false))
            .collect();
        assert!(Series::new(&slow, 10).serial_correlation().unwrap() > 0.8);
        let fast: Vec<_> = (0..40)
            .map(|number| boot(f64::from(number % 3), false))
            .collect();
        assert_eq!(Series::new(&fast, 10).serial_correlation(), None);
    }
}
