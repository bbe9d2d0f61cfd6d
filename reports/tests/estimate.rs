//! From planted blocks to results: what is planted comes back, whatever the units and the order, and every verdict
//! gives its reason.

mod fixture;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use vtax_reports::counters::CounterLog;
use vtax_reports::record::{Marks, NotMeasured, RunRecord, Sample, Side};
use vtax_reports::result::{Results, Verdict};
use vtax_reports::store::LatencyLog;
use vtax_reports::trials::Trial;
use vtax_scenarios::plan::{Cell, ClaimOver};

/// The results of a run in which nothing was counted.
fn estimate(record: &RunRecord, samples: &[Sample], latencies: &LatencyLog) -> Results {
    vtax_reports::estimate::estimate(record, samples, latencies, &CounterLog::default())
}

const BOOTS: u32 = 12;
const ROUNDS: u32 = 3;

/// A cell with known truth.
#[derive(Clone, Copy)]
struct Planted {
    workload: &'static str,
    /// Guest performance as a share of native.
    ratio: f64,
    /// Time of the control block as a share of native time.
    control: f64,
    /// Relative noise of a block.
    noise: f64,
    boots: u32,
    marks: Marks,
}

const CELL: Planted = Planted {
    workload: "cpu-hash",
    ratio: 0.99,
    control: 1.0,
    noise: 0.002,
    boots: BOOTS,
    marks: Marks::CLEAN,
};

impl Planted {
    fn cell(&self, id: u32) -> Cell {
        let mut cell = fixture::record().plan.cells[0].clone();
        cell.id = id;
        cell.label = format!("{} {id}", self.workload);
        cell.workload.name = self.workload.to_owned();
        cell.measure.pilot_boots = 10;
        cell
    }
}

/// A finished run of these cells with the claim that CPU-bound work keeps 97 %, on bare metal.
fn record(cells: &[Planted]) -> RunRecord {
    let mut record = fixture::record();
    record.host.nested_under = None;
    record.not_measured.clear();
    record.plan.claim.ratio = 0.97;
    record.plan.claim.over = ClaimOver::Cpu;
    record.plan.cells = (0..)
        .zip(cells)
        .map(|(id, planted)| planted.cell(id))
        .collect();
    record
}

/// The blocks of these cells, boots in turn, each boot a second long.
fn samples(cells: &[Planted], seed: u64) -> Vec<Sample> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut samples = Vec::new();
    let mut now = 0;
    for boot in 0..cells.iter().map(|cell| cell.boots).max().unwrap_or(0) {
        for (id, cell) in (0..).zip(cells).filter(|(_, cell)| boot < cell.boots) {
            for round in 0..ROUNDS {
                for (position, side) in [(0, Side::Native), (1, Side::Guest), (2, Side::Control)] {
                    let factor = match side {
                        Side::Native => 1.0,
                        Side::Guest => 1.0 / cell.ratio,
                        Side::Control => cell.control,
                    };
                    let noise: f64 = cell.noise * rng.sample::<f64, _>(StandardNormal);
                    samples.push(Sample {
                        cell: id,
                        boot,
                        round,
                        position,
                        side,
                        vcpu: 0,
                        cpu: 0,
                        iterations: 1_000_000,
                        ticks: whole(60e6 * factor * noise.exp()),
                        outer_nanos: 25_000_000,
                        run_in_ticks: 0,
                        latency_ticks: 0,
                        marks: cell.marks,
                        at_nanos: now,
                    });
                    now += 1_000_000_000 / u64::from(3 * ROUNDS);
                }
            }
        }
    }
    samples
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "planted times are positive and far below 2^63"
)]
fn whole(ticks: f64) -> u64 {
    ticks as u64
}

fn results(cells: &[Planted]) -> Results {
    estimate(&record(cells), &samples(cells, 1), &LatencyLog::default())
}

