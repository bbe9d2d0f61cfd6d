//! Claims that compare guests with guests: planted quotients get the verdict that they deserve, and every verdict its reason.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic as they do")]

mod fixture;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use vtax_reports::counters::{Counter, CounterLog, CounterRow, Counts};
use vtax_reports::estimate::estimate;
use vtax_reports::record::{Marks, NotMeasured, RunRecord, Sample, Side};
use vtax_reports::result::{Headline, Results, Verdict};
use vtax_reports::store::LatencyLog;
use vtax_scenarios::plan::{Bound, Compare, Form, What};

const BOOTS: u32 = 12;

/// How many times as fast the one guest of a pair is as the other, and the relative noise of a boot.
type Pair = (f64, f64);

/// A run of pairs of guests, and what it knows besides its blocks.
struct Planted {
    record: RunRecord,
    samples: Vec<Sample>,
    counters: CounterLog,
    latencies: LatencyLog,
}

/// Cells 2n and 2n + 1 are the n-th pair: with `guest.backing=2M`, and with 4k.
fn planted(pairs: &[Pair], what: What, bound: Bound) -> Planted {
    let mut record = fixture::record();
    record.host.nested_under = None;
    record.not_measured.clear();
    let like = record.plan.cells[0].clone();
    let side = |backing: &str| [("guest.backing".to_owned(), backing.to_owned())].into();
    record.plan.claim.form = Form::Compare(Compare {
        of: side("2M"),
        against: side("4k"),
        what,
        bound,
    });
    record.plan.cells.clear();
    let mut samples = Vec::new();
    let mut random = ChaCha8Rng::seed_from_u64(3);
    for (number, &(quotient, noise)) in (0..).zip(pairs) {
        for (place, backing, time) in [(0, "2M", 1.0 / quotient), (1, "4k", 1.0)] {
            let id = 2 * number + place;
            let mut cell = like.clone();
            cell.id = id;
            cell.label = format!("cpu-hash size={number} / guest.backing={backing}");
            cell.workload.name = "cpu-hash".to_owned();
            let size = ("size".to_owned(), number.to_string());
            cell.parameters = [size, ("guest.backing".to_owned(), backing.to_owned())].into();
            record.plan.cells.push(cell);
            for boot in 0..BOOTS {
                let noise: f64 = noise * random.sample::<f64, _>(StandardNormal);
                for (position, side) in [(0, Side::Native), (1, Side::Guest), (2, Side::Control)] {
                    samples.push(Sample {
                        cell: id,
                        boot,
                        round: 0,
                        position,
                        side,
                        vcpu: 0,
                        cpu: 0,
                        iterations: 1_000_000,
                        ticks: whole(60e6 * time * noise.exp()),
                        outer_nanos: 25_000_000,
                        run_in_ticks: 0,
                        latency_ticks: 0,
                        marks: Marks::CLEAN,
                        at_nanos: u64::from(boot) * 1_000_000_000,
                    });
                }
            }
        }
    }
    Planted {
        record,
        samples,
        counters: CounterLog::default(),
        latencies: LatencyLog::default(),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "planted times are positive and far below 2^63"
)]
fn whole(ticks: f64) -> u64 {
    ticks as u64
}

impl Planted {
    fn results(&self) -> Results {
        estimate(&self.record, &self.samples, &self.latencies, &self.counters)
    }

    fn headline(&self) -> Headline {
        self.results().headline
    }

    /// Counts CPU time around each block of this cell.
    fn count_cpu_time(&mut self, cell: u32, nanos: u64) {
        for boot in 0..BOOTS {
            for side in [Side::Native, Side::Guest, Side::Control] {
                let mut counts = Counts::NONE;
                counts.set(Counter::CpuTime, Some(nanos));
                counts.set(Counter::IoCpuTime, (side == Side::Guest).then_some(0));
                self.counters.push(CounterRow {
                    cell,
                    boot,
                    round: 0,
                    side,
                    vcpu: 0,
                    counts,
                });
            }
        }
    }
}

#[track_caller]
fn decides(headline: &Headline, verdict: Verdict, words: &[&str]) {
    assert_eq!(headline.verdict, verdict, "{}", headline.sentence);
    for words in words {
        assert!(
            headline.sentence.contains(words),
            "{words}: {}",
            headline.sentence
        );
    }
}

