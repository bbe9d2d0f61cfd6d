//! A run directory, as `vtax report` may be handed one from anywhere: one of its files holds anything.

#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vtax::host::fingerprint::fingerprint;
use vtax::host::root::HostRoot;
use vtax_reports::estimate::estimate;
use vtax_reports::record::{ClockBound, RunRecord, SCHEMA};
use vtax_reports::store::{self, Writer};
use vtax_scenarios::{Overrides, parse};

const SCENARIO: &str = "schema = 1\nname = \"fuzz\"\n[[workload]]\nname = \"cpu-hash\"\n";

const FILES: [&str; 6] = [
    store::RECORD_FILE,
    store::SAMPLES_FILE,
    store::COUNTERS_FILE,
    store::TRIALS_FILE,
    store::EVENTS_FILE,
    "latency-0-guest.hlog",
];

/// A directory of a run that has just begun, and what its files hold.
static RUN: LazyLock<Option<(tempfile::TempDir, Vec<(PathBuf, Vec<u8>)>)>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().ok()?;
    let dir = folder.path().join("run");
    let record = RunRecord {
        schema: SCHEMA,
        vtax_version: String::new(),
        started: "2026-01-01T00:00:00Z".to_owned(),
        finished: None,
        interrupted: false,
        command: Vec::new(),
        host: fingerprint(&HostRoot::default()),
        payload_sha256: String::new(),
        nanos_per_tick: 0.5,
        clock_bound: ClockBound {
            relative: 0.001,
            absolute_nanos: 50_000,
            entry_nanos: 5_000,
        },
        plan: parse("fuzz.toml", SCENARIO, &Overrides::default())
            .ok()?
            .plan,
        counters_unavailable: BTreeMap::new(),
        unit_costs: BTreeMap::new(),
        not_measured: BTreeMap::new(),
        native_disks: BTreeMap::new(),
        experiments_not_measured: BTreeMap::new(),
        metrics_unavailable: BTreeMap::new(),
        resumed: Vec::new(),
    };
    Writer::create(&dir, &record).ok()?;
    let files = FILES.map(|name| dir.join(name));
    let files = files.map(|path| {
        let held = fs::read(&path).unwrap_or_default();
        (path, held)
    });
    Some((folder, files.to_vec()))
});

fuzz_target!(|input: (u8, bool, Vec<u8>)| {
    let (which, appended, bytes) = input;
    let Some((folder, files)) = RUN.as_ref() else {
        return;
    };
    let (path, held) = &files[usize::from(which) % files.len()];
    let text = if appended {
        [held.as_slice(), &bytes].concat()
    } else {
        bytes
    };
    if fs::write(path, text).is_err() {
        return;
    }
    if let Ok(run) = store::read(&folder.path().join("run")) {
        let _ = estimate(&run.record, &run.samples, &run.latencies, &run.counters);
    }
    let put_back = if held.is_empty() {
        fs::remove_file(path)
    } else {
        fs::write(path, held)
    };
    assert!(put_back.is_ok(), "{}", path.display());
});
