//! The host's settings: set for a cell, put back at the end of whatever kind, and never two vtax at once.
//!
//! These tests change transparent huge pages, KSM and reserved huge pages of the machine, and look whether all is as before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use vtax_tests::machine::{differences, machine};
use vtax_tests::{RunDir, Running, Stage, scenario, skip};

/// What these tests may change, and the text that stands in each.
const FILES: [&str; 7] = [
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/kernel/mm/transparent_hugepage/defrag",
    "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
    "/sys/kernel/mm/ksm/run",
    "/sys/kernel/mm/ksm/pages_to_scan",
    "/sys/kernel/mm/ksm/sleep_millisecs",
    "/sys/kernel/mm/ksm/advisor_mode",
];

const JOURNAL: &str = "/var/lib/vtax/host/run.journal";

fn host() -> BTreeMap<&'static str, String> {
    let read = |file| (file, fs::read_to_string(file).expect("the kernel shows it"));
    FILES.into_iter().map(read).collect()
}

fn thp() -> String {
    fs::read_to_string(FILES[0]).expect("the kernel shows it")
}

/// A stage whose commands may change the host, where it has what is to be changed.
fn stage() -> Option<Stage> {
    let stage = Stage::as_root_with_kvm()?;
    stage.has_files(&FILES).then_some(stage)
}

/// The long scenario, with cells that differ in what they set.
fn changing() -> String {
    scenario::LONG.to_owned()
        + "\n[host]\nhugepages-2m = 4\n\n[matrix]\n\"host.thp\" = [\"always\", \"never\"]\n\"host.ksm\" = [\"on\", \"off\"]\n"
}

/// Starts it and waits until it has set something.
fn at_work(stage: &Stage) -> Running {
    stage.file("changing.toml", &changing());
    let mut running = stage
        .vtax_with_hangups("run changing.toml --out run")
        .start();
    let run = stage.run_dir("run");
    running.wait_until(|| run.rows_so_far() > 10);
    running
}

#[test]
fn a_run_sets_what_its_cells_want_and_puts_it_back() {
    let Some(stage) = stage() else { return };
    let before = host();
    let text = scenario::tiny("10%")
        + "\n[host]\nhugepages-2m = 5\nksm-advisor = \"scan-time\"\n\n[matrix]\n\"host.thp\" = [\"always\", \"never\"]\n";
    stage.file("knobs.toml", &text);

    let dry = stage.vtax("run knobs.toml --dry-run").run();
    dry.exits(0);
    for line in [
        "+ thp = always",
        "+ thp = never",
        "+ hugepages-2m = 5",
        "- ksm-advisor = none",
    ] {
        assert!(
            dry.stdout.lines().any(|had| had == line),
            "{line}: {dry:#?}"
        );
    }
    assert_eq!(host(), before);

    stage.vtax("run knobs.toml --out run").run().exits(0);
    assert_eq!(host(), before);
    assert!(!fs::exists(JOURNAL).unwrap());

    let run = stage.run_dir("run");
    let cell = &run.record()["plan"]["cells"][0]["host"];
    assert_eq!(cell["hugepages-2m"], "5");
    assert!(["always", "never"].contains(&cell["thp"].as_str().unwrap()));
    let log = run.text("events.jsonl");
    let events: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |name: &str, knob: &str| {
        let mut found = events
            .iter()
            .filter(|event| event["event"] == name && event["knob"] == knob);
        found
            .next()
            .cloned()
            .unwrap_or_else(|| panic!("no {name} of {knob}: {log}"))
    };
    let applied = of("knob-applied", "hugepages-2m");
    assert_eq!((&applied["to"], &applied["uid"]), (&"5".into(), &0.into()));
    let restored = of("knob-restored", "hugepages-2m");
    assert_eq!(
        (&restored["to"], &restored["from"]),
        (&applied["from"], &"5".into())
    );
    assert!(
        events
            .iter()
            .all(|event| event["uid"] == 0 || event["event"] == "run-finished")
    );
    assert!(run.text("report.html").contains("hugepages-2m=5"));
}

#[test]
fn a_signal_puts_everything_back_at_once() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let Some(stage) = stage() else { return };
        let before = host();
        let mut running = at_work(&stage);
        assert_ne!(host(), before);
        running.signal(signal);
        running.wait().exits(130);
        assert_eq!(host(), before);
        assert!(!fs::exists(JOURNAL).unwrap());
    }
}

