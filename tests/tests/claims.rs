//! `vtax claims`: each claim gets its verdict, its evidence and its line on the first page.

use rustix::process::Signal;
use serde_json::Value;
use vtax_tests::{Stage, scenario};

/// A claim that everything fulfils: vtax's VMM takes less than 1 GiB for a guest.
const HOLDS: &str = r#"schema = 1
name = "small-vmm"

[measure]
budget = "5s"

[claim]
words = "A VMM takes less than 1 GiB."
source = "This test."
why = "No VMM takes more."
metric = { experiment = "boot guests=4", name = "vmm-memory", at-most = "1GiB" }

[[experiment]]
kind = "boot"
repetitions = 5
params = { guests = [1, 4] }
"#;

/// A claim that nothing fulfils: an emulated disk is a hundred times as fast as virtio.
const REFUTED: &str = r#"schema = 1
name = "old-disks"

[guest]
memory = "32MiB"
disk = "virtio-blk"

[measure]
block = "10ms"
rounds = 2
pilot-boots = 4
max-boots = 4
budget = "20s"

[claim]
words = "An emulated disk is a hundred times as fast as virtio."
compare = { of = { "guest.disk" = "ata-pio" }, against = { "guest.disk" = "virtio-blk" }, what = "rate", at-least = "10000%" }

[[workload]]
name = "block-random"

[matrix]
"guest.disk" = ["virtio-blk", "ata-pio"]
"#;

const NOT_TESTABLE: &str = r#"schema = 1
name = "teleportation"

[claim]
words = "Guests can be teleported."
not-testable = "vtax has no transporter."
"#;

fn claim<'v>(suite: &'v Value, id: &str) -> &'v Value {
    let mut claims = suite["claims"]
        .as_array()
        .expect("a suite has claims")
        .iter();
    claims
        .find(|claim| claim["id"] == id)
        .expect("the claim is in the suite")
}

#[test]
fn one_holds_one_is_refuted_one_is_not_testable() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage
        .file("holds.toml", HOLDS)
        .file("refuted.toml", REFUTED)
        .file("not.toml", NOT_TESTABLE);
    let outcome = stage
        .vtax("claims holds.toml refuted.toml not.toml --out suite --json")
        .run();
    outcome.exits(3);
    let suite = outcome.json();
    // Two claims have an interval each; the third has none.
    assert_eq!(suite["intervals"], 2);
    assert_eq!(suite["confidence"], 0.975);
    assert_eq!(suite, stage.run_dir("suite").json("claims.json"));
    let page = stage.run_dir("suite").text("report.html");
    for (id, verdict) in [
        ("small-vmm", "holds"),
        ("old-disks", "refuted"),
        ("teleportation", "not_testable"),
    ] {
        let claim = claim(&suite, id);
        assert_eq!(claim["verdict"], verdict, "{claim}");
        assert!(page.contains(claim["words"].as_str().unwrap()), "{id}");
        if verdict == "not_testable" {
            assert_eq!(claim["evidence"], Value::Null);
            continue;
        }
        assert_eq!(claim["finding"]["interval"]["confidence"], 0.975, "{claim}");
        assert!(page.contains(&format!("href=\"{id}/report.html\"")), "{id}");
        let run = stage.run_dir(&format!("suite/{id}"));
        assert_eq!(run.json("results.json")["headline"]["verdict"], verdict);
        assert!(run.text("report.html").contains("<h1 "));
    }
    let trials = stage.run_dir("suite/small-vmm").text("trials.csv");
    // Two experiments, five repetitions, three metrics, and the header.
    assert_eq!(trials.lines().count(), 1 + 2 * 5 * 3, "{trials}");

    // The evidence says the same when it is read again, and so does the suite; a directory holds one suite.
    stage.vtax("report suite/old-disks").run().exits(3);
    for page in ["suite/report.html", "suite/small-vmm/report.html"] {
        std::fs::remove_file(stage.path(page)).unwrap();
    }
    let again = stage.vtax("report suite --json").run();
    assert_eq!(again.exits(3).json(), suite);
    assert_eq!(stage.run_dir("suite").text("report.html"), page);
    let evidence = stage.run_dir("suite/small-vmm").text("report.html");
    assert!(evidence.contains("<h1 "));
    stage
        .vtax("report suite --export-csv claims.csv")
        .run()
        .exits(3);
    assert!(stage.path("claims.csv").exists());
    std::fs::remove_file(stage.path("suite/small-vmm/run.json")).unwrap();
    let again = stage.vtax("report suite --json").run();
    again.exits(3).complains(&["small-vmm stays as it is"]);
    assert_eq!(again.json(), suite);
    stage.vtax("claims not.toml --out suite").run().exits(2);
}

