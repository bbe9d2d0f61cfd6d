//! One guest against another: the quotient of what both were measured at.
//!
//! The two cells were measured apart, boots in turn, so their means are independent: the error of the quotient is that of
//! both. Boots are the unit, and all of them tell the variance: nothing that was measured sized a comparison. Times are
//! means over all blocks, stalls included.

use std::collections::BTreeMap;

use vtax_scenarios::plan::{Cell, What};

use crate::counters::Counter;
use crate::ledger::BootAccount;
use crate::record::Side;
use crate::result::Interval;
use crate::stats::quantiles::{self, QuantileMean};
use crate::stats::series::Series;
use crate::stats::stein;
use crate::stats::throughput::Throughput;
use crate::store::LatencyLog;

/// What is known of a cell.
#[derive(Clone, Copy)]
pub(crate) struct Measured<'a> {
    pub cell: &'a Cell,
    pub series: &'a Series,
    pub accounts: &'a [BootAccount],
    pub latencies: &'a LatencyLog,
}

/// A quotient on the log scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Quotient {
    pub mean: Throughput,
    /// How much lower it could be for what histograms round away.
    pub below: f64,
    /// How much higher.
    pub above: f64,
}

impl Quotient {
    /// What `of` has over what `against` has.
    ///
    /// # Errors
    /// Where one of them has fewer than two boots that tell, its cell and why they do not.
    pub fn new<'a>(
        of: &Measured<'a>,
        against: &Measured<'a>,
        what: What,
    ) -> Result<Self, (&'a Cell, Lack)> {
        let exact = |mean| Self {
            mean,
            below: 0.0,
            above: 0.0,
        };
        if let Some(quantile) = what.quantile() {
            let of = latency(of, what, quantile)?;
            let against = latency(against, what, quantile)?;
            let mean = of.middle.minus(against.middle);
            return Ok(Self {
                mean: mean.into(),
                below: mean.mean - (of.low - against.high),
                above: (of.high - against.low) - mean.mean,
            });
        }
        Ok(exact(match what {
            What::Rate => time(against)?.minus(time(of)?),
            What::CpuTime => cpu_time(of)?.minus(cpu_time(against)?),
            _ => time(of)?.minus(time(against)?),
        }))
    }

    /// The geometric mean of several, a fixed set; `None` of none.
    pub fn combined(parts: &[Self]) -> Option<Self> {
        let means: Vec<Throughput> = parts.iter().map(|part| part.mean).collect();
        let mean_of =
            |end: fn(&Self) -> f64| parts.iter().map(end).sum::<f64>() / parts.len() as f64;
        Some(Self {
            mean: Throughput::combined(&means)?,
            below: mean_of(|part| part.below),
            above: mean_of(|part| part.above),
        })
    }

    /// With its interval: 1 is no difference.
    pub fn interval(&self, confidence: f64) -> Interval {
        let (mean, (below, above)) = (self.mean.mean(), self.mean.distances(confidence));
        Interval {
            value: mean.exp(),
            low: (mean - self.below - below).exp(),
            high: (mean + self.above + above).exp(),
            confidence,
        }
    }
}

/// Why a cell has no figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Lack {
    /// Fewer than two boots count.
    Boots,
    /// Fewer than two boots have operations enough for this quantile; the one with most has so many.
    Operations { quantile: What, most: u64 },
    /// CPU time was not counted in all boots.
    CpuTime,
}

impl Lack {
    /// Of `cell`, in words without a full stop. `unavailable` says which counters the host has not, and why.
    pub fn words(&self, cell: &Cell, unavailable: &BTreeMap<Counter, String>) -> String {
        let label = &cell.label;
        match self {
            Self::Boots => format!("{label} has fewer than two boots that count"),
            Self::Operations { quantile, most } => format!(
                "{label} has fewer than two boots of {} operations or more, which its {} takes: the one with most has {most}",
                quantiles::operations_for(quantile.quantile().unwrap_or(1.0)),
                quantile.words(),
            ),
            Self::CpuTime => match Self::no_cpu_time(unavailable) {
                Some(why) => format!("CPU time of {label} was not counted: {why}"),
                None => format!("CPU time of {label} was not counted in all boots"),
            },
        }
    }

    /// Why the host cannot count CPU time, where it cannot.
    pub fn no_cpu_time(unavailable: &BTreeMap<Counter, String>) -> Option<&str> {
        let counters = [Counter::CpuTime, Counter::IoCpuTime];
        let mut reasons = counters.iter().filter_map(|it| unavailable.get(it));
        reasons.next().map(String::as_str)
    }
}

/// Time per unit of work in the guest, on the log scale.
fn time<'a>(of: &Measured<'a>) -> Result<Throughput, (&'a Cell, Lack)> {
    of.series.guest_time().ok_or((of.cell, Lack::Boots))
}

/// CPU time per operation, on the log scale.
fn cpu_time<'a>(of: &Measured<'a>) -> Result<Throughput, (&'a Cell, Lack)> {
    if of.series.boots.len() < 2 {
        return Err((of.cell, Lack::Boots));
    }
    let values: Option<Vec<f64>> = of
        .accounts
        .iter()
        .map(|boot| boot.guest_cpu_nanos.filter(|&nanos| nanos > 0.0))
        .collect();
    values
        .and_then(|values| stein::log_of_mean(&values))
        .map(Throughput::from)
        .ok_or((of.cell, Lack::CpuTime))
}

fn latency<'a>(
    of: &Measured<'a>,
    what: What,
    quantile: f64,
) -> Result<QuantileMean, (&'a Cell, Lack)> {
    let boots = || of.latencies.boots(of.cell.id, Side::Guest);
    let mean = quantiles::mean_over_boots(boots().map(|(_, histogram)| histogram), quantile);
    mean.ok_or_else(|| {
        let most = boots().map(|(_, histogram)| histogram.len()).max();
        let lack = match most {
            Some(most) if boots().count() > 1 => Lack::Operations {
                quantile: what,
                most,
            },
            _ => Lack::Boots,
        };
        (of.cell, lack)
    })
}
