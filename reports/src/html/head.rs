//! The top of the report: the verdict in words, and what a reader must know before believing it.

use super::scale::{Axis, place};
use super::words::{Badge, confidence};
use crate::export::figures::{Outcome, percent, percent_interval};
use crate::record::Reading;
use crate::result::Results;
use crate::store::Run;

/// What stands on top.
pub(super) struct Head<'a> {
    pub scenario: &'a str,
    pub description: &'a str,
    pub started: String,
    pub machine: Option<&'a str>,
    pub version: &'a str,
    pub badge: Badge,
    pub sentence: &'a str,
    pub gauge: Option<Gauge>,
    pub counts: Vec<Count>,
    pub nested_under: Option<&'a str>,
    pub notes: Vec<&'a str>,
}

/// The headline's interval on a scale of its own.
pub(super) struct Gauge {
    pub figure: String,
    pub range: String,
    pub low: String,
    pub width: String,
    pub value: String,
    pub threshold: String,
    pub threshold_label: String,
    pub one: String,
    pub words: String,
}

/// How many cells share an outcome.
pub(super) struct Count {
    pub badge: Badge,
    pub cells: usize,
}

impl<'a> Head<'a> {
    /// The head of the report on `run`.
    pub fn new(run: &'a Run, results: &'a Results) -> Self {
        let record = &run.record;
        let mut notes: Vec<&str> = run.notes.iter().map(String::as_str).collect();
        if results.interrupted {
            notes.insert(
                0,
                "The run was interrupted: what it had measured until then is reported.",
            );
        }
        Self {
            scenario: &results.scenario,
            description: &record.plan.description,
            started: when(&record.started),
            machine: match results.host.facts.get("cpu_model") {
                Some(Reading::Value(model)) => Some(model),
                _ => None,
            },
            version: &record.vtax_version,
            badge: Badge::new(Outcome::of_verdict(results.headline.verdict)),
            sentence: &results.headline.sentence,
            gauge: gauge(results),
            counts: counts(results),
            nested_under: results.host.nested_under.as_deref(),
            notes,
        }
    }
}

fn gauge(results: &Results) -> Option<Gauge> {
    let headline = &results.headline;
    let ratio = headline.ratio?;
    let ends = [ratio.low, ratio.high, headline.threshold, 1.0];
    let low = ends.into_iter().fold(f64::INFINITY, f64::min);
    let high = ends.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let room = ((high - low) * 0.12).max(0.002);
    let axis = Axis::linear(low - room, high + room);
    let threshold = format!("{} %", trimmed(headline.threshold * 100.0));
    Some(Gauge {
        figure: percent(ratio.value),
        range: format!(
            "{} interval {:.1} to {:.1} %",
            confidence(&ratio),
            ratio.low * 100.0,
            ratio.high * 100.0
        ),
        low: place(axis.at(ratio.low)),
        width: place(axis.at(ratio.high) - axis.at(ratio.low)),
        value: place(axis.at(ratio.value)),
        threshold: place(axis.at(headline.threshold)),
        one: place(axis.at(1.0)),
        words: format!(
            "{} of native performance against a claim of {threshold}",
            percent_interval(&ratio)
        ),
        threshold_label: threshold,
    })
}

fn counts(results: &Results) -> Vec<Count> {
    let mut counts = Outcome::ALL.map(|outcome| (outcome, 0));
    for cell in &results.cells {
        let found = Outcome::of(cell);
        if let Some((_, cells)) = counts.iter_mut().find(|(outcome, _)| *outcome == found) {
            *cells += 1;
        }
    }
    counts
        .into_iter()
        .rev()
        .filter(|(_, cells)| *cells > 0)
        .map(|(outcome, cells)| Count {
            badge: Badge::new(outcome),
            cells,
        })
        .collect()
}

/// `22 November 2026, 10:18 UTC`; what cannot be read as a time is shown as it is.
pub(super) fn when(time: &str) -> String {
    time.parse::<jiff::Timestamp>().map_or_else(
        |_| time.to_owned(),
        |time| time.strftime("%-d %B %Y, %H:%M UTC").to_string(),
    )
}

/// `97`, `99.5`.
pub(super) fn trimmed(value: f64) -> String {
    ((value * 100.0).round() / 100.0).to_string()
}
