//! The report's promises that need no browser.

mod fixture;

use proptest::prelude::*;
use vtax_reports::html;

/// The tags of a document, in order, without what is between them.
fn tags(document: &str) -> Vec<String> {
    document
        .split('<')
        .skip(1)
        .map(|rest| {
            rest.split(|c: char| c.is_whitespace() || c == '>')
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

#[test]
fn the_reader_with_a_minute_finds_the_verdict_first() {
    let document = html::render(&fixture::run(), &fixture::results()).unwrap();
    let body = document.split("<body>").nth(1).unwrap();
    let at = |text: &str| {
        body.find(text)
            .unwrap_or_else(|| panic!("{text} is not in the report"))
    };
    let order = [
        "99.6\u{a0}% of native [99.4, 99.8]: the 97\u{a0}% claim holds.",
        "is itself a virtual machine",
        "guest page fault: read of 0x7f0000403000",
        "id=\"matrix\"",
        "id=\"ratios\"",
        "id=\"curves\"",
        "id=\"latency\"",
        "id=\"blocks\"",
        "id=\"noise\"",
        "id=\"cells\"",
        "vtax run quick --seed 20261122",
        "no cpufreq driver on this machine",
        "id=\"plan\"",
    ]
    .map(at);
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn every_plot_has_words_and_a_table() {
    let document = html::render(&fixture::run(), &fixture::results()).unwrap();
    for plot in document.split("<svg class=\"plot\"").skip(1) {
        let head = plot.split('>').next().unwrap();
        let drawn_axis = head.contains("height=\"22\"");
        assert!(
            drawn_axis || head.contains("role=\"img\" aria-label=\""),
            "{head}"
        );
    }
    for figure in document.split("<figure class=\"chart\"").skip(1) {
        assert!(
            figure
                .split("</figure>")
                .next()
                .unwrap()
                .contains("<table")
        );
    }
    for figure in document.split("<figure class=\"series\"").skip(1) {
        assert!(
            figure
                .split("</figure>")
                .next()
                .unwrap()
                .contains("<table")
        );
    }
}

#[test]
fn no_address_to_fetch_from() {
    let document = html::render(&fixture::run(), &fixture::results()).unwrap();
    for word in [
        "http:",
        "https:",
        "url(",
        "@import",
        "<link rel=\"stylesheet\"",
        " src=",
    ] {
        assert!(!document.contains(word), "{word}");
    }
    assert!(document.contains("default-src 'none'"));
}

#[test]
fn a_run_that_died_at_once_still_has_a_report() {
    let mut run = fixture::run();
    let mut results = fixture::results();
    run.samples.clear();
    run.record.finished = None;
    results.cells.clear();
    results.headline.ratio = None;
    let document = html::render(&run, &results).unwrap();
    assert!(document.contains("id=\"plan\""));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever a name says, the document keeps its shape: the same tags in the same order as with a harmless name.
    #[test]
    fn no_text_breaks_out(text in "[<>&\"'/=a-c ;!\\-\\[\\]{}%\u{0}\n]{1,24}") {
        let (run, results) = fixture::hostile(&text);
        let (plain_run, plain_results) = fixture::hostile(&"x".repeat(text.chars().count()));
        let document = html::render(&run, &results).unwrap();
        let plain = html::render(&plain_run, &plain_results).unwrap();
        prop_assert!(tags(&document) == tags(&plain), "the tags differ");
        // Inside a tag, a quote would end an attribute.
        prop_assert_eq!(document.matches('"').count(), plain.matches('"').count());
    }
}