#[test]
fn the_mean_of_the_pairs_is_held_against_the_bound() {
    let pairs = [(1.5, 0.002), (1.2, 0.002)];
    let of = |bound| planted(&pairs, What::Rate, bound).headline();
    // The geometric mean is 134.2 %.
    let holds = of(Bound::AtLeast(1.3));
    decides(
        &holds,
        Verdict::Holds,
        &["Work per time", "at least 130 % holds."],
    );
    let found = holds.finding.unwrap().interval;
    assert!(found.low < 1.342 && found.high > 1.341, "{found:?}");
    decides(
        &of(Bound::AtMost(1.3)),
        Verdict::Refuted,
        &["at most 130 % is refuted."],
    );
    let time = planted(&pairs, What::Time, Bound::AtMost(0.76)).headline();
    decides(&time, Verdict::Holds, &["Time per unit of work"]);
}

#[test]
fn an_undecided_comparison_says_how_much_time_would_decide() {
    let noisy = planted(&[(1.02, 0.05)], What::Rate, Bound::AtLeast(1.0));
    let headline = noisy.headline();
    decides(
        &headline,
        Verdict::Undecided,
        &["is undecided, about", "more would decide"],
    );
    let exact = headline.finding.unwrap().interval.value;
    let never = planted(&[(1.02, 0.05)], What::Rate, Bound::AtLeast(exact)).headline();
    decides(
        &never,
        Verdict::Undecided,
        &["no reasonable amount of time"],
    );
}

#[test]
fn equivalence_holds_where_each_pair_keeps_the_bound_by_itself() {
    let of = |pairs: &[Pair]| planted(pairs, What::Rate, Bound::Within(0.03)).headline();
    decides(
        &of(&[(1.01, 0.002), (0.99, 0.002)]),
        Verdict::Holds,
        &["100 % ± 3 % holds."],
    );
    // 106 % and 94 % have a mean of almost 100 %.
    let apart = of(&[(1.0, 0.002), (1.06, 0.002), (0.94, 0.002)]);
    let finding = apart.finding.clone().unwrap().interval;
    assert!(
        finding.low > 0.97 && finding.high < 1.03,
        "the mean is inside: {finding:?}"
    );
    let named = "for 2 of 3 pairs do not keep it: cpu-hash size=1 / guest.backing=2M is at 10";
    decides(&apart, Verdict::Undecided, &[named]);
    // One pair is so noisy that its own interval straddles the bound, while that of the mean does not.
    let noisy = of(&[(1.0, 0.001), (1.0, 0.001), (1.0, 0.001), (1.02, 0.05)]);
    let named = "for 1 of 4 pairs does not keep it: cpu-hash size=3";
    decides(&noisy, Verdict::Undecided, &[named, "more would decide"]);
    decides(
        &of(&[(1.2, 0.002), (1.1, 0.002)]),
        Verdict::Refuted,
        &["is refuted"],
    );
    // Another bound is on the mean alone, as it is claimed.
    let mean = planted(
        &[(1.6, 0.002), (0.98, 0.002)],
        What::Rate,
        Bound::AtLeast(1.1),
    );
    decides(&mean.headline(), Verdict::Holds, &["holds."]);
}

#[test]
fn nothing_holds_where_a_block_was_miscomputed() {
    for (bound, pairs) in [
        (Bound::Within(0.03), vec![(1.0, 0.002)]),
        (Bound::AtLeast(1.1), vec![(1.2, 0.002), (1.3, 0.002)]),
    ] {
        let mut run = planted(&pairs, What::Rate, bound);
        decides(&run.headline(), Verdict::Holds, &["holds."]);
        let in_warm_up = Marks::CHECKSUM.union(Marks::WARMUP);
        for marks in [
            Marks::CHECKSUM,
            Marks::CHECKSUM.union(Marks::CLOCK),
            in_warm_up,
        ] {
            let mut block = run.samples.iter().copied().find(|it| it.cell == 1).unwrap();
            (block.round, block.side, block.marks) = (7, Side::Guest, marks);
            run.samples.push(block);
            let told = "1 block of cpu-hash size=0 / guest.backing=4k came to a wrong checksum";
            decides(
                &run.headline(),
                Verdict::Undecided,
                &["not all that was computed is right", told],
            );
            run.samples.pop();
        }
        decides(&run.headline(), Verdict::Holds, &["holds."]);
    }
}

