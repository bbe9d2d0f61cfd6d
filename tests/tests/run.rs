//! `vtax run`: what a user gets from it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use vtax_tests::{RunDir, Stage, scenario};

const SIDES: [&str; 3] = ["control", "guest", "native"];

/// The exit code that README and `vtax --help` promise for a verdict.
fn code_of(verdict: &Value) -> i32 {
    match verdict.as_str() {
        Some("holds") => 0,
        Some("refuted") => 3,
        Some("undecided") => 4,
        Some("not_testable") => 5,
        _ => panic!("no such verdict: {verdict}"),
    }
}

#[test]
fn a_run_prints_a_table_and_leaves_a_directory() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage.file("tiny.toml", &scenario::tiny("10%"));
    let outcome = stage.vtax("run tiny.toml --out run").run();
    let run = stage.run_dir("run");

    outcome.exits(0);
    for words in [
        "cell",
        "ratio",
        "noise floor",
        "cpu-hash",
        "mem-latency size=16KiB",
    ] {
        assert!(outcome.stdout.contains(words), "{words}: {outcome:#?}");
    }
    assert!(!outcome.stdout.contains('\u{1b}'), "a file gets no colours");
    outcome.complains(&["report.html"]);

    let record = run.record();
    assert_eq!(record["schema"], 1);
    assert_eq!(record["plan"]["source"], scenario::tiny("10%"));
    assert_eq!(record["interrupted"], false);
    assert!(record["finished"].is_string());
    assert_eq!(record["command"][1], "run");
    assert!(run.text("report.html").contains("cpu-hash"));
    assert_eq!(run.json("results.json")["scenario"], "tiny");

    let events = run.events();
    let count = |name: &str| events.iter().filter(|event| *event == name).count();
    assert_eq!(events.first().map(String::as_str), Some("run-started"));
    assert_eq!(events.last().map(String::as_str), Some("run-finished"));
    assert_eq!(count("guest-created"), 8, "two cells, four boots");
    assert_eq!(count("guest-stopped"), 8);
}

#[test]
fn samples_hold_every_block_of_every_side_and_nothing_averaged() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage.file("tiny.toml", &scenario::tiny("10%"));
    let _ = stage.vtax("run tiny.toml --out run").run();
    let run = stage.run_dir("run");
    let nanos_per_tick = run.record()["nanos_per_tick"].as_f64().unwrap();

    let mut rounds: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for row in run.samples() {
        assert!(row.iterations > 0 && row.ticks > 0, "{row:?}");
        let inner = row.ticks as f64 * nanos_per_tick;
        assert!((row.inner_nanos - inner).abs() < 1.0, "{row:?}");
        if !row.is_warmup() {
            assert!(row.outer_nanos >= 5_000_000, "it aims at 10 ms: {row:?}");
            let sides = rounds.entry((row.cell, row.boot, row.round)).or_default();
            assert!(sides.insert(row.side.clone()), "twice in a round: {row:?}");
        }
    }
    let expected: Vec<_> = (0..2)
        .flat_map(|cell| (0..4).flat_map(move |boot| (0..3).map(move |round| (cell, boot, round))))
        .collect();
    assert!(rounds.keys().copied().eq(expected), "{:?}", rounds.keys());
    for (round, sides) in rounds {
        assert!(sides.iter().eq(SIDES), "{round:?} has {sides:?}");
    }
}

/// The sides of all rounds in the order of their clock.
fn order(run: &RunDir) -> Vec<((u32, u32, u32), String)> {
    let mut rows = run.samples();
    rows.retain(|row| !row.is_warmup());
    rows.sort_by_key(|row| (row.cell, row.boot, row.round, row.at_nanos));
    rows.into_iter()
        .map(|row| ((row.cell, row.boot, row.round), row.side))
        .collect()
}

