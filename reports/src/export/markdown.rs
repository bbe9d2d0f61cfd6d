//! The headline and a table, for an issue, a pull request or a wiki.

use std::fmt::Write;

use super::figures::{NONE, Outcome, figure, floor, percent_interval, quantity};
use super::settings::{Column, Row};
use crate::claims::Suite;
use crate::result::{CellResult, Results, Verdict};

/// The document.
pub(super) fn document(results: &Results) -> String {
    let mut text = format!("**{}**\n\n", literal(&results.headline.sentence));
    for remark in &results.headline.remarks {
        let _infallible = write!(text, "{}\n\n", literal(remark));
    }
    if results.interrupted {
        text.push_str(
            "> The run was interrupted: what it had measured until then is reported.\n\n",
        );
    }
    settings(&mut text, results);
    text.push_str("| cell | native | guest | ratio | noise floor | verdict |\n");
    text.push_str("| :--- | ---: | ---: | ---: | ---: | :--- |\n");
    for cell in &results.cells {
        let value = |side: &Option<crate::result::SideSummary>| {
            side.as_ref().map_or(NONE.to_owned(), |side| {
                format!("{} {}", figure(side.mean), literal(&cell.unit))
            })
        };
        let _infallible = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            literal(&cell.label),
            value(&cell.native),
            value(&cell.guest),
            cell.ratio
                .as_ref()
                .map_or(NONE.to_owned(), |ratio| percent_interval(
                    ratio,
                    results.headline.threshold
                )),
            cell.noise_floor.map_or(NONE.to_owned(), floor),
            verdict(cell),
        );
    }
    experiments(&mut text, results);
    text
}

/// The document of a suite of claims.
pub(super) fn claims(suite: &Suite) -> String {
    let mut text = format!(
        "**{}**\n\n{}\n\n",
        literal(&suite.sentence()),
        literal(&suite.promise())
    );
    if suite.interrupted {
        text.push_str(
            "> The suite was interrupted: what it had measured until then is reported.\n\n",
        );
    }
    text.push_str("| claim | figure | must be | verdict |\n| :--- | ---: | ---: | :--- |\n");
    for claim in &suite.claims {
        let parts = claim.parts.iter().map(|part| (part.words.as_str(), part));
        for (name, line) in std::iter::once((claim.id.as_str(), &claim.whole)).chain(parts) {
            let (figure, threshold) = match line.figures() {
                Some((value, ends, threshold)) => (format!("{value} {ends}"), threshold),
                None => (NONE.to_owned(), NONE.to_owned()),
            };
            let outcome = Outcome::of_verdict(line.verdict);
            let why = match line.verdict {
                Verdict::Holds => String::new(),
                _ => format!(": {}", literal(&line.sentence)),
            };
            let _infallible = writeln!(
                text,
                "| {} | {} | {} | {} {}{why} |",
                literal(name),
                literal(&figure),
                literal(&threshold),
                outcome.sign(),
                outcome.word(),
            );
        }
    }
    text
}

/// A table of its own for what settings do, where some were compared.
fn settings(text: &mut String, results: &Results) {
    let rows = Row::all(results);
    if rows.is_empty() {
        return;
    }
    let columns = Column::present(&rows);
    let titles: Vec<&str> = columns.iter().map(|it| it.title()).collect();
    let _infallible = writeln!(
        text,
        "| setting | against | work | {} |",
        titles.join(" | ")
    );
    let lines = vec!["---:"; columns.len()].join(" | ");
    let _infallible = writeln!(text, "| :--- | :--- | :--- | {lines} |");
    for row in &rows {
        let figures = columns.iter().map(|&it| row.figure(it));
        let figures: Vec<String> = figures
            .map(|it| literal(it.as_deref().unwrap_or(NONE)))
            .collect();
        let _infallible = writeln!(
            text,
            "| {} | {} | {} | {} |",
            literal(&row.setting),
            literal(row.reference),
            literal(&row.work),
            figures.join(" | ")
        );
    }
    text.push('\n');
}

/// A second table, where there were experiments.
fn experiments(text: &mut String, results: &Results) {
    if results.experiments.is_empty() {
        return;
    }
    text.push_str("\n| experiment | metric | figure | values |\n");
    text.push_str("| :--- | :--- | ---: | ---: |\n");
    for experiment in &results.experiments {
        for metric in &experiment.metrics {
            let show = |value| quantity(value, metric.unit);
            let lack = experiment.reason.as_ref().or(metric.unavailable.as_ref());
            let figure = match (&metric.interval, lack) {
                (Some(it), _) => {
                    format!("{} [{}, {}]", show(it.value), show(it.low), show(it.high))
                }
                (None, Some(why)) => literal(why),
                (None, None) => NONE.to_owned(),
            };
            let _infallible = writeln!(
                text,
                "| {} | {} | {figure} | {} |",
                literal(&experiment.label),
                metric.name,
                metric.repetitions
            );
        }
    }
}

fn verdict(cell: &CellResult) -> String {
    let outcome = Outcome::of(cell);
    let word = format!("{} {}", outcome.sign(), outcome.word());
    match outcome {
        Outcome::Holds => word,
        Outcome::Anomaly => format!(
            "{word}: {}",
            literal(cell.anomaly.as_deref().unwrap_or_default())
        ),
        _ => format!("{word}: {}", literal(&cell.reason)),
    }
}

/// Text that Markdown shows as it is and that cannot leave its table cell.
fn literal(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' => escaped.push(' '),
            '\\' | '|' | '*' | '_' | '`' | '[' | ']' | '<' | '>' | '#' | '~' => {
                escaped.push('\\');
                escaped.push(character);
            }
            // An ampersand could begin an entity.
            '&' => escaped.push_str("&amp;"),
            _ => escaped.push(character),
        }
    }
    escaped
}
