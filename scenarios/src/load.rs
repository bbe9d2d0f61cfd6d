//! From a file's text to a plan, or to all that is wrong with it.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use toml::Spanned;
use toml::de::DeTable;
use vtax_workloads::default_params;

use crate::check::{self, Resolved};
use crate::combine::{self, Combination};
use crate::diagnostic::{Diagnostic, Diagnostics, ScenarioError, Severity, render};
use crate::matrix::{self, Assignment};
use crate::neighbour::spec as neighbour;
use crate::plan::{Cell, Plan, WorkloadChoice};
use crate::schema::{Document, SCHEMA, Settings, document_schema};
use crate::spans::{Field, SpanMap};
use crate::units::duration_text;
use crate::workload::{self, Entry};
use crate::{claim, disk, experiment, keys, net, tree};

/// What the command line or the host says in place of the file. All are optional.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// Seed of every random choice.
    pub seed: Option<u64>,
    /// Wall-clock budget of the run in nanoseconds; more than 0.
    pub budget_nanos: Option<u64>,
    /// Wanted half-width of every cell's interval, relative; from 0.0001 to 0.5.
    pub precision: Option<f64>,
    /// Confidence of every interval, from 0.5 to 0.9999: that of a suite of claims.
    pub confidence: Option<f64>,
    /// How many CPUs the process may run on: what `vcpus = "all"` means.
    pub cpus: Option<u32>,
}

/// A scenario file, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What will be measured.
    pub plan: Plan,
    /// Where the plan's values stand in the file.
    pub spans: SpanMap,
    /// What the user should know, though it is no error.
    pub warnings: Vec<Diagnostic>,
}

impl Loaded {
    /// The warnings as text; with ANSI colours where `color` is set. Empty where there are none.
    #[must_use]
    pub fn render_warnings(&self, color: bool) -> String {
        let SpanMap {
            file_name,
            source_text,
            ..
        } = &self.spans;
        render(
            file_name,
            source_text,
            Severity::Warning,
            &self.warnings,
            color,
        )
    }
}

/// Reads a scenario file. `file_name` is for messages only.
///
/// # Errors
/// All that is wrong with the file at once, each with its place and what to write instead.
pub fn parse(file_name: &str, text: &str, overrides: &Overrides) -> Result<Loaded, ScenarioError> {
    let mut errors = Diagnostics::default();
    let loaded = load(file_name, text, overrides, &mut errors);
    match loaded {
        Some(loaded) if errors.is_empty() => Ok(loaded),
        _ => Err(ScenarioError {
            file_name: file_name.to_owned(),
            source_text: text.to_owned(),
            diagnostics: errors.into_sorted(),
        }),
    }
}

/// `None` only where `errors` is not empty.
fn load(
    file_name: &str,
    text: &str,
    overrides: &Overrides,
    errors: &mut Diagnostics,
) -> Option<Loaded> {
    let mut tree = syntax(text, errors)?;
    let schema = document_schema();
    keys::check(&schema, &mut tree, errors);
    let document: Document = keys::read(&schema, &tree, errors)?;
    head(&document, overrides, errors);
    let entries = workload::read(&tree, errors);
    let confidence = check::measure(&document.measure, overrides, errors).confidence;
    let (experiments, places): (Vec<_>, Vec<_>) =
        experiment::read(&document.experiment, &tree, confidence, errors)
            .into_iter()
            .unzip();
    something_to_do(&document, &tree, errors);
    nothing_ignored(&document, &tree, errors);
    let neighbours = neighbour::names(&tree);
    let matrix = matrix::read(&tree, &schema, &entries, &neighbours, errors);
    if !errors.is_empty() {
        // What the matrix would be made of is not sound; but the values outside it can still be checked.
        if let Some(settings) = keys::read::<Settings>(&schema, &sections(&tree), errors) {
            check::settings(&settings, overrides, errors);
        }
        return None;
    }
    let combinations = combine::combinations(&matrix, &entries, errors);
    let mut planner = Planner {
        schema: &schema,
        base: sections(&tree),
        overrides,
        resolved: HashMap::new(),
        cells: Vec::new(),
        spans: SpanMap::new(file_name, text),
    };
    for combination in &combinations {
        planner.add(combination, &entries[combination.entry], errors);
        if errors.is_full() {
            break;
        }
    }
    for (experiment, at) in experiments.iter().zip(places) {
        let spans = BTreeMap::from([(Field::Experiment, at)]);
        planner.spans.insert(&experiment.label, spans);
    }
    let claim = claim::resolve(&document.claim, &tree, &planner.cells, &experiments, errors);
    if !errors.is_empty() {
        return None;
    }
    let plan = Plan {
        scenario: document.name.as_ref()?.get_ref().clone(),
        description: document.description.trim().to_owned(),
        source: text.to_owned(),
        seed: overrides
            .seed
            .or(document.seed.as_ref().map(|seed| *seed.get_ref()))
            .unwrap_or(1),
        budget_nanos: overrides.budget_nanos.unwrap_or_else(|| {
            document
                .measure
                .budget
                .as_ref()
                .map_or(60_000_000_000, |budget| budget.get_ref().0)
        }),
        claim,
        base: base(&planner.cells, &planner.base),
        cells: planner.cells,
        experiments,
        filter: None,
    };
    let warnings = warnings(&plan, &document);
    Some(Loaded {
        plan,
        spans: planner.spans,
        warnings,
    })
}

