//! Run directories: written, read, killed, damaged, old and new.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic as they do")]

mod fixture;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tempfile::tempdir;
use vtax_reports::record::{RunRecord, Side};
use vtax_reports::store::{Event, Run, StoreError, Writer, read};

/// Writes `run` as a run would: head, boots, end.
fn write(dir: &Path, run: &Run) {
    let head = RunRecord {
        finished: None,
        not_measured: BTreeMap::new(),
        ..run.record.clone()
    };
    let mut writer = Writer::create(dir, &head).unwrap();
    for boot in run.samples.chunk_by(|a, b| a.boot == b.boot) {
        writer.samples(boot).unwrap();
    }
    for side in [Side::Native, Side::Guest] {
        for (boot, histogram) in run.latencies.boots(fixture::FIRST_TOUCH, side) {
            let start = u64::from(boot) * 1_000_000_000;
            writer
                .latencies(
                    fixture::FIRST_TOUCH,
                    side,
                    boot,
                    start..start + 500_000_000,
                    histogram,
                )
                .unwrap();
        }
    }
    writer
        .event(
            &Event::now(5, "guest-created")
                .with("cell", 4)
                .with("backing", "thp"),
        )
        .unwrap();
    writer.finish(&run.record, &fixture::results()).unwrap();
}

#[test]
fn what_was_written_is_read_again() {
    let dir = tempdir().unwrap();
    let run = fixture::run();
    write(dir.path(), &run);
    assert_eq!(read(dir.path()).unwrap(), run);
    let results: vtax_reports::result::Results =
        serde_json::from_slice(&fs::read(dir.path().join("results.json")).unwrap()).unwrap();
    assert_eq!(results, fixture::results());
}

#[test]
fn events_are_one_object_per_line() {
    let dir = tempdir().unwrap();
    write(dir.path(), &fixture::run());
    let text = fs::read_to_string(dir.path().join("events.jsonl")).unwrap();
    let event: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
    assert_eq!(event["event"], "guest-created");
    assert_eq!(event["cell"], 4);
    assert_eq!(event["at_nanos"], 5);
    assert!(event["time"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn a_killed_run_is_read_up_to_its_last_whole_line() {
    let dir = tempdir().unwrap();
    let run = fixture::run();
    let head = RunRecord {
        finished: None,
        ..run.record.clone()
    };
    let mut writer = Writer::create(dir.path(), &head).unwrap();
    writer.samples(&run.samples[..100]).unwrap();
    drop(writer);
    let path = dir.path().join("samples.csv");
    let whole = fs::read(&path).unwrap();
    let last_row = whole[..whole.len() - 1]
        .iter()
        .rposition(|&b| b == b'\n')
        .unwrap()
        + 1;
    // Wherever the kill cuts the last row, even where the rest still looks like a row, it goes.
    for cut in last_row + 1..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let read = read(dir.path()).unwrap();
        assert_eq!(read.samples, run.samples[..99]);
        assert!(
            read.notes.iter().any(|note| note.contains("torn")),
            "{:?}",
            read.notes
        );
        assert!(
            read.notes
                .iter()
                .any(|note| note.contains("never finished"))
        );
    }
}

#[test]
fn a_run_killed_before_its_first_block_is_a_run() {
    let dir = tempdir().unwrap();
    let run = fixture::run();
    drop(Writer::create(dir.path(), &run.record).unwrap());
    assert!(read(dir.path()).unwrap().samples.is_empty());
    fs::write(dir.path().join("samples.csv"), "cell,boot,rou").unwrap();
    assert!(read(dir.path()).unwrap().samples.is_empty());
    fs::remove_file(dir.path().join("samples.csv")).unwrap();
    assert!(read(dir.path()).unwrap().samples.is_empty());
}

#[test]
fn a_torn_latency_line_is_dropped() {
    let dir = tempdir().unwrap();
    let run = fixture::run();
    write(dir.path(), &run);
    let path = dir.path().join("latency-4-guest.hlog");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 20]).unwrap();
    let read = read(dir.path()).unwrap();
    let boots = |run: &Run| {
        run.latencies
            .boots(fixture::FIRST_TOUCH, Side::Guest)
            .count()
    };
    assert_eq!(boots(&read), boots(&run) - 1);
    assert!(
        read.notes
            .iter()
            .any(|note| note.contains("latency-4-guest.hlog"))
    );
}

#[test]
fn damage_in_the_middle_is_an_error_with_its_line() {
    let dir = tempdir().unwrap();
    write(dir.path(), &fixture::run());
    let path = dir.path().join("samples.csv");
    let text = fs::read_to_string(&path).unwrap();
    let broken: Vec<String> = (1..)
        .zip(text.lines())
        .map(|(number, line)| match number {
            7 => line
                .replace("native", "naive")
                .replace("guest", "gust")
                .replace("control", "ctl"),
            _ => line.to_owned(),
        })
        .collect();
    fs::write(&path, broken.join("\n") + "\n").unwrap();
    let error = read(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Line { line: 7, .. }), "{error}");
}

#[test]
fn a_newer_schema_is_refused_in_words() {
    let dir = tempdir().unwrap();
    write(dir.path(), &fixture::run());
    let path = dir.path().join("run.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"schema\": 1", "\"schema\": 99", 1)).unwrap();
    let error = read(dir.path()).unwrap_err();
    assert!(
        matches!(error, StoreError::Newer { found: 99, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("reads up to 1"), "{error}");
}

#[test]
fn a_run_is_never_overwritten_and_a_folder_is_no_run() {
    let dir = tempdir().unwrap();
    assert!(matches!(read(dir.path()), Err(StoreError::NotARun(_))));
    let run = fixture::run();
    write(dir.path(), &run);
    let again = Writer::create(dir.path(), &run.record);
    assert!(matches!(again, Err(StoreError::Occupied(_))));
    assert_eq!(read(dir.path()).unwrap(), run);
}

#[test]
fn version_1_stays_readable() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/version-1");
    let run = read(&dir).unwrap();
    assert_eq!(run.record.schema, 1);
    assert_eq!(run.record.plan.cells.len(), 2);
    assert_eq!(run.samples.len(), 12);
    assert_eq!(run.samples[3].marks, vtax_reports::record::Marks::PREEMPTED);
    assert_eq!(run.latencies.boots(1, Side::Guest).count(), 2);
    assert!(run.notes.is_empty());
}