#[test]
fn a_second_signal_takes_nothing_away() {
    let Some(stage) = stage() else { return };
    let before = machine();
    let mut running = at_work(&stage);
    // Two of one kind might be one to the kernel.
    running.signal(Signal::INT).signal(Signal::TERM);
    let twice = running.wait();
    twice
        .exits(130)
        .complains(&["a third signal ends it at once"]);
    assert_eq!(differences(&before, &machine()), Vec::<String>::new());
    assert!(!fs::exists(JOURNAL).unwrap());
}

#[test]
fn what_nobody_reads_is_put_back_all_the_same() {
    let Some(stage) = stage() else { return };
    let before = machine();
    // Its groups are empty, as those of a vtax that was killed are.
    let group = Path::new("/sys/fs/cgroup").join("cpu/vtax-4194305-0");
    let groups = group.parent().is_some_and(Path::exists) && fs::create_dir(&group).is_ok();
    stage.file(
        "set.toml",
        &(scenario::tiny("10%") + "\n[host]\nthp = \"never\"\n"),
    );
    let full = ["/bin/sh", "-c", "exec \"$0\" \"$@\" >/dev/full"];
    let applied = stage.vtax_under(&full, "host apply set.toml").run();
    applied.exits(1).complains(&["writing to stdout"]);
    assert!(thp().contains("[never]"));
    let restored = stage.vtax_under(&full, "host restore").run();
    restored.exits(1).complains(&["writing to stdout"]);
    assert!(!restored.stderr.contains("nothing to put back"));
    assert_eq!(differences(&before, &machine()), Vec::<String>::new());
    if !groups {
        skip("a part of it: no control group may be made where this looks for one");
        return;
    }
    fs::create_dir(&group).unwrap();
    let swept = stage.vtax("host restore").run();
    swept.exits(0);
    assert!(
        swept.stdout.contains("vtax-4194305-0: removed"),
        "{swept:#?}"
    );
    assert!(!swept.stderr.contains("nothing to put back"), "{swept:#?}");
}

/// `VTAX_KILLS` of them; a few where it is not set.
fn kills() -> u64 {
    let given = std::env::var("VTAX_KILLS").ok();
    given.map_or(5, |given| given.parse().expect("VTAX_KILLS is a number"))
}

/// How long after a run has set something its kill number `kill` comes. The moments have nothing to do with what the run
/// does then, but are the same each time: a Weyl sequence over its first ten boots or so.
fn moment(kill: u64) -> Duration {
    let micros = kill.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    Duration::from_micros(micros % 1_500_000)
}

/// A run that changes settings, reserves huge pages, has taps, and neighbours in control groups.
const ALL_AT_ONCE: &str = r#"schema = 1
name = "all-at-once"

[guest]
memory = "16MiB"
net = "virtio-net"

[host]
hugepages-2m = 4

[measure]
precision = "50%"
block = "10ms"
rounds = 2
pilot-boots = 6
max-boots = 6

[claim]
ratio = "1%"

[[neighbour]]
name = "burner"
work = "cpu"
count = 2
memory = "16MiB"
cpu-weight = 20

[[neighbour]]
name = "dirtier"
work = "dirty"
memory = "16MiB"
cpu-weight = 20
cpu-quota = "20%"
memory-limit = "256MiB"

[[workload]]
name = "cpu-hash"

[[workload]]
name = "net-ping"

[matrix]
"host.thp" = ["always", "never"]
"host.ksm" = ["on", "off"]
"#;

/// How many boots are finished, by the log; all their blocks are on disk.
fn finished_boots(run: &RunDir) -> usize {
    let mut rows: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for row in run.text("samples.csv").lines().skip(1) {
        let mut fields = row.split(',').map(str::parse);
        if let (Some(Ok(cell)), Some(Ok(boot))) = (fields.next(), fields.next()) {
            *rows.entry((cell, boot)).or_default() += 1;
        }
    }
    let log = run.text("events.jsonl");
    let events = log
        .lines()
        .map_while(|line| serde_json::from_str(line).ok());
    let stopped: Vec<serde_json::Value> = events
        .filter(|event: &serde_json::Value| event["event"] == "guest-stopped")
        .collect();
    for event in &stopped {
        let number = |value: &serde_json::Value| value.as_u64().expect("a number");
        let boot = (number(&event["cell"]), number(&event["boot"]));
        assert_eq!(rows[&boot], number(&event["ending"]["blocks"]), "{event}");
    }
    stopped.len()
}

