//! From the trials of experiments to intervals: repetitions are the unit.

use vtax_scenarios::plan::{Experiment, Metric, Scale};

use crate::record::{NotMeasured, RunRecord};
use crate::result::{ExperimentResult, Interval, MetricResult};
use crate::stats::{events, stein, stein::log_of_mean};
use crate::trials::{self, Trial};

/// The results of all experiments, in the order of the plan.
#[must_use]
pub fn results(record: &RunRecord, all: &[Trial]) -> Vec<ExperimentResult> {
    record
        .plan
        .experiments
        .iter()
        .map(|experiment| {
            let not_measured = record.experiments_not_measured.get(&experiment.id);
            let metrics = experiment.kind.entry().metrics.iter();
            ExperimentResult {
                id: experiment.id,
                label: experiment.label.clone(),
                failed: matches!(not_measured, Some(NotMeasured::Failed(_))),
                reason: not_measured.map(|why| {
                    let (NotMeasured::NotTestable(why) | NotMeasured::Failed(why)) = why;
                    why.clone()
                }),
                metrics: metrics
                    .map(|metric| result(record, experiment, metric, all))
                    .collect(),
            }
        })
        .collect()
}

fn result(
    record: &RunRecord,
    experiment: &Experiment,
    metric: &Metric,
    all: &[Trial],
) -> MetricResult {
    let mut values = trials::values(all, experiment, metric.name);
    let unavailable = record.metrics_unavailable.get(&experiment.id);
    let unavailable = unavailable.and_then(|reasons| reasons.get(metric.name).cloned());
    // Where some repetitions brought none, those that did are not all alike: they would tell of themselves alone.
    let interval = match unavailable {
        Some(_) => None,
        None => interval(&values, metric.scale, experiment.confidence),
    };
    values.sort_unstable_by(f64::total_cmp);
    MetricResult {
        name: metric.name.to_owned(),
        unit: metric.unit,
        interval,
        min: values.first().copied(),
        max: values.last().copied(),
        repetitions: u32::try_from(values.len()).unwrap_or(u32::MAX),
        unavailable,
    }
}

/// The interval over repetitions; `None` with too few of them, and of quantities that have no logarithm.
#[must_use]
pub fn interval(values: &[f64], scale: Scale, confidence: f64) -> Option<Interval> {
    match scale {
        Scale::Log => {
            let positive = values.iter().all(|&value| value > 0.0);
            let mean = positive.then(|| log_of_mean(values))??;
            Some(mean.interval(confidence))
        }
        Scale::Linear => {
            let mean = stein::estimate(values, values.len())?;
            let half_width = mean.half_width(confidence);
            Some(Interval {
                value: mean.mean,
                low: mean.mean - half_width,
                high: mean.mean + half_width,
                confidence,
            })
        }
        Scale::Events => {
            let happened = values.iter().filter(|&&value| value != 0.0).count();
            events::interval(
                u32::try_from(happened).ok()?,
                u32::try_from(values.len()).ok()?,
                confidence,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scale_has_its_interval() {
        let log = interval(&[1.0, 99.0], Scale::Log, 0.95).unwrap();
        assert!((log.value - 50.0).abs() < 1e-9 && log.low > 0.0);
        let linear = interval(&[-1.0, 0.0, 1.0], Scale::Linear, 0.95).unwrap();
        assert!(linear.value == 0.0 && linear.low < -2.0 && linear.high > 2.0);
        let events = interval(&[0.0, 1.0, 0.0, 0.0], Scale::Events, 0.95).unwrap();
        assert!(events.value == 0.25 && events.low > 0.0 && events.high < 1.0);
    }

    #[test]
    fn what_has_no_interval_gets_none() {
        assert_eq!(interval(&[1.0], Scale::Log, 0.95), None);
        assert_eq!(interval(&[0.0, 1.0], Scale::Log, 0.95), None);
        assert_eq!(interval(&[], Scale::Events, 0.95), None);
    }
}
