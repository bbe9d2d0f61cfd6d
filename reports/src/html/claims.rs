//! The first page of a suite: one line for each claim.

use super::head::when;
use super::scale::{Axis, place};
use super::words::Badge;
use super::{HtmlError, SCRIPT, STYLE, hash};
use crate::claims::{ClaimResult, Line, Suite};
use crate::export::figures::{NONE, Outcome};
use crate::record::Reading;
use crate::result::Finding;

use askama::Template;
use vtax_scenarios::plan::Unit;

#[derive(Template)]
#[template(path = "claims.html")]
struct Page<'a> {
    style: &'static str,
    style_hash: String,
    script: &'static str,
    script_hash: String,
    version: &'a str,
    started: String,
    machine: Option<&'a str>,
    badge: Badge,
    sentence: String,
    promise: String,
    nested_under: Option<&'a str>,
    interrupted: bool,
    claims: Vec<Claim<'a>>,
}

/// A claim.
struct Claim<'a> {
    id: &'a str,
    line: Row<'a>,
    parts: Vec<Row<'a>>,
    source: &'a str,
    why: &'a str,
    evidence: Option<String>,
    seconds: String,
}

/// A verdict.
struct Row<'a> {
    words: &'a str,
    badge: Badge,
    value: String,
    ends: String,
    threshold: String,
    gauge: Option<Gauge>,
    sentence: String,
}

/// The interval beside its threshold, on a scale of its own.
struct Gauge {
    low: String,
    width: String,
    value: String,
    bounds: Vec<String>,
    words: String,
}

/// The first page of a suite, as one HTML document that needs no other file and no network. Its links lead to the reports of
/// the claims' own runs.
///
/// # Errors
/// When a template cannot be filled in.
pub fn render(suite: &Suite) -> Result<String, HtmlError> {
    let page = Page {
        style: STYLE,
        style_hash: hash(STYLE),
        script: SCRIPT,
        script_hash: hash(SCRIPT),
        version: &suite.vtax_version,
        started: when(&suite.started),
        machine: match suite.host.facts.get("cpu_model") {
            Some(Reading::Value(model)) => Some(model),
            _ => None,
        },
        badge: Badge::new(Outcome::of_verdict(suite.verdict())),
        sentence: suite.sentence(),
        promise: suite.promise().replace(" %", "\u{a0}%"),
        nested_under: suite.host.nested_under.as_deref(),
        interrupted: suite.interrupted,
        claims: suite.claims.iter().map(Claim::new).collect(),
    };
    Ok(page.render()?)
}

impl<'a> Claim<'a> {
    fn new(claim: &'a ClaimResult) -> Self {
        Self {
            id: &claim.id,
            line: Row::new(&claim.whole),
            parts: claim.parts.iter().map(Row::new).collect(),
            source: &claim.source,
            why: &claim.why,
            evidence: claim
                .evidence
                .as_ref()
                .map(|folder| format!("{folder}/report.html")),
            seconds: format!("{:.0} s", claim.seconds),
        }
    }
}

impl<'a> Row<'a> {
    fn new(line: &'a Line) -> Self {
        let (value, ends, threshold) = line
            .figures()
            .unwrap_or_else(|| (NONE.to_owned(), String::new(), String::new()));
        Self {
            words: &line.words,
            badge: Badge::new(Outcome::of_verdict(line.verdict)),
            value,
            ends,
            threshold,
            gauge: line.finding.as_ref().map(Gauge::new),
            sentence: line.sentence.replace(" %", "\u{a0}%"),
        }
    }
}

impl Gauge {
    fn new(finding: &Finding) -> Self {
        let (from, to) = finding.bound.ends();
        let bounds: Vec<f64> = [from, to]
            .into_iter()
            .filter(|end| end.is_finite())
            .collect();
        let interval = &finding.interval;
        // A quotient's neutral point and a quantity's nothing are on the scale where they are near.
        let neutral = (finding.unit == Unit::Share).then_some(1.0);
        let near = |point: &f64| (0.5..2.0).contains(&(point / interval.value));
        let points: Vec<f64> = [interval.low, interval.high]
            .into_iter()
            .chain(bounds.iter().copied())
            .chain(neutral.filter(near))
            .collect();
        let low = points.iter().copied().fold(f64::INFINITY, f64::min);
        let high = points.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let room = (high - low) * 0.12;
        let axis = Axis::linear(low - room, high + room);
        Self {
            low: place(axis.at(interval.low)),
            width: place((axis.at(interval.high) - axis.at(interval.low)).max(0.5)),
            value: place(axis.at(interval.value)),
            bounds: bounds
                .into_iter()
                .map(|bound| place(axis.at(bound)))
                .collect(),
            words: format!(
                "{}: {} against {}",
                finding.what,
                crate::verdict::shown(finding),
                crate::claims::threshold(finding)
            ),
        }
    }
}
