//! The account of the gap on planted losses: the cause is named with its size, what no cause explains is said to be
//! unexplained, and what could not be counted is listed with its reason.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic as they do")]

mod fixture;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use vtax_reports::counters::{Counter, CounterLog, CounterRow, Counts};
use vtax_reports::estimate::estimate;
use vtax_reports::ledger::{Cause, Finding, Ledger};
use vtax_reports::record::{CostOf, Marks, RunRecord, Sample, Side, UnitCost};
use vtax_reports::store::{self, LatencyLog, Writer};

const BOOTS: u32 = 12;
const ROUNDS: u32 = 4;
const ITERATIONS: u64 = 1_000_000;
/// Native nanoseconds of a block.
const BLOCK_NANOS: f64 = 20e6;
/// Relative noise of a block.
const NOISE: f64 = 0.001;

/// What is planted in every guest block.
#[derive(Clone, Copy, Default)]
struct Planted {
    /// Port exits, at `PORT_NANOS` each.
    port_exits: u64,
    /// Nanoseconds of run delay.
    run_delay_nanos: u64,
    /// Nanoseconds that nothing counts.
    hidden_nanos: f64,
    /// APERF for each 1000 of MPERF: on the host and in the guest.
    clocks: Option<[u64; 2]>,
    marks: Marks,
}

const PORT_NANOS: f64 = 25_000.0;

fn record() -> RunRecord {
    let mut record = fixture::record();
    record.not_measured.clear();
    record.plan.cells.truncate(1);
    let priced = |nanos: f64| UnitCost::Measured {
        nanos: (-7..=7)
            .map(|step| nanos * (1.0 + 0.001 * f64::from(step)))
            .collect(),
        how: "planted".to_owned(),
    };
    record.unit_costs = [
        (CostOf::PortExit, priced(PORT_NANOS)),
        (CostOf::ContextSwitch, priced(2_000.0)),
        (
            CostOf::InterruptExit,
            UnitCost::Unavailable("a second CPU is needed".into()),
        ),
    ]
    .into();
    record
        .counters_unavailable
        .insert(Counter::DtlbMisses, "no PMU here".into());
    record
}

fn blocks(planted: Planted) -> (Vec<Sample>, CounterLog) {
    let record = record();
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let (mut samples, mut counters) = (Vec::new(), CounterLog::default());
    let mut now = 0;
    for boot in 0..BOOTS {
        for round in 0..ROUNDS {
            for (position, side) in [(0, Side::Native), (1, Side::Guest), (2, Side::Control)] {
                let noise: f64 = NOISE * random.sample::<f64, _>(StandardNormal);
                let mut nanos = BLOCK_NANOS * noise.exp();
                let mut counts = Counts::NONE;
                let guest = side == Side::Guest;
                if guest {
                    nanos += planted.port_exits as f64 * PORT_NANOS
                        + planted.run_delay_nanos as f64
                        + planted.hidden_nanos;
                }
                let in_guest = |value: u64| Some(if guest { value } else { 0 });
                counts.set(Counter::PortExits, in_guest(planted.port_exits));
                counts.set(Counter::RunDelay, in_guest(planted.run_delay_nanos));
                counts.set(Counter::VoluntarySwitches, Some(0));
                counts.set(Counter::InvoluntarySwitches, Some(0));
                counts.set(Counter::KvmIrqExits, in_guest(5));
                if let Some(clocks) = planted.clocks {
                    counts.set(Counter::Aperf, Some(clocks[usize::from(guest)]));
                    counts.set(Counter::Mperf, Some(1000));
                }
                counters.push(CounterRow {
                    cell: 0,
                    boot,
                    round,
                    side,
                    vcpu: 0,
                    counts,
                });
                samples.push(Sample {
                    cell: 0,
                    boot,
                    round,
                    position,
                    side,
                    vcpu: 0,
                    cpu: 0,
                    iterations: ITERATIONS,
                    ticks: whole(nanos / record.nanos_per_tick),
                    outer_nanos: whole(nanos),
                    run_in_ticks: 0,
                    latency_ticks: 0,
                    marks: if guest { planted.marks } else { Marks::CLEAN },
                    at_nanos: now,
                });
                now += whole(nanos);
            }
        }
    }
    (samples, counters)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "planted times are positive and far below 2^63"
)]
fn whole(nanos: f64) -> u64 {
    nanos as u64
}

fn ledger(planted: Planted) -> Ledger {
    let (samples, counters) = blocks(planted);
    let results = estimate(&record(), &samples, &LatencyLog::default(), &counters);
    results.cells[0].ledger.clone().unwrap()
}

/// Nanoseconds per unit of work that a block's nanoseconds are.
fn per_unit(nanos: f64) -> f64 {
    nanos / ITERATIONS as f64
}

fn near(value: f64, expected: f64, tolerance: f64) -> bool {
    (value / expected - 1.0).abs() < tolerance
}

