//! The report in a real browser: quiet, self-contained, and readable on a desk and on a phone.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic as they do")]

mod chromium;
mod fixture;

use std::path::PathBuf;

use chromium::{Browser, View};
use vtax_reports::html;
use vtax_reports::result::Results;
use vtax_reports::store::Run;

const DESK: View = View {
    width: 1440,
    height: 900,
    dark: false,
    script: true,
};
const PHONE: View = View {
    width: 390,
    height: 844,
    ..DESK
};

/// Writes the first page of a suite of claims into the test's own folder.
fn first_page(name: &str) -> PathBuf {
    let path = folder().join(format!("{name}.html"));
    std::fs::write(&path, html::claims::render(&fixture::suite()).unwrap()).unwrap();
    path
}

/// Writes the report into the test's own folder.
fn report(name: &str, run: &Run, results: &Results) -> PathBuf {
    let path = folder().join(format!("{name}.html"));
    std::fs::write(&path, html::render(run, results).unwrap()).unwrap();
    path
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// What a reader could not read, with everything unfolded: text beyond the page, labels of a plot upon each other, on a desk
/// tables that are cut, paint that is the paper's own.
const FAULTS: &str = r#"(() => {
    const found = new Set();
    const words = (it) => (it.textContent || it.getAttribute("aria-label") || it.tagName).trim().slice(0, 50);
    const width = document.documentElement.clientWidth;
    document.querySelectorAll("details").forEach((it) => (it.open = true));
    for (const it of document.querySelectorAll("main *")) {
        const box = it.getBoundingClientRect();
        const scrolls = it.closest(".scroll, .contents");
        if (!scrolls && box.width > 0 && (box.right > width + 1 || box.left < -1)) found.add("beyond the page: " + words(it));
    }
    for (const plot of document.querySelectorAll("svg.plot")) {
        const texts = [...plot.querySelectorAll("text")].filter((it) => it.textContent.trim());
        const boxes = texts.map((it) => it.getBoundingClientRect());
        for (let a = 0; a < boxes.length; a++)
            for (let b = 0; b < a; b++) {
                const across = Math.min(boxes[a].right, boxes[b].right) - Math.max(boxes[a].left, boxes[b].left);
                const down = Math.min(boxes[a].bottom, boxes[b].bottom) - Math.max(boxes[a].top, boxes[b].top);
                if (across > 1 && down > 3) found.add(`upon each other: ${words(texts[a])} and ${words(texts[b])}`);
            }
        for (const it of plot.querySelectorAll(".value, .interval, .dot, .part, .whisker")) {
            const style = getComputedStyle(it);
            const paint = it.tagName === "line" ? style.stroke : style.fill;
            if (paint === getComputedStyle(document.body).backgroundColor || paint === "rgb(0, 0, 0)")
                found.add("not to be seen: " + (it.getAttribute("class") || it.tagName) + " in " + words(plot));
        }
    }
    if (width > 1200)
        for (const it of document.querySelectorAll(".scroll"))
            if (!it.querySelector("pre") && it.scrollWidth > it.clientWidth + 1) found.add("cut: " + it.getAttribute("aria-label"));
    return [...found];
})()"#;

#[test]
fn quiet_self_contained_and_within_the_screen() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let report = report("report", &fixture::run(), &fixture::results());
    let claims = first_page("claims");
    let views = [
        ("desk-light", DESK),
        ("desk-dark", View { dark: true, ..DESK }),
        ("phone-light", PHONE),
        (
            "phone-dark",
            View {
                dark: true,
                ..PHONE
            },
        ),
    ];
    let pages = [(&report, ""), (&claims, "claims-")];
    let shown = pages
        .into_iter()
        .flat_map(|page| views.map(|view| (page, view)));
    for ((path, page), (view_name, view)) in shown {
        let name = format!("{page}{view_name}");
        browser.open(path, view);
        let width = browser.evaluate("document.documentElement.scrollWidth");
        browser.screenshot(&folder().join(format!("{name}.png")));
        assert_eq!(width, view.width, "{name} scrolls sideways");
        let faults = browser.evaluate(FAULTS);
        assert_eq!(faults, serde_json::json!([]), "{name}");
        assert_eq!(
            browser.complaints(),
            Vec::<&serde_json::Value>::new(),
            "{name}"
        );
        assert_eq!(
            browser.foreign_requests(),
            Vec::<&serde_json::Value>::new(),
            "{name}"
        );
    }
    eprintln!("screenshots: {}", folder().display());
}

