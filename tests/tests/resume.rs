//! Runs that are killed or interrupted and go on: every planned boot is in the record once, and none that was finished is
//! measured again.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::Value;
use vtax_tests::{RunDir, Stage, scenario};

const BOOTS: u32 = 6;
const ROUNDS: u32 = 3;

/// Two cells of six boots each.
fn six_boots() -> String {
    scenario::tiny("10%").replace("-boots = 4", "-boots = 6")
}

/// Runs `line` until so many rows are on disk, then sends the signal.
fn cut_short(stage: &Stage, line: &str, rows: usize, signal: Signal) {
    let mut running = stage.vtax(line).start();
    let run = stage.run_dir("run");
    running.wait_until(|| run.rows_so_far() > rows);
    running.signal(signal);
    let _ = running.wait();
}

/// A stage with a run of six boots a cell, cut short by `signal` after the first boots.
fn stage(signal: Signal) -> Option<Stage> {
    let stage = Stage::with_kvm()?;
    stage.file("six.toml", &six_boots());
    cut_short(&stage, "run six.toml --out run", 40, signal);
    Some(stage)
}

/// Each boot of the plan has each of its blocks once, and all of a cell's blocks are of one size.
fn is_whole(run: &RunDir) {
    let mut blocks: BTreeMap<(u32, u32), Vec<(u32, String)>> = BTreeMap::new();
    let mut sizes: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    let samples = run.samples();
    for row in samples.iter().filter(|row| !row.is_warmup()) {
        let boot = blocks.entry((row.cell, row.boot)).or_default();
        boot.push((row.round, row.side.clone()));
        sizes.entry(row.cell).or_default().push(row.iterations);
    }
    let planned: Vec<(u32, u32)> = (0..2)
        .flat_map(|cell| (0..BOOTS).map(move |boot| (cell, boot)))
        .collect();
    assert!(blocks.keys().copied().eq(planned), "{blocks:?}");
    for (boot, mut found) in blocks {
        found.sort();
        let sides = ["control", "guest", "native"];
        let wanted = (0..ROUNDS).flat_map(|round| sides.map(|side| (round, side.to_owned())));
        assert!(found.iter().cloned().eq(wanted), "{boot:?}: {found:?}");
    }
    for (cell, sizes) in sizes {
        assert!(
            sizes.iter().all(|size| *size == sizes[0]),
            "cell {cell}: {sizes:?}"
        );
    }
    let times: Vec<u64> = samples.iter().map(|row| row.at_nanos).collect();
    assert!(times.is_sorted(), "{times:?}");
    // One row of counters for each block that is no warm-up.
    let counted = run.text("counters.csv").lines().count() - 1;
    assert_eq!(counted, 2 * 6 * 3 * 3);
}

/// How many boots of the last session were kept and dropped.
fn kept_and_dropped(record: &Value) -> (u64, u64) {
    let sessions = record["resumed"].as_array().expect("a list of sessions");
    let last = sessions.last().expect("the run was resumed");
    let number = |name: &str| last[name].as_u64().expect("a number");
    (number("boots_kept"), number("boots_dropped"))
}

#[test]
fn a_killed_run_goes_on_where_it_was_killed() {
    let Some(stage) = stage(Signal::KILL) else {
        return;
    };
    let run = stage.run_dir("run");
    let before = run.text("samples.csv");
    // As a kill in the middle of a write leaves it.
    for log in ["samples.csv", "counters.csv", "events.jsonl"] {
        stage.file(&format!("run/{log}"), &(run.text(log) + "1,7"));
    }
    cut_short(
        &stage,
        "run --resume run",
        before.lines().count() + 20,
        Signal::KILL,
    );
    assert_eq!(kept_and_dropped(&run.record()).1, 1);
    let middle = run.text("samples.csv");
    let outcome = stage.vtax("run --resume run --budget 90s").run();
    outcome.exits(0);
    is_whole(&run);
    let (text, record) = (run.text("samples.csv"), run.record());
    let (kept, _) = kept_and_dropped(&record);
    assert!((3..12).contains(&kept), "{record}");
    // What was finished stands as it stood.
    let of_first: String = before.lines().take(30).collect();
    assert!(text.lines().collect::<String>().starts_with(&of_first));
    assert!(text.len() > middle.len());
    assert_eq!(record["resumed"].as_array().unwrap().len(), 2);
    assert_eq!(record["interrupted"], false);
    assert!(record["finished"].is_string());
    assert_eq!(record["plan"]["budget_nanos"], 90_000_000_000_u64);
    let events = run.events();
    let named = |name: &str| events.iter().filter(|event| *event == name).count();
    assert_eq!(named("run-resumed"), 2);
    assert_eq!(named("guest-stopped"), 12);
    assert!(run.text("report.html").contains("went on at"));

    let bytes = run.text("run.json");
    let again = stage.vtax("run --resume run").run();
    again.exits(0).complains(&["nothing to do"]);
    assert_eq!(run.text("run.json"), bytes);
}

