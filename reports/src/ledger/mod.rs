//! The account of the gap: where a guest's loss against native went.
//!
//! ```text
//! samples ─────┐
//!              ├─ account ─► per boot: loss, events ─┐
//! counters.csv ┘                                     ├─► Ledger: cause × cost, residual with its interval
//! unit costs (run.json) ─── cost ────────────────────┘
//! ```
//!
//! Events that a cell's guest has more than its host, times what such an event costs on this host, is the loss that a
//! cause predicts. What the causes together do not come to is the residual. Where it is larger than the noise it is
//! *unexplained*; it is never spread over the causes. All times are nanoseconds per unit of work (an iteration).

mod account;
mod cause;
mod cost;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use account::BootAccount;
pub use cause::{Cause, Price};

use crate::record::{RunRecord, UnitCost};
use crate::result::{CpuTime, Interval};
use crate::stats::mean::LogMean;
use crate::stats::stein;

/// The account of one cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ledger {
    /// Native time per unit of work, in nanoseconds: mean over boots.
    pub native_nanos: f64,
    /// What the guest takes longer than native.
    pub loss: Interval,
    /// What each cause predicts of it, the largest first.
    pub causes: Vec<Entry>,
    /// What the causes come to together.
    pub predicted: Interval,
    /// Loss less prediction.
    pub residual: Interval,
    /// What native against native differs by (the A/A noise floor), in nanoseconds per unit of work.
    pub noise_nanos: f64,
    /// What to make of the residual.
    pub finding: Finding,
    /// Causes that could not be counted or priced, and why.
    pub unaccounted: Vec<Unaccounted>,
}

/// What one cause predicts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// The cause.
    pub cause: Cause,
    /// Events per unit of work that the guest has more than native; nanoseconds for causes that are times themselves.
    pub events: Interval,
    /// Nanoseconds per event; 1 exactly for causes that are times themselves.
    pub cost: Interval,
    /// Their product: nanoseconds per unit of work.
    pub loss: Interval,
}

/// A cause without a prediction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unaccounted {
    /// The cause.
    pub cause: Cause,
    /// Why.
    pub reason: String,
}

/// What to make of a residual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The residual is within the noise: its interval holds 0, or it is no larger than what native against native
    /// differs by.
    Explained,
    /// More was lost than the causes come to.
    Unexplained,
    /// The causes come to more than was lost: some cost less here than where they were priced.
    Overestimated,
}

impl Ledger {
    /// The account of a cell from its boots that count, in order, the first `pilot` of which are the pilot; `None` with
    /// fewer than two.
    #[must_use]
    pub fn new(
        record: &RunRecord,
        boots: &[BootAccount],
        pilot: usize,
        noise_floor: f64,
        confidence: f64,
    ) -> Option<Self> {
        let over_boots = |of: &dyn Fn(&BootAccount) -> f64| {
            let values: Vec<f64> = boots.iter().map(of).collect();
            stein::estimate(&values, pilot)
        };
        let native_nanos = over_boots(&|boot| boot.native_nanos)?.mean;
        let loss = over_boots(&BootAccount::loss_nanos)?;

        let mut priced: Vec<Priced> = Vec::new();
        let mut unaccounted = Vec::new();
        for &cause in Cause::ALL {
            match Priced::new(cause, record, boots, confidence) {
                Ok(cause) => priced.push(cause),
                Err(reason) => unaccounted.push(Unaccounted { cause, reason }),
            }
        }
        let predicted_by = |boot: &BootAccount| -> f64 {
            let each = |of: &Priced| boot.events[of.cause as usize].unwrap_or(0.0) * of.cost.value;
            priced.iter().map(each).sum()
        };
        let mut causes = Vec::new();
        // Errors of prices are common to all boots, and independent of each other.
        let mut prices_error = 0.0;
        for of in &priced {
            let events = over_boots(&|boot| boot.events[of.cause as usize].unwrap_or(0.0))?;
            let price_error = events.mean * half_width(&of.cost);
            prices_error = f64::hypot(prices_error, price_error);
            causes.push(Entry {
                cause: of.cause,
                events: interval(events, 0.0, confidence),
                cost: of.cost,
                loss: interval(scaled(events, of.cost.value), price_error, confidence),
            });
        }
        causes.sort_by(|one, other| other.loss.value.abs().total_cmp(&one.loss.value.abs()));
        let predicted = over_boots(&predicted_by)?;
        let residual = over_boots(&|boot| boot.loss_nanos() - predicted_by(boot))?;
        let residual = interval(residual, prices_error, confidence);
        let noise_nanos = noise_floor * native_nanos;
        Some(Self {
            native_nanos,
            loss: interval(loss, 0.0, confidence),
            causes,
            predicted: interval(predicted, prices_error, confidence),
            finding: Finding::of(&residual, noise_nanos),
            residual,
            noise_nanos,
            unaccounted,
        })
    }
}

