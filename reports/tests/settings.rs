//! Guests against guests: what is planted between the values of a setting comes back, in figures and in the sentence, while the
//! native side suffers the same and its share says nothing of it.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic as they do")]

mod fixture;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use vtax_reports::counters::{Counter, CounterLog, CounterRow, Counts};
use vtax_reports::estimate::estimate;
use vtax_reports::export::Format;
use vtax_reports::export::terminal;
use vtax_reports::record::{Marks, NotMeasured, RunRecord, Sample, Side};
use vtax_reports::result::{Results, SettingEffect, Verdict};
use vtax_reports::store::LatencyLog;
use vtax_scenarios::plan::What;

const BOOTS: u32 = 12;
/// What a guest keeps of native, whatever the setting.
const KEPT: f64 = 0.995;

/// A run whose cells are those of a scenario.
struct Planted {
    record: RunRecord,
    samples: Vec<Sample>,
    counters: CounterLog,
    latencies: LatencyLog,
}

/// The scenario's cells, each as fast as `speed` says of its label, natively and in the guest; with this noise of a boot.
fn planted(scenario: &str, noise: f64, speed: impl Fn(&str) -> f64) -> Planted {
    let text =
        format!("schema = 1\nname = \"s\"\n[guest]\nvcpus = 2\nmemory = \"64MiB\"\n{scenario}");
    let plan = vtax_scenarios::parse("s.toml", &text, &Default::default()).map(|it| it.plan);
    let mut record = fixture::record();
    record.host.nested_under = None;
    record.not_measured.clear();
    record.plan = plan.unwrap_or_else(|error| panic!("{error}"));
    let mut samples = Vec::new();
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for cell in &record.plan.cells {
        for boot in 0..BOOTS {
            let noise: f64 = noise * random.sample::<f64, _>(StandardNormal);
            for (position, side) in [(0, Side::Native), (1, Side::Guest), (2, Side::Control)] {
                let kept = if side == Side::Guest { KEPT } else { 1.0 };
                for vcpu in 0..u16::try_from(cell.guest.vcpus).unwrap() {
                    samples.push(Sample {
                        cell: cell.id,
                        boot,
                        round: 0,
                        position,
                        side,
                        vcpu,
                        cpu: vcpu,
                        iterations: 1_000_000,
                        ticks: whole(60e6 / speed(&cell.label) / kept * noise.exp()),
                        outer_nanos: 25_000_000,
                        run_in_ticks: 0,
                        latency_ticks: 0,
                        marks: Marks::CLEAN,
                        at_nanos: u64::from(boot) * 1_000_000_000,
                    });
                }
            }
        }
    }
    Planted {
        record,
        samples,
        counters: CounterLog::default(),
        latencies: LatencyLog::default(),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "planted times are positive and far below 2^63"
)]
fn whole(ticks: f64) -> u64 {
    ticks as u64
}

impl Planted {
    fn results(&self) -> Results {
        estimate(&self.record, &self.samples, &self.latencies, &self.counters)
    }

    /// The latencies of a cell's guest in every boot: around these nanoseconds, one in fifty ten times as long.
    fn wait(&mut self, cell: u32, nanos: u64) {
        for boot in 0..BOOTS {
            for number in 0..1_000_u64 {
                let nanos = nanos + number % 7 + u64::from(boot) % 3;
                let nanos = if number % 50 == 0 { 10 * nanos } else { nanos };
                for side in [Side::Native, Side::Guest] {
                    self.latencies.record(cell, side, boot, nanos);
                }
            }
        }
    }

    /// CPU time of each guest block of a cell.
    fn spend(&mut self, cell: u32, nanos: u64) {
        for boot in 0..BOOTS {
            for side in [Side::Native, Side::Guest, Side::Control] {
                for vcpu in 0..2 {
                    let mut counts = Counts::NONE;
                    counts.set(Counter::CpuTime, Some(nanos));
                    counts.set(Counter::IoCpuTime, (side == Side::Guest).then_some(0));
                    self.counters.push(CounterRow {
                        cell,
                        boot,
                        round: 0,
                        side,
                        vcpu,
                        counts,
                    });
                }
            }
        }
    }
}