#[test]
fn what_a_killed_run_left_is_told_and_put_back() {
    let Some(stage) = stage() else { return };
    stage.file("all.toml", ALL_AT_ONCE);
    let before = machine();
    let (kills, mut boots, mut troubles) = (kills(), 0, Vec::new());
    for kill in 0..kills {
        let mut running = stage
            .vtax(&format!("run all.toml --out run-{kill}"))
            .start();
        running.wait_until(|| fs::exists(JOURNAL).unwrap());
        std::thread::sleep(moment(kill));
        running.signal(Signal::KILL);
        let _ = running.wait();
        let left = host();
        let told = stage.vtax("scenario list").run();
        told.exits(0)
            .complains(&["a vtax that was killed", "vtax host restore"]);
        assert_eq!(host(), left);
        let restored = stage.vtax("host restore").run();
        restored.exits(0);
        let found = differences(&before, &machine());
        if !found.is_empty() || fs::exists(JOURNAL).unwrap() {
            troubles.push(format!("kill {kill}: {found:?}: {restored:#?}"));
        }
        let finished = finished_boots(&stage.run_dir(&format!("run-{kill}")));
        println!(
            "kill {kill} after {:?}: {finished} finished boots",
            moment(kill)
        );
        boots += finished;
    }
    let right = kills - u64::try_from(troubles.len()).unwrap();
    println!(
        "{right} of {kills}: the host is as it was; {boots} finished boots, all in their records"
    );
    assert!(troubles.is_empty(), "{troubles:#?}");

    let last = format!("run-{}", kills - 1);
    let ended = stage.vtax(&format!("run --resume {last}")).run();
    assert!([0, 3, 4].map(Some).contains(&ended.code()), "{ended:#?}");
    let run = stage.run_dir(&last);
    assert_eq!(run.record()["interrupted"], false);
    assert_eq!(run.record()["not_measured"], serde_json::json!({}));
    let boots: BTreeSet<(u32, u32)> = run
        .samples()
        .iter()
        .map(|row| (row.cell, row.boot))
        .collect();
    assert_eq!(boots.len(), 8 * 6);
    assert_eq!(differences(&before, &machine()), Vec::<String>::new());
    println!("--resume ended {last}: {} boots, each once", boots.len());
}

#[test]
fn the_next_run_puts_back_what_a_killed_one_left() {
    let Some(stage) = stage() else { return };
    let before = host();
    let mut running = at_work(&stage);
    running.signal(Signal::KILL);
    let _ = running.wait();
    assert_ne!(host(), before);
    stage.file("tiny.toml", &scenario::tiny("10%"));
    stage
        .vtax("run tiny.toml --filter cpu-hash --out next")
        .run()
        .exits(0)
        .complains(&["a vtax that was killed", "put back", "nr_hugepages"]);
    assert_eq!(host(), before);
}

#[test]
fn what_somebody_else_changed_meanwhile_is_told_and_kept() {
    let Some(stage) = stage() else { return };
    let before = host();
    stage.file(
        "one.toml",
        &(scenario::LONG.to_owned() + "\n[host]\nthp = \"always\"\nksm-sleep = \"33ms\"\n"),
    );
    let mut running = stage.vtax("run one.toml --out run").start();
    let run = stage.run_dir("run");
    running.wait_until(|| run.rows_so_far() > 10);
    running.signal(Signal::KILL);
    let _ = running.wait();
    assert!(thp().contains("[always]"));
    fs::write(FILES[0], "never").unwrap();
    let outcome = stage.vtax("host restore").run();
    let kept = thp();
    // First the machine, then the judgement.
    let own = before[FILES[0]]
        .split(['[', ']'])
        .nth(1)
        .unwrap()
        .to_owned();
    fs::write(FILES[0], own).unwrap();
    outcome.exits(0);
    outcome.complains(&[
        "transparent_hugepage/enabled",
        "\"never\"",
        "somebody else changed it",
    ]);
    assert!(kept.contains("[never]"), "{kept}");
    assert_eq!(host(), before);
    assert!(!fs::exists(JOURNAL).unwrap());
}

