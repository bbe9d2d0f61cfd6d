//! One guest against another: the quotient of what both were measured at.
//!
//! The two cells were measured apart, boots in turn, so their means are independent: the error of the quotient is that of
//! both. Boots are the unit, and all of them tell the variance: nothing that was measured sized a comparison.

use vtax_scenarios::plan::{Cell, What};

use crate::ledger::BootAccount;
use crate::record::Side;
use crate::result::Interval;
use crate::stats::mean::{LogMean, combine};
use crate::stats::quantiles::{self, QuantileMean};
use crate::stats::series::Series;
use crate::stats::stein;
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
    pub mean: LogMean,
    /// How much lower it could be for what histograms round away.
    below: f64,
    /// How much higher.
    above: f64,
}

impl Quotient {
    /// What `of` has over what `against` has; `None` where one of them has fewer than two boots that tell.
    pub fn new(of: &Measured<'_>, against: &Measured<'_>, what: What) -> Option<Self> {
        let exact = |mean| Self {
            mean,
            below: 0.0,
            above: 0.0,
        };
        if let Some(quantile) = what.quantile() {
            let (of, against) = (latency(of, quantile)?, latency(against, quantile)?);
            let mean = of.middle.minus(against.middle);
            return Some(Self {
                mean,
                below: mean.mean - (of.low - against.high),
                above: (of.high - against.low) - mean.mean,
            });
        }
        Some(exact(match what {
            What::Rate => time(against)?.minus(time(of)?),
            What::CpuTime => cpu_time(of)?.minus(cpu_time(against)?),
            _ => time(of)?.minus(time(against)?),
        }))
    }

    /// The geometric mean of several, a fixed set; `None` of none.
    pub fn combined(parts: &[Self]) -> Option<Self> {
        let means: Vec<LogMean> = parts.iter().map(|part| part.mean).collect();
        let mean_of =
            |end: fn(&Self) -> f64| parts.iter().map(end).sum::<f64>() / parts.len() as f64;
        Some(Self {
            mean: combine(&means)?,
            below: mean_of(|part| part.below),
            above: mean_of(|part| part.above),
        })
    }

    /// With its interval: 1 is no difference.
    pub fn interval(&self, confidence: f64) -> Interval {
        let half_width = self.mean.half_width(confidence);
        Interval {
            value: self.mean.mean.exp(),
            low: (self.mean.mean - self.below - half_width).exp(),
            high: (self.mean.mean + self.above + half_width).exp(),
            confidence,
        }
    }
}

/// Time per unit of work in the guest, on the log scale.
fn time(of: &Measured<'_>) -> Option<LogMean> {
    let boots = of.series.boots.iter();
    let values: Vec<f64> = boots.map(|it| it.log_guest_ticks).collect();
    stein::estimate(&values, values.len())
}

/// CPU time per operation, on the log scale.
fn cpu_time(of: &Measured<'_>) -> Option<LogMean> {
    let values: Option<Vec<f64>> = of
        .accounts
        .iter()
        .map(|boot| {
            boot.guest_cpu_nanos
                .filter(|&nanos| nanos > 0.0)
                .map(f64::ln)
        })
        .collect();
    let values = values?;
    stein::estimate(&values, values.len())
}

fn latency(of: &Measured<'_>, quantile: f64) -> Option<QuantileMean> {
    let boots = of.latencies.boots(of.cell.id, Side::Guest);
    quantiles::mean_over_boots(boots.map(|(_, histogram)| histogram), quantile)
}