const PINNING: &str = "[[workload]]\nname = \"cpu-hash\"\n[[workload]]\nname = \"cpu-lookup\"\n[matrix]\n\
                       \"guest.pinning\" = [\"one-to-one\", \"none\", { all-on = 0 }]\n";

fn pinned(label: &str) -> f64 {
    if label.contains("all-on") { 0.55 } else { 1.0 }
}

fn effect<'r>(results: &'r Results, value: &str, what: What) -> &'r SettingEffect {
    let found = results
        .settings
        .iter()
        .find(|it| it.value == value && it.what == what);
    found.unwrap_or_else(|| panic!("{value} {what:?}: {:#?}", results.settings))
}

#[test]
fn a_setting_s_cost_is_told_though_native_pays_it_too() {
    let results = planted(PINNING, 0.002, pinned).results();
    assert_eq!(results.settings.len(), 4, "two works, two values");
    for it in &results.settings {
        let truth = if it.value.contains("all-on") {
            0.55
        } else {
            1.0
        };
        assert!(
            it.ratio.low <= truth * 1.001 && it.ratio.high >= truth * 0.999,
            "{it:?}"
        );
        assert_eq!(
            (it.key.as_str(), it.reference.as_str()),
            ("guest.pinning", "one-to-one")
        );
        assert!(!it.per_vcpu && it.parameters.is_empty());
        let of = |id: u32| &results.cells[id as usize];
        assert_eq!(of(it.cell).workload, it.workload);
        assert_eq!(
            of(it.reference_cell).parameters["guest.pinning"],
            "one-to-one"
        );
    }
    for cell in &results.cells {
        let kept = cell.ratio.unwrap();
        assert!((kept.value - KEPT).abs() < 0.004, "{kept:?}");
        // Nobody claimed 97 %.
        assert_eq!(cell.verdict, Verdict::Cost);
    }
    let headline = &results.headline;
    assert_eq!(headline.verdict, Verdict::Cost, "neither held nor refuted");
    assert!(headline.ratio.is_none() && headline.finding.is_none());
    let sentence = &headline.sentence;
    let start = "With all vCPUs on CPU 0 the guest loses 45.0 % [4";
    assert!(sentence.starts_with(start), "{sentence}");
    for words in [
        "against each vCPU on its own CPU",
        "with floating vCPUs no difference is shown ([",
        "it keeps 99.",
        " % of native (vtax's own VMM, bare guest in ring 3).",
    ] {
        assert!(sentence.contains(words), "{words}: {sentence}");
    }
}

#[test]
fn the_claim_of_an_author_decides_and_the_settings_stand_beside_it() {
    let claim = "[claim]\nratio = \"97%\"\nover = \"cpu\"\n";
    let results = planted(&format!("{claim}{PINNING}"), 0.002, pinned).results();
    let headline = &results.headline;
    assert_eq!(headline.verdict, Verdict::Holds);
    for words in [
        "the 97 % claim holds. With all vCPUs on CPU 0",
        "loses 45.0 %",
    ] {
        assert!(headline.text().contains(words), "{}", headline.text());
    }
    // Both together would be longer than a headline may be.
    assert!(headline.sentence.ends_with("the 97 % claim holds."));
    assert!(
        results
            .cells
            .iter()
            .all(|cell| cell.verdict == Verdict::Holds)
    );
    let beyond = claim.replace("97", "99.9");
    let results = planted(&format!("{beyond}{PINNING}"), 0.0005, pinned).results();
    assert_eq!(results.headline.verdict, Verdict::Refuted);
}

#[test]
fn what_is_within_the_noise_is_no_difference() {
    let results = planted(PINNING, 0.03, |_| 1.0).results();
    let sentence = &results.headline.sentence;
    assert!(
        sentence.starts_with("No difference of the guest by guest.pinning is shown"),
        "{sentence}"
    );
    assert!(
        !sentence.contains("loses") && !sentence.contains("gains"),
        "{sentence}"
    );
}

#[test]
fn works_that_lie_far_apart_are_told_apart() {
    let results = planted(PINNING, 0.002, |label| match label {
        "cpu-hash / guest.pinning={ all-on = 0 }" => 0.5,
        _ => 1.0,
    });
    let sentence = results.results().headline.sentence;
    let told = sentence.split("by workload").next().unwrap();
    assert!(
        told.contains("loses 29.") && told.contains(" to 50 %"),
        "{sentence}"
    );
}

