//! `vtax report`, and the commands that only print.

use vtax_tests::{Stage, scenario};

#[test]
fn a_report_is_the_same_every_time_and_everywhere() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage.file("tiny.toml", &scenario::tiny("10%"));
    let outcome = stage.vtax("run tiny.toml --out run --json").run();
    let run = stage.run_dir("run");
    let page = run.text("report.html");

    stage.vtax("report run --html first.html").run().exits(0);
    let elsewhere = stage
        .vtax("report run --html second.html --json")
        .env("PATH", "")
        .env("LANG", "de_DE.UTF-8")
        .env("TZ", "Asia/Tokyo")
        .env("RAYON_NUM_THREADS", "1")
        .run();
    for name in ["first.html", "second.html"] {
        assert!(
            std::fs::read_to_string(stage.path(name)).unwrap() == page,
            "{name} differs"
        );
    }
    assert_eq!(elsewhere.stdout, outcome.stdout);
    assert_eq!(
        run.text("report.html"),
        page,
        "--html leaves the run directory alone"
    );
}

#[test]
fn a_report_needs_to_write_nothing_into_the_run_directory_but_itself() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage.file("tiny.toml", &scenario::tiny("10%"));
    let _ = stage.vtax("run tiny.toml --out run").run();
    let files = || {
        let entries = std::fs::read_dir(stage.path("run")).unwrap();
        let mut files: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .map(|path| (std::fs::read(&path).unwrap(), path))
            .collect();
        files.sort();
        files
    };
    let before = files();
    stage.vtax("report run").run().exits(0);
    assert!(files() == before, "the same names with the same contents");
}

#[test]
fn shipped_scenarios_are_sound_and_can_be_copied() {
    let stage = Stage::new();
    let list = stage.vtax("scenario list").run();
    list.exits(0);
    let names: Vec<&str> = list
        .stdout
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(names.first(), Some(&"quick"), "{list:#?}");
    for name in names {
        let text = stage.vtax(&format!("scenario list {name}")).run();
        stage.file("copy.toml", &text.stdout);
        let explained = |name: &str| {
            let outcome = stage.vtax(&format!("scenario explain {name}")).run();
            outcome.exits(0).stdout.clone()
        };
        assert_eq!(explained(name), explained("copy.toml"));
    }
}

#[test]
fn the_schema_is_the_committed_one() {
    let stage = Stage::new();
    let outcome = stage.vtax("scenario schema").run();
    let committed = include_str!("../../scenarios/scenario.schema.json");
    assert!(
        outcome.stdout == committed,
        "scenarios/scenario.schema.json is out of date"
    );
}

#[test]
fn a_bundle_holds_what_helps_and_nothing_private() {
    let stage = Stage::new();
    std::fs::create_dir(stage.path("of")).expect("a folder");
    stage.file(
        "of/results.json",
        r#"{"cells": [{"label": "path = /home/eva/disk", "reason": "by 10.1.2.3"}], "payload_sha256": "0978"}"#,
    );
    stage.file(
        "of/run.json",
        r#"{"plan": "eva's", "counters_unavailable": {"llc_misses": "no PMU"}, "unit_costs": {}}"#,
    );
    let outcome = stage.vtax("doctor --bundle host.json of").run();
    assert!(matches!(outcome.code(), Some(0 | 5)), "{outcome:#?}");
    let text = std::fs::read_to_string(stage.path("host.json")).expect("the bundle");
    for private in ["eva", "10.1.2.3"] {
        assert!(!text.contains(private), "{private}");
    }
    for helpful in ["path = (removed)", "no PMU", "0978"] {
        assert!(text.contains(helpful), "{helpful}");
    }
    let bundle: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    for part in ["host", "findings", "facts", "runs"] {
        assert!(!bundle[part].is_null(), "{part}");
    }
    let folder = stage.path("").display().to_string();
    assert!(!text.contains(folder.trim_end_matches('/')), "{folder}");
    stage
        .vtax("doctor --bundle host.json no-run-here")
        .run()
        .exits(2)
        .complains(&["no-run-here", "name a run directory"]);
}

#[test]
fn doctor_finds_the_same_in_both_forms() {
    let stage = Stage::new();
    let text = stage.vtax("doctor").run();
    let json = stage.vtax("doctor --json").run();
    assert_eq!(text.code(), json.code());
    for finding in json.json()["findings"].as_array().unwrap() {
        let subject = finding["subject"].as_str().unwrap();
        assert!(text.stdout.contains(subject), "{subject}: {text:#?}");
        if finding["status"] != "ok" {
            assert!(finding["means"].is_string(), "{finding}");
        }
    }
}