/// Sentences as runs have them, the short and the long.
const HEADLINES: [&str; 5] = [
    "A bare guest in ring 3 under vtax's own VMM runs CPU-bound work at 99.6 % of native: the 97 % claim holds.",
    "A bare guest in ring 3 under vtax's own VMM runs CPU-bound work (10 of 16 cells) at 99.6 % of native [99.2, 100.0]: the \
     97 % claim holds.",
    "With all vCPUs on CPU 0 the guest loses 38 % [26, 48]; with floating vCPUs it loses 31 % [24, 37] (18 to 49 % by workload) \
     against each vCPU on its own CPU; under the same settings it keeps 93.9 to 110.7 % of native (vtax's own VMM, bare guest \
     in ring 3).",
    "3 of 18 cells have a share of native, 62.0 to 97.1 % (vtax's own VMM, bare guest in ring 3). The 80 % claim is undecided: 1 \
     cell reaches it, 1 is below it, 1 is undecided, no reasonable amount of time decides at this noise; a quieter host would.",
    "99th percentile of latency with guest.pinning=[0] neighbour.noise.pinning=[1] over that with guest.pinning=none \
     neighbour.noise.pinning=none is 52.1 % [40.1, 66.2] (vtax's own VMM, bare guest in ring 3): the claim of at most 60 % is \
     undecided, about 3 min more would decide.",
];

#[test]
fn a_headline_takes_three_lines_at_most_on_a_desk() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let mut results = fixture::results();
    for (number, sentence) in HEADLINES.into_iter().enumerate() {
        results.headline.sentence = sentence.to_owned();
        let path = report(&format!("headline-{number}"), &fixture::run(), &results);
        let width = 1440;
        browser.open(&path, View { width, ..DESK });
        let lines = browser.evaluate(
            "(h => h.getBoundingClientRect().height / parseFloat(getComputedStyle(h).lineHeight))(document.querySelector('h1'))",
        );
        let lines = lines.as_f64().unwrap();
        assert!(lines < 3.1, "{lines} lines: {sentence}");
    }
}

#[test]
fn the_same_text_without_javascript() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let path = report("without-script", &fixture::run(), &fixture::results());
    let text = "document.querySelector('main').innerText";
    browser.open(&path, DESK);
    let with = browser.evaluate(text);
    assert_eq!(
        browser.evaluate("document.querySelectorAll('th button').length > 0"),
        true
    );
    browser.open(
        &path,
        View {
            script: false,
            ..DESK
        },
    );
    assert_eq!(
        browser.evaluate("document.querySelectorAll('th button').length"),
        0
    );
    assert_eq!(browser.evaluate(text), with);
    assert!(
        browser
            .evaluate("document.querySelectorAll('svg title').length")
            .as_u64()
            > Some(100)
    );
}

