//! Mistakes: each is refused with its place, what is wrong, and what to write or do instead.

use vtax_tests::{Stage, scenario};

/// The tiny scenario with one piece of text replaced by another.
fn with(from: &str, to: &str) -> String {
    let text = scenario::tiny("10%");
    assert!(text.contains(from), "{from:?} is not in the scenario");
    text.replacen(from, to, 1)
}

/// Runs a scenario with an error in it: exit code 2, place and words.
#[track_caller]
fn refused(text: &str, words: &[&str]) {
    refused_with(2, &Stage::new(), text, words);
}

/// The same with another exit code.
#[track_caller]
fn refused_with(code: i32, stage: &Stage, text: &str, words: &[&str]) {
    stage.file("wrong.toml", text);
    stage
        .vtax("run wrong.toml --out run")
        .run()
        .exits(code)
        .prints_nothing()
        .complains(words);
    assert!(
        !stage.path("run").exists(),
        "a refused run leaves nothing behind"
    );
}

#[test]
fn an_unknown_key() {
    let text = with("memory =", "memroy =");
    refused(
        &text,
        &[
            "wrong.toml:5:1",
            "memroy",
            "^^^^^^",
            "did you mean `memory`?",
        ],
    );
}

#[test]
fn a_wrong_unit() {
    let text = with("\"16MiB\"", "\"16MB\"");
    refused(&text, &["wrong.toml:5:10", "`MB` is no unit", "16MiB"]);
}

#[test]
fn an_unknown_workload() {
    let text = with("\"cpu-hash\"", "\"cpu-hsh\"");
    refused(
        &text,
        &["wrong.toml:19:8", "cpu-hsh", "did you mean `cpu-hash`?"],
    );
}

#[test]
fn text_that_is_not_toml() {
    refused(
        &with("[guest]", "[guest"),
        &["wrong.toml:4:7", "not TOML", "toml.io"],
    );
}

#[test]
fn a_matrix_that_explodes() {
    let many: Vec<String> = (2..1000).map(|number| number.to_string()).collect();
    let many = many.join(", ");
    let text = scenario::tiny("10%")
        + &format!(
            "\n[matrix]\n\"measure.rounds\" = [{many}]\n\"measure.pilot-boots\" = [{many}]\n"
        );
    refused(&text, &["wrong.toml:", "cells", "help:"]);
}

#[test]
fn several_mistakes_are_told_at_once() {
    let text = with("\"16MiB\"", "\"16MB\"").replacen("rounds", "ronds", 1);
    refused(
        &text,
        &[
            "wrong.toml:5:10",
            "wrong.toml:10:1",
            "did you mean `rounds`?",
        ],
    );
}

#[test]
fn a_cpu_that_does_not_exist() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let text = with("memory =", "pinning = [4000]\nmemory =");
    refused_with(
        5,
        &stage,
        &text,
        &["wrong.toml:5:11", "CPU 4000", "help: write CPUs out of"],
    );
}

#[test]
fn huge_pages_that_are_not_reserved() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    // More than any machine that runs tests has reserved.
    let text = with("memory = \"16MiB\"", "memory = \"64TiB\"\nbacking = \"1G\"");
    refused_with(
        5,
        &stage,
        &text,
        &["wrong.toml:6:11", "huge pages of 1GiB", "nr_hugepages"],
    );
}

#[test]
fn a_cell_that_the_host_cannot_run_costs_itself_alone() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let text = scenario::tiny("10%") + "\n[matrix]\n\"guest.pinning\" = [[4000], \"none\"]\n";
    stage.file("mixed.toml", &text);
    stage.vtax("run mixed.toml --out run").run().exits(0);
    let results = stage.run_dir("run").json("results.json");
    let verdicts: Vec<&str> = results["cells"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cell| cell["verdict"].as_str().unwrap())
        .collect();
    let not_testable = verdicts
        .iter()
        .filter(|verdict| **verdict == "not_testable")
        .count();
    assert_eq!((verdicts.len(), not_testable), (4, 2), "{results}");
}

#[test]
fn a_scenario_that_is_not_there() {
    let stage = Stage::new();
    stage
        .vtax("run qick")
        .run()
        .exits(2)
        .prints_nothing()
        .complains(&["qick", "did you mean quick?"]);
    stage
        .vtax("run nonsense")
        .run()
        .exits(2)
        .complains(&["scenarios that ship: quick, "]);
}

#[test]
fn a_claim_that_is_not_there() {
    let stage = Stage::new();
    for (line, words) in [
        ("claims nosuch", "claims that ship: cpu-bound-97, "),
        ("claims --explain ksm-no-los", "did you mean ksm-no-loss?"),
    ] {
        let outcome = stage.vtax(line).run();
        outcome.exits(2).prints_nothing().complains(&[words]);
    }
}