#[test]
fn completions_and_the_manual_name_every_command() {
    let stage = Stage::new();
    let help = stage.vtax("--help").run().exits(0).stdout.clone();
    for words in ["Exit codes", "doctor", "scenario", "report"] {
        assert!(help.contains(words), "{words}: {help}");
    }
    for line in [
        "completions bash",
        "completions fish",
        "completions zsh",
        "man",
    ] {
        let outcome = stage.vtax(line).run();
        outcome.exits(0);
        for command in ["run", "report", "doctor", "scenario", "completions"] {
            assert!(outcome.stdout.contains(command), "{line} lacks {command}");
        }
    }
}

#[test]
fn the_manual_refers_to_pages_that_are_there() {
    let stage = Stage::new();
    stage.vtax("man --all pages").run().exits(0);
    let pages: Vec<String> = std::fs::read_dir(stage.path("pages"))
        .unwrap()
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut references = 0;
    for page in &pages {
        let text = std::fs::read_to_string(stage.path("pages").join(page)).unwrap();
        for line in text.lines().filter(|line| line.ends_with("(1)")) {
            let name = line.trim_end_matches("(1)").replace('\\', "");
            assert!(pages.contains(&format!("{name}.1")), "{page}: {line}");
            references += 1;
        }
    }
    assert!(references > 10, "{pages:?}");
}

#[test]
fn completions_know_scenarios_claims_and_workloads() {
    let stage = Stage::new();
    for shell in ["bash", "zsh"] {
        let script = stage.vtax(&format!("completions {shell}")).run().stdout;
        for name in ["noisy-neighbours", "memory-latency-95", "mem-first-touch"] {
            assert!(script.contains(name), "{shell}: {name}");
        }
    }
}

#[test]
fn a_workload_is_told_in_both_forms() {
    let stage = Stage::new();
    let list = stage.vtax("workload list").run();
    let all = stage.vtax("workload --json").run().json();
    assert_eq!(
        list.exits(0).stdout.lines().count(),
        all.as_array().unwrap().len()
    );
    let one = stage.vtax("workload mem-first-touch").run();
    assert!(one.exits(0).stdout.contains("size = \"64MiB\""), "{one:#?}");
    let json = stage.vtax("workload mem-first-touch --json").run().json();
    assert_eq!(json["params"][0]["default"], "64MiB");
    let wrong = stage.vtax("workload mem-first-tuch").run();
    wrong
        .exits(2)
        .prints_nothing()
        .complains(&["did you mean mem-first-touch?"]);
}

#[test]
fn a_locale_of_ascii_gets_ascii() {
    let stage = Stage::new();
    stage.file("tiny.toml", &scenario::tiny("10%"));
    for line in [
        "doctor",
        "run tiny.toml --dry-run",
        "host show",
        "claims --list",
        "workload list",
    ] {
        let outcome = stage.vtax(line).env("LC_ALL", "C").run();
        let text = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(text.is_ascii() && !text.is_empty(), "{line}: {text}");
        let utf8 = stage.vtax(line).env("LC_ALL", "C.UTF-8").run();
        assert!(line != "doctor" || !utf8.stdout.is_ascii());
    }
    let [plain, json] = ["C", "C.UTF-8"].map(|locale| {
        let outcome = stage.vtax("workload --json").env("LC_ALL", locale).run();
        outcome.stdout
    });
    assert!(!plain.is_ascii());
    assert_eq!(plain, json, "data has no locale");
}

/// That no command panics is looked at wherever one is run.
#[test]
fn a_stdout_that_takes_no_more_is_an_error_and_a_closed_one_is_none() {
    let stage = Stage::new();
    stage.file("tiny.toml", &scenario::tiny("10%"));
    let full = ["/bin/sh", "-c", "exec \"$0\" \"$@\" >/dev/full"];
    let closed = [
        "/bin/sh",
        "-c",
        "{ \"$0\" \"$@\"; echo $? >&2; } | exec 0<&-",
    ];
    for line in ["completions bash", "man", "run tiny.toml --dry-run"] {
        let outcome = stage.vtax_under(&full, line).run();
        outcome.exits(1).complains(&["writing to stdout"]);
        let outcome = stage.vtax_under(&closed, line).run();
        assert_eq!(outcome.stderr.trim(), "0", "{line}: {outcome:#?}");
    }
}

#[test]
fn a_selftest_speaks_of_the_planted_slowdowns() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let outcome = stage.vtax("selftest --trials 1 --patience 2s --json").run();
    outcome.exits(0);
    let result = outcome.json();
    assert!(!result["sentence"].as_str().unwrap().is_empty());
    // On a busy machine a trial this short may come to nothing.
    for level in result["levels"].as_array().unwrap() {
        let planted = level["planted"].as_f64().unwrap();
        assert!([0.0, 0.005, 0.01, 0.02, 0.05].contains(&planted), "{level}");
    }
}
