//! Guests that fail on purpose: each costs its own cell and nothing else.

use std::time::{Duration, Instant};

use serde_json::Value;
use vtax_tests::{Outcome, Stage, scenario};

/// Runs the scenario of a healthy cell beside these and returns the results.
fn run(stage: &Stage, faults: &[&str]) -> (Outcome, Value) {
    stage.file("faulty.toml", &scenario::healthy_and(faults));
    let outcome = stage.vtax("run faulty.toml --out run").run();
    let results = stage.run_dir("run").json("results.json");
    (outcome, results)
}

fn cell<'a>(results: &'a Value, workload: &str) -> &'a Value {
    let cells = results["cells"].as_array().expect("cells");
    cells
        .iter()
        .find(|cell| cell["workload"] == workload)
        .unwrap_or_else(|| panic!("no {workload} in {results}"))
}

/// RIP within the image, and CR2.
const PLACE: [&str; 2] = ["RIP 0x3fe", "CR2 0x"];

/// The cell failed with all of these words.
fn failed_with(results: &Value, workload: &str, words: &[&str]) {
    let cell = cell(results, workload);
    let reason = cell["reason"].as_str().expect("every cell has a reason");
    assert_eq!(cell["failed"], true, "{cell}");
    assert_eq!(cell["verdict"], "not_testable", "{cell}");
    assert_eq!(cell["ratio"], Value::Null, "{cell}");
    for word in words.iter().chain(&["guest fault"]) {
        assert!(reason.contains(word), "{workload} lacks {word:?}: {reason}");
    }
}

fn is_measured(results: &Value, workload: &str) {
    let cell = cell(results, workload);
    assert_eq!(cell["failed"], false, "{cell}");
    assert!(cell["ratio"]["value"].is_f64(), "{cell}");
}

#[test]
fn faults_are_named_and_cost_their_own_cell_alone() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let faults = ["fault-page", "fault-ud", "fault-gp", "fault-triple"];
    let (outcome, results) = run(&stage, &faults);

    outcome.exits(1);
    failed_with(&results, "fault-page", &["#PF page fault", "ring 3"]);
    failed_with(&results, "fault-page", &["CR2 0x700000000000"]);
    failed_with(&results, "fault-ud", &["#UD invalid opcode", "ring 3"]);
    failed_with(&results, "fault-gp", &["#GP general protection", "ring 3"]);
    for workload in ["fault-page", "fault-ud", "fault-gp"] {
        failed_with(&results, workload, &PLACE);
    }
    // SVM leaves no place after a triple fault; the reason then says so.
    failed_with(&results, "fault-triple", &["triple fault", "RIP", "CR2"]);
    is_measured(&results, "cpu-hash");
    is_measured(&results, "mem-latency");

    // Who looks at the screen, the record or the report learns it too.
    outcome.complains(&["fault-page", "#PF page fault", "#UD", "#GP", "triple fault"]);
    assert!(outcome.stdout.contains("failed"), "{outcome:#?}");
    let run = stage.run_dir("run");
    assert_eq!(run.record()["not_measured"].as_object().unwrap().len(), 4);
    let failures = run
        .events()
        .iter()
        .filter(|event| *event == "guest-failed")
        .count();
    assert_eq!(failures, 4);
    assert!(run.text("report.html").contains("#PF page fault"));
}

#[test]
fn a_guest_that_storms_exits_or_sleeps_for_ever_is_stopped_too() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let faults = ["fault-storm", "fault-halt"];
    let (outcome, results) = run(&stage, &faults);
    outcome.exits(1);
    for fault in faults {
        failed_with(&results, fault, &["no answer within", "stopped"]);
        failed_with(&results, fault, &PLACE);
    }
    failed_with(&results, "fault-storm", &["exits to the VMM"]);
    is_measured(&results, "cpu-hash");
    is_measured(&results, "mem-latency");
}

#[test]
fn a_guest_that_hangs_is_stopped_and_named() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let start = Instant::now();
    let (outcome, results) = run(&stage, &["fault-hang"]);
    assert!(start.elapsed() < Duration::from_secs(60), "{outcome:#?}");
    outcome.exits(1);
    failed_with(&results, "fault-hang", &["no answer within", "hung"]);
    failed_with(&results, "fault-hang", &PLACE);
    is_measured(&results, "cpu-hash");
}
