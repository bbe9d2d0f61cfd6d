//! Claims about the metric of experiments: each must keep the bound, and one without a figure is told.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic as they do")]

mod fixture;

use std::collections::BTreeMap;

use vtax_reports::estimate::whole;
use vtax_reports::record::NotMeasured;
use vtax_reports::result::{Headline, Verdict};
use vtax_reports::store::Run;
use vtax_reports::trials::Trial;
use vtax_scenarios::plan::{Bound, Experiment, ExperimentKind, Form, MetricClaim};

/// A run of experiments of one kind whose `metric` brought these values, with a claim about it.
fn run(kind: ExperimentKind, metric: &str, values: &[&[f64]], bound: Bound) -> Run {
    let mut run = fixture::run();
    run.record.host.nested_under = None;
    run.record.plan.cells.clear();
    run.record.not_measured.clear();
    run.samples.clear();
    for (id, values) in (0..).zip(values) {
        run.record.plan.experiments.push(Experiment {
            id,
            label: format!("{} {id}", kind.entry().name),
            kind,
            params: BTreeMap::new(),
            repetitions: 10,
            confidence: 0.95,
        });
        for (repetition, &value) in (0..).zip(*values) {
            run.trials.push(Trial {
                experiment: id,
                repetition,
                metric: metric.to_owned(),
                at_nanos: None,
                value,
            });
        }
    }
    run.record.plan.claim.form = Form::Metric(MetricClaim {
        experiments: run.record.plan.experiments.iter().map(|it| it.id).collect(),
        name: metric.to_owned(),
        bound,
    });
    run
}

/// Memory of VMMs in bytes.
fn memory(values: &[&[f64]]) -> Run {
    run(
        ExperimentKind::Boot,
        "vmm-memory",
        values,
        Bound::AtMost(5e6),
    )
}

#[track_caller]
fn decides(run: &Run, verdict: Verdict, words: &[&str]) -> Headline {
    let headline = whole(run).headline;
    assert_eq!(headline.verdict, verdict, "{}", headline.sentence);
    for words in words {
        assert!(
            headline.sentence.contains(words),
            "{words}: {}",
            headline.sentence
        );
    }
    headline
}

const LOW: &[f64] = &[1.00e6, 1.01e6, 0.99e6, 1.02e6];
const HIGH: &[f64] = &[9.00e6, 9.01e6, 8.99e6];
const WIDE: &[f64] = &[1e6, 9e6, 4e6];

/// Experiments that no claim is about: "measured" are those that brought something.
#[test]
fn experiments_without_a_value_are_not_told_as_measured() {
    let without_claim = |values: &[&[f64]]| {
        let mut run = memory(values);
        run.record.plan.claim.form = Form::Share;
        run
    };
    let over = |values: &[&[f64]], why: NotMeasured| {
        let mut run = without_claim(values);
        run.record.experiments_not_measured.insert(0, why);
        run
    };
    let lack = || NotMeasured::NotTestable("no memory.".to_owned());
    let one_of_two = over(&[&[], LOW], lack());
    decides(&one_of_two, Verdict::Cost, &["1 experiment measured"]);
    decides(
        &over(&[&[]], lack()),
        Verdict::NotTestable,
        &["Nothing was measured: boot 0 cannot be tested here: no memory."],
    );
    decides(
        &over(&[&[]], NotMeasured::Failed("the guest hung.".to_owned())),
        Verdict::NotTestable,
        &["Nothing was measured: boot 0 failed: the guest hung."],
    );
    // Cut short before the first repetition was over.
    decides(
        &without_claim(&[&[]]),
        Verdict::Undecided,
        &["Nothing was measured: boot 0 had 0 repetitions"],
    );
    let mut no_meter = without_claim(&[&[]]);
    let reasons = BTreeMap::from([("vmm-memory".to_owned(), "no meter".to_owned())]);
    no_meter.record.metrics_unavailable.insert(0, reasons);
    decides(&no_meter, Verdict::NotTestable, &["no meter"]);
}

#[test]
fn the_worst_of_several_decides() {
    decides(
        &memory(&[LOW, LOW]),
        Verdict::Holds,
        &["of boot ", "holds."],
    );
    decides(
        &memory(&[LOW, HIGH, WIDE]),
        Verdict::Refuted,
        &["of boot 1 is", "is refuted."],
    );
    decides(
        &memory(&[LOW, WIDE]),
        Verdict::Undecided,
        &["of boot 1 is", "more repetitions would decide"],
    );
}

