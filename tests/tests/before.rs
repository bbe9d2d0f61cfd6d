//! What is told before anything is measured: one judgement of what the host lacks, and of what could not be written.

use serde_json::Value;
use vtax_tests::{Stage, scenario};

/// A comparison whose pair no host can have, beside cells that any host can measure.
const NO_PAIR: &str = r#"schema = 1
name = "no-pair"

[guest]
memory = "16MiB"

[claim]
words = "Huge pages cost nothing."
compare = { of = { "guest.pinning" = "[4000]" }, against = { "guest.pinning" = "none" }, what = "rate", at-least = "1%" }

[[workload]]
name = "cpu-hash"

[matrix]
"guest.pinning" = ["none", "one-to-one", [4000]]
"#;

#[test]
fn every_command_says_the_same_of_what_the_host_lacks() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage.file("no-pair.toml", NO_PAIR);
    let lack = "vtax may not run on CPU 4000, or there is none";
    let run = stage.vtax("run no-pair.toml --out run").run();
    run.exits(5).prints_nothing().complains(&[
        "not testable here: ",
        lack,
        "no-pair.toml:15:42",
        "2 of 3 cells",
    ]);
    assert!(!stage.path("run").exists());
    let check = stage.vtax("scenario check no-pair.toml").run();
    check.exits(5).complains(&[lack]);
    assert!(!check.stderr.contains("error"), "{check:#?}");
    assert!(check.stdout.contains("2 of 3 cells"), "{check:#?}");
    let claims = stage.vtax("claims no-pair.toml --out suite --json").run();
    let suite = claims.exits(5).json();
    let claim = &suite["claims"][0];
    assert_eq!(claim["verdict"], "not_testable");
    assert!(claim["reason"].as_str().unwrap().contains(lack), "{claim}");
    assert_eq!(claim["reason"], claim["sentence"]);
    let dry = stage.vtax("run no-pair.toml --dry-run").run();
    dry.exits(0);
    let marked = |line: &&str| line.trim_end().ends_with("not testable");
    let marked: Vec<&str> = dry.stdout.lines().filter(marked).collect();
    assert!(
        matches!(&marked[..], [line] if line.contains("[4000]")),
        "{dry:#?}"
    );
    assert!(dry.stdout.contains(lack), "{dry:#?}");
}

#[test]
fn all_lacks_are_told_at_once() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let text = scenario::tiny("10%").replace(
        "memory = \"16MiB\"",
        "memory = \"16MiB\"\nnuma-node = 1000\npinning = [4000]",
    );
    stage.file("two.toml", &text);
    for line in ["scenario check two.toml", "run two.toml --out run"] {
        let outcome = stage.vtax(line).run();
        outcome.exits(5).complains(&["NUMA node 1000", "CPU 4000"]);
    }
}

#[test]
fn what_cannot_be_written_is_told_before_anything_is_measured() {
    let stage = Stage::new();
    stage.file("tiny.toml", &scenario::tiny("10%"));
    for (options, words) in [
        ("--export-csv none/r.csv", "none/r.csv cannot be written"),
        ("--export-junit /proc/vtax.xml", "/proc/vtax.xml"),
        ("--out tiny.toml/run", "tiny.toml/run cannot be written"),
        ("--out /proc/run", "/proc/run"),
        ("--json --export-csv -", "stdout takes one"),
        ("--export-markdown - --export-csv -", "stdout takes one"),
    ] {
        for command in ["run tiny.toml", "claims tiny.toml"] {
            let outcome = stage.vtax(&format!("{command} {options}")).run();
            outcome.exits(2).prints_nothing().complains(&[words]);
        }
    }
    assert!(!stage.path(".local").exists(), "nothing was begun");
}

#[test]
fn a_budget_below_the_pilots_is_told() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage.file("tiny.toml", &scenario::tiny("10%"));
    let outcome = stage.vtax("run tiny.toml --budget 100ms --out run").run();
    outcome.complains(&["tiny: the pilots take 720 ms", "--budget 1s or more"]);
    let enough = stage.vtax("run tiny.toml --budget 1s --out again").run();
    assert!(!enough.stderr.contains("the pilots"), "{enough:#?}");
}

#[test]
fn a_filter_that_takes_the_claims_cells_away_leaves_nothing_to_blame_the_host_for() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let text = scenario::tiny("10%").replace("over = \"all\"", "over = \"cpu\"");
    stage.file("tiny.toml", &text);
    let outcome = stage
        .vtax("run tiny.toml --filter mem-* --out run --json")
        .run();
    let results = outcome.exits(0).json();
    let reason = results["headline"]["reason"].as_str().unwrap();
    assert!(reason.contains("--filter \"mem-*\" left out"), "{reason}");
    assert_eq!(results["cells"][0]["verdict"], "cost");
}

/// A claim about CPU work, beside memory work that no machine does as fast in a guest.
#[test]
fn junit_fails_where_the_claim_does() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let beside = scenario::SLOW.replace("ratio = \"100%\"", "ratio = \"50%\"\nover = \"cpu\"")
        + "\n[[workload]]\nname = \"cpu-hash\"\n";
    stage
        .file("beside.toml", &beside.replace("\"50%\"", "\"10%\""))
        .file("slow.toml", scenario::SLOW);
    for (name, code, failures) in [("beside", 0, 0), ("slow", 3, 2)] {
        let line = format!("run {name}.toml --out {name} --export-junit {name}.xml");
        stage.vtax(&line).run().exits(code);
        let text = std::fs::read_to_string(stage.path(&format!("{name}.xml"))).unwrap();
        let junit = quick_junit::Report::deserialize_from_str(&text).unwrap();
        assert_eq!(junit.failures, failures, "{text}");
    }
    let results: Value = stage.run_dir("beside").json("results.json");
    let touched = &results["cells"][0];
    assert_eq!(touched["verdict"], "cost", "{touched}");
    assert!(touched["ratio"]["high"].as_f64().unwrap() < 1.0);
}

#[test]
fn a_killed_run_is_reported_as_interrupted() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage.file("long.toml", scenario::LONG);
    let mut running = stage.vtax("run long.toml --out run").start();
    let run = stage.run_dir("run");
    running.wait_until(|| run.rows_so_far() > 60);
    running.signal(rustix::process::Signal::KILL);
    assert_eq!(running.wait().signal(), Some(9));
    let report = stage.vtax("report run --json").run();
    let results = report.exits(130).json();
    assert_eq!(results["interrupted"], true);
    assert_eq!(results["vtax_version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(results["started"], run.record()["started"]);
    assert_eq!(results["finished"], Value::Null);
    assert_eq!(results, run.json("results.json"));
}
