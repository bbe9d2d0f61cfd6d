//! Experiments with guests of their own: each kind brings values that this host's physics allow.

use serde_json::Value;
use vtax_tests::{Mergeable, Stage, skip};

const SCENARIO: &str = r#"schema = 1
name = "several"

[measure]
budget = "30s"

[claim]
words = "No guest gets beyond its memory."
metric = { experiment = "isolation", name = "escape", at-most = "20%" }

[[experiment]]
kind = "weights"
repetitions = 2
params = { first = 1000 }

[[experiment]]
kind = "quota"
repetitions = 2
params = { percent = 20 }

[[experiment]]
kind = "isolation"
repetitions = 2
params = { attempts = 20 }

[[experiment]]
kind = "ksm"
repetitions = 2
params = { guests = 3, memory = "16MiB", zero-percent = 20, common-percent = 40 }

[[experiment]]
kind = "growth"
repetitions = 2
params = { memory = "32MiB", growth = "16MiB" }

[[experiment]]
kind = "density"
repetitions = 2
params = { load = 50, most = 8 }
"#;

/// The values of a metric in `trials.csv`, points of time series left out.
fn values(trials: &str, metric: &str) -> Vec<f64> {
    let mut lines = trials.lines();
    let header: Vec<&str> = lines
        .next()
        .expect("trials.csv has a header")
        .split(',')
        .collect();
    let column = |name: &str| {
        header
            .iter()
            .position(|it| *it == name)
            .expect("the column is there")
    };
    let (named, at, value) = (column("metric"), column("at_nanos"), column("value"));
    lines
        .map(|line| line.split(',').collect::<Vec<&str>>())
        .filter(|row| row[named] == metric && row[at].is_empty())
        .map(|row| row[value].parse().expect("a value is a number"))
        .collect()
}

#[test]
fn several_guests_share_a_cpu_stay_in_their_memory_and_share_pages() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage.file("several.toml", SCENARIO);
    // More than the experiment's guests have, and none of its business.
    let _others = Mergeable::new(64 << 20);
    let outcome = stage.vtax("run several.toml --out run").run();
    outcome.exits(0);
    let run = stage.run_dir("run");
    let trials = run.text("trials.csv");
    let over = run.record()["experiments_not_measured"].clone();
    let measured = |id: usize, kind: &str| {
        let why = over.get(id.to_string()).unwrap_or(&Value::Null);
        let lacks = why.get("NotTestable").or(why.get("not_testable"));
        if let Some(lacks) = lacks {
            skip(&format!("{kind}: {lacks}"));
        }
        assert!(lacks.is_some() || why.is_null(), "{kind}: {why}");
        lacks.is_none()
    };
    let each = |metric: &str, low: f64, high: f64| {
        let found = values(&trials, metric);
        assert!(found.len() >= 2, "{metric}: {found:?}");
        for value in found {
            assert!((low..=high).contains(&value), "{metric}: {value}");
        }
    };
    if measured(0, "weights") {
        // Were both to get the same, it would be 0.55.
        each("share", 0.8, 1.1);
    }
    if measured(1, "quota") {
        // Without a quota it would be 2.5.
        each("used", 0.5, 1.5);
    }
    if measured(2, "isolation") {
        let tried = values(&trials, "escape");
        assert!(tried.len() >= 40, "{}", tried.len());
        assert!(tried.iter().all(|&escaped| escaped == 0.0), "{tried:?}");
    }
    if measured(3, "ksm") {
        // Nearly all of the 20 % of zeros, and two thirds of the 40 % that three guests have alike.
        each("saved", 0.4, 0.5);
        each("gain", 1.6, 2.0);
        each("settled", 1e6, 6e10);
    }
    if measured(4, "growth") {
        // 4096 pages cannot be faulted in in less, and the guest is given up later.
        each("usable", 1e6, 1e10);
        each("plugged", 1e3, 1e10);
        each("shrunk", 1e3, 1e10);
        each("returned", 0.9, 1.1);
        let (plugged, usable) = (values(&trials, "plugged"), values(&trials, "usable"));
        assert!(
            plugged
                .iter()
                .zip(&usable)
                .all(|(plugged, usable)| plugged < usable)
        );
        let has_two_cpus = std::thread::available_parallelism().is_ok_and(|it| it.get() > 1);
        if has_two_cpus {
            each("pause", 1e2, 1e10);
            each("calm", 1e2, 1e10);
        }
    }
    if measured(5, "density") {
        each("loss", -10.0, 1.0);
        // Eight halves of a CPU and a whole one are more than four CPUs have to spare; more may have room for all.
        if std::thread::available_parallelism().is_ok_and(|it| it.get() <= 4) {
            each("guests-10", 0.0, 8.0);
        } else {
            let lacks = &run.record()["metrics_unavailable"]["5"]["guests-10"];
            let found = values(&trials, "guests-10").len();
            assert!(found == 2 || lacks.is_string(), "{found} {lacks}");
        }
    }
}
