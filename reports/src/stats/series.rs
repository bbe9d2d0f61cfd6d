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
    /// The marks decide, not the values, and the pilot alone decides whether they do: the interval stays honest.
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
    #[must_use]
    pub fn new(boots: &[Option<BootValue>], pilot_boots: u32) -> Self {
        let pilot = usize::try_from(pilot_boots).unwrap_or(usize::MAX);
        let (pilot, rest) = boots.split_at(boots.len().min(pilot));
        let mut series = Self::from_pilot(pilot);
        series.extend(rest.iter().copied());
        series
    }

    /// Whether boots without a clean round are left out.
    #[must_use]
    pub fn leaves_out_disturbed(&self) -> bool {
        self.leaves_out
    }

    /// Adds a boot after the pilot, `None` where no round counts. [`Self::boots`] grows if it counts.
    pub fn push(&mut self, boot: Option<BootValue>) {
        let Some(boot) = boot else { return };
        self.all.0.push(boot.log_ratio_all);
        if !(self.leaves_out && boot.disturbed) {
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
}

impl Extend<Option<BootValue>> for Series {
    fn extend<I: IntoIterator<Item = Option<BootValue>>>(&mut self, boots: I) {
        for boot in boots {
            self.push(boot);
        }
    }
}
