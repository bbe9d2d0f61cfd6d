//! A guest's disk: all ways to it, what is on it afterwards, and whose it is.

use std::fs;

use serde_json::Value;
use vtax_tests::{LoopDevice, Outcome, Stage};

const MIB: usize = 1 << 20;

/// A scenario with short boots.
fn scenario(guest: &str, rest: &str) -> String {
    format!(
        r#"schema = 1
name = "disk"

[guest]
memory = "16MiB"
{guest}

[measure]
precision = "50%"
block = "10ms"
rounds = 1
pilot-boots = 3
max-boots = 3

[claim]
ratio = "1%"

{rest}
"#
    )
}

const RANDOM: &str = "[[workload]]\nname = \"block-random\"\n";

fn run(stage: &Stage, text: &str) -> (Outcome, Value) {
    stage.file("disk.toml", text);
    let outcome = stage.vtax("run disk.toml --out run").run();
    let results = stage.run_dir("run").json("results.json");
    (outcome, results)
}

fn cells(results: &Value) -> &Vec<Value> {
    results["cells"].as_array().expect("cells")
}

/// Both sides did the same work on the same data, in every block.
fn every_cell_is_sound(stage: &Stage, results: &Value) {
    for cell in cells(results) {
        assert_eq!(cell["failed"], false, "{cell}");
        assert_ne!(cell["verdict"], "not_testable", "{cell}");
    }
    let rows = stage.run_dir("run").samples();
    assert!(rows.iter().any(|row| row.side == "native"));
    for row in rows {
        assert!(!row.marks.contains("checksum"), "{row:?}");
    }
}

#[test]
fn every_way_to_a_disk_brings_the_same_data() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let matrix = r#"
[[workload]]
name = "block-random"
params = { access = ["read", "write"], depth = 8 }

[[workload]]
name = "block-sequential"

[[workload]]
name = "block-flush"

[matrix]
"guest.disk-completion" = ["interrupt", "poll"]
"guest.disk-backing" = ["memory", "scratch"]
"#;
    let disk = "disk = \"virtio-blk\"\ndisk-size = \"4MiB\"\ndisk-direct = false";
    let (_, results) = run(&stage, &scenario(disk, matrix));
    assert_eq!(cells(&results).len(), 16);
    every_cell_is_sound(&stage, &results);
    let left: Vec<_> = fs::read_dir(stage.run_dir("run").path())
        .expect("the run directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| fs::metadata(path).expect("a file").len() == 4 * MIB as u64)
        .collect();
    assert!(left.is_empty(), "the scratch disk is gone: {left:?}");
}

#[test]
fn the_record_has_what_the_native_side_of_a_disk_had() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let matrix = format!("{RANDOM}[matrix]\n\"guest.disk-backing\" = [\"memory\", \"scratch\"]\n");
    let disk =
        "disk = \"virtio-blk\"\ndisk-size = \"4MiB\"\ndisk-direct = false\ndisk-poll = \"30us\"";
    let (_, results) = run(&stage, &scenario(disk, &matrix));
    let record = stage.run_dir("run").json("run.json");
    let disks = record["native_disks"].as_object().expect("disks");
    let backing = |cell: &&Value| cell["parameters"]["guest.disk-backing"] == "scratch";
    let scratch = cells(&results)
        .iter()
        .find(backing)
        .expect("a scratch cell");
    let memory = cells(&results)
        .iter()
        .find(|it| !backing(it))
        .expect("a memory cell");
    assert_eq!(disks.len(), 1, "a disk in memory is copied");
    assert!(memory.get("native_disk").is_none(), "{memory}");
    let disk = &disks[&scratch["id"].to_string()];
    assert_eq!(disk, &scratch["native_disk"]);
    let list = |name: &str| disk[name].as_array().expect("CPUs").clone();
    assert!(!list("starts").is_empty());
    assert!(list("starts").iter().all(|cpu| list("cpus").contains(cpu)));
    let waits = [
        Value::from("sleep"),
        serde_json::json!({ "poll_then_sleep": { "nanos": 30_000 } }),
    ];
    assert!(waits.contains(&disk["waiting"]), "{disk}");
    // Named, or why not.
    let devices = &disk["devices"];
    let named = devices["value"]
        .as_array()
        .is_some_and(|all| !all.is_empty());
    let reason = devices["unavailable"]
        .as_str()
        .is_some_and(|reason| !reason.is_empty());
    assert!(named != reason, "{devices}");
    // Native blocks go wherever they may, and are not disturbed for that.
    let rows = stage.run_dir("run").samples();
    let native = |side: &str| side != "guest";
    assert!(
        rows.iter()
            .filter(|row| native(&row.side))
            .all(|row| { scratch["id"] != row.cell || !row.marks.contains("migration") })
    );
}

