//! What experiments bring: values of their metrics, a row of `trials.csv` each.

use vtax_scenarios::plan::Experiment;

/// A value of one metric in one repetition of an experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The experiment's id in the plan.
    pub experiment: u32,
    /// Repetition, from 0.
    pub repetition: u32,
    /// The metric's name.
    pub metric: String,
    /// For a point of a series: nanoseconds since the repetition began, or the number that the kind's series go over
    /// instead. `None`: the repetition's value.
    pub at_nanos: Option<u64>,
    /// The value in the metric's unit; of an attempt at a forbidden event 1 where it happened, 0 where not.
    pub value: f64,
}

/// The values of a metric, one for each repetition, or for each attempt at a forbidden event, in order.
pub(crate) fn values(trials: &[Trial], experiment: &Experiment, metric: &str) -> Vec<f64> {
    of(trials, experiment, metric)
        .filter(|trial| trial.at_nanos.is_none())
        .map(|trial| trial.value)
        .collect()
}

/// All of a metric's values and points.
pub(crate) fn of<'t>(
    trials: &'t [Trial],
    experiment: &'t Experiment,
    metric: &'t str,
) -> impl Iterator<Item = &'t Trial> {
    trials
        .iter()
        .filter(move |trial| trial.experiment == experiment.id && trial.metric == metric)
}