/// CPU time per unit of work over boots, as in [`Ledger::new`]; `None` where some boot did not count it.
#[must_use]
pub fn cpu_time(boots: &[BootAccount], pilot: usize, confidence: f64) -> Option<CpuTime> {
    let over_boots = |of: fn(&BootAccount) -> Option<f64>| {
        let values: Option<Vec<f64>> = boots.iter().map(of).collect();
        Some(interval(stein::estimate(&values?, pilot)?, 0.0, confidence))
    };
    Some(CpuTime {
        native: over_boots(|boot| boot.native_cpu_nanos)?,
        guest: over_boots(|boot| boot.guest_cpu_nanos)?,
    })
}

impl Finding {
    /// In a word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Explained => "explained",
            Self::Unexplained => "unexplained",
            Self::Overestimated => "overestimated",
        }
    }

    fn of(residual: &Interval, noise_nanos: f64) -> Self {
        if residual.low > 0.0 && residual.value > noise_nanos {
            Self::Unexplained
        } else if residual.high < 0.0 && residual.value < -noise_nanos {
            Self::Overestimated
        } else {
            Self::Explained
        }
    }
}

/// A cause that every boot counted, with its price.
struct Priced {
    cause: Cause,
    cost: Interval,
}

impl Priced {
    /// An error says why there is no prediction.
    fn new(
        cause: Cause,
        record: &RunRecord,
        boots: &[BootAccount],
        confidence: f64,
    ) -> Result<Self, String> {
        let lacking = boots
            .iter()
            .any(|boot| boot.events[cause as usize].is_none());
        if lacking {
            return Err(cause.not_counted(&record.counters_unavailable));
        }
        let cost = match cause.price() {
            Price::Time => Interval {
                value: 1.0,
                low: 1.0,
                high: 1.0,
                confidence,
            },
            Price::Of(event) => match record.unit_costs.get(&event) {
                Some(cost) => price(cost, confidence)?,
                None => return Err(NOT_MEASURED.to_owned()),
            },
            Price::Unknown(reason) => return Err(reason.to_owned()),
        };
        Ok(Self { cause, cost })
    }
}

/// Why an event that can be counted has no price.
const NOT_MEASURED: &str = "its cost was not measured";

/// What an event costs, with its interval; an error says why it is not known.
pub(crate) fn price(cost: &UnitCost, confidence: f64) -> Result<Interval, String> {
    match cost {
        UnitCost::Measured { nanos, .. } => {
            cost::interval(nanos, confidence).ok_or_else(|| NOT_MEASURED.to_owned())
        }
        UnitCost::Unavailable(reason) => Err(reason.clone()),
    }
}

fn half_width(interval: &Interval) -> f64 {
    (interval.high - interval.value).max(interval.value - interval.low)
}

/// A mean on a linear scale, in other units.
fn scaled(mean: LogMean, factor: f64) -> LogMean {
    LogMean {
        mean: mean.mean * factor,
        standard_error: mean.standard_error * factor.abs(),
        ..mean
    }
}

/// The interval of a mean on a linear scale, with an independent error added to its half-width.
fn interval(mean: LogMean, error: f64, confidence: f64) -> Interval {
    let half_width = f64::hypot(mean.half_width(confidence), error);
    Interval {
        value: mean.mean,
        low: mean.mean - half_width,
        high: mean.mean + half_width,
        confidence,
    }
}