#[test]
fn settings_are_applied_shown_and_put_back() {
    let Some(stage) = stage() else { return };
    let before = host();
    stage.file(
        "set.toml",
        &(scenario::tiny("10%") + "\n[host]\nthp = \"never\"\nksm-sleep = \"44ms\"\n"),
    );
    stage.vtax("host apply set.toml").run().exits(0);
    assert!(thp().contains("[never]"));
    let shown = stage.vtax("host show --json").run().json();
    assert_eq!(shown["knobs"]["ksm-sleep"]["present"], "44ms");
    assert_eq!(shown["changed"].as_array().unwrap().len(), 2);
    // A run goes by what was applied, and leaves it.
    let outcome = stage.vtax("run set.toml --filter cpu-hash --out run").run();
    outcome.exits(0).complains(&["vtax host apply"]);
    assert!(thp().contains("[never]"));
    stage.vtax("host restore").run().exits(0);
    assert_eq!(host(), before);
    let again = stage.vtax("host restore").run();
    again.exits(0).complains(&["nothing to put back"]);
    let text = stage.vtax("host show").run();
    assert!(text.stdout.contains("✓ thp = "), "{text:#?}");
    // Who did it is beside the journal.
    let log = fs::read_to_string("/var/lib/vtax/host/events.jsonl").unwrap();
    assert!(log.contains("\"knob\":\"ksm-sleep\""), "{log}");
}

#[test]
fn huge_pages_that_the_memory_does_not_suffice_for_are_given_back() {
    let Some(stage) = stage() else { return };
    let before = host();
    // 2 TB: whatever the kernel finds of it, it is not all.
    stage.file(
        "set.toml",
        &(scenario::tiny("10%") + "\n[host]\nhugepages-2m = 1000000\n"),
    );
    let applied = stage.vtax("host apply set.toml").run();
    applied.exits(5).prints_nothing().complains(&[
        "nr_hugepages was set to \"1000000\" and is",
        "the host is left as it was before",
    ]);
    assert!(!applied.stderr.contains("somebody else"), "{applied:#?}");
    assert_eq!(host(), before);
    assert!(!fs::exists("/var/lib/vtax/host/applied.journal").unwrap());
    let run = stage.vtax("run set.toml --filter cpu-hash --out run").run();
    run.exits(5);
    assert!(!run.stderr.contains("somebody else"), "{run:#?}");
    assert_eq!(host(), before);
    assert!(!fs::exists(JOURNAL).unwrap());
}

#[test]
fn two_runs_at_once_exclude_each_other() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    stage.file("long.toml", scenario::LONG);
    let mut running = stage.vtax("run long.toml --out run").start();
    let run = stage.run_dir("run");
    running.wait_until(|| run.rows_so_far() > 10);
    let process = format!("process {}", running.id());
    for line in [
        "run long.toml --out other",
        "selftest --trials 1",
        "host restore",
        "run --resume run",
    ] {
        stage
            .vtax(line)
            .run()
            .exits(5)
            .prints_nothing()
            .complains(&["another vtax is at work", &process]);
    }
    assert!(!stage.path("other").exists());
    // A mistake is a mistake, whoever is at work.
    let nothing = stage.vtax("run --resume nosuch").run();
    nothing.exits(2).complains(&["is not a run directory"]);
    // What measures nothing is free, and a lock does not outlive its holder.
    stage.vtax("run long.toml --dry-run").run().exits(0);
    running.signal(Signal::KILL);
    let _ = running.wait();
    stage.vtax("host restore").run().exits(0);
}

#[test]
fn a_typo_in_a_setting_points_at_it() {
    let stage = Stage::new();
    stage.file(
        "wrong.toml",
        &(scenario::tiny("10%") + "\n[host]\nthp = \"sometimes\"\nksn = \"on\"\n"),
    );
    stage
        .vtax("run wrong.toml --out run")
        .run()
        .exits(2)
        .prints_nothing()
        .complains(&[
            "wrong.toml:26:7",
            "sometimes",
            "wrong.toml:27:1",
            "did you mean `ksm`?",
        ]);
}

#[test]
fn without_root_a_cell_is_not_testable_and_says_why() {
    let Some(stage) = Stage::as_root_with_kvm() else {
        return;
    };
    let before = host();
    stage.file(
        "set.toml",
        &(scenario::tiny("10%") + "\n[matrix]\n\"host.ksm-sleep\" = [\"55ms\"]\n"),
    );
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    stage
        .vtax_under(&nobody, "host apply set.toml")
        .env("PATH", "/usr/bin:/bin")
        .run()
        .exits(5)
        .prints_nothing()
        .complains(&["`ksm-sleep`", "sleep_millisecs", "run vtax as root"]);
    let shown = stage
        .vtax_under(&nobody, "host show")
        .env("PATH", "/usr/bin:/bin")
        .run();
    assert!(shown.stdout.contains("→ run vtax as root"), "{shown:#?}");
    assert_eq!(host(), before);
}
