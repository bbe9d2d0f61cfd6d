//! One row per cell, for spreadsheets and data frames.

use serde::Serialize;

use super::ExportError;
use crate::claims::Suite;
use crate::ledger::Ledger;
use crate::result::{CellResult, Direction, Interval, Results, SideSummary};
use crate::stats::stalls::Stalls;

pub(crate) const COLUMNS: [&str; 59] = [
    "id",
    "scenario",
    "label",
    "parameters",
    "workload",
    "unit",
    "direction",
    "native_mean",
    "native_median",
    "native_min",
    "native_max",
    "guest_mean",
    "guest_median",
    "guest_min",
    "guest_max",
    "ratio",
    "ratio_low",
    "ratio_high",
    "typical",
    "typical_low",
    "typical_high",
    "stumbles",
    "guest_stalls",
    "guest_blocks",
    "native_stalls",
    "native_blocks",
    "stalls_cost",
    "stalls_cost_low",
    "stalls_cost_high",
    "cost",
    "cost_low",
    "cost_high",
    "cost_ticks",
    "cost_ticks_low",
    "cost_ticks_high",
    "control",
    "control_low",
    "control_high",
    "confidence",
    "noise_floor",
    "loss_ns",
    "loss_ns_low",
    "loss_ns_high",
    "predicted_ns",
    "predicted_ns_low",
    "predicted_ns_high",
    "residual_ns",
    "residual_ns_low",
    "residual_ns_high",
    "largest_cause",
    "finding",
    "boots",
    "rounds",
    "voided",
    "verdict",
    "failed",
    "anomaly",
    "reason",
    "settings",
];

/// The header and one row per cell. What was not measured is empty, never zero.
pub(super) fn rows(results: &Results) -> Result<Vec<u8>, ExportError> {
    let encode = |error: csv::Error| ExportError::Encode {
        format: "CSV",
        what: error.to_string(),
    };
    let mut rows = csv::Writer::from_writer(Vec::new());
    rows.write_record(COLUMNS).map_err(encode)?;
    for cell in &results.cells {
        rows.write_record(row(results, cell)).map_err(encode)?;
    }
    rows.into_inner().map_err(|error| ExportError::Encode {
        format: "CSV",
        what: error.to_string(),
    })
}

/// Columns of a suite of claims.
pub(crate) const CLAIM_COLUMNS: [&str; 10] = [
    "id",
    "part",
    "words",
    "verdict",
    "unit",
    "value",
    "low",
    "high",
    "confidence",
    "reason",
];

/// The header and a row for each claim and each of its parts.
pub(super) fn claims(suite: &Suite) -> Result<Vec<u8>, ExportError> {
    let encode = |error: csv::Error| ExportError::Encode {
        format: "CSV",
        what: error.to_string(),
    };
    let mut rows = csv::Writer::from_writer(Vec::new());
    rows.write_record(CLAIM_COLUMNS).map_err(encode)?;
    for claim in &suite.claims {
        let parts = claim.parts.iter().map(|part| (part.words.as_str(), part));
        for (part, line) in std::iter::once(("", &claim.whole)).chain(parts) {
            let finding = line.finding.as_ref();
            let unit = finding.map(|it| word(&it.unit)).unwrap_or_default();
            let interval = finding.map(|it| it.interval);
            let [value, low, high] = ends(interval);
            rows.write_record([
                claim.id.as_str(),
                part,
                &line.words,
                &word(&line.verdict),
                &unit,
                &value,
                &low,
                &high,
                &optional(interval.map(|it| it.confidence)),
                &line.sentence,
            ])
            .map_err(encode)?;
        }
    }
    rows.into_inner().map_err(|error| ExportError::Encode {
        format: "CSV",
        what: error.to_string(),
    })
}

/// What JSON calls it.
fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