#[test]
fn a_suite_s_first_page_shows_every_claim_its_verdict_and_the_way_to_its_evidence() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let suite = fixture::suite();
    browser.open(
        &first_page("claims-read"),
        View {
            script: false,
            ..DESK
        },
    );
    // Why there is no figure is told without a click.
    let lack = browser.evaluate("document.querySelector('#huge-pages-2m .lack').innerText");
    assert!(lack.as_str().unwrap().contains("0 free pages"), "{lack}");
    let title = browser.evaluate("document.title");
    assert_eq!(title, "refuted: published claims – vtax");
    let heading = browser.evaluate("document.querySelector('h1').innerText");
    assert_eq!(heading, suite.sentence());
    for claim in &suite.claims {
        let id = &claim.id;
        let within = |rest: &str| format!("document.querySelector('#{id} {rest}')");
        let words = browser.evaluate(&format!("{}.innerText", within("h2")));
        assert_eq!(words, *claim.whole.words, "{id}");
        let badge = browser.evaluate(&format!("{}.innerText", within(".badge")));
        let word = vtax_reports::export::figures::Outcome::of_verdict(claim.whole.verdict).word();
        assert!(badge.as_str().unwrap().contains(word), "{id}: {badge}");
        let link = browser.evaluate(&format!("{}?.getAttribute('href')", within("a")));
        match &claim.evidence {
            Some(folder) => assert_eq!(link, format!("{folder}/report.html")),
            None => assert!(link.is_null(), "{id}: {link}"),
        }
        let parts = browser.evaluate(&format!("document.querySelectorAll('#{id} .part').length"));
        assert_eq!(parts, claim.parts.len(), "{id}");
        // Each interval lies on its scale, and so does each end of its bound.
        let marks = "document.querySelectorAll('#ID svg').length === 0 || [...document.querySelectorAll('#ID svg .interval, #ID svg .value, \
                     #ID svg .threshold')].every(mark => { const [a, b] = [mark.getBoundingClientRect(), \
                     mark.closest('svg').getBoundingClientRect()]; return a.left >= b.left - 1 && a.right <= b.right + 1; })";
        assert_eq!(browser.evaluate(&marks.replace("ID", id)), true, "{id}");
    }
    // A reader without a script opens what was decided, and how.
    browser.evaluate("document.querySelector('#idle-cost summary').click()");
    let text = browser.evaluate("document.querySelector('#idle-cost').innerText");
    let text = text.as_str().unwrap();
    for words in [
        "Threshold: 97 %",
        "Source: W. Felter",
        "0.052 % ",
        "at most 1 %",
    ] {
        assert!(
            text.replace('\u{a0}', " ").contains(words.trim_end()),
            "{words}: {text}"
        );
    }
}

#[test]
fn a_click_sorts_and_a_pointer_shows_figures() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let path = report("sorted", &fixture::run(), &fixture::results());
    browser.open(&path, DESK);
    let click = "document.querySelectorAll('#cells th button')[3].click()";
    let first = "document.querySelector('#cells tbody th').firstChild.textContent";
    let last = "[...document.querySelectorAll('#cells tbody th')].at(-1).firstChild.textContent";
    browser.evaluate(click);
    assert_eq!(
        browser.evaluate(first),
        "mem-gups / guest.backing=4k guest.page_size=4k"
    );
    assert_eq!(
        browser.evaluate(last),
        "mem-gups / guest.backing=1G guest.page_size=2M"
    );
    browser.evaluate(click);
    assert_eq!(
        browser.evaluate(last),
        "mem-gups / guest.backing=4k guest.page_size=4k"
    );
    browser.evaluate(
        "document.querySelector('#ratios .row:nth-child(2) svg .value')\
         .dispatchEvent(new PointerEvent('pointerover', {bubbles: true}))",
    );
    let tip = browser.evaluate("document.querySelector('#tip').innerText");
    assert!(
        tip.as_str()
            .unwrap()
            .contains("cpu-hash: 99.6 % [99.3, 99.9]"),
        "{tip}"
    );
}

#[test]
fn hostile_names_stay_text() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let (run, results) = fixture::hostile(
        "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">",
    );
    let path = report("hostile", &run, &results);
    browser.open(&path, PHONE);
    assert_eq!(browser.complaints(), Vec::<&serde_json::Value>::new());
    assert_eq!(browser.foreign_requests(), Vec::<&serde_json::Value>::new());
    assert_eq!(
        browser.evaluate("document.querySelectorAll('script').length"),
        1
    );
    assert_eq!(
        browser.evaluate("document.querySelectorAll('img').length"),
        0
    );
    assert_ne!(browser.evaluate("document.title"), "owned");
    assert_eq!(
        browser.evaluate("document.documentElement.scrollWidth"),
        PHONE.width
    );
}
