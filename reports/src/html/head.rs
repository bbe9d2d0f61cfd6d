//! The top of the report: the verdict in words, and what a reader must know before believing it.

use super::scale::{Axis, place};
use super::words::{Badge, confidence, ends, share};
use crate::export::figures::{Outcome, percent_interval};
use crate::record::Reading;
use crate::result::Results;
use crate::store::Run;
use crate::verdict::words;

/// What stands on top.
pub(super) struct Head<'a> {
    pub scenario: &'a str,
    pub description: &'a str,
    pub started: String,
    pub machine: Option<&'a str>,
    pub version: &'a str,
    pub badge: Badge,
    pub sentence: String,
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
            // A line must not begin with a percent sign.
            sentence: results.headline.sentence.replace(" %", "\u{a0}%"),
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
    let points = [ratio.low, ratio.high, headline.threshold, 1.0];
    let low = points.into_iter().fold(f64::INFINITY, f64::min);
    let high = points.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let room = ((high - low) * 0.12).max(0.002);
    let axis = Axis::linear(low - room, high + room);
    let threshold = words::threshold(headline.threshold);
    Some(Gauge {
        figure: share(Some(&ratio), headline.threshold),
        range: format!(
            "{} interval {}",
            confidence(&ratio),
            ends(Some(&ratio), headline.threshold)
        ),
        low: place(axis.at(ratio.low)),
        width: place(axis.at(ratio.high) - axis.at(ratio.low)),
        value: place(axis.at(ratio.value)),
        threshold: place(axis.at(headline.threshold)),
        one: place(axis.at(1.0)),
        words: format!(
            "{} of native performance against a claim of {threshold}",
            percent_interval(&ratio, headline.threshold)
        ),
        threshold_label: threshold,
    })
}

fn counts(results: &Results) -> Vec<Count> {
    /// What was hoped for, what was measured otherwise, what was not measured.
    const ORDER: [Outcome; 7] = [
        Outcome::Holds,
        Outcome::Refuted,
        Outcome::Undecided,
        Outcome::Anomaly,
        Outcome::Failed,
        Outcome::NotTestable,
        Outcome::Cost,
    ];
    ORDER
        .into_iter()
        .map(|outcome| Count {
            badge: Badge::new(outcome),
            cells: results
                .cells
                .iter()
                .filter(|cell| Outcome::of(cell) == outcome)
                .count(),
        })
        .filter(|count| count.cells > 0)
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