#[test]
fn waiting_is_compared_by_quantiles_and_by_cpu_time() {
    let waits =
        "[[workload]]\nname = \"lat-wake\"\n[matrix]\n\"guest.halt-poll\" = [\"0us\", \"200us\"]\n";
    let mut planted = planted(waits, 0.002, |_| 1.0);
    planted.wait(0, 60_000);
    planted.wait(1, 30_000);
    planted.spend(0, 5_000_000);
    planted.spend(1, 20_000_000);
    let results = planted.results();
    let whats: Vec<What> = results.settings.iter().map(|it| it.what).collect();
    assert!(
        !whats.contains(&What::Rate),
        "how late a wake-up is says nothing of how much gets done: {whats:?}"
    );
    for (what, truth) in [(What::P50, 0.5), (What::P99, 0.5), (What::CpuTime, 4.0)] {
        let ratio = effect(&results, "200us", what).ratio;
        assert!(
            (ratio.value / truth - 1.0).abs() < 0.01,
            "{what:?}: {ratio:?}"
        );
    }
    let sentence = &results.headline.sentence;
    let told = "has a median latency lower by 50.0 %";
    assert!(
        sentence.contains(told) && sentence.contains("against 0us"),
        "{sentence}"
    );
}

/// A cell that leaves out what another one writes down stands in one row with it.
#[test]
fn the_picture_has_partners_in_one_row() {
    let mixed = "pinning = \"one-to-one\"\n[[workload]]\nname = \"cpu-hash\"\n[matrix]\n\"guest.pinning\" = [\"one-to-one\", \"none\"]\n\
                 include = [{ \"guest.backing\" = \"thp\" }]\n";
    let planted = planted(
        mixed,
        0.002,
        |label| if label.contains("thp") { 1.2 } else { 1.0 },
    );
    let results = planted.results();
    let run = vtax_reports::store::Run {
        record: planted.record,
        ..fixture::run()
    };
    let report = vtax_reports::html::render(&run, &results).unwrap();
    let map = report
        .split("aria-label=\"Matrix guest.backing\"")
        .nth(1)
        .unwrap();
    let map = map.split("</table>").next().unwrap();
    assert_eq!(map.matches("<th scope=\"row\">").count(), 1, "{map}");
    assert!(
        !map.contains("shade absent") && map.contains("+20.0 %"),
        "{map}"
    );
}

#[test]
fn a_sentence_is_about_what_most_work_has() {
    let waits = "[[workload]]\nname = \"lat-wake\"\n[[workload]]\nname = \"lat-timer\"\n[[workload]]\nname = \"cpu-hash\"\n\
                 [matrix]\n\"guest.halt-poll\" = [\"0us\", \"200us\"]\n";
    let mut planted = planted(waits, 0.002, |_| 1.0);
    for cell in 0..4 {
        planted.wait(cell, if cell % 2 == 0 { 60_000 } else { 30_000 });
    }
    let results = planted.results();
    assert!(results.settings.iter().any(|it| it.what == What::Rate));
    let sentence = &results.headline.sentence;
    assert!(
        sentence.contains("has a median latency lower by 50.0 %"),
        "{sentence}"
    );
}

#[test]
fn guests_of_different_sizes_are_compared_for_each_vcpu() {
    let sizes = "[[workload]]\nname = \"cpu-hash\"\n[matrix]\n\"guest.vcpus\" = [1, 2]\n";
    // Two vCPUs that share a core do half as much each.
    let results = planted(
        sizes,
        0.002,
        |label| if label.ends_with('2') { 0.5 } else { 1.0 },
    )
    .results();
    let it = effect(&results, "2", What::Rate);
    assert!(
        it.per_vcpu && (it.ratio.value - 0.5).abs() < 0.005,
        "{it:?}"
    );
    let sentence = &results.headline.sentence;
    assert!(
        sentence.contains("loses 50.0 %") && sentence.contains("for each vCPU"),
        "{sentence}"
    );
    let table = terminal::settings(&results, 160, false).unwrap();
    assert!(table.contains("for each vCPU"), "{table}");
}

