//! The top of the report: the verdict in words, and what a reader must know before believing it.

use vtax_scenarios::plan::Unit;

use super::scale::{Axis, place};
use super::words::{Badge, confidence, ends, share};
use crate::claims::threshold;
use crate::export::figures::{Outcome, percent_interval};
use crate::record::Reading;
use crate::result::{Finding, Results};
use crate::store::Run;
use crate::verdict::{parts, words};

/// What three lines hold on a desk's screen, from the largest letters down.
const HELD: [(usize, &str); 3] = [(110, "large"), (150, "middle"), (220, "small")];

/// What stands on top.
pub(super) struct Head<'a> {
    pub scenario: &'a str,
    pub description: &'a str,
    pub started: String,
    pub machine: Option<&'a str>,
    pub version: &'a str,
    pub badge: Badge,
    pub sentence: String,
    /// CSS class of its letters.
    pub size: &'static str,
    /// What else must be known of it; that the host is itself a guest has a place of its own.
    pub remarks: String,
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
    /// Where no loss or no difference is.
    pub one: Option<String>,
    pub one_label: &'static str,
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
            sentence: unbroken(&results.headline.sentence),
            size: size(&results.headline.sentence),
            remarks: unbroken(&remarks(results)),
            gauge: gauge(results),
            counts: counts(results),
            nested_under: results.host.nested_under.as_deref(),
            notes,
        }
    }
}

/// The letters in which a sentence takes three lines at most.
fn size(sentence: &str) -> &'static str {
    let length = sentence.chars().count();
    let fits = HELD.iter().find(|(most, _)| length <= *most);
    fits.map_or("smallest", |(_, class)| class)
}

fn remarks(results: &Results) -> String {
    let nested = results.host.nested_under.as_deref().map(words::nested);
    let remarks = results.headline.remarks.iter();
    let others: Vec<&str> = remarks
        .filter(|it| Some(*it) != nested.as_ref())
        .map(String::as_str)
        .collect();
    others.join(" ")
}

/// With no line that begins with a percent sign.
fn unbroken(text: &str) -> String {
    text.replace(" %", "\u{a0}%")
}

fn gauge(results: &Results) -> Option<Gauge> {
    let headline = &results.headline;
    if let Some(finding) = &headline.finding {
        return Some(finding_gauge(finding));
    }
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
        one: Some(place(axis.at(1.0))),
        one_label: "native",
        words: format!(
            "{} of native performance against a claim of {threshold}",
            percent_interval(&ratio, headline.threshold)
        ),
        threshold_label: threshold,
    })
}

/// The figure of a claim about something else than a share of native.
fn finding_gauge(finding: &Finding) -> Gauge {
    let interval = &finding.interval;
    let (from, to) = finding.bound.ends();
    // Of two ends the one that is nearer, since it decides.
    let end = if (interval.value - from).abs() < (interval.value - to).abs() {
        from
    } else {
        to
    };
    let one = (finding.unit == Unit::Share && (0.25..4.0).contains(&interval.value)).then_some(1.0);
    let points: Vec<f64> = [interval.low, interval.high, end]
        .into_iter()
        .chain(one)
        .collect();
    let low = points.iter().copied().fold(f64::INFINITY, f64::min);
    let high = points.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let room = (high - low) * 0.12;
    let axis = Axis::linear(low - room, high + room);
    let (figure, range) = parts(interval, finding.unit, finding.bound);
    let label = threshold(finding);
    Gauge {
        words: format!(
            "{}: {figure} {range} against a claim of {label}",
            finding.what
        ),
        figure,
        range: format!("{} interval {range}", confidence(interval)),
        low: place(axis.at(interval.low)),
        width: place(axis.at(interval.high) - axis.at(interval.low)),
        value: place(axis.at(interval.value)),
        threshold: place(axis.at(end)),
        threshold_label: label,
        one: one.map(|one| place(axis.at(one))),
        one_label: "no difference",
    }
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