fn close(left: f64, right: f64) -> bool {
    (left / right - 1.0).abs() < 1e-9
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_planted_slowdown_is_recovered(
        ratio in 0.5..1.0,
        noise in 1e-4..0.02,
        seed: u64,
    ) {
        let cells = [Planted { ratio, noise, ..CELL }];
        let results = estimate(&record(&cells), &samples(&cells, seed), &LatencyLog::default());
        let found = results.cells[0].ratio.unwrap();
        // Six half-widths, some fourteen standard errors: no bad luck reaches so far.
        let reach = 3.0 * (found.high - found.low) + 1e-6;
        prop_assert!((found.value - ratio).abs() <= reach, "{ratio}: {found:?}");
        prop_assert!(found.low <= found.value && found.value <= found.high);
    }

    #[test]
    fn swapping_the_sides_inverts_the_ratio(ratio in 0.5..1.5, seed: u64) {
        let cells = [Planted { ratio, ..CELL }];
        // With the control a copy of native, the sides can change places.
        let mut there = samples(&cells, seed);
        for round in there.chunks_mut(3) {
            round[2].ticks = round[0].ticks;
        }
        let mut back = there.clone();
        for round in back.chunks_mut(3) {
            (round[0].ticks, round[1].ticks) = (round[1].ticks, round[0].ticks);
            round[2].ticks = round[0].ticks;
        }
        let record = record(&cells);
        let there = estimate(&record, &there, &LatencyLog::default()).cells[0].ratio.unwrap();
        let back = estimate(&record, &back, &LatencyLog::default()).cells[0].ratio.unwrap();
        prop_assert!(close(there.value * back.value, 1.0));
        prop_assert!(close(there.low * back.high, 1.0));
        prop_assert!(close(there.high * back.low, 1.0));
    }

    #[test]
    fn the_unit_of_time_does_not_matter(factor in 2_u64..1_000, seed: u64) {
        let cells = [CELL];
        let one = samples(&cells, seed);
        let mut other = one.clone();
        other.iter_mut().for_each(|sample| sample.ticks *= factor);
        let record = record(&cells);
        let one = &estimate(&record, &one, &LatencyLog::default()).cells[0];
        let other = &estimate(&record, &other, &LatencyLog::default()).cells[0];
        for (one, other) in [(one.ratio, other.ratio), (one.control, other.control)] {
            let (one, other) = (one.unwrap(), other.unwrap());
            prop_assert!(close(one.value, other.value));
            prop_assert!(close(one.low, other.low) && close(one.high, other.high));
        }
    }

    #[test]
    fn the_order_of_the_samples_does_not_matter(seed: u64) {
        let cells = [CELL, Planted { ratio: 0.9, ..CELL }, Planted { ratio: 0.97, ..CELL }];
        let record = record(&cells);
        let mut samples = samples(&cells, seed);
        let in_order = estimate(&record, &samples, &LatencyLog::default());
        samples.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        prop_assert_eq!(estimate(&record, &samples, &LatencyLog::default()), in_order);
    }
}

#[test]
fn a_claim_that_holds() {
    let results = results(&[
        CELL,
        Planted {
            ratio: 0.995,
            ..CELL
        },
    ]);
    for cell in &results.cells {
        assert_eq!(cell.verdict, Verdict::Holds, "{}", cell.reason);
        assert_eq!((cell.boots, cell.rounds), (BOOTS, BOOTS * ROUNDS));
        assert!(cell.voided.is_empty());
        assert!((cell.typical.unwrap().value / cell.ratio.unwrap().value - 1.0).abs() < 0.002);
        let stalls = cell.stalls.as_ref().unwrap();
        assert!(!stalls.stumbles && stalls.guest == 0, "{stalls:?}");
        // 36 blocks of 25 ms and a little more, by the rule of three for 97.5 %.
        assert!(
            cell.reason.contains("more often than every 24"),
            "{}",
            cell.reason
        );
        assert!(cell.noise_floor.unwrap() < 0.005);
    }
    let headline = &results.headline;
    let ratio = headline.ratio.unwrap();
    assert!((ratio.value - (0.99_f64 * 0.995).sqrt()).abs() < 0.002);
    assert_eq!(headline.verdict, Verdict::Holds);
    assert_eq!(
        headline.sentence,
        format!(
            "A bare guest in ring 3 under vtax's own VMM runs CPU-bound work at {:.1} % of native [{:.1}, {:.1}]: the 97 % claim holds.",
            100.0 * ratio.value,
            100.0 * ratio.low,
            100.0 * ratio.high
        )
    );
}

#[test]
fn a_claim_that_is_refuted() {
    let results = results(&[Planted {
        ratio: 0.94,
        ..CELL
    }]);
    assert_eq!(results.cells[0].verdict, Verdict::Refuted);
    assert!(results.cells[0].reason.ends_with("is below 97 %."));
    assert_eq!(results.headline.verdict, Verdict::Refuted);
    assert!(
        results
            .headline
            .sentence
            .contains("the 97 % claim is refuted.")
    );
}

