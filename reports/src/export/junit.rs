//! A test case for the claim and one for each cell and experiment, in the JUnit dialect that CI servers read. There is a failure
//! exactly where the exit code is 3, and an error exactly where it is 1.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::ExportError;
use super::figures::{Outcome, cost, figure, floor, percent_interval};
use crate::claims::{Line, Suite};
use crate::result::{CellResult, ExperimentResult, Results, Verdict};

/// The document.
pub(super) fn document(results: &Results) -> Result<Vec<u8>, ExportError> {
    let mut suite = TestSuite::new(results.scenario.as_str());
    suite.add_property(("headline", results.headline.sentence.as_str()));
    suite.add_property(("payload_sha256", results.payload_sha256.as_str()));
    if let Some(hypervisor) = &results.host.nested_under {
        suite.add_property(("nested_under", hypervisor.as_str()));
    }
    suite.add_test_case(claim_case(results));
    suite.add_test_cases(results.cells.iter().map(|cell| cell_case(cell, results)));
    suite.add_test_cases(
        results
            .experiments
            .iter()
            .map(|it| experiment_case(it, results)),
    );
    written(suite)
}

/// The document of a suite of claims: a case for each claim, and for each of its parts.
pub(super) fn of_claims(suite: &Suite) -> Result<Vec<u8>, ExportError> {
    let mut cases = TestSuite::new("claims");
    cases.add_property(("headline", suite.sentence().as_str()));
    if let Some(hypervisor) = &suite.host.nested_under {
        cases.add_property(("nested_under", hypervisor.as_str()));
    }
    for claim in &suite.claims {
        let line = |name: &str, line: &Line, failed| {
            let outcome = match failed {
                true => Outcome::Failed,
                false => Outcome::of_verdict(line.verdict),
            };
            let mut case = TestCase::new(name, status(outcome, &line.sentence));
            case.set_classname(format!("claims.{}", claim.id));
            case.set_system_out(line.sentence.as_str());
            case
        };
        cases.add_test_case(line(&claim.id, &claim.whole, claim.failed));
        let parts = claim.parts.iter();
        cases.add_test_cases(parts.map(|part| line(&part.words, part, false)));
    }
    written(cases)
}

fn written(suite: TestSuite) -> Result<Vec<u8>, ExportError> {
    let mut report = Report::new("vtax");
    report.add_test_suite(suite);
    let mut text = Vec::new();
    report
        .serialize(&mut text)
        .map_err(|error| ExportError::Encode {
            format: "JUnit",
            what: error.to_string(),
        })?;
    Ok(text)
}

/// What an outcome is to a CI server, with its reason.
fn status(outcome: Outcome, reason: &str) -> TestCaseStatus {
    let mut status = match outcome {
        Outcome::Holds | Outcome::Cost => return TestCaseStatus::success(),
        Outcome::Refuted => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Outcome::Failed => TestCaseStatus::non_success(NonSuccessKind::Error),
        Outcome::Anomaly | Outcome::Undecided | Outcome::NotTestable => TestCaseStatus::skipped(),
    };
    status.set_type(outcome.word());
    status.set_message(reason);
    status
}

/// The claim, which alone says whether the run is a failure, as the exit code does.
fn claim_case(results: &Results) -> TestCase {
    let headline = &results.headline;
    let status = status(Outcome::of_verdict(headline.verdict), &headline.sentence);
    let mut case = TestCase::new("claim", status);
    case.set_classname(results.scenario.as_str());
    case.set_system_out(headline.sentence.as_str());
    case
}

/// A cell that is below the threshold is a failure where the claim is refuted, and part of what holds where it holds.
fn cell_case(cell: &CellResult, results: &Results) -> TestCase {
    let threshold = results.headline.threshold;
    let below =
        Outcome::of(cell) == Outcome::Refuted && results.headline.verdict != Verdict::Refuted;
    let outcome = if below {
        Outcome::Cost
    } else {
        Outcome::of(cell)
    };
    let reason = cell.anomaly.as_deref().unwrap_or(&cell.reason);
    let mut case = TestCase::new(cell.label.as_str(), status(outcome, reason));
    case.set_classname(format!("{}.{}", cell.scenario, cell.workload));
    let counted = format!("{} boots, {} rounds", cell.boots, cell.rounds);
    if let (Some(native), Some(guest), Some(ratio)) = (&cell.native, &cell.guest, &cell.ratio) {
        let noise = cell.noise_floor.map(floor).unwrap_or_default();
        let told = if below {
            " (below the claim's threshold, which it decides together with others)"
        } else {
            ""
        };
        case.set_system_out(format!(
            "native {} {unit}, guest {} {unit}, ratio {}{told}, noise floor {noise}, {counted}",
            figure(native.mean),
            figure(guest.mean),
            percent_interval(ratio, threshold),
            unit = cell.unit,
        ));
    }
    if let Some(of) = &cell.cost {
        case.set_system_out(format!("cost {}, {counted}", cost(of, &cell.unit)));
    }
    case
}

/// An experiment has figures and no verdict; it may have failed.
fn experiment_case(experiment: &ExperimentResult, results: &Results) -> TestCase {
    let outcome = match (&experiment.reason, experiment.failed) {
        (_, true) => Outcome::Failed,
        (Some(_), false) => Outcome::NotTestable,
        (None, false) => Outcome::Cost,
    };
    let reason = experiment.reason.as_deref().unwrap_or_default();
    let mut case = TestCase::new(experiment.label.as_str(), status(outcome, reason));
    case.set_classname(format!("{}.experiment", results.scenario));
    case
}
