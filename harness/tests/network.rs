//! What becomes of vtax's own network when the process dies.

#[path = "common/skip.rs"]
mod skip;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use skip::skip;
use vtax::host::net::{NetError, Network};
use vtax_scenarios::plan::NetLink;

const HOLDER: &str = "VTAX_TEST_HOLDS_A_NETWORK";

/// In a child process: makes a network, names its namespace, and waits to be killed.
#[test]
fn holder() {
    if std::env::var_os(HOLDER).is_none() {
        return;
    }
    let _network = Network::build(NetLink::Bridge).unwrap();
    println!("\nready");
    loop {
        std::thread::park();
    }
}

/// The network namespaces that file descriptors of this process hold.
fn held_by(process: &Path) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(process.join("fd")) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| {
            fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("net:["))
        })
        .filter_map(|entry| Some(fs::metadata(entry.path()).ok()?.ino()))
        .collect()
}

/// Whether any process has a descriptor of the namespace, or a thread in it.
fn is_held(namespace: u64) -> bool {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .any(|process| {
            let threads = fs::read_dir(process.path().join("task"));
            held_by(&process.path()).contains(&namespace)
                || threads.into_iter().flatten().flatten().any(|thread| {
                    fs::metadata(thread.path().join("ns/net"))
                        .is_ok_and(|found| found.ino() == namespace)
                })
        })
}

#[test]
fn a_killed_process_leaves_no_namespace_behind() {
    match Network::build(NetLink::Bridge) {
        Ok(_) => {}
        Err(error @ (NetError::Namespace(_) | NetError::Tap(_))) => {
            skip(&error.to_string());
            return;
        }
        Err(error) => panic!("{error}"),
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holder", "--nocapture"])
        .env(HOLDER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    assert!(
        stdout.lines().any(|line| line.unwrap() == "ready"),
        "the child has ended"
    );
    let process = format!("/proc/{}", child.id());
    let held = held_by(Path::new(&process));
    let [namespace] = held[..] else {
        panic!("{held:?}");
    };
    assert!(is_held(namespace));
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!is_held(namespace));
}