#[test]
fn nothing_holds_where_an_experiment_failed_or_is_not_testable_or_was_not_finished() {
    let why = |run: &mut Run, why| run.record.experiments_not_measured.insert(1, why);
    let mut failed = memory(&[LOW, LOW]);
    why(
        &mut failed,
        NotMeasured::Failed("the guest hung.".to_owned()),
    );
    let words = "is undecided, since boot 1 failed: the guest hung.";
    let headline = decides(&failed, Verdict::Undecided, &["of boot 0 is", words]);
    assert!(headline.finding.is_some());

    let mut lacking = memory(&[LOW, LOW]);
    why(
        &mut lacking,
        NotMeasured::NotTestable("no memory.".to_owned()),
    );
    let words = "since boot 1 cannot be tested here: no memory.";
    decides(&lacking, Verdict::Undecided, &[words]);

    let mut unavailable = run(
        ExperimentKind::Idle,
        "energy",
        &[LOW, &[]],
        Bound::AtMost(5e6),
    );
    let reason = [("energy".to_owned(), "no RAPL".to_owned())].into();
    unavailable.record.metrics_unavailable.insert(1, reason);
    let words = "since idle 1 cannot be tested here: no RAPL.";
    decides(&unavailable, Verdict::Undecided, &[words]);

    let words =
        "since boot 1 had 1 repetition, and an interval takes two; boot 2 had 0 repetitions";
    decides(&memory(&[LOW, &[1e6], &[]]), Verdict::Undecided, &[words]);
}

#[test]
fn what_is_refuted_stays_refuted_and_its_siblings_are_told() {
    let mut run = memory(&[HIGH, LOW]);
    let why = NotMeasured::NotTestable("no memory.".to_owned());
    run.record.experiments_not_measured.insert(1, why);
    let words = "is refuted (boot 1 cannot be tested here: no memory).";
    decides(&run, Verdict::Refuted, &[words]);
}

#[test]
fn without_any_figure_the_reason_is_the_sentence() {
    let mut lacking = memory(&[&[], &[]]);
    for id in [0, 1] {
        let why = NotMeasured::NotTestable("no memory.".to_owned());
        lacking.record.experiments_not_measured.insert(id, why);
    }
    let words = "has no figure: boot 0 cannot be tested here: no memory; boot 1 cannot";
    decides(&lacking, Verdict::NotTestable, &[words]);
    let mut failed = memory(&[LOW]);
    let why = NotMeasured::Failed("the guest hung.".to_owned());
    failed.record.experiments_not_measured.insert(0, why);
    decides(
        &failed,
        Verdict::NotTestable,
        &["has no figure: boot 0 failed: the guest hung."],
    );
    decides(
        &memory(&[&[1e6]]),
        Verdict::Undecided,
        &["is undecided: boot 0 had 1 repetition"],
    );
    let zero = run(
        ExperimentKind::Boot,
        "all-running",
        &[&[0.0, 1.0, 2.0]],
        Bound::AtMost(5.0),
    );
    decides(
        &zero,
        Verdict::Undecided,
        &["had a value of 0 or less, which has no logarithm"],
    );
}

#[test]
fn forbidden_events_are_counted_by_the_attempt() {
    let of = |values: &[f64]| {
        let bound = Bound::AtMost(0.01);
        run(ExperimentKind::Isolation, "escape", &[values], bound)
    };
    decides(
        &of(&[0.0; 100]),
        Verdict::Undecided,
        &["about 268 more attempts would decide"],
    );
    decides(&of(&[0.0; 400]), Verdict::Holds, &["holds."]);
    let mut once = [0.0; 5_000];
    once[17] = 1.0;
    decides(&of(&once), Verdict::Refuted, &["is refuted."]);
    decides(
        &of(&[]),
        Verdict::Undecided,
        &["isolation 0 had no attempt"],
    );
}

#[test]
fn a_report_without_cells_has_no_empty_sections() {
    let run = memory(&[LOW]);
    let page = vtax_reports::html::render(&run, &whole(&run)).unwrap();
    assert!(
        page.contains("id=\"experiments\""),
        "its experiments are there"
    );
    for section in ["id=\"cells\"", "id=\"noise\"", "id=\"ratios\""] {
        assert!(!page.contains(section), "{section}");
    }
}