#[test]
fn an_emulated_disk_brings_the_same_data() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let workload = "[[workload]]\nname = \"block-random\"\nparams = { block = \"512B\", access = [\"read\", \"write\"] }\n";
    let (_, results) = run(
        &stage,
        &scenario("disk = \"ata-pio\"\ndisk-size = \"1MiB\"", workload),
    );
    every_cell_is_sound(&stage, &results);
}

#[test]
fn each_vcpu_has_its_own_queue() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let guest = "vcpus = 2\npinning = \"none\"\ndisk = \"virtio-blk\"\ndisk-size = \"1MiB\"";
    let (_, results) = run(&stage, &scenario(guest, RANDOM));
    every_cell_is_sound(&stage, &results);
}

#[test]
fn a_disk_of_the_user_s_is_read_and_left_alone() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let data: Vec<u8> = (0..=250).cycle().take(2 * MIB).collect();
    fs::write(stage.path("mine.img"), &data).expect("the stage takes files");
    let guest = format!(
        "disk = \"virtio-blk\"\ndisk-direct = false\ndisk-backing = {{ path = \"{}\" }}",
        stage.path("mine.img").display()
    );
    let (_, results) = run(&stage, &scenario(&guest, RANDOM));
    every_cell_is_sound(&stage, &results);
    assert!(fs::read(stage.path("mine.img")).expect("it is there") == data);

    // Nothing writes to it without consent.
    let flush = "[[workload]]\nname = \"block-flush\"\n";
    stage.file("flush.toml", &scenario(&guest, flush));
    let outcome = stage.vtax("run flush.toml --out flush").run();
    outcome.exits(2);
    outcome.complains(&["would overwrite", "disk-overwrite = true"]);

    // With it, no more than what was agreed.
    let agreed = format!("{guest}\ndisk-overwrite = true\ndisk-size = \"1MiB\"");
    stage.file("agreed.toml", &scenario(&agreed, flush));
    let outcome = stage.vtax("run agreed.toml --out agreed").run();
    outcome.complains(&["report.html"]);
    let after = fs::read(stage.path("mine.img")).expect("it is there");
    assert!(after[..MIB] != data[..MIB] && after[MIB..] == data[MIB..]);
}

#[test]
fn a_block_device_is_measured_by_naming_it() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    for options in [&[][..], &["--sector-size", "4096"]] {
        let Some(device) = LoopDevice::attach(2 * MIB as u64, options) else {
            return;
        };
        let path = device.path().display();
        let guest = format!(
            "disk = \"virtio-blk\"\ndisk-backing = {{ path = \"{path}\" }}\ndisk-overwrite = true\ndisk-size = \"1MiB\""
        );
        let matrix = r#"
[[workload]]
name = "block-random"
params = { access = ["read", "write"] }

[[workload]]
name = "block-flush"

[matrix]
"guest.disk" = ["virtio-blk", "ata-pio"]
"guest.disk-direct" = [true, false]
"#;
        let (_, results) = run(&stage, &scenario(&guest, matrix));
        assert_eq!(cells(&results).len(), 12);
        every_cell_is_sound(&stage, &results);
        let kept = fs::read(device.path()).expect("the device is ours again");
        let (written, rest) = kept.split_at(MIB);
        assert!(written.iter().any(|&byte| byte != 0) && rest.iter().all(|&byte| byte == 0));
        fs::remove_dir_all(stage.run_dir("run").path()).expect("the run directory is ours");
    }
}

