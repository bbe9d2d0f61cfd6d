//! One test case per cell, in the JUnit dialect that CI servers read.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::ExportError;
use super::figures::{Outcome, cost, figure, floor, percent_interval};
use crate::result::{CellResult, Results};

/// The document.
pub(super) fn document(results: &Results) -> Result<Vec<u8>, ExportError> {
    let mut suite = TestSuite::new(results.scenario.as_str());
    suite.add_property(("headline", results.headline.sentence.as_str()));
    suite.add_property(("payload_sha256", results.payload_sha256.as_str()));
    if let Some(hypervisor) = &results.host.nested_under {
        suite.add_property(("nested_under", hypervisor.as_str()));
    }
    let threshold = results.headline.threshold;
    suite.add_test_cases(results.cells.iter().map(|cell| test_case(cell, threshold)));
    if claim_is_its_own_case(results) {
        suite.add_test_case(claim_case(results));
    }
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

/// Whether no cell stands for the claim, since it is not about shares of native.
fn claim_is_its_own_case(results: &Results) -> bool {
    results.headline.finding.is_some() || results.cells.is_empty()
}

fn claim_case(results: &Results) -> TestCase {
    let headline = &results.headline;
    let outcome = Outcome::of_verdict(headline.verdict);
    let mut status = match outcome {
        Outcome::Holds | Outcome::Cost => TestCaseStatus::success(),
        Outcome::Refuted => TestCaseStatus::non_success(NonSuccessKind::Failure),
        _ => TestCaseStatus::skipped(),
    };
    if !matches!(outcome, Outcome::Holds | Outcome::Cost) {
        status.set_type(outcome.word());
        status.set_message(headline.sentence.as_str());
    }
    let mut case = TestCase::new("claim", status);
    case.set_classname(results.scenario.as_str());
    case.set_system_out(headline.sentence.as_str());
    case
}

fn test_case(cell: &CellResult, threshold: f64) -> TestCase {
    let outcome = Outcome::of(cell);
    let mut status = match outcome {
        Outcome::Holds | Outcome::Cost => TestCaseStatus::success(),
        Outcome::Refuted => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Outcome::Failed => TestCaseStatus::non_success(NonSuccessKind::Error),
        Outcome::Anomaly | Outcome::Undecided | Outcome::NotTestable => TestCaseStatus::skipped(),
    };
    if !matches!(outcome, Outcome::Holds | Outcome::Cost) {
        status.set_type(outcome.word());
        status.set_message(cell.anomaly.as_deref().unwrap_or(&cell.reason));
    }
    let mut case = TestCase::new(cell.label.as_str(), status);
    case.set_classname(format!("{}.{}", cell.scenario, cell.workload));
    if let (Some(native), Some(guest), Some(ratio)) = (&cell.native, &cell.guest, &cell.ratio) {
        let noise = cell.noise_floor.map(floor).unwrap_or_default();
        case.set_system_out(format!(
            "native {} {unit}, guest {} {unit}, ratio {}, noise floor {noise}, {} boots, {} rounds",
            figure(native.mean),
            figure(guest.mean),
            percent_interval(ratio, threshold),
            cell.boots,
            cell.rounds,
            unit = cell.unit,
        ));
    }
    if let Some(of) = &cell.cost {
        case.set_system_out(format!(
            "cost {}, {} boots, {} rounds",
            cost(of, &cell.unit),
            cell.boots,
            cell.rounds
        ));
    }
    case
}