#[test]
fn what_is_missing_is_named_and_leaves_the_question_open() {
    let mut run = planted(PINNING, 0.002, pinned);
    let missing = |text: &str| NotMeasured::NotTestable(text.to_owned());
    run.record.not_measured.insert(1, missing("No scheduler."));
    let results = run.results();
    assert_eq!(results.settings.len(), 3);
    assert_eq!(results.headline.verdict, Verdict::Cost);
    assert!(
        results
            .headline
            .text()
            .contains("1 cell is not testable on this host: cpu-hash.")
    );

    run.record
        .not_measured
        .insert(1, NotMeasured::Failed("page fault.".to_owned()));
    assert_eq!(run.results().headline.verdict, Verdict::Undecided);

    for id in 0..6 {
        run.record.not_measured.insert(id, missing("No scheduler."));
    }
    let headline = run.results().headline;
    assert_eq!(headline.verdict, Verdict::NotTestable);
    assert!(
        headline
            .sentence
            .contains("What guest.pinning does to a bare guest"),
        "{}",
        headline.sentence
    );
    assert!(
        headline
            .sentence
            .contains("cannot be tested here: No scheduler."),
        "{}",
        headline.sentence
    );

    let mut run = planted(PINNING, 0.002, pinned);
    run.samples.retain(|sample| sample.boot == 0);
    let headline = run.results().headline;
    assert_eq!(
        headline.verdict,
        Verdict::Undecided,
        "{}",
        headline.sentence
    );
}

#[test]
fn every_export_has_the_settings() {
    let results = planted(PINNING, 0.002, pinned).results();
    let written = |format: Format| {
        let mut text = Vec::new();
        format.write(&results, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    };
    let json: serde_json::Value = serde_json::from_str(&written(Format::Json)).unwrap();
    let first = &json["settings"][0];
    for (name, value) in [
        ("key", "guest.pinning"),
        ("value", "none"),
        ("reference", "one-to-one"),
        ("workload", "cpu-hash"),
        ("what", "rate"),
    ] {
        assert_eq!(first[name], value, "{first}");
    }
    assert!(first["ratio"]["low"].is_f64(), "{first}");
    assert!(written(Format::Csv).contains("guest.pinning rate=0.5"));
    let markdown = written(Format::Markdown);
    let line = "| all vCPUs on CPU 0 | one-to-one | cpu-lookup | −45.0 % \\[−45.";
    assert!(markdown.contains(line), "{markdown}");
    for width in [80, 160] {
        let table = terminal::settings(&results, width, false).unwrap();
        assert!(
            table.contains("−45.0 %") && table.contains("of native"),
            "{table}"
        );
        assert!(
            table
                .lines()
                .all(|line| line.chars().count() <= width.into()),
            "{table}"
        );
    }
    let report = vtax_reports::html::render(
        &vtax_reports::store::Run {
            record: planted(PINNING, 0.002, pinned).record,
            ..fixture::run()
        },
        &results,
    );
    let report = report.unwrap();
    let map = report.split("id=\"matrix\"").nth(1).unwrap();
    assert!(
        map.contains("−45.0 %") && map.contains("shade bad3"),
        "the picture shows the loss"
    );
}

#[test]
fn a_sentence_about_many_values_names_two_and_counts_the_rest() {
    let many = "[[workload]]\nname = \"mem-latency\"\nparams = { size = \"1MiB\" }\n[matrix]\n\
                \"guest.backing\" = [\"4k\", \"thp\", \"2M\"]\n\"guest.page-size\" = [\"4k\", \"2M\"]\n";
    let results = planted(many, 0.001, |label| {
        let backing = if label.contains("backing=4k") {
            1.0
        } else {
            1.2
        };
        let pages = if label.contains("size=4k") { 1.0 } else { 1.1 };
        backing * pages
    });
    let sentence = results.results().headline.sentence;
    assert_eq!(sentence.matches(" gains ").count(), 2, "{sentence}");
    assert!(
        sentence.contains("1 more value changes it less"),
        "{sentence}"
    );
    assert!(sentence.chars().count() < 330, "{sentence}");
}
