//! Runs that end before their time: nothing that was measured is lost.

use rustix::process::Signal;
use vtax_tests::{Running, Stage, scenario};

/// Starts the long scenario and waits until it has measured some boots, with about ten rows each.
fn in_the_middle(stage: &Stage) -> Running {
    stage.file("long.toml", scenario::LONG);
    let mut running = stage.vtax("run long.toml --out run").start();
    let run = stage.run_dir("run");
    running.wait_until(|| run.rows_so_far() > 80);
    running
}

#[test]
fn an_interrupted_run_is_reported_up_to_there() {
    for signal in [Signal::INT, Signal::TERM] {
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