#[test]
fn pairs_that_lack_something_are_told() {
    let mut run = planted(
        &[(1.2, 0.002), (1.2, 0.002)],
        What::Rate,
        Bound::AtLeast(1.1),
    );
    let lacks = NotMeasured::NotTestable("no free 2 MiB pages.".to_owned());
    run.record.not_measured.insert(2, lacks.clone());
    decides(
        &run.headline(),
        Verdict::Holds,
        &["holds (1 pair not testable here: no free 2 MiB pages)."],
    );
    let failed = NotMeasured::Failed("triple fault at RIP 0x1000".to_owned());
    run.record.not_measured.insert(2, failed);
    decides(
        &run.headline(),
        Verdict::Undecided,
        &["lacking a result of 1 pair: triple fault at RIP 0x1000"],
    );
    run.record.not_measured = [(0, lacks.clone()), (3, lacks)].into();
    decides(
        &run.headline(),
        Verdict::NotTestable,
        &["no free 2 MiB pages"],
    );
    run.record.not_measured.clear();
    run.samples.retain(|it| it.cell != 1 || it.boot == 0);
    decides(
        &run.headline(),
        Verdict::Undecided,
        &["1 pair: cpu-hash size=0 / guest.backing=4k has fewer than two boots that count"],
    );
    run.samples.clear();
    decides(
        &run.headline(),
        Verdict::Undecided,
        &["is undecided: cpu-hash size=0"],
    );
}

#[test]
fn too_few_operations_for_a_quantile_are_the_reason_and_no_lack_of_boots() {
    let mut run = planted(&[(1.0, 0.002)], What::P99, Bound::AtMost(0.6));
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let mut record = |cell, operations| {
        for boot in 0..BOOTS {
            for _ in 0..operations {
                let nanos = if cell == 0 { 1_000.0 } else { 9_000.0 };
                let noise = random.random_range(0.9..1.1_f64);
                run.latencies
                    .record(cell, Side::Guest, boot, whole(nanos * noise));
            }
        }
    };
    record(0, 500);
    record(1, 499);
    decides(
        &run.headline(),
        Verdict::Undecided,
        &[
            "is undecided: cpu-hash size=0 / guest.backing=4k has fewer than two boots of 500 operations or more",
            "which its 99th percentile of latency takes: the one with most has 499",
        ],
    );
    run.latencies.record(1, Side::Guest, 0, 9_000);
    run.latencies.record(1, Side::Guest, 1, 9_000);
    let headline = run.headline();
    assert!(headline.finding.is_some(), "{}", headline.sentence);
    for boot in 2..BOOTS {
        run.latencies.record(1, Side::Guest, boot, 9_000);
    }
    decides(
        &run.headline(),
        Verdict::Holds,
        &["99th percentile", "at most 60 % holds."],
    );
}

#[test]
fn cpu_time_that_was_not_counted_is_the_reason_and_no_lack_of_boots() {
    let mut run = planted(&[(1.0, 0.002)], What::CpuTime, Bound::AtMost(0.667));
    run.count_cpu_time(0, 10_000_000);
    let words =
        "is undecided: CPU time of cpu-hash size=0 / guest.backing=4k was not counted in all boots";
    decides(&run.headline(), Verdict::Undecided, &[words]);
    let why = "schedstat is off: echo 1 > /proc/sys/kernel/sched_schedstats";
    let unavailable = &mut run.record.counters_unavailable;
    unavailable.insert(Counter::CpuTime, why.to_owned());
    decides(
        &run.headline(),
        Verdict::NotTestable,
        &[
            "cannot be tested here: CPU time of",
            "was not counted: schedstat is off",
        ],
    );
    run.record.counters_unavailable.clear();
    run.count_cpu_time(1, 20_000_000);
    decides(
        &run.headline(),
        Verdict::Holds,
        &["CPU time per unit of work", "holds."],
    );
}

#[test]
fn the_cells_own_shares_of_native_have_no_verdict_and_no_claim_beside_them() {
    // Intervals on both sides of the 97 % that a scenario without a claim about shares of native has.
    let mut run = planted(&[(1.5, 0.0)], What::Rate, Bound::AtLeast(1.2));
    let mut random = ChaCha8Rng::seed_from_u64(4);
    for block in run.samples.iter_mut().filter(|it| it.side == Side::Guest) {
        let noise: f64 = 0.1 * random.sample::<f64, _>(StandardNormal);
        block.ticks = whole(1.03 * block.ticks as f64 * noise.exp());
    }
    let results = run.results();
    for cell in &results.cells {
        let ratio = cell.ratio.unwrap();
        assert!(ratio.low < 0.97 && ratio.high > 0.97, "{ratio:?}");
        assert_eq!(cell.verdict, Verdict::Cost, "{}", cell.reason);
        assert!(cell.reason.contains("decides nothing"), "{}", cell.reason);
    }
    let mut report = fixture::run();
    (report.record, report.samples) = (run.record, run.samples);
    let page = vtax_reports::html::render(&report, &results).unwrap();
    assert!(page.contains("id=\"ratios\"") && !page.contains("The dashed line is the claim"));
}
