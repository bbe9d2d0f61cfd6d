use vtax_reports::record::Side;
use vtax_scenarios::{Overrides, parse};

use super::*;
use crate::measure::boot::Portion;

const ROUNDS: u32 = 2;

fn plan() -> Plan {
    let text =
        "schema = 1\nname = \"t\"\n[measure]\nrounds = 2\n[[workload]]\nname = \"cpu-hash\"\n";
    parse("t.toml", text, &Overrides::default()).unwrap().plan
}

fn created(boot: u32) -> Event {
    Event::now(10, "guest-created")
        .with("cell", 0)
        .with("boot", boot)
}

fn stopped(boot: u32, blocks: usize, counted: usize) -> Event {
    let portion = Portion {
        iterations: 1,
        checksum: u64::MAX,
    };
    let ending = Ending {
        since_nanos: 5,
        blocks,
        counted,
        known: Known::alike(portion),
    };
    Event::now(20, "guest-stopped")
        .with("cell", 0)
        .with("boot", boot)
        .with("ending", serde_json::json!(ending))
}

/// A warm-up block, and the first so many rounds of a boot.
fn blocks(boot: u32, rounds: u32) -> Vec<Sample> {
    let block = |round, side, marks| Sample {
        cell: 0,
        boot,
        round,
        position: 0,
        side,
        vcpu: 0,
        cpu: 0,
        iterations: 1,
        ticks: 1,
        outer_nanos: 7,
        run_in_ticks: 0,
        latency_ticks: 0,
        marks,
        at_nanos: 100,
    };
    let warm_up = block(9, Side::Native, Marks::WARMUP);
    let sides = [Side::Native, Side::Guest, Side::Control];
    let rounds = (0..rounds).flat_map(|round| sides.map(|side| block(round, side, Marks::CLEAN)));
    std::iter::once(warm_up).chain(rounds).collect()
}

/// The numbers of the finished boots, and of those that are dropped.
fn sorted(events: &[Event], samples: &[Sample], counted: usize) -> (Vec<u32>, Vec<u32>) {
    let (finished, dropped) = sort(&plan(), events, samples, |_, _| counted);
    (
        finished.into_keys().map(|(_, boot)| boot).collect(),
        dropped.into_iter().map(|(_, boot)| boot).collect(),
    )
}

#[test]
fn a_boot_counts_once_its_end_and_all_its_blocks_are_on_disk() {
    let whole = blocks(0, ROUNDS);
    let ended = [created(0), stopped(0, whole.len(), 6)];
    assert_eq!(sorted(&ended, &whole, 6), (vec![0], vec![]));
    assert_eq!(sorted(&ended[..1], &whole, 6), (vec![], vec![0]));
    assert_eq!(sorted(&ended, &whole[1..], 6), (vec![], vec![0]));
    assert_eq!(sorted(&ended, &whole, 5), (vec![], vec![0]));
}

#[test]
fn a_boot_that_a_signal_ended_early_is_measured_anew() {
    let short = blocks(0, ROUNDS - 1);
    let early = [created(0), stopped(0, short.len(), 3)];
    assert_eq!(sorted(&early, &short, 3), (vec![], vec![0]));
    // Once more: what was said of the first attempt stands for nothing.
    let whole = blocks(0, ROUNDS);
    let again = [early.as_slice(), &[created(0)]].concat();
    assert_eq!(sorted(&again, &whole, 6), (vec![], vec![0]));
    let ended = [again.as_slice(), &[stopped(0, whole.len(), 6)]].concat();
    assert_eq!(sorted(&ended, &whole, 6), (vec![0], vec![]));
}

#[test]
fn a_boot_that_failed_left_nothing_to_drop() {
    let failed = Event::now(30, "guest-failed")
        .with("cell", 0)
        .with("boot", 0);
    assert_eq!(sorted(&[created(0), failed], &[], 0), (vec![], vec![]));
}

#[test]
fn the_time_goes_on_after_the_last_that_is_known() {
    assert_eq!(time_so_far(&[created(0)], &blocks(0, 1)), 107);
    assert_eq!(time_so_far(&[created(0)], &[]), 10);
}

#[test]
fn another_host_is_told_by_what_differs() {
    let host = |facts: &[(&str, &str)]| HostFingerprint {
        facts: facts
            .iter()
            .map(|&(key, text)| (key.to_owned(), Reading::Value(text.to_owned())))
            .collect(),
        nested_under: None,
    };
    let was = host(&[("kernel", "6.1"), ("thp", "madvise"), ("uptime", "1 h")]);
    let is = host(&[("kernel", "6.1"), ("thp", "always"), ("uptime", "2 h")]);
    let found = differences(&was, &is);
    assert_eq!(found, ["thp was \"madvise\" and is \"always\""]);
    assert!(differences(&was, &was).is_empty());
}

#[test]
fn a_repetition_counts_once_its_end_and_all_its_rows_are_on_disk() {
    let finished = |repetition: u32, rows: usize| {
        Event::now(30, "experiment-finished")
            .with("experiment", 0)
            .with("repetition", repetition)
            .with("rows", rows)
    };
    let row = |repetition| Trial {
        experiment: 0,
        repetition,
        metric: "cpu".to_owned(),
        at_nanos: None,
        value: 1.0,
    };
    let rows = [row(0), row(0), row(1), row(2)];
    // Of the first all is there, of the second a row is lost, and of the third nothing says that it ended.
    let found = tried(&[finished(0, 2), finished(1, 2)], &rows);
    assert_eq!(found, BTreeSet::from([(0, 0)]));
}