#[test]
fn each_workload_has_a_verdict_of_its_own() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let text = scenario::tiny("10%").replace("over = \"all\"", "over = \"all\"\neach = true");
    stage.file("tiny.toml", &text);
    let outcome = stage.vtax("claims tiny.toml --out suite").run();
    outcome.exits(0);
    for words in [
        "cpu-hash",
        "mem-latency",
        "Of 1 claim 1 holds.",
        "3 intervals",
    ] {
        assert!(outcome.stdout.contains(words), "{words}: {outcome:#?}");
    }
    let suite = stage.run_dir("suite").json("claims.json");
    let parts = suite["claims"][0]["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 2);
    assert!(
        parts.iter().all(|part| part["verdict"] == "holds"),
        "{suite}"
    );
}

#[test]
fn a_run_with_such_a_claim_has_its_verdict_and_exit_code() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage
        .file("holds.toml", HOLDS)
        .file("not.toml", NOT_TESTABLE);
    let outcome = stage
        .vtax("run holds.toml --out run --export-junit junit.xml")
        .run();
    outcome.exits(0);
    assert!(
        outcome.stdout.contains("at most 1 GiB holds"),
        "{outcome:#?}"
    );
    assert!(outcome.stdout.contains("all-running"), "{outcome:#?}");
    let junit = std::fs::read_to_string(stage.path("junit.xml")).unwrap();
    assert!(junit.contains("name=\"claim\""), "{junit}");
    let stricter = HOLDS.replace("at-most = \"1GiB\"", "at-most = \"1B\"");
    stage.file("stricter.toml", &stricter);
    stage
        .vtax("run stricter.toml --out stricter")
        .run()
        .exits(3);
    stage
        .vtax("run not.toml")
        .run()
        .exits(5)
        .complains(&["no transporter"]);
}

#[test]
fn an_interrupted_suite_tells_what_was_decided() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage
        .file("holds.toml", HOLDS)
        .file("long.toml", scenario::LONG);
    let mut running = stage
        .vtax("claims holds.toml long.toml --out suite")
        .start();
    let long = stage.run_dir("suite/long");
    running.wait_until(|| long.rows_so_far() > 0);
    running.signal(Signal::INT);
    let outcome = running.wait();
    outcome.exits(130);
    let suite = stage.run_dir("suite").json("claims.json");
    assert_eq!(suite["interrupted"], true);
    assert_eq!(claim(&suite, "small-vmm")["verdict"], "holds");
}

#[test]
fn a_killed_suite_tells_what_it_did_not_come_to() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage
        .file("long.toml", scenario::LONG)
        .file("holds.toml", HOLDS);
    let mut running = stage
        .vtax("claims long.toml holds.toml --out suite")
        .start();
    let long = stage.run_dir("suite/long");
    running.wait_until(|| long.rows_so_far() > 0);
    running.signal(Signal::KILL);
    running.wait();
    let suite = stage.run_dir("suite").json("claims.json");
    assert_eq!(suite["interrupted"], true);
    for id in ["long", "small-vmm"] {
        assert_eq!(claim(&suite, id)["verdict"], "undecided", "{id}");
    }
    stage.vtax("report suite").run().exits(130);
}

