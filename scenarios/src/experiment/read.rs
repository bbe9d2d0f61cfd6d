//! The `[[experiment]]` tables, read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Experiment, ExperimentKind};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::schema::{Given, parameter_schema, parameter_text};
use crate::tree::{self, Node};
use crate::workload::{param_index, param_values};

/// Fewer than this have no interval worth the name.
const REPETITIONS: std::ops::RangeInclusive<u32> = 2..=10_000;
/// A few values of a parameter, not a sweep.
const MOST: u128 = 64;

/// A question that is tried as a whole, again and again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = parameters_of_each_kind)]
pub(crate) struct ExperimentSpec {
    /// What is tried.
    #[schemars(with = "ExperimentKind")]
    kind: Given<ExperimentKind>,
    /// How often it is repeated, budget allowing. Default: 10.
    #[serde(default)]
    #[schemars(with = "u32", range(min = 2, max = 10_000), example = 10)]
    repetitions: Given<u32>,
    /// Its parameters. A list of values makes one experiment for each.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    #[expect(dead_code, reason = "`params` reads them with their places")]
    params: BTreeMap<String, IgnoredAny>,
}

/// Lets an editor complete the parameters that belong to the kind.
fn parameters_of_each_kind(schema: &mut Schema) {
    let rules: Vec<serde_json::Value> = ExperimentKind::ALL
        .into_iter()
        .map(|kind| {
            let entry = kind.entry();
            let params: serde_json::Map<String, serde_json::Value> = entry
                .params
                .iter()
                .map(|param| (param.name.to_owned(), parameter_schema(param)))
                .collect();
            serde_json::json!({
                "if": { "properties": { "kind": { "const": entry.name } } },
                "then": { "properties": {
                    "params": { "properties": params, "additionalProperties": false },
                } },
            })
        })
        .collect();
    schema.insert("allOf".to_owned(), rules.into());
}

/// All experiments that are sound, in the order of the file, each with the place of its kind.
pub(crate) fn read(
    specs: &[Spanned<ExperimentSpec>],
    document: &DeTable<'_>,
    confidence: f64,
    errors: &mut Diagnostics,
) -> Vec<(Experiment, Range<usize>)> {
    let Some(DeValue::Array(tables)) =
        tree::entry(document, "experiment").map(|(_, list)| list.get_ref())
    else {
        return Vec::new();
    };
    let mut experiments: Vec<(Experiment, Range<usize>)> = Vec::new();
    let mut labels: BTreeSet<String> = BTreeSet::new();
    for (spec, table) in specs.iter().zip(tables.iter()) {
        for experiment in one(spec.get_ref(), table, confidence, errors) {
            if !labels.insert(experiment.label.clone()) {
                let title = format!("`{}` is there twice", experiment.label);
                errors.push(
                    Diagnostic::new(spec.span(), title)
                        .help("remove it, or give it more repetitions"),
                );
            } else if let Ok(id) = u32::try_from(experiments.len()) {
                let at = spec
                    .get_ref()
                    .kind
                    .as_ref()
                    .map_or(spec.span(), Spanned::span);
                experiments.push((Experiment { id, ..experiment }, at));
            }
        }
    }
    experiments
}

/// One for each combination of its parameters' values.
fn one(
    spec: &ExperimentSpec,
    node: &Node<'_>,
    confidence: f64,
    errors: &mut Diagnostics,
) -> Vec<Experiment> {
    let (Some(kind), DeValue::Table(table)) = (&spec.kind, node.get_ref()) else {
        return Vec::new();
    };
    let kind = *kind.get_ref();
    let entry = kind.entry();
    let repetitions = spec.repetitions.as_ref().map_or(10, |given| {
        let number = *given.get_ref();
        if !REPETITIONS.contains(&number) {
            let title = format!("`repetitions` cannot be {number}");
            errors
                .push(Diagnostic::new(given.span(), title).help("write a number from 2 to 10000"));
        }
        number
    });
    let defaults = entry
        .params
        .iter()
        .map(|param| (param.name.to_owned(), param.default))
        .collect();
    let mut experiments = vec![Experiment {
        id: 0,
        label: entry.name.to_owned(),
        kind,
        params: defaults,
        repetitions,
        confidence,
    }];
    let params = tree::table(table, "params");
    let at = tree::entry(table, "params").map_or(0..0, |(key, _)| key);
    let mut lists: Vec<(&str, Vec<u64>)> = Vec::new();
    for (key, at, value) in params.into_iter().flat_map(tree::in_file_order) {
        match values(kind, key, at, value) {
            Ok(values) => lists.push((key, values)),
            Err(error) => errors.push(error),
        }
    }
    // Counted before anything is made: a short file can name more combinations than fit into memory.
    let combinations = lists.iter().map(|(_, values)| values.len() as u128);
    let combinations = combinations.fold(1, u128::saturating_mul);
    if combinations > MOST {
        let title = format!("these parameters make {combinations} experiments");
        errors.push(Diagnostic::new(at, title).help(format!("write values for at most {MOST}")));
        return experiments;
    }
    for (key, values) in &lists {
        experiments = vary(&experiments, key, kind, values);
    }
    if let Some(it) = experiments.iter().find(|it| it.shares_percent() > 100) {
        let title = format!(
            "`zero-percent` and `common-percent` are {} together",
            it.shares_percent()
        );
        errors.push(
            Diagnostic::new(at, title)
                .help("write less: they are parts of a guest's memory, at most 100 together"),
        );
    }
    experiments
}

fn values(
    kind: ExperimentKind,
    key: &str,
    at: Range<usize>,
    node: &Node<'_>,
) -> Result<Vec<u64>, Diagnostic> {
    let entry = kind.entry();
    let index = param_index(entry.name, entry.params, key, at)?;
    let param = &entry.params[index];
    let values = param_values(param, node)?;
    let step = entry.step(key);
    // Rounded, it would run under a label that is not true.
    if let Some(odd) = values.iter().find(|it| it.get_ref() % step != 0) {
        let text = |value| parameter_text(param, value);
        let title = format!("`{key}` cannot be {}", text(*odd.get_ref()));
        let help = format!("write a multiple of {}", text(step));
        return Err(Diagnostic::new(odd.span(), title).help(help));
    }
    Ok(values.into_iter().map(Spanned::into_inner).collect())
}

fn vary(
    experiments: &[Experiment],
    key: &str,
    kind: ExperimentKind,
    values: &[u64],
) -> Vec<Experiment> {
    let param = kind.entry().params.iter().find(|it| it.name == key);
    let text = |value| param.map_or(String::new(), |param| parameter_text(param, value));
    experiments
        .iter()
        .flat_map(|it| {
            values.iter().map(move |&value| {
                let mut it = it.clone();
                it.label += &format!(" {key}={}", text(value));
                it.params.insert(key.to_owned(), value);
                it
            })
        })
        .collect()
}
