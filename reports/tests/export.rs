//! Golden files of every export, and the promises that a golden file does not show.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic as they do")]

mod fixture;

use vtax_reports::export::{Format, terminal};
use vtax_reports::result::Results;

fn written(format: Format, results: &Results) -> String {
    let mut text = Vec::new();
    format.write(results, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn json() {
    let text = written(Format::Json, &fixture::results());
    assert_eq!(
        serde_json::from_str::<Results>(&text).unwrap(),
        fixture::results()
    );
    insta::assert_snapshot!(text);
}

#[test]
fn csv() {
    insta::assert_snapshot!(written(Format::Csv, &fixture::results()));
}

#[test]
fn markdown() {
    insta::assert_snapshot!(written(Format::Markdown, &fixture::results()));
}

#[test]
fn junit() {
    insta::assert_snapshot!(written(Format::Junit, &fixture::results()));
}

#[test]
fn terminal_wide() {
    insta::assert_snapshot!(terminal::table(&fixture::results(), 140, false));
}

#[test]
fn terminal_narrow() {
    let table = terminal::table(&fixture::results(), 80, false);
    for line in table.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    insta::assert_snapshot!(table);
}

/// No word is broken, however narrow the terminal is.
#[test]
fn terminal_of_forty_columns() {
    let table = terminal::table(&fixture::results(), 40, false);
    let longest = table.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(40), "{table}");
    assert!(table.contains("\n  verdict: ✓ holds"), "{table}");
    let claims = terminal::claims(&fixture::suite(), 40, false);
    assert!(claims.contains("\n  must be: at least"), "{claims}");
    let words = claims
        .lines()
        .all(|line| line.chars().count() <= 40 || !line.trim().contains(' '));
    assert!(words, "{claims}");
}

#[test]
fn terminal_settings() {
    insta::assert_snapshot!(terminal::settings(&fixture::results(), 140, false).unwrap());
}

#[test]
fn colours_come_only_when_asked_for() {
    let results = fixture::results();
    assert!(!terminal::table(&results, 120, false).contains('\u{1b}'));
    assert!(terminal::table(&results, 120, true).contains('\u{1b}'));
}

#[test]
fn a_hostile_label_stays_text() {
    let mut results = fixture::results();
    results.cells[0].label = "a|b\n| <script>alert(1)</script> \u{1b}[31m & ]]> \"q\"".to_owned();
    let markdown = written(Format::Markdown, &results);
    let line = markdown
        .lines()
        .find(|line| line.contains("script"))
        .unwrap();
    assert!(line.contains(r"a\|b \| \<script\>"), "{line}");
    let junit = written(Format::Junit, &results);
    assert!(
        junit.contains("&lt;script&gt;") && !junit.contains("<script>"),
        "{junit}"
    );
    assert!(!terminal::table(&results, 200, false).contains('\u{1b}'));
    let csv = written(Format::Csv, &results);
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    let row = rows.records().next().unwrap().unwrap();
    assert_eq!(row[2], results.cells[0].label);
}

#[test]
fn a_suite_s_table_says_why_where_it_has_no_certain_figure() {
    let text = terminal::claims(&fixture::suite(), 120, false);
    for line in [
        "huge-pages-2m: This host has 0 free pages of 2 MiB and the cells need 128: echo 128 > /proc/sys/vm/nr_hugepages",
        "exits: Three costs measured, and nothing that could be compared with native.",
        "pinning-jitter: The figure of “Pinning a guest's vCPUs",
    ] {
        assert!(
            text.lines().any(|it| it.starts_with(line)),
            "{line}: {text}"
        );
    }
    assert!(!text.contains("idle-cost: "), "{text}");
}