/// Parses TOML; all errors of syntax are reported.
fn syntax<'i>(text: &'i str, errors: &mut Diagnostics) -> Option<DeTable<'i>> {
    let (tree, faults) = DeTable::parse_recoverable(text);
    for fault in faults {
        let span = fault.span().unwrap_or(0..0);
        errors.push(
            Diagnostic::new(span, format!("this is not TOML: {}", fault.message()))
                .help("TOML is described at https://toml.io/en/v1.0.0"),
        );
    }
    errors.is_empty().then(|| tree.into_inner())
}

/// Checks what belongs to the scenario as a whole.
fn head(document: &Document, overrides: &Overrides, errors: &mut Diagnostics) {
    if let Some(schema) = &document.schema
        && *schema.get_ref() != SCHEMA
    {
        let title = format!("this vtax reads schema {SCHEMA}, not {}", schema.get_ref());
        errors.push(Diagnostic::new(schema.span(), title).help(format!("write schema = {SCHEMA}")));
    }
    if let Some(name) = &document.name {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let text = name.get_ref();
        if text.is_empty() || text.len() > 64 || !text.chars().all(fits) || text.starts_with('.') {
            errors.push(
                Diagnostic::new(name.span(), "this cannot be a scenario's name").help(
                    "write up to 64 letters, digits, `-`, `_` and `.`: it becomes a file name",
                ),
            );
        }
    }
    if let Some(budget) = &document.measure.budget
        && budget.get_ref().0 == 0
    {
        errors.push(
            Diagnostic::new(budget.span(), "a budget of no time measures nothing")
                .help("write for example budget = \"60s\""),
        );
    }
    if overrides.budget_nanos == Some(0) {
        errors.push(Diagnostic::new(
            0..0,
            "the budget given in place of this file's is 0",
        ));
    }
    if overrides
        .precision
        .is_some_and(|precision| !check::PRECISION.contains(&precision))
    {
        errors.push(
            Diagnostic::new(
                0..0,
                "the precision given in place of this file's is out of range",
            )
            .help("give a value from 0.01% to 50%"),
        );
    }
}

/// A scenario measures something, unless it says that it cannot be tested. What is there and wrong was told already.
fn something_to_do(document: &Document, tree: &DeTable<'_>, errors: &mut Diagnostics) {
    if !tree.contains_key("workload")
        && document.experiment.is_empty()
        && !document.claim.is_not_testable()
    {
        errors.push(
            Diagnostic::new(0..0, "the scenario has no `workload`")
                .help("write at least one table [[workload]]"),
        );
    }
}

/// Tables that describe cells reach no experiment: without a workload they would be ignored, and measured something else than
/// the user believes.
fn nothing_ignored(document: &Document, tree: &DeTable<'_>, errors: &mut Diagnostics) {
    if tree.contains_key("workload") || document.experiment.is_empty() {
        return;
    }
    for (name, help) in [
        ("guest", "experiments make guests of their own"),
        ("baseline", "experiments have no native side"),
        ("host", "experiments run on the host as it is"),
        (neighbour::TABLE, "experiments make guests of their own"),
        ("matrix", "an experiment's `params` take lists of values"),
    ] {
        if let Some((key, _)) = tree::entry(tree, name) {
            let title = format!("`{name}` does not reach experiments, and there is no `workload`");
            errors.push(
                Diagnostic::new(key, title)
                    .help(format!("{help}; leave it out, or add a [[workload]]")),
            );
        }
    }
}

/// What the tables set the fields to that some cells vary and others leave out.
fn base(cells: &[Cell], tables: &DeTable<'_>) -> BTreeMap<String, String> {
    let paths = cells.iter().flat_map(|cell| cell.parameters.keys());
    paths
        .filter(|path| {
            cells
                .iter()
                .any(|cell| !cell.parameters.contains_key(*path))
        })
        .filter_map(|path| {
            let parts: Vec<&str> = path.split('.').collect();
            // A workload's own parameter is in no table that the matrix varies.
            let node = tree::get(tables, &parts).filter(|_| parts.len() > 1)?;
            Some((path.clone(), tree::text(node.get_ref())))
        })
        .collect()
}