#[test]
fn one_refuted_cell_is_named_though_the_mean_holds() {
    let good = Planted {
        ratio: 0.995,
        ..CELL
    };
    let results = results(&[
        good,
        good,
        Planted {
            ratio: 0.95,
            ..CELL
        },
    ]);
    assert_eq!(results.headline.verdict, Verdict::Holds);
    assert!(
        results
            .headline
            .text()
            .contains("claim holds. 1 cell is below 97 %: cpu-hash.")
    );
}

#[test]
fn an_undecided_claim_says_how_much_time_would_decide() {
    let cells = [Planted {
        ratio: 0.96,
        noise: 0.03,
        ..CELL
    }];
    let results = results(&cells);
    let cell = &results.cells[0];
    assert_eq!(cell.verdict, Verdict::Undecided, "{}", cell.reason);
    // Half-width over distance, squared, times the time that the boots took so far; less that time.
    let ratio = cell.ratio.unwrap();
    let times = ((ratio.high / ratio.low).ln() / 2.0 / (ratio.value / 0.97).ln()).powi(2) - 1.0;
    let seconds = times * f64::from(BOOTS);
    let stated =
        vtax_reports::verdict::words::duration(std::time::Duration::from_secs_f64(seconds));
    assert!(
        cell.reason
            .contains(&format!("about {stated} more would decide")),
        "{}",
        cell.reason
    );
    assert!(
        results.headline.sentence.contains("is undecided, about"),
        "{}",
        results.headline.sentence
    );
}

#[test]
fn no_amount_of_time_is_promised_where_none_helps() {
    let mut record = record(&[CELL]);
    let samples = samples(&[CELL], 1);
    let found = estimate(&record, &samples, &LatencyLog::default()).cells[0].ratio;
    record.plan.claim.ratio = found.unwrap().value;
    let cell = &estimate(&record, &samples, &LatencyLog::default()).cells[0];
    assert_eq!(cell.verdict, Verdict::Undecided);
    assert!(
        cell.reason.contains("no reasonable amount of time"),
        "{}",
        cell.reason
    );
}

#[test]
fn better_than_native_is_an_anomaly_and_no_pass() {
    let results = results(&[Planted {
        ratio: 1.05,
        ..CELL
    }]);
    let cell = &results.cells[0];
    assert_eq!(cell.verdict, Verdict::Undecided);
    assert!(cell.anomaly.as_ref().unwrap().contains("guest clock"));
    let headline = &results.headline;
    assert_eq!(headline.verdict, Verdict::Undecided);
    assert_eq!(headline.ratio, None, "it is not averaged in as 100 %");
    let told = "is undecided: the only cell with a share looks better than native.";
    assert!(headline.sentence.ends_with(told), "{}", headline.sentence);
}

