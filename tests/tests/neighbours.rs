//! Runs beside neighbours: they are told, they do their work, and none outlives its run, however that ends.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use vtax_tests::{RunDir, Stage};

/// One neighbour or none, beside a cell that is over in a moment.
const BESIDE: &str = r#"schema = 1
name = "beside"

[guest]
memory = "16MiB"

[measure]
precision = "20%"
block = "10ms"
rounds = 2
pilot-boots = 3
max-boots = 3

[claim]
ratio = "10%"

[[neighbour]]
name = "burner"
work = "cpu"
memory = "16MiB"

[[neighbour]]
work = "triple-fault"
memory = "16MiB"
period = "5ms"

[[workload]]
name = "cpu-hash"

[matrix]
"neighbour.burner.count" = [0, 2]
"#;

fn events(run: &RunDir, name: &str) -> Vec<Value> {
    run.text("events.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .filter(|event: &Value| event["event"] == name)
        .collect()
}

/// Whether it runs; one that has ended and waits to be reaped does not.
fn is_running(process: &Value) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|text| !text.contains(") Z "))
}

#[test]
fn neighbours_work_beside_every_boot_and_the_log_says_what_they_did() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage.file("beside.toml", BESIDE);
    let explained = stage.vtax("scenario explain beside.toml").run();
    explained.exits(0);
    assert!(
        explained.stdout.contains("2 × cpu (burner)"),
        "{explained:#?}"
    );
    let outcome = stage.vtax("run beside.toml --out run").run();
    let run = stage.run_dir("run");
    assert!(matches!(outcome.code(), Some(0 | 3 | 4)), "{outcome:#?}");
    let (started, stopped) = (
        events(&run, "neighbour-started"),
        events(&run, "neighbour-stopped"),
    );
    // Three boots of a cell with one, three of a cell with three.
    assert_eq!((started.len(), stopped.len()), (12, 12));
    for (started, stopped) in started.iter().zip(&stopped) {
        for key in ["cell", "boot", "neighbour", "copy", "process"] {
            assert_eq!(started[key], stopped[key], "{started} {stopped}");
        }
        let grown = |key: &str| stopped[key].as_u64().unwrap() - started[key].as_u64().unwrap();
        assert!(grown("cpu_nanos") > 0, "{started} {stopped}");
        match started["neighbour"].as_str().unwrap() {
            "burner" => assert!(grown("units") > 0, "{started} {stopped}"),
            "triple-fault" => assert!(grown("faults") > 0, "{started} {stopped}"),
            other => panic!("a neighbour {other}"),
        }
        assert!(!is_running(&started["process"]));
        for group in started["cgroups"].as_array().unwrap() {
            assert!(!Path::new(group.as_str().unwrap()).exists(), "{group}");
        }
    }
    // Neighbours that crash have left the guest's data alone.
    assert!(
        run.samples()
            .iter()
            .all(|row| !row.marks.contains("checksum"))
    );
    let record = run.record();
    assert_eq!(record["plan"]["cells"][1]["neighbours"][0]["count"], 2);
    assert!(run.text("report.html").contains("2 × cpu (burner)"));
}

#[test]
fn no_neighbour_outlives_a_killed_run_and_the_next_one_removes_their_groups() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let long = BESIDE
        .replace("pilot-boots = 3", "pilot-boots = 500")
        .replace("max-boots = 3", "max-boots = 500");
    stage.file("beside.toml", BESIDE).file("long.toml", &long);
    let mut running = stage.vtax("run long.toml --out killed").start();
    let killed = stage.run_dir("killed");
    running.wait_until(|| killed.rows_so_far() > 30);
    running.signal(Signal::KILL);
    let _ = running.wait();

    let started = events(&killed, "neighbour-started");
    let deadline = Instant::now() + Duration::from_secs(10);
    while started.iter().any(|event| is_running(&event["process"])) {
        assert!(
            Instant::now() < deadline,
            "neighbours are left: {started:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }

    let _ = stage.vtax("run beside.toml --out next").run();
    for event in &started {
        for group in event["cgroups"].as_array().unwrap() {
            assert!(!Path::new(group.as_str().unwrap()).exists(), "{group}");
        }
    }
}

#[test]
fn a_neighbour_that_the_host_cannot_give_is_said_before_anything_runs() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let far = BESIDE.replace("work = \"cpu\"\n", "work = \"cpu\"\npinning = [1000]\n");
    stage.file("far.toml", &far);
    let outcome = stage.vtax("scenario check far.toml").run();
    outcome.exits(0);
    outcome.complains(&["not testable here", "CPU 1000", "far.toml"]);
}

#[test]
fn the_hidden_command_is_not_for_people() {
    let stage = Stage::new();
    let outcome = stage.vtax("neighbour").run();
    outcome.exits(1);
    outcome.complains(&["started by vtax alone"]);
    assert!(!stage.vtax("--help").run().stdout.contains("neighbour"));
}