#[test]
fn claims_are_listed_and_explained() {
    let stage = Stage::new();
    let list = stage.vtax("claims --list").run();
    let names: Vec<&str> = list
        .exits(0)
        .stdout
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(names.contains(&"cpu-bound-97"), "{list:#?}");
    for name in names {
        let text = stage.vtax(&format!("claims --explain {name}")).run();
        for words in ["Claim:", "Source:", "Threshold:"] {
            assert!(text.exits(0).stdout.contains(words), "{text:#?}");
        }
    }
    stage
        .vtax("claims cpu-bound-98")
        .run()
        .exits(2)
        .complains(&["cpu-bound-98"]);
}

#[test]
fn a_budget_is_shared_and_an_idle_guest_sleeps() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let outcome = stage
        .vtax("claims idle-cost vmm-memory --budget 12s --out suite --json")
        .run();
    let suite = outcome.json();
    let idle = claim(&suite, "idle-cost");
    let share = idle["finding"]["interval"]["value"].as_f64().unwrap();
    assert!((0.0..0.5).contains(&share), "{idle}");
    let run = stage.run_dir("suite/idle-cost").record();
    assert_eq!(run["plan"]["budget_nanos"], 8_000_000_000_u64);
}

#[test]
fn a_suite_that_was_killed_goes_on() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let long = scenario::LONG.replace("pilot-boots = 1000", "pilot-boots = 1000\nbudget = \"8s\"");
    stage
        .file("holds.toml", HOLDS)
        .file("long.toml", &long)
        .file("refuted.toml", REFUTED)
        .file("not.toml", NOT_TESTABLE);
    let mut running = stage
        .vtax("claims holds.toml long.toml refuted.toml not.toml --out suite")
        .start();
    let (first, second) = (
        stage.run_dir("suite/small-vmm"),
        stage.run_dir("suite/long"),
    );
    running
        .wait_until(|| second.rows_so_far() > 60)
        .signal(Signal::KILL);
    assert_eq!(running.wait().signal(), Some(9));
    let trials = first.text("trials.csv");
    assert!(stage.vtax("claims --resume nowhere").run().code() == Some(2));

    let outcome = stage.vtax("claims --resume suite --json").run();
    let suite = outcome.exits(3).json();
    assert_eq!(suite["interrupted"], false);
    assert_eq!(suite["intervals"], 3, "as it was settled");
    for (id, verdict) in [
        ("small-vmm", "holds"),
        ("old-disks", "refuted"),
        ("teleportation", "not_testable"),
    ] {
        assert_eq!(claim(&suite, id)["verdict"], verdict, "{suite}");
    }
    assert_eq!(claim(&suite, "long")["evidence"], "long");
    assert_eq!(first.text("trials.csv"), trials, "it was not tried again");
    assert_eq!(second.record()["resumed"].as_array().unwrap().len(), 1);
    let nothing_left = stage.vtax("claims --resume suite").run();
    nothing_left.exits(0).complains(&["finished suite"]);
}

#[test]
fn a_suite_has_every_export() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage
        .file("holds.toml", HOLDS)
        .file("not.toml", NOT_TESTABLE);
    let run = stage
        .vtax("claims holds.toml not.toml --out suite --export-junit s.xml --export-markdown s.md --export-csv -")
        .run();
    run.exits(0);
    let again = stage
        .vtax("report suite --export-junit t.xml --export-markdown t.md --export-csv -")
        .run();
    again.exits(0);
    assert_eq!(run.stdout, again.stdout);
    let read = |name: &str| std::fs::read_to_string(stage.path(name)).unwrap();
    assert_eq!(read("s.md"), read("t.md"));
    assert!(read("s.md").contains("| small-vmm | "), "{}", read("s.md"));
    let junit = quick_junit::Report::deserialize_from_str(&read("s.xml")).unwrap();
    let names: Vec<&str> = junit.test_suites[0]
        .test_cases
        .iter()
        .map(|case| case.name.as_str())
        .collect();
    assert_eq!(names, ["small-vmm", "teleportation"]);
    assert_eq!((junit.failures, junit.errors), (0, 0));
    let mut rows = csv::Reader::from_reader(run.stdout.as_bytes());
    let verdicts: Vec<String> = rows
        .records()
        .map(|row| row.unwrap()[3].to_owned())
        .collect();
    assert_eq!(verdicts, ["holds", "not_testable"]);
}