#[test]
fn planted_exits_are_named_with_their_number_and_size() {
    let ledger = ledger(Planted {
        port_exits: 80,
        ..Planted::default()
    });
    let first = &ledger.causes[0];
    assert_eq!(first.cause, Cause::PortExits);
    assert!(near(first.events.value, per_unit(80.0), 1e-9), "{first:?}");
    assert!(
        near(first.loss.value, per_unit(80.0 * PORT_NANOS), 0.01),
        "{first:?}"
    );
    assert!(
        near(ledger.loss.value, per_unit(80.0 * PORT_NANOS), 0.02),
        "{ledger:?}"
    );
    assert_eq!(ledger.finding, Finding::Explained);
    assert!(
        ledger.residual.low < 0.0 && ledger.residual.high > 0.0,
        "{ledger:?}"
    );
}

#[test]
fn waiting_for_a_cpu_is_told_where_every_block_was_preempted() {
    let ledger = ledger(Planted {
        run_delay_nanos: 9_000_000,
        marks: Marks::PREEMPTED,
        ..Planted::default()
    });
    assert_eq!(ledger.causes[0].cause, Cause::RunDelay);
    assert!(near(ledger.causes[0].loss.value, per_unit(9e6), 1e-9));
    assert_eq!(ledger.finding, Finding::Explained);
}

#[test]
fn what_no_cause_explains_is_unexplained_and_not_spread() {
    let ledger = ledger(Planted {
        port_exits: 10,
        hidden_nanos: 1e6,
        ..Planted::default()
    });
    assert_eq!(ledger.finding, Finding::Unexplained);
    assert!(
        near(ledger.residual.value, per_unit(1e6), 0.1),
        "{ledger:?}"
    );
    let ports = ledger
        .causes
        .iter()
        .find(|entry| entry.cause == Cause::PortExits);
    assert!(near(
        ports.unwrap().loss.value,
        per_unit(10.0 * PORT_NANOS),
        0.01
    ));
}

#[test]
fn causes_that_cost_less_than_priced_are_said_to_be_overestimated() {
    let ledger = ledger(Planted {
        port_exits: 80,
        hidden_nanos: -80.0 * PORT_NANOS / 2.0,
        ..Planted::default()
    });
    assert_eq!(ledger.finding, Finding::Overestimated);
}

#[test]
fn what_cannot_be_counted_or_priced_is_listed_with_its_reason() {
    let ledger = ledger(Planted::default());
    let reason = |cause| {
        let found = ledger.unaccounted.iter().find(|it| it.cause == cause);
        found.map(|it| it.reason.as_str())
    };
    assert_eq!(reason(Cause::PageWalks), Some("no PMU here"));
    assert_eq!(
        reason(Cause::InterruptExits),
        Some("a second CPU is needed")
    );
    assert_eq!(
        reason(Cause::GuestFaults),
        Some("some blocks have no value for it")
    );
    assert_eq!(reason(Cause::PortExits), None);
    assert_eq!(ledger.finding, Finding::Explained);
}

#[test]
fn a_run_directory_keeps_the_counters_and_an_older_one_has_none() {
    let planted = Planted {
        port_exits: 7,
        ..Planted::default()
    };
    let (samples, counters) = blocks(planted);
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(dir.path(), &record()).unwrap();
    writer.samples(&samples).unwrap();
    for boot in 0..BOOTS {
        writer.counters(counters.boot(0, boot)).unwrap();
    }
    drop(writer);
    let run = store::read(dir.path()).unwrap();
    assert_eq!(run.counters, counters);
    assert_eq!(run.record.unit_costs, record().unit_costs);

    let file = dir.path().join(store::COUNTERS_FILE);
    let mut torn = std::fs::read(&file).unwrap();
    torn.truncate(torn.len() - 3);
    std::fs::write(&file, torn).unwrap();
    let run = store::read(dir.path()).unwrap();
    assert!(run.notes.iter().any(|note| note.contains("counters.csv")));
    assert_eq!(
        run.counters.boot(0, BOOTS - 1).len(),
        3 * ROUNDS as usize - 1
    );

    std::fs::remove_file(&file).unwrap();
    let run = store::read(dir.path()).unwrap();
    assert_eq!(run.counters, CounterLog::default());
    let results = estimate(&run.record, &run.samples, &run.latencies, &run.counters);
    assert_eq!(results.cells[0].ledger, None);
}

#[test]
fn a_cell_whose_sides_ran_at_different_frequencies_says_so() {
    let cell = |clocks| {
        let planted = Planted {
            clocks,
            ..Planted::default()
        };
        let (samples, counters) = blocks(planted);
        let mut results = estimate(&record(), &samples, &LatencyLog::default(), &counters);
        results.cells.remove(0)
    };
    const TOLD: &str = "The sides ran at different frequencies";
    let differing = cell(Some([1200, 1180]));
    let frequency = differing.frequency.unwrap();
    let hertz = 1.2e9 / record().nanos_per_tick;
    assert!(near(frequency.native, hertz, 1e-9), "{frequency:?}");
    assert!(near(frequency.guest, hertz * 1180.0 / 1200.0, 1e-9));
    assert!(differing.reason.contains(TOLD), "{}", differing.reason);
    assert!(differing.reason.contains("−1.7 %"), "{}", differing.reason);
    let alike = cell(Some([1200, 1200]));
    assert!(alike.frequency.is_some());
    assert!(!alike.reason.contains(TOLD), "{}", alike.reason);
    assert_eq!(cell(None).frequency, None);
}