#[test]
fn an_interrupted_run_goes_on_with_the_boot_that_was_cut_short() {
    let Some(stage) = stage(Signal::INT) else {
        return;
    };
    let run = stage.run_dir("run");
    assert_eq!(run.record()["interrupted"], true);
    stage.vtax("run --resume run").run().exits(0);
    is_whole(&run);
    let record = run.record();
    assert_eq!(record["interrupted"], false);
    assert_eq!(run.json("results.json")["interrupted"], false);
    assert!(kept_and_dropped(&record).0 >= 2, "{record}");
}

#[test]
fn a_run_goes_on_only_as_it_was_planned_and_where_it_began() {
    let Some(stage) = stage(Signal::KILL) else {
        return;
    };
    for option in ["--seed 2", "--precision 1%", "--filter cpu", "--out other"] {
        let line = format!("run --resume run {option}");
        let refused = stage.vtax(&line).run();
        refused.exits(2).complains(&["cannot be used with"]);
    }
    let other = stage.vtax("run six.toml --resume run").run();
    other.exits(2).complains(&["cannot be used with"]);
    let shorter = stage.vtax("run --resume run --budget 1s").run();
    shorter.exits(2).complains(&["extended, not cut"]);
    let nothing = stage.vtax("run --resume nothing").run();
    nothing.exits(2).complains(&["is not a run directory"]);

    let run = stage.run_dir("run");
    let (record, samples) = (run.record(), run.text("samples.csv"));
    let edited = |edit: &dyn Fn(&mut Value), code: i32, words: &[&str]| {
        let mut changed = record.clone();
        edit(&mut changed);
        stage.file("run/run.json", &changed.to_string());
        let refused = stage.vtax("run --resume run").run();
        refused.exits(code).prints_nothing().complains(words);
        assert_eq!(run.record(), changed);
        assert_eq!(run.text("samples.csv"), samples);
    };
    edited(
        &|record| record["vtax_version"] = "0.0.1".into(),
        2,
        &["vtax 0.0.1 measured it", "start a new run"],
    );
    edited(
        &|record| record["payload_sha256"] = "ab".into(),
        2,
        &["image ab measured it"],
    );
    edited(
        &|record| record["host"]["facts"]["cpu_model"] = serde_json::json!({ "value": "Z80" }),
        5,
        &["cpu_model was \"Z80\" and is"],
    );
    edited(
        &|record| record["nanos_per_tick"] = 7.0.into(),
        5,
        &["a TSC tick took 7 ns"],
    );
}

#[test]
fn finished_repetitions_of_an_experiment_are_kept() {
    const REPETITIONS: usize = 8;
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let text = format!(
        "schema = 1\nname = \"idle\"\n[[experiment]]\nkind = \"idle\"\nparams.window = \"250ms\"\nrepetitions = {REPETITIONS}\n"
    );
    stage.file("idle.toml", &text);
    let run = stage.run_dir("run");
    let rows = || {
        let text = std::fs::read_to_string(stage.path("run/trials.csv")).unwrap_or_default();
        text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut running = stage.vtax("run idle.toml --out run").start();
    running.wait_until(|| rows().len() > 2);
    running.signal(Signal::KILL);
    let _ = running.wait();
    let before = rows();
    // What is on disk of the repetition under way is measured anew.
    stage.file(
        "run/trials.csv",
        &(run.text("trials.csv") + "0,7,cpu,,1\n0,7"),
    );
    stage.vtax("run --resume run").run().exits(0);
    let after = rows();
    assert_eq!(before[..2], after[..2]);
    let mut repetitions: Vec<&str> = after
        .iter()
        .filter(|row| row.contains(",cpu,"))
        .filter_map(|row| row.split(',').nth(1))
        .collect();
    repetitions.sort_unstable();
    let wanted: Vec<String> = (0..REPETITIONS).map(|it| it.to_string()).collect();
    assert_eq!(repetitions, wanted);
    let started = run.events();
    let started = started
        .iter()
        .filter(|event| *event == "experiment-started");
    assert!(started.count() <= REPETITIONS + 1);
}