fn row(results: &Results, cell: &CellResult) -> Vec<String> {
    let mut row = vec![
        cell.id.to_string(),
        cell.scenario.clone(),
        cell.label.clone(),
        pairs(&cell.parameters),
        cell.workload.clone(),
        cell.unit.clone(),
        match cell.direction {
            Direction::Higher => "higher is better",
            Direction::Lower => "lower is better",
        }
        .to_owned(),
    ];
    row.extend(side(cell.native.as_ref()));
    row.extend(side(cell.guest.as_ref()));
    row.extend(ends(cell.ratio));
    row.extend(ends(cell.typical));
    row.extend(stalls(cell.stalls.as_ref()));
    for interval in [cell.cost, cell.cost_ticks, cell.control] {
        row.extend(ends(interval));
    }
    row.extend([
        optional(cell.ratio.map(|ratio| ratio.confidence)),
        optional(cell.noise_floor),
    ]);
    row.extend(account(cell.ledger.as_ref()));
    row.extend([
        cell.boots.to_string(),
        cell.rounds.to_string(),
        pairs(&cell.voided),
        word(&cell.verdict),
        cell.failed.to_string(),
        cell.anomaly.clone().unwrap_or_default(),
        cell.reason.clone(),
        settings(results, cell),
    ]);
    row
}

/// What the cell's settings do to its guest, against cells with their first values: `guest.backing rate=1.087 [1.080 1.094]`,
/// with semicolons between them.
fn settings(results: &Results, cell: &CellResult) -> String {
    let own = results.settings.iter().filter(|it| it.cell == cell.id);
    let texts: Vec<String> = own
        .map(|it| {
            let Interval {
                value, low, high, ..
            } = it.ratio;
            format!("{} {}={value} [{low} {high}]", it.key, it.what.name())
        })
        .collect();
    texts.join("; ")
}

/// The totals of the account, in nanoseconds per unit of work.
fn account(ledger: Option<&Ledger>) -> Vec<String> {
    let sums = ledger.map(|it| [it.loss, it.predicted, it.residual]);
    let mut fields: Vec<String> = sums
        .map_or([None; 3], |sums| sums.map(Some))
        .into_iter()
        .flat_map(ends)
        .collect();
    let largest = ledger.and_then(|it| it.causes.first());
    fields.extend([
        largest
            .map(|entry| entry.cause.title().to_owned())
            .unwrap_or_default(),
        ledger
            .map(|it| it.finding.word().to_owned())
            .unwrap_or_default(),
    ]);
    fields
}

/// How the guest stumbles.
fn stalls(stalls: Option<&Stalls>) -> [String; 8] {
    let counts = |of: fn(&Stalls) -> u64| stalls.map(|it| of(it).to_string()).unwrap_or_default();
    [
        stalls.map(|it| it.stumbles.to_string()).unwrap_or_default(),
        counts(|it| it.guest),
        counts(|it| it.guest_blocks),
        counts(|it| it.native),
        counts(|it| it.native_blocks),
        optional(stalls.map(|it| it.cost)),
        optional(stalls.map(|it| it.cost_low)),
        optional(stalls.map(|it| it.cost_high)),
    ]
}

fn side(side: Option<&SideSummary>) -> [String; 4] {
    [
        optional(side.map(|side| side.mean)),
        optional(side.map(|side| side.median)),
        optional(side.map(|side| side.min)),
        optional(side.map(|side| side.max)),
    ]
}

fn ends(interval: Option<Interval>) -> [String; 3] {
    [
        optional(interval.map(|interval| interval.value)),
        optional(interval.map(|interval| interval.low)),
        optional(interval.map(|interval| interval.high)),
    ]
}

fn optional(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// `a=1;b=2`.
fn pairs<V: ToString>(map: &std::collections::BTreeMap<String, V>) -> String {
    map.iter()
        .map(|(name, value)| format!("{name}={}", value.to_string()))
        .collect::<Vec<_>>()
        .join(";")
}