#[test]
fn an_anomaly_is_left_out_of_the_mean_and_counted() {
    let low = Planted {
        ratio: 0.96,
        ..CELL
    };
    let high = Planted { ratio: 1.5, ..CELL };
    let headline = results(&[low, low, high]).headline;
    let ratio = headline.ratio.unwrap();
    assert!((ratio.value - 0.96).abs() < 0.002, "{ratio:?}");
    assert_eq!(headline.verdict, Verdict::Refuted);
    let text = headline.text();
    for words in [
        "runs CPU-bound work (2 of 3 cells) at 96.",
        "1 cell looks better than native and is left out: cpu-hash.",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // As many as the others, and nobody knows what the others are worth.
    let headline = results(&[low, high]).headline;
    assert_eq!(headline.verdict, Verdict::Undecided);
    let told = "is undecided, for 1 of 2 cells looks better than native";
    assert!(headline.sentence.contains(told), "{}", headline.sentence);
}

/// The record of [`record`], with a claim over all work.
fn over_all(cells: &[Planted]) -> RunRecord {
    let mut record = record(cells);
    record.plan.claim.over = ClaimOver::All;
    record
}

#[test]
fn cells_of_several_kinds_decide_each_by_itself_and_have_no_mean() {
    let of = |ratios: &[(&'static str, f64)]| {
        let cells: Vec<Planted> = ratios
            .iter()
            .map(|&(workload, ratio)| Planted {
                workload,
                ratio,
                ..CELL
            })
            .collect();
        let samples = samples(&cells, 1);
        estimate(&over_all(&cells), &samples, &LatencyLog::default()).headline
    };
    let holds = of(&[("cpu-hash", 0.99), ("mem-latency", 0.98)]);
    assert_eq!((holds.verdict, holds.ratio), (Verdict::Holds, None));
    let start = "2 of 2 cells have a share of native, 98.";
    assert!(holds.sentence.starts_with(start), "{}", holds.sentence);
    let end = "(vtax's own VMM, bare guest in ring 3). The 97 % claim holds: both reach it.";
    assert!(holds.sentence.ends_with(end), "{}", holds.sentence);

    // The geometric mean is above 97 %.
    let cells = [("cpu-hash", 1.0), ("cpu-aes", 1.0), ("mem-latency", 0.93)];
    let refuted = of(&cells);
    assert_eq!(refuted.verdict, Verdict::Refuted, "{}", refuted.sentence);
    let end = "is refuted: 2 cells reach it, 1 is below it.";
    assert!(refuted.sentence.ends_with(end), "{}", refuted.sentence);

    // Work on the processor alone has a mean even where the claim is over all.
    let alike = of(&[("cpu-hash", 0.99), ("cpu-aes", 0.96)]);
    assert!(alike.ratio.is_some(), "{}", alike.sentence);
}

#[test]
fn one_cell_among_many_that_is_barely_below_refutes_nothing() {
    // At 95 % of confidence each, one of twenty cells lies below by chance.
    let barely = |noise: f64, seed: u64| {
        let mut cells = vec![
            Planted {
                ratio: 0.99,
                ..CELL
            };
            12
        ];
        cells[0] = Planted {
            workload: "mem-latency",
            ratio: 0.9655,
            noise,
            ..CELL
        };
        let results = estimate(
            &over_all(&cells),
            &samples(&cells, seed),
            &LatencyLog::default(),
        );
        (results.cells[0].verdict, results.headline)
    };
    let found = (1..200)
        .map(|seed| barely(0.01, seed))
        .find(|(cell, headline)| {
            *cell == Verdict::Refuted && headline.verdict == Verdict::Undecided
        });
    let (_, headline) = found.unwrap();
    let told =
        "is undecided: 11 cells reach it, 1 is below it, as one of 12 cells may be by chance.";
    assert!(headline.sentence.contains(told), "{}", headline.sentence);
    let (_, headline) = barely(0.0001, 1);
    assert_eq!(headline.verdict, Verdict::Refuted, "{}", headline.sentence);
}

#[test]
fn a_cell_that_disagrees_with_itself_says_so() {
    let results = results(&[Planted {
        control: 1.04,
        ..CELL
    }]);
    let cell = &results.cells[0];
    assert!(cell.noise_floor.unwrap() > 0.03);
    assert!(
        cell.reason.contains("the cell disagrees with itself"),
        "{}",
        cell.reason
    );
}

#[test]
fn boots_that_follow_each_other_are_reported() {
    let cells = [Planted { boots: 30, ..CELL }];
    let mut samples = samples(&cells, 1);
    let slower = |sample: &&mut Sample| sample.boot >= 15 && sample.side == Side::Guest;
    for sample in samples.iter_mut().filter(slower) {
        sample.ticks += sample.ticks / 10;
    }
    let cell = &estimate(&record(&cells), &samples, &LatencyLog::default()).cells[0];
    assert!(cell.reason.contains("follow each other"), "{}", cell.reason);
}

#[test]
fn what_cannot_be_tested_is_left_out_and_what_failed_leaves_the_run_undecided() {
    let cells = [CELL; 3];
    let mut record = record(&cells);
    let missing = NotMeasured::NotTestable("No AVX2 on this host.".to_owned());
    record.not_measured.insert(1, missing);
    let samples = samples(&cells, 1);
    let results = estimate(&record, &samples, &LatencyLog::default());
    assert_eq!(results.cells[1].verdict, Verdict::NotTestable);
    assert_eq!(results.cells[1].reason, "No AVX2 on this host.");
    assert_eq!(results.headline.verdict, Verdict::Holds);
    assert!(
        results
            .headline
            .text()
            .contains("1 cell is not testable on this host: cpu-hash.")
    );

    let fault = NotMeasured::Failed("page fault at RIP 0x1000, CR2 0x0.".to_owned());
    record.not_measured.insert(2, fault);
    let results = estimate(&record, &samples, &LatencyLog::default());
    let failed = &results.cells[2];
    assert!(failed.failed && failed.ratio.is_none() && failed.native.is_none());
    assert_eq!(failed.verdict, Verdict::NotTestable);
    assert!(failed.reason.contains("RIP 0x1000"));
    assert_eq!(results.headline.verdict, Verdict::Undecided);
    assert!(
        results
            .headline
            .sentence
            .contains("lacking a result of 1 cell.")
    );
}

#[test]
fn nothing_testable_says_what_is_missing() {
    let cells = [CELL];
    let mut record = record(&cells);
    let missing =
        NotMeasured::NotTestable("/dev/kvm is missing: load kvm_intel or kvm_amd.".to_owned());
    record.not_measured.insert(0, missing);
    let headline = estimate(&record, &[], &LatencyLog::default()).headline;
    assert_eq!(headline.verdict, Verdict::NotTestable);
    assert_eq!(
        headline.sentence,
        "Whether a bare guest in ring 3 under vtax's own VMM reaches 97 % of native on CPU-bound work cannot be tested here: \
         /dev/kvm is missing: load kvm_intel or kvm_amd."
    );
    record.plan.claim.over = ClaimOver::Memory;
    let headline = estimate(&record, &[], &LatencyLog::default()).headline;
    assert!(
        headline
            .sentence
            .ends_with("no cell of this scenario is memory-bound work.")
    );
}

#[test]
fn an_interrupted_cell_is_undecided_and_so_is_the_run() {
    let cells = [CELL, Planted { boots: 1, ..CELL }];
    let mut record = record(&cells);
    record.interrupted = true;
    let results = estimate(&record, &samples(&cells, 1), &LatencyLog::default());
    assert_eq!(results.cells[0].verdict, Verdict::Holds);
    assert_eq!(results.cells[1].verdict, Verdict::Undecided);
    assert!(
        results.cells[1].reason.contains("interrupted before two"),
        "{}",
        results.cells[1].reason
    );
    assert_eq!(results.headline.verdict, Verdict::Undecided);
}

#[test]
fn a_nested_host_says_so_in_the_headline() {
    let cells = [CELL];
    let mut record = record(&cells);
    record.host.nested_under = Some("KVM".to_owned());
    let headline = estimate(&record, &samples(&cells, 1), &LatencyLog::default()).headline;
    assert!(
        headline
            .text()
            .contains("claim holds. Native here is itself a virtual machine under KVM."),
        "{}",
        headline.sentence
    );
}

#[test]
fn void_blocks_leave_no_figure_and_are_counted() {
    let results = results(&[Planted {
        marks: Marks::CLOCK,
        ..CELL
    }]);
    let cell = &results.cells[0];
    assert_eq!((cell.boots, cell.rounds), (0, 0));
    assert_eq!(cell.voided["clock"], u64::from(BOOTS * ROUNDS * 3));
    assert!(cell.ratio.is_none() && cell.native.is_none());
    assert!(cell.reason.contains("Fewer than two"), "{}", cell.reason);
}

#[test]
fn disturbed_blocks_count() {
    let cells = [CELL];
    let mut samples = samples(&cells, 1);
    for sample in samples
        .iter_mut()
        .filter(|it| (it.boot, it.round, it.side) == (3, 1, Side::Guest))
    {
        sample.marks = Marks::PREEMPTED;
        sample.ticks *= 3;
    }
    let cell = &estimate(&record(&cells), &samples, &LatencyLog::default()).cells[0];
    assert_eq!((cell.boots, cell.rounds), (BOOTS, BOOTS * ROUNDS));
    assert!(cell.voided.is_empty());
    // One of the guest's blocks takes three times as long.
    let truth = 0.99 / (1.0 + 2.0 / f64::from(BOOTS * ROUNDS));
    assert!((cell.ratio.unwrap().value - truth).abs() < 0.002);
    assert!((cell.typical.unwrap().value - 0.99).abs() < 0.002);
}

/// One of the guest's blocks in ten takes so many times as long: the guest does less work, whatever its median block says.
#[test]
fn a_guest_that_stumbles_does_not_hold_a_claim_that_its_median_block_would() {
    let cells = [Planted { boots: 60, ..CELL }];
    for (times, truth) in [(5, 0.99 / 1.4), (2, 0.99 / 1.1)] {
        let mut samples = samples(&cells, 1);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut stalled = 0;
        for sample in samples.iter_mut().filter(|it| it.side == Side::Guest) {
            if rng.random_bool(0.1) {
                sample.ticks *= times;
                stalled += 1;
            }
        }
        let results = estimate(&record(&cells), &samples, &LatencyLog::default());
        let cell = &results.cells[0];
        let ratio = cell.ratio.unwrap();
        assert!(
            ratio.low < truth && truth < ratio.high,
            "{times} ×: {ratio:?}"
        );
        assert!(
            cell.typical.unwrap().value > ratio.high,
            "{:?}",
            cell.typical
        );
        assert_eq!(cell.verdict, Verdict::Refuted, "{}", cell.reason);
        assert_eq!(results.headline.verdict, Verdict::Refuted);
        let stalls = cell.stalls.as_ref().unwrap();
        assert!(stalls.stumbles && stalls.guest == stalled && stalls.native == 0);
        assert!(stalls.cost_low < 1.0 - truth / 0.99 && 1.0 - truth / 0.99 < stalls.cost_high);
        assert!(stalls.share_of_loss.unwrap() > 0.85, "{stalls:?}");
        assert!(
            cell.reason.contains("The guest stumbles"),
            "{}",
            cell.reason
        );
    }
}

#[test]
fn void_blocks_on_one_side_may_hide_stalls_and_leave_the_cell_undecided() {
    let cells = [CELL];
    let mut samples = samples(&cells, 1);
    let guest = samples.iter_mut().filter(|it| it.side == Side::Guest);
    for sample in guest.step_by(6) {
        sample.marks = Marks::CLOCK;
    }
    let cell = &estimate(&record(&cells), &samples, &LatencyLog::default()).cells[0];
    assert!(cell.ratio.unwrap().low > 0.97);
    assert_eq!(cell.verdict, Verdict::Undecided);
    assert!(
        cell.reason
            .contains("6 of 36 in the guest, 0 of 72 on the host"),
        "{}",
        cell.reason
    );
}

#[test]
fn figures_are_in_the_workload_s_unit_and_agree_with_the_ratio() {
    let results = results(&[
        CELL,
        Planted {
            workload: "mem-stream",
            ..CELL
        },
    ]);
    for cell in &results.cells {
        let (native, guest) = (cell.native.as_ref().unwrap(), cell.guest.as_ref().unwrap());
        assert!(native.min <= native.median && native.median <= native.max);
        let ratio = match cell.direction {
            vtax_reports::result::Direction::Higher => guest.mean / native.mean,
            vtax_reports::result::Direction::Lower => native.mean / guest.mean,
        };
        assert!(
            (ratio - cell.ratio.unwrap().value).abs() < 1e-9,
            "{}",
            cell.unit
        );
    }
    let (_, workload) = vtax_workloads::find("cpu-hash").unwrap();
    let nanos = 60.0 * fixture::record().nanos_per_tick;
    let expected = workload.metric.value(1, nanos);
    assert!((results.cells[0].native.as_ref().unwrap().median / expected - 1.0).abs() < 0.002);
}

#[test]
fn the_same_run_gives_the_same_results_on_any_number_of_threads() {
    let run = fixture::run();
    let once = estimate(&run.record, &run.samples, &run.latencies);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    let again = pool.install(|| estimate(&run.record, &run.samples, &run.latencies));
    assert_eq!(once, again);
    assert_eq!(once.cells.len(), run.record.plan.cells.len());
}

#[test]
fn a_metric_that_some_repetitions_could_not_have_has_no_interval() {
    let text = "schema = 1\nname = \"crowd\"\n[[experiment]]\nkind = \"density\"\n";
    let loaded = vtax_scenarios::parse("crowd.toml", text, &Default::default()).unwrap();
    let mut record = fixture::record();
    record.plan.experiments = loaded.plan.experiments;
    let metrics = ["guests-3", "guests-10"];
    let trials: Vec<Trial> = (0..5)
        .flat_map(|repetition| {
            metrics.map(|metric| Trial {
                experiment: 0,
                repetition,
                metric: metric.to_owned(),
                at_nanos: None,
                value: f64::from(repetition) + 3.0,
            })
        })
        .collect();
    let why = "16 guests cost 4 % in a repetition";
    let lacks = [("guests-10".to_owned(), why.to_owned())].into();
    record.metrics_unavailable = [(0, lacks)].into();
    let results = vtax_reports::experiments::results(&record, &trials);
    let [all, some] = metrics.map(|name| {
        let found = results[0].metrics.iter().find(|it| it.name == name);
        found.unwrap()
    });
    assert!(all.interval.is_some() && all.unavailable.is_none());
    assert!(some.interval.is_none());
    assert_eq!(some.unavailable.as_deref(), Some(why));
    assert_eq!((some.repetitions, some.max), (5, Some(7.0)));
}
