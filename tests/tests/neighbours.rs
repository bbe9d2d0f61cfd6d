//! Runs beside neighbours: they are told, they do their work, and none outlives its run, however that ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use vtax_tests::{LoopDevice, RunDir, Stage, skip};

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
    // With a cpuset where the host has them: its groups are in a hierarchy of their own in version 1.
    let confined = BESIDE.replace("work = \"cpu\"\n", "work = \"cpu\"\ncpuset = [0]\n");
    stage.file("beside.toml", &confined);
    let checked = stage.vtax("scenario check beside.toml").run();
    let text = match checked
        .exits(0)
        .stdout
        .contains("both cells can be measured")
    {
        true => &confined,
        false => BESIDE,
    };
    let long = text
        .replace("pilot-boots = 3", "pilot-boots = 500")
        .replace("max-boots = 3", "max-boots = 500");
    stage.file("beside.toml", text).file("long.toml", &long);
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

/// The scheduler of a block device, set for a test and set back after it.
struct Scheduler {
    file: PathBuf,
    before: String,
}

impl Scheduler {
    /// `None`, said on stderr, where the kernel has none of this name.
    fn select(device: &Path, name: &str) -> Option<Self> {
        let disk = device.file_name()?.to_str()?;
        let file = PathBuf::from(format!("/sys/block/{disk}/queue/scheduler"));
        let choices = fs::read_to_string(&file).ok()?;
        let (_, rest) = choices.split_once('[')?;
        let before = rest.split_once(']')?.0.to_owned();
        if fs::write(&file, name).is_err() {
            skip(&format!("this kernel has no scheduler {name}"));
            return None;
        }
        Some(Self { file, before })
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        let restored = fs::write(&self.file, &self.before);
        assert!(restored.is_ok() || std::thread::panicking());
    }
}

/// Bytes that bfq has served to vtax's groups of this weight.
fn served(weight: &str) -> u64 {
    let groups = fs::read_dir("/sys/fs/cgroup/blkio").into_iter().flatten();
    groups
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().contains("/vtax-"))
        .filter(|path| {
            fs::read_to_string(path.join("blkio.bfq.weight"))
                .is_ok_and(|text| text.trim() == weight)
        })
        .filter_map(|path| fs::read_to_string(path.join("blkio.bfq.io_service_bytes")).ok())
        .filter_map(|text| {
            text.lines()
                .last()?
                .strip_prefix("Total ")?
                .parse::<u64>()
                .ok()
        })
        .sum()
}

#[test]
fn a_weight_of_io_needs_a_device_that_is_shared_by_weight() {
    let Some(stage) = Stage::as_root_with_kvm() else {
        return;
    };
    if !stage.has_files(&["/sys/fs/cgroup/blkio"]) {
        return;
    }
    let text = BESIDE
        .replace(
            "work = \"cpu\"\n",
            "work = \"io\"\ndisk-backing = \"scratch\"\nio-weight = 300\n",
        )
        .replace("[0, 2]", "[1]");
    stage.file("weighed.toml", &text);
    let Some(device) = LoopDevice::formatted(256 << 20) else {
        return;
    };
    let mounted = stage.path("mounted");
    fs::create_dir(&mounted).expect("the stage takes folders");
    let mount = format!("mount {} mounted && exec \"$@\"", device.path().display());
    let wrapper = ["unshare", "--mount", "sh", "-c", &mount, "sh"];
    let run = |out: &str| stage.vtax_under(&wrapper, &format!("run weighed.toml --out {out}"));

    let Some(none) = Scheduler::select(device.path(), "none") else {
        return;
    };
    run("mounted/none")
        .run()
        .exits(5)
        .complains(&["shared by weight"]);
    drop(none);

    let Some(_bfq) = Scheduler::select(device.path(), "bfq") else {
        return;
    };
    let mut running = run("mounted/bfq").start();
    running.wait_until(|| served("300") > 1 << 20);
    let outcome = running.wait();
    assert!(matches!(outcome.code(), Some(0 | 3 | 4)), "{outcome:#?}");

    // The run directory counts, not that some device is shared.
    let outcome = run("elsewhere").run();
    outcome.exits(5);
    assert!(outcome.stdout.contains("shared by weight"), "{outcome:#?}");
}

/// A guest and two neighbours of like content, whose pages KSM may merge.
const MERGED: &str = r#"schema = 1
name = "merged"

[guest]
memory = "16MiB"
mergeable = true

[host]
ksm-pages-to-scan = 5000
ksm-sleep = "10ms"

[measure]
precision = "20%"
block = "10ms"
rounds = 2
pilot-boots = 2
max-boots = 2

[[neighbour]]
work = "idle"
count = 2
memory = "16MiB"
mergeable = true
content = { common = "50%" }

[[workload]]
name = "cpu-hash"

[matrix]
"host.ksm" = ["on", "off"]
"#;

#[test]
fn a_boot_waits_until_what_is_alike_is_merged() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let file = "/proc/self/ksm_merging_pages";
    let switch = fs::OpenOptions::new()
        .write(true)
        .open("/sys/kernel/mm/ksm/run");
    if switch.is_err() || fs::read_to_string(file).is_err() {
        skip("it takes root, and a kernel with KSM that tells what is merged (Linux 5.19)");
        return;
    }
    stage.file("merged.toml", MERGED);
    let outcome = stage.vtax("run merged.toml --out run").run();
    assert!(matches!(outcome.code(), Some(0 | 3 | 4)), "{outcome:#?}");
    let stopped = events(&stage.run_dir("run"), "neighbour-stopped");
    assert_eq!(
        stopped.len(),
        2 * 2 * 2,
        "two of them, two boots, two cells"
    );
    for event in stopped {
        let merged = event["merged_pages"].as_u64().expect("a number");
        let label = event["label"].as_str().expect("a label");
        // 16 MiB have 1,600 pages or more to work on, half of which are alike.
        match label.contains("host.ksm=on") {
            true => assert!(merged >= 700, "{label}: {merged}"),
            false => assert_eq!(merged, 0, "{label}"),
        }
    }
}

#[test]
fn the_hidden_command_is_not_for_people() {
    let stage = Stage::new();
    let outcome = stage.vtax("neighbour").run();
    outcome.exits(1);
    outcome.complains(&["started by vtax alone"]);
    assert!(!stage.vtax("--help").run().stdout.contains("neighbour"));
}
