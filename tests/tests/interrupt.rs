//! Runs that end before their time: nothing that was measured is lost.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use vtax_tests::{Running, Stage, scenario};

/// Starts the long scenario and waits until it has measured some boots, with about ten rows each.
fn in_the_middle(stage: &Stage) -> Running {
    stage.file("long.toml", scenario::LONG);
    let mut running = stage.vtax_with_hangups("run long.toml --out run").start();
    let run = stage.run_dir("run");
    running.wait_until(|| run.rows_so_far() > 80);
    running
}

#[test]
fn an_interrupted_run_is_reported_up_to_there() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let Some(stage) = Stage::with_kvm() else {
            return;
        };
        let mut running = in_the_middle(&stage);
        let rows = stage.run_dir("run").rows_so_far();
        running.signal(signal);
        let outcome = running.wait();
        let run = stage.run_dir("run");

        outcome.exits(130);
        assert!(outcome.stdout.contains("cpu-hash"), "{outcome:#?}");
        assert_eq!(run.record()["interrupted"], true);
        assert!(run.record()["finished"].is_string());
        assert!(run.samples().len() >= rows);
        assert_eq!(run.json("results.json")["interrupted"], true);
        assert_eq!(
            run.events().last().map(String::as_str),
            Some("run-finished")
        );

        let page = run.text("report.html");
        std::fs::remove_file(run.path().join("report.html")).unwrap();
        stage.vtax("report run").run().exits(130);
        assert_eq!(run.text("report.html"), page);
    }
}

/// Starts an experiment that takes many seconds, and waits until it is in its midst.
fn growing(stage: &Stage) -> Running {
    stage.file(
        "growth.toml",
        r#"schema = 1
name = "growth"

[measure]
budget = "10min"

[[experiment]]
kind = "growth"
repetitions = 2
params = { growth = "4GiB" }
"#,
    );
    let mut running = stage.vtax("run growth.toml --out run").start();
    let log = stage.run_dir("run").path().join("events.jsonl");
    running.wait_until(|| {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("experiment-started"))
    });
    std::thread::sleep(Duration::from_millis(500));
    running
}

#[test]
fn an_experiment_is_over_soon_when_nobody_wants_it() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let mut running = growing(&stage);
    running.signal(Signal::INT);
    let start = Instant::now();
    running.wait().exits(130);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    // What was cut short did not fail.
    let record = stage.run_dir("run").record();
    assert_eq!(record["experiments_not_measured"], serde_json::json!({}));
}

#[test]
fn a_third_signal_ends_it_at_once_and_says_what_that_leaves() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let mut running = growing(&stage);
    // Two of one kind might be one to the kernel.
    running.signal(Signal::INT).signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(3));
    running.signal(Signal::INT);
    running.wait().exits(130).prints_nothing().complains(&[
        "a third signal ends it at once",
        "ended at once; `vtax host restore` puts back",
    ]);
    assert!(stage.run_dir("run").record()["finished"].is_null());
}

#[test]
fn a_killed_run_is_reported_from_its_samples() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let mut running = in_the_middle(&stage);
    running.signal(Signal::KILL);
    assert_eq!(running.wait().signal(), Some(Signal::KILL.as_raw()));
    let run = stage.run_dir("run");
    assert!(run.record()["finished"].is_null());
    assert!(!run.path().join("report.html").exists());

    let outcome = stage.vtax("report run --json").run();
    outcome.complains(&["never finished"]);
    let cell = &outcome.json()["cells"][0];
    assert!(cell["ratio"]["value"].is_f64(), "{cell}");
    assert!(run.text("report.html").contains("never finished"));
}

#[test]
fn a_torn_last_line_is_dropped_and_said() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let mut running = in_the_middle(&stage);
    running.signal(Signal::KILL);
    let _ = running.wait();
    let run = stage.run_dir("run");
    let text = run.text("samples.csv");
    stage.file("run/samples.csv", &text[..text.len() - 10]);
    let outcome = stage.vtax("report run").run();
    outcome.complains(&["samples.csv"]);
    assert!(
        run.text("report.html").contains("samples.csv"),
        "{outcome:#?}"
    );
}