/// The part of the document that the matrix may vary.
fn sections<'i>(document: &DeTable<'i>) -> DeTable<'i> {
    document
        .iter()
        .filter(|(key, _)| matrix::SECTIONS.contains(&key.get_ref().as_ref()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .chain(
            document
                .get_key_value(neighbour::TABLE)
                .map(|(key, list)| (key.clone(), neighbour::named(list))),
        )
        .collect()
}

struct Planner<'p, 'i> {
    schema: &'p Value,
    base: DeTable<'i>,
    overrides: &'p Overrides,
    /// By the text of the fields that the matrix gives: they are the same for many workloads.
    resolved: HashMap<String, Option<Resolved>>,
    cells: Vec<Cell>,
    spans: SpanMap,
}

impl<'i> Planner<'_, 'i> {
    fn add(&mut self, combination: &Combination<'i>, entry: &Entry, errors: &mut Diagnostics) {
        let mut params = default_params(entry.workload);
        let mut parameters = BTreeMap::new();
        let mut own = String::new();
        let mut fields = String::new();
        for given in &combination.assignments {
            let text = format!(" {}={}", given.key(), given.text());
            parameters.insert(given.key(), given.text());
            match given {
                Assignment::Param { index, value, .. } => {
                    params[*index] = *value.get_ref();
                    own += &text;
                }
                Assignment::Setting { .. } => fields += &text,
            }
        }
        let Some(Resolved {
            guest,
            baseline_backing,
            host,
            measure,
            neighbours,
            mut spans,
        }) = self.resolve(&fields, &combination.assignments, errors)
        else {
            return;
        };
        let mut label = format!("{}{own}", entry.workload.name);
        if !fields.is_empty() {
            label = format!("{label} /{fields}");
        }
        spans.insert(Field::Workload, entry.span.clone());
        if self.spans.contains(&label) {
            errors.push(
                Diagnostic::new(
                    combination.span.clone(),
                    format!("`{label}` is there twice"),
                )
                .help("remove it: every cell is measured as often as its precision takes"),
            );
            return;
        }
        let Ok(id) = u32::try_from(self.cells.len()) else {
            return;
        };
        let cell = Cell {
            id,
            label,
            parameters,
            guest,
            baseline_backing,
            neighbours,
            host,
            workload: WorkloadChoice {
                name: entry.workload.name.to_owned(),
                params,
            },
            measure,
        };
        self.spans.insert(&cell.label, spans);
        let at = combination
            .assignments
            .iter()
            .find_map(|given| match given {
                Assignment::Param { value, .. } => Some(value.span()),
                Assignment::Setting { .. } => None,
            })
            .unwrap_or_else(|| self.spans.get(&cell.label, Field::Memory));
        errors.extend(check::footprint(
            &cell,
            (entry.workload.footprint)(&params),
            at,
        ));
        let vcpus = self.spans.get(&cell.label, Field::Vcpus);
        let task = entry.workload.task();
        errors.extend(task.and_then(|task| check::together(&cell, task, vcpus)));
        errors.extend(disk::usable(&cell, |field| {
            self.spans.get(&cell.label, field)
        }));
        errors.extend(net::usable(&cell, |field| {
            self.spans.get(&cell.label, field)
        }));
        self.cells.push(cell);
    }

    fn resolve(
        &mut self,
        fields: &str,
        assignments: &[Assignment<'i>],
        errors: &mut Diagnostics,
    ) -> Option<Resolved> {
        if let Some(known) = self.resolved.get(fields) {
            return known.clone();
        }
        let mut table = self.base.clone();
        for given in assignments {
            if let Assignment::Setting { path, value } = given {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                tree::set(&mut table, &path, value.clone());
            }
        }
        // Tables that came in as a value of the matrix have not been checked yet.
        keys::check_present(self.schema, &mut table, errors);
        let settings: Option<Settings> = keys::read(self.schema, &table, errors);
        let resolved = settings.map(|spec| check::settings(&spec, self.overrides, errors));
        self.resolved.insert(fields.to_owned(), resolved.clone());
        resolved
    }
}

fn warnings(plan: &Plan, document: &Document) -> Vec<Diagnostic> {
    let pilots = plan.pilot_nanos();
    if pilots <= plan.cells_nanos() {
        return Vec::new();
    }
    let at = document
        .measure
        .budget
        .as_ref()
        .map(Spanned::span)
        .or_else(|| document.name.as_ref().map(Spanned::span))
        .unwrap_or(0..0);
    let title = format!(
        "the pilots take {} in blocks alone, the budget {} {}",
        crate::explain::rough_duration(pilots),
        if plan.experiments.is_empty() {
            "is"
        } else {
            "leaves them"
        },
        duration_text(plan.cells_nanos())
    );
    vec![
        Diagnostic::new(at, title)
            .label("cells that get no pilot will be undecided")
            .help("allow more time, or measure fewer cells"),
    ]
}