/// The only cell of a run on this disk is not testable, for a reason with these words in it.
fn refuses(stage: &Stage, outcome: &Outcome, words: &[&str]) {
    let results = stage.run_dir("run").json("results.json");
    let [cell] = &cells(&results)[..] else {
        panic!("one cell: {outcome:?}");
    };
    assert_eq!(cell["verdict"], "not_testable", "{cell}");
    assert_eq!(cell["failed"], false, "{cell}");
    let reason = cell["reason"].as_str().expect("a reason");
    for word in words {
        assert!(reason.contains(word), "{reason}");
    }
    outcome.exits(5);
    fs::remove_dir_all(stage.run_dir("run").path()).expect("the run directory is ours");
}

#[test]
fn a_device_that_cannot_serve_is_refused_unharmed() {
    let Some(stage) = Stage::as_root_with_kvm() else {
        return;
    };
    let attach = |options| LoopDevice::attach(4 * MIB as u64, options);
    let guest = |device: &LoopDevice| {
        let path = device.path().display();
        format!("disk = \"virtio-blk\"\ndisk-backing = {{ path = \"{path}\" }}")
    };
    let Some(device) = attach(&["--read-only"]) else {
        return;
    };
    let (_, results) = run(&stage, &scenario(&guest(&device), RANDOM));
    every_cell_is_sound(&stage, &results);
    fs::remove_dir_all(stage.run_dir("run").path()).expect("the run directory is ours");
    let agreed = format!(
        "{}\ndisk-overwrite = true\ndisk-size = \"1MiB\"",
        guest(&device)
    );
    let (outcome, _) = run(&stage, &scenario(&agreed, RANDOM));
    refuses(
        &stage,
        &outcome,
        &["is a read-only device", "blockdev --setrw"],
    );
    drop(device);

    let Some(device) = attach(&["--sector-size", "4096"]) else {
        return;
    };
    let small = format!("{RANDOM}params = {{ block = \"512B\" }}\n");
    let (outcome, _) = run(&stage, &scenario(&guest(&device), &small));
    refuses(
        &stage,
        &outcome,
        &[
            "blocks of 512 bytes",
            "blocks of 4096: write a larger block",
        ],
    );
    drop(device);

    // Mounted in a mount namespace that ends with vtax.
    let Some(device) = LoopDevice::formatted(4 * MIB as u64) else {
        return;
    };
    let before = fs::read(device.path()).expect("it is ours");
    let mount = format!(
        "mount -o ro {} /mnt && exec \"$@\"",
        device.path().display()
    );
    stage.file("disk.toml", &scenario(&guest(&device), RANDOM));
    let wrapper = ["unshare", "--mount", "sh", "-c", &mount, "sh"];
    let outcome = stage.vtax_under(&wrapper, "run disk.toml --out run").run();
    refuses(&stage, &outcome, &["is in use: mounted"]);
    assert!(fs::read(device.path()).expect("it is ours again") == before);
}

#[test]
fn a_disk_that_is_not_there_costs_its_own_cell() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let matrix = format!(
        "{RANDOM}\n[matrix]\n\"guest.disk-backing\" = [\"memory\", {{ path = \"{}\" }}]\n",
        stage.path("no.img").display()
    );
    let (_, results) = run(
        &stage,
        &scenario("disk = \"virtio-blk\"\ndisk-size = \"1MiB\"", &matrix),
    );
    let [here, missing] = &cells(&results)[..] else {
        panic!("two cells: {results}");
    };
    assert!(here["ratio"]["value"].is_f64(), "{here}");
    assert_eq!(missing["verdict"], "not_testable", "{missing}");
    assert_eq!(missing["failed"], false, "{missing}");
    let reason = missing["reason"].as_str().expect("a reason");
    assert!(reason.contains("no.img"), "{reason}");
}
