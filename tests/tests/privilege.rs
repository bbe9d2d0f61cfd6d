//! Hosts without KVM, and users without rights.

use std::os::unix::fs::MetadataExt as _;

use vtax_tests::{Stage, scenario};

/// Runs vtax where nothing but `devices` is in /dev, as whoever `exec` makes of root.
fn with_dev(devices: &str, exec: &str) -> [String; 5] {
    let script = format!("mount -t tmpfs none /dev && {devices} && exec {exec} \"$0\" \"$@\"");
    ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", &script].map(str::to_owned)
}

/// The machine's own KVM device, with these rights.
fn kvm(mode: &str) -> String {
    let id = std::fs::metadata("/dev/kvm")
        .expect("this test has KVM")
        .rdev();
    let (major, minor) = (rustix::fs::major(id), rustix::fs::minor(id));
    format!("mknod -m {mode} /dev/kvm c {major} {minor}")
}

const AS_NOBODY: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups";

/// A run under `wrapper` cannot start, says why and what to do, and leaves nothing behind; doctor agrees.
#[track_caller]
fn cannot_run(stage: &Stage, wrapper: &[String], words: &[&str]) {
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    stage
        .vtax_under(&wrapper, "run --out run")
        .run()
        .exits(5)
        .prints_nothing()
        .complains(&["cannot run a KVM guest", "vtax doctor"])
        .complains(words);
    assert!(!stage.path("run").exists());

    stage
        .vtax_under(&wrapper, "scenario check quick")
        .run()
        .exits(5)
        .complains(&["cannot run a KVM guest", "vtax doctor"]);

    let doctor = stage.vtax_under(&wrapper, "doctor").run();
    doctor.exits(5);
    assert!(doctor.stdout.contains("✗ /dev/kvm"), "{doctor:#?}");
}

#[test]
fn no_kvm() {
    let Some(stage) = Stage::as_root() else {
        return;
    };
    cannot_run(&stage, &with_dev("true", ""), &["/dev/kvm", "No such file"]);
}

#[test]
fn a_device_that_is_not_kvm() {
    let Some(stage) = Stage::as_root() else {
        return;
    };
    let null = "mknod -m 666 /dev/kvm c 1 3";
    cannot_run(&stage, &with_dev(null, ""), &["KVM_CREATE_VM"]);
}

#[test]
fn a_user_who_may_not_use_kvm() {
    let Some(stage) = Stage::as_root_with_kvm() else {
        return;
    };
    cannot_run(
        &stage,
        &with_dev(&kvm("600"), AS_NOBODY),
        &["/dev/kvm", "Permission denied"],
    );
}

#[test]
fn a_user_who_may_use_kvm_and_nothing_else() {
    let Some(stage) = Stage::as_root_with_kvm() else {
        return;
    };
    stage.file("tiny.toml", &scenario::tiny("10%"));
    let wrapper = with_dev(&kvm("666"), AS_NOBODY);
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    stage
        .vtax_under(&wrapper, "run tiny.toml --out run")
        .run()
        .exits(0);
    let events = stage.run_dir("run").text("events.jsonl");
    assert!(events.contains("\"uid\":65534"), "{events}");
}

#[test]
fn scenarios_need_no_kvm_to_be_explained() {
    let Some(stage) = Stage::as_root() else {
        return;
    };
    let wrapper = with_dev("true", AS_NOBODY);
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let outcome = stage.vtax_under(&wrapper, "scenario explain quick").run();
    outcome.exits(0);
    assert!(outcome.stdout.contains("cpu-hash"), "{outcome:#?}");
}
