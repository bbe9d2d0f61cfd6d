//! Experiments: a line for each metric, and a plot for each time series.

use std::collections::BTreeMap;

use vtax_scenarios::plan::{Experiment, Metric, Unit};

use super::scale::{Axis, Tick, place};
use super::words::confidence;
use crate::export::figures::{NONE, nanos, quantity};
use crate::result::{ExperimentResult, MetricResult, Results};
use crate::store::Run;
use crate::trials;

/// The section.
pub(super) struct Experiments {
    pub groups: Vec<Group>,
    pub plots: Vec<Plot>,
}

/// An experiment.
pub(super) struct Group {
    pub label: String,
    pub rows: Vec<Row>,
}

/// A metric.
pub(super) struct Row {
    pub metric: String,
    pub help: &'static str,
    pub value: String,
    pub ends: String,
    pub range: String,
    pub repetitions: u32,
    /// Why there is no figure, where there is none.
    pub lack: Option<String>,
}

/// A time series, a line for each repetition.
pub(super) struct Plot {
    pub title: String,
    /// What it goes over.
    pub over: &'static str,
    pub words: String,
    pub paths: Vec<String>,
    pub x_ticks: Vec<Tick>,
    pub y_ticks: Vec<Tick>,
}

impl Experiments {
    /// The section of all experiments of `run`.
    pub fn new(run: &Run, results: &Results) -> Self {
        let (mut groups, mut plots) = (Vec::new(), Vec::new());
        let planned = run.record.plan.experiments.iter();
        for (experiment, result) in planned.zip(&results.experiments) {
            let mut rows = Vec::new();
            for metric in experiment.kind.entry().metrics {
                let of_it = result.metrics.iter().find(|it| it.name == metric.name);
                rows.extend(of_it.map(|of_it| Row::new(metric, result, of_it)));
                plots.extend(Plot::new(run, experiment, metric));
            }
            groups.push(Group {
                label: result.label.clone(),
                rows,
            });
        }
        Self { groups, plots }
    }
}

impl Row {
    fn new(metric: &Metric, experiment: &ExperimentResult, result: &MetricResult) -> Self {
        let show = |value| quantity(value, result.unit);
        let why = || experiment.reason.as_ref().or(result.unavailable.as_ref());
        let lack = result.interval.is_none().then(|| {
            let few = || "Too few repetitions for an interval.".to_owned();
            why().cloned().unwrap_or_else(few)
        });
        Self {
            metric: metric.name.to_owned(),
            help: metric.help,
            value: result.interval.map_or(NONE.to_owned(), |it| show(it.value)),
            ends: result.interval.map_or(String::new(), |it| {
                format!(
                    "[{}, {}] at {}",
                    show(it.low),
                    show(it.high),
                    confidence(&it)
                )
            }),
            range: result
                .min
                .zip(result.max)
                .map_or(NONE.to_owned(), |(min, max)| {
                    format!("{} – {}", show(min), show(max))
                }),
            repetitions: result.repetitions,
            lack,
        }
    }
}

impl Plot {
    fn new(run: &Run, experiment: &Experiment, metric: &Metric) -> Option<Self> {
        let mut lines: BTreeMap<u32, Vec<(f64, f64)>> = BTreeMap::new();
        for trial in trials::of(&run.trials, experiment, metric.name) {
            if let Some(at) = trial.at_nanos {
                let line = lines.entry(trial.repetition).or_default();
                line.push((at as f64, trial.value));
            }
        }
        let points = || lines.values().flatten();
        let last = points().map(|point| point.0).fold(0.0, f64::max);
        let least = points().map(|point| point.1).fold(0.0, f64::min);
        let most = points()
            .map(|point| point.1)
            .fold(f64::NEG_INFINITY, f64::max);
        if !most.is_finite() {
            return None;
        }
        let (x, y) = (Axis::linear(0.0, last), Axis::linear(least, most * 1.05));
        let path = |points: &Vec<(f64, f64)>| {
            let places: Vec<String> = points
                .iter()
                .map(|&(at, value)| format!("{:.2} {:.2}", x.at(at), y.down(value)))
                .collect();
            format!("M{}", places.join("L"))
        };
        let title = format!("{} of {}", metric.name, experiment.label);
        let (over, reach): (_, fn(f64) -> String) = match experiment.kind.entry().over {
            Unit::Number => ("over the number of guests", |guests| format!("{guests}")),
            _ => ("over time", nanos),
        };
        Some(Self {
            words: format!(
                "{title} {over}, {} repetitions: up to {} within {}",
                lines.len(),
                quantity(most, metric.unit),
                reach(last)
            ),
            over,
            paths: lines.values().map(path).collect(),
            x_ticks: x
                .ticks(6)
                .into_iter()
                .map(|tick| Tick {
                    at: place(x.at(tick)),
                    label: reach(tick),
                })
                .collect(),
            y_ticks: y
                .ticks(5)
                .into_iter()
                .map(|tick| Tick {
                    at: place(y.down(tick)),
                    label: quantity(tick, metric.unit),
                })
                .collect(),
            title,
        })
    }
}
