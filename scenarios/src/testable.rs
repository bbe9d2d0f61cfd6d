//! What of a plan a host can test: decided here, before anything is measured, for every command alike.
//!
//! ```text
//! Plan + HostFacts ──of──► what each cell and each experiment lacks ──► can the claim be decided? can anything be measured?
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::claim::Form;
use crate::diagnostic::{Diagnostic, Diagnostics, Severity, render};
use crate::host::{self, Untestable};
use crate::plan::{Cell, HostFacts, Obstacle, Plan};
use crate::spans::SpanMap;

/// Why a host cannot do something, and what to do about it. Its `Display` is both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NotTestable {
    /// What is missing.
    pub reason: String,
    /// What to do about it; empty where nothing can be done.
    pub remedy: String,
}

impl fmt::Display for NotTestable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if self.remedy.is_empty() {
            return Ok(());
        }
        write!(f, "; {}", self.remedy)
    }
}

impl From<Obstacle> for NotTestable {
    fn from(Obstacle { reason, remedy }: Obstacle) -> Self {
        Self { reason, remedy }
    }
}

/// What a host can test of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Testability {
    /// All that each cell lacks, by its id; cells that lack nothing are not there.
    pub cells: BTreeMap<u32, Vec<Untestable>>,
    /// The same of experiments.
    pub experiments: BTreeMap<u32, Vec<Untestable>>,
    /// Why the plan as a whole is not measured: nothing of it can be, or nothing could decide its claim.
    pub whole: Option<NotTestable>,
}

impl Testability {
    /// Looks at a plan on a host.
    #[must_use]
    pub fn of(plan: &Plan, facts: &HostFacts) -> Self {
        let cells = plan.cells.iter();
        let cells = cells.map(|cell| (cell.id, host::cell_lacks(cell, facts)));
        let experiments = plan.experiments.iter();
        let experiments = experiments.map(|it| (it.id, host::experiment_lacks(it, facts)));
        let mut found = Self {
            cells: cells.filter(|(_, lacks)| !lacks.is_empty()).collect(),
            experiments: experiments.filter(|(_, lacks)| !lacks.is_empty()).collect(),
            whole: None,
        };
        found.whole = found.whole(plan, facts);
        found
    }

    fn whole(&self, plan: &Plan, facts: &HostFacts) -> Option<NotTestable> {
        if let Form::NotTestable(reason) = &plan.claim.form {
            return Some(NotTestable {
                reason: reason.clone(),
                remedy: String::new(),
            });
        }
        if let premise @ Some(_) = host::premise_lacking(plan, facts) {
            return premise;
        }
        self.undecidable(plan)
            .or_else(|| self.nothing_left(plan))
            .map(Untestable::why)
    }

    /// What keeps the claim from being decided: all that could decide it lacks something. `None` too where the plan has
    /// nothing that could, for then the host is not to blame.
    fn undecidable(&self, plan: &Plan) -> Option<&Untestable> {
        let cell = |cell: &Cell| self.cells.get(&cell.id)?.first();
        let lacks: Vec<Option<&Untestable>> = match &plan.claim.form {
            Form::Compare(compare) => {
                let pairs = compare.pairs(&plan.cells);
                let pairs = pairs.into_iter();
                pairs
                    .map(|(of, against)| cell(of).or_else(|| cell(against)))
                    .collect()
            }
            Form::Metric(metric) => plan
                .experiments
                .iter()
                .filter(|it| metric.experiments.contains(&it.id))
                .map(|it| self.experiments.get(&it.id)?.first())
                .collect(),
            Form::Share if !plan.claim.assumed => plan
                .cells
                .iter()
                .filter(|cell| {
                    vtax_workloads::find(&cell.workload.name)
                        .is_some_and(|(_, workload)| plan.claim.over.takes(workload.family))
                })
                .map(cell)
                .collect(),
            Form::Share | Form::NotTestable(_) => Vec::new(),
        };
        let all: Option<Vec<&Untestable>> = lacks.into_iter().collect();
        all?.into_iter().next()
    }

    /// What the first cell or experiment lacks, where all of them lack something.
    fn nothing_left(&self, plan: &Plan) -> Option<&Untestable> {
        let whole = self.cells.len() == plan.cells.len()
            && self.experiments.len() == plan.experiments.len();
        let mut lacks = self.cells.values().chain(self.experiments.values());
        lacks.next().filter(|_| whole)?.first()
    }

    /// Why each cell that cannot be measured cannot, for the record.
    #[must_use]
    pub fn cells_text(&self) -> BTreeMap<u32, String> {
        texts(&self.cells)
    }

    /// The same of experiments.
    #[must_use]
    pub fn experiments_text(&self) -> BTreeMap<u32, String> {
        texts(&self.experiments)
    }

    /// One line: how many cells and experiments can be measured, and what keeps the whole from being tested.
    #[must_use]
    pub fn summary(&self, plan: &Plan) -> String {
        let part = |lacking: usize, all: usize, what: &str| {
            let plural = if all == 1 { "" } else { "s" };
            let can = all - lacking;
            (all > 0).then(|| match lacking {
                0 if all == 1 => format!("its {what} can be measured here"),
                0 if all == 2 => format!("both {what}s can be measured here"),
                0 => format!("all {all} {what}s can be measured here"),
                _ => format!("{can} of {all} {what}{plural} can be measured here"),
            })
        };
        let parts = [
            part(self.cells.len(), plan.cells.len(), "cell"),
            part(self.experiments.len(), plan.experiments.len(), "experiment"),
        ];
        let mut told: Vec<String> = parts.into_iter().flatten().collect();
        if let Some(why) = &self.whole {
            told.push(format!("not testable here: {why}"));
        }
        told.join("; ")
    }

    /// All that is lacking, each reason once, pointing at the file; empty where nothing is. With ANSI colours where `color`
    /// is set.
    #[must_use]
    pub fn render(&self, plan: &Plan, spans: &SpanMap, color: bool) -> String {
        let cells = plan
            .cells
            .iter()
            .map(|it| (&it.label, self.cells.get(&it.id)));
        let experiments = plan.experiments.iter();
        let experiments = experiments.map(|it| (&it.label, self.experiments.get(&it.id)));
        let lacking: Vec<(&String, &Untestable)> = cells
            .chain(experiments)
            .flat_map(|(label, lacks)| lacks.into_iter().flatten().map(move |it| (label, it)))
            .collect();
        let mut alike: HashMap<&Untestable, usize> = HashMap::new();
        for (_, lack) in &lacking {
            *alike.entry(lack).or_default() += 1;
        }
        let mut diagnostics = Diagnostics::default();
        for (label, lack) in lacking {
            // The first cell of each reason speaks for the others.
            let told = match alike.remove(lack) {
                None => continue,
                Some(1) => label.clone(),
                Some(2) => format!("{label}, and one more"),
                Some(all) => format!("{label}, and {} more", all - 1),
            };
            diagnostics.push(
                Diagnostic::new(spans.get(label, lack.field), lack.reason.as_str())
                    .label(told)
                    .help(lack.remedy.as_str()),
            );
        }
        render(
            &spans.file_name,
            &spans.source_text,
            Severity::NotTestable,
            &diagnostics.into_sorted(),
            color,
        )
    }
}

fn texts(lacks: &BTreeMap<u32, Vec<Untestable>>) -> BTreeMap<u32, String> {
    let text = |lacks: &Vec<Untestable>| {
        let texts: Vec<String> = lacks.iter().map(ToString::to_string).collect();
        texts.join("; ")
    };
    lacks.iter().map(|(&id, it)| (id, text(it))).collect()
}