#[test]
fn the_seed_decides_the_order_of_the_sides() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage.file("tiny.toml", &scenario::tiny("10%"));
    for (seed, out) in [("7", "first"), ("7", "again"), ("8", "other")] {
        let _ = stage
            .vtax(&format!("run tiny.toml --seed {seed} --out {out}"))
            .run();
        assert_eq!(
            stage.run_dir(out).record()["plan"]["seed"].to_string(),
            seed
        );
    }
    let [first, again, other] = ["first", "again", "other"].map(|out| order(&stage.run_dir(out)));
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[test]
fn json_is_one_object_of_the_promised_shape() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage.file("tiny.toml", &scenario::tiny("10%"));
    let outcome = stage.vtax("run tiny.toml --out run --json").run();
    let results = outcome.json();
    outcome.exits(code_of(&results["headline"]["verdict"]));
    assert_eq!(results, stage.run_dir("run").json("results.json"));

    assert_eq!(results["schema"], 2);
    assert!(results["host"]["facts"]["kernel"]["value"].is_string());
    assert_eq!(results["payload_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(results["interrupted"], false);
    assert_eq!(results["vtax_version"], env!("CARGO_PKG_VERSION"));
    assert!(results["started"].as_str().unwrap() < results["finished"].as_str().unwrap());
    assert_eq!(
        results["headline"]["reason"],
        results["headline"]["sentence"]
    );
    assert!(
        results["headline"]["sentence"]
            .as_str()
            .unwrap()
            .contains("10 %")
    );

    let cells = results["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 2);
    for (cell, workload, unit, direction, parameters) in [
        (&cells[0], "cpu-hash", "GB/s", "higher is better", "{}"),
        (
            &cells[1],
            "mem-latency",
            "ns/load",
            "lower is better",
            r#"{"size":"16KiB"}"#,
        ),
    ] {
        assert_eq!(cell["scenario"], "tiny");
        assert_eq!(cell["workload"], workload);
        assert_eq!(cell["unit"], unit);
        assert_eq!(cell["direction"], direction);
        assert_eq!(cell["parameters"].to_string(), parameters);
        let positive = |value: &Value| value.as_f64().is_some_and(|value| value > 0.0);
        assert!(positive(&cell["native"]["median"]), "{cell}");
        assert!(positive(&cell["guest"]["median"]), "{cell}");
        let [value, low, high, confidence] = ["value", "low", "high", "confidence"]
            .map(|name| cell["ratio"][name].as_f64().unwrap());
        assert!(0.0 < low && low <= value && value <= high, "{cell}");
        assert_eq!(confidence, 0.95);
        assert!(
            cell["noise_floor"]
                .as_f64()
                .is_some_and(|floor| floor >= 0.0),
            "{cell}"
        );
        assert!(matches!(cell["boots"].as_u64(), Some(2..=4)), "{cell}");
        assert!(matches!(cell["rounds"].as_u64(), Some(2..=12)), "{cell}");
        assert!(
            cell["voided"]
                .as_object()
                .unwrap()
                .values()
                .all(Value::is_u64),
            "{cell}"
        );
        assert!(code_of(&cell["verdict"]) <= 4, "{cell}");
        assert!(!cell["reason"].as_str().unwrap().is_empty(), "{cell}");
    }
}

#[test]
fn a_claim_that_cannot_hold_is_refuted() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage.file("slow.toml", scenario::SLOW);
    let outcome = stage.vtax("run slow.toml --out run").run();
    outcome.exits(3);
    assert!(outcome.stdout.contains("refuted"), "{outcome:#?}");
    let results = stage.run_dir("run").json("results.json");
    assert_eq!(results["headline"]["verdict"], "refuted");

    // The ratio is performance: more nanoseconds a page are less than 1.
    let cell = &results["cells"][0];
    let [native, guest] = ["native", "guest"].map(|side| cell[side]["median"].as_f64().unwrap());
    assert!(guest > native, "{cell}");
    assert!(cell["ratio"]["high"].as_f64().unwrap() < 1.0, "{cell}");
}

#[test]
fn exports_are_what_their_readers_expect() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage.file("tiny.toml", &scenario::tiny("10%"));
    let outcome = stage
        .vtax(
            "run tiny.toml --out run --export-json r.json --export-csv r.csv --export-markdown r.md \
             --export-junit -",
        )
        .run();
    let results = stage.run_dir("run").json("results.json");
    let read = |name: &str| std::fs::read_to_string(stage.path(name)).unwrap();

    let json: Value = serde_json::from_str(&read("r.json")).unwrap();
    assert_eq!(json, results);

    let text = read("r.csv");
    let mut csv = csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<BTreeMap<String, String>> = csv.deserialize().collect::<Result<_, _>>().unwrap();
    let labels: Vec<&str> = rows.iter().map(|row| row["label"].as_str()).collect();
    assert_eq!(labels, ["cpu-hash", "mem-latency size=16KiB"]);
    for (row, cell) in rows.iter().zip(results["cells"].as_array().unwrap()) {
        assert_eq!(row["ratio"].parse().ok(), cell["ratio"]["value"].as_f64());
    }

    let markdown = read("r.md");
    assert_eq!(
        markdown
            .lines()
            .filter(|line| line.starts_with('|'))
            .count(),
        4,
        "{markdown}"
    );

    // `-` is stdout, and stdout then holds nothing else.
    let junit = quick_junit::Report::deserialize_from_str(&outcome.stdout).unwrap();
    let suite = &junit.test_suites[0];
    let names: Vec<&str> = suite
        .test_cases
        .iter()
        .map(|case| case.name.as_str())
        .collect();
    let mut cases = vec!["claim"];
    cases.extend(&labels);
    assert_eq!((suite.name.as_str(), names), ("tiny", cases));
}

#[test]
fn quiet_is_quiet_and_the_default_directory_is_the_users_state() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage.file("tiny.toml", &scenario::tiny("10%"));
    let outcome = stage.vtax("run tiny.toml --quiet --filter cpu-hash").run();
    assert_eq!(outcome.stderr, "");
    assert!(!outcome.stdout.contains("mem-latency"), "{outcome:#?}");
    let runs = std::fs::read_dir(stage.path(".local/state/vtax/runs")).unwrap();
    let names: Vec<_> = runs
        .map(|run| run.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        matches!(&names[..], [name] if name.ends_with("-tiny")),
        "{names:?}"
    );
}

#[test]
fn a_dry_run_says_what_it_would_measure_and_does_not() {
    let stage = Stage::new();
    stage.file("tiny.toml", &scenario::tiny("10%"));
    let outcome = stage.vtax("run tiny.toml --dry-run --out run").run();
    outcome.exits(0);
    assert!(
        outcome.stdout.contains("mem-latency size=16KiB"),
        "{outcome:#?}"
    );
    assert!(!stage.path("run").exists());
}

#[test]
fn every_run_names_the_image_that_it_measured() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage.file("tiny.toml", &scenario::tiny("10%"));
    let image = Sha256::digest(vtax_guest_images::BARE_ELF);
    let image: String = image.iter().map(|byte| format!("{byte:02x}")).collect();
    for out in ["one", "two"] {
        let _ = stage
            .vtax(&format!("run tiny.toml --filter cpu-hash --out {out}"))
            .run();
        assert_eq!(
            stage.run_dir(out).record()["payload_sha256"],
            image.as_str()
        );
    }
}