/// What the last of several scenarios would meet, nobody waits for.
#[test]
fn run_directories_are_looked_at_before_anything_is_measured() {
    let stage = Stage::new();
    let other = scenario::tiny("10%").replace("\"tiny\"", "\"other\"");
    stage
        .file("tiny.toml", &scenario::tiny("10%"))
        .file("other.toml", &other);
    let twice = stage.vtax("run tiny.toml tiny.toml --out runs").run();
    twice
        .exits(2)
        .complains(&["two of these scenarios are called tiny"]);
    std::fs::create_dir_all(stage.path("runs/other")).unwrap();
    stage.file("runs/other/run.json", "{}");
    let occupied = stage.vtax("run tiny.toml other.toml --out runs").run();
    occupied
        .exits(2)
        .complains(&["runs/other already holds a run"]);
    assert!(!stage.path("runs/tiny").exists());
}

#[test]
fn a_scenario_that_the_host_cannot_test_does_not_stop_the_others() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let not = "schema = 1\nname = \"not\"\n[claim]\nnot-testable = \"No transporter.\"\n";
    stage
        .file("not.toml", not)
        .file("tiny.toml", &scenario::tiny("10%"));
    let outcome = stage.vtax("run not.toml tiny.toml --out runs").run();
    outcome.exits(5).complains(&["No transporter."]);
    let results = stage.run_dir("runs/tiny").json("results.json");
    assert_eq!(results["headline"]["verdict"], "holds", "{results}");
}

#[test]
fn experiments_that_could_test_nothing_are_no_success() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let text = "schema = 1\nname = \"huge\"\n[[experiment]]\nkind = \"boot\"\n\
                params = { guests = 1024, memory = \"1TiB\" }\n";
    stage.file("huge.toml", text);
    let outcome = stage.vtax("run huge.toml --out run --json").run();
    outcome.exits(5).prints_nothing().complains(&[
        "huge.toml:4:8",
        "MiB of memory",
        "0 of 1 experiment",
    ]);
    assert!(!stage.path("run").exists());
}

#[test]
fn a_filter_that_leaves_nothing() {
    let stage = Stage::new();
    stage
        .vtax("run --filter nonsense")
        .run()
        .exits(2)
        .complains(&["nonsense", "--dry-run"]);
}

#[test]
fn options_that_make_no_sense() {
    let stage = Stage::new();
    for (line, words) in [
        ("run --budget 60", "--budget"),
        ("run --precision 1", "--precision"),
        ("run --sed 1", "--seed"),
        ("rum", "run"),
        ("scenario list nonsense", "vtax scenario list"),
        ("report nowhere", "not a run directory"),
        ("run --dry-run --json", "--json"),
        ("claims --list --json", "--json"),
        ("claims --explain isolation --json", "--json"),
    ] {
        stage
            .vtax(line)
            .run()
            .exits(2)
            .prints_nothing()
            .complains(&[words]);
    }
}

#[test]
fn a_directory_that_holds_a_run_is_not_overwritten() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage.file("tiny.toml", &scenario::tiny("10%"));
    let line = "run tiny.toml --filter cpu-hash --out run";
    stage.vtax(line).run().exits(0);
    let before = stage.run_dir("run").text("samples.csv");
    stage
        .vtax(line)
        .run()
        .exits(2)
        .prints_nothing()
        .complains(&["already holds a run", "--out DIR"]);
    assert_eq!(stage.run_dir("run").text("samples.csv"), before);
}

#[test]
fn a_directory_that_cannot_be_made() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage.file("tiny.toml", &scenario::tiny("10%"));
    stage
        .vtax("run tiny.toml --out tiny.toml/run")
        .run()
        .exits(2)
        .prints_nothing()
        .complains(&["tiny.toml/run", "Not a directory"]);
}

#[test]
fn a_damaged_record() {
    let stage = Stage::new();
    std::fs::create_dir(stage.path("run")).unwrap();
    stage.file("run/run.json", "{\"schema\": 1,");
    stage
        .vtax("report run")
        .run()
        .exits(2)
        .complains(&["run/run.json", "damaged"]);
    stage.file("run/run.json", "{\"schema\": 999}");
    stage
        .vtax("report run")
        .run()
        .exits(2)
        .complains(&["run/run.json", "999", "newer"]);
}

#[test]
fn a_reader_that_goes_away() {
    let stage = Stage::new();
    // `true` reads nothing and ends; vtax then writes into a closed pipe.
    stage
        .vtax_under(
            &["sh", "-c", "sleep 0.1 | true; \"$0\" \"$@\" | true"],
            "scenario schema",
        )
        .env("PATH", "/usr/bin:/bin")
        .run()
        .exits(0);
}
