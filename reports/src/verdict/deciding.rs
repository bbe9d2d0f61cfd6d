//! The cells that decide a claim about shares of native, by what became of them.

use vtax_scenarios::plan::{Cell, ClaimOver};

use super::metric::without_value;
use super::{Judgement, Measured, nested, words};
use crate::record::{NotMeasured, RunRecord};
use crate::result::{ExperimentResult, Verdict};
use crate::stats::boot::Question;
use crate::stats::throughput::Throughput;

/// A cell that decides, and its own verdict.
pub(super) type Judged<'a> = (&'a Measured<'a>, &'a Judgement);

/// The deciding cells.
#[derive(Default)]
pub(super) struct Deciding<'a> {
    /// They have a share of native.
    pub tested: Vec<Judged<'a>>,
    /// They look better than native: until that is explained, they speak for nothing.
    pub anomalies: Vec<Judged<'a>>,
    pub not_testable: Vec<Judged<'a>>,
    pub failed: Vec<Judged<'a>>,
    pub unfinished: Vec<Judged<'a>>,
    /// Cells that have a cost and no share.
    pub costs: usize,
    /// All cells of the run.
    pub all: usize,
    /// No claim stands on them.
    pub experiments: &'a [ExperimentResult],
}

impl<'a> Deciding<'a> {
    pub fn sort_in(&mut self, judged: Judged<'a>) {
        let place = match (judged.0.not_measured, judged.0.ratio) {
            (Some(NotMeasured::NotTestable(_)), _) => &mut self.not_testable,
            (Some(NotMeasured::Failed(_)), _) => &mut self.failed,
            (None, None) => &mut self.unfinished,
            (None, Some(_)) if judged.1.anomaly.is_some() => &mut self.anomalies,
            (None, Some(_)) => &mut self.tested,
        };
        place.push(judged);
    }

    pub fn is_incomplete(&self) -> bool {
        !self.failed.is_empty() || !self.unfinished.is_empty()
    }

    /// Whether so many cells look better than native that the others cannot stand for all.
    pub fn is_anomalous(&self) -> bool {
        !self.anomalies.is_empty() && self.anomalies.len() >= self.tested.len()
    }

    /// Why nothing can be said although nothing that has a share contradicts; `None` where that is not so.
    pub fn obstacle(&self) -> Option<String> {
        if self.is_incomplete() {
            let missing = self.failed.len() + self.unfinished.len();
            Some(format!(
                "lacking a result of {}",
                words::count(missing, "cell")
            ))
        } else if self.is_anomalous() {
            let verb = if self.anomalies.len() == 1 {
                "looks"
            } else {
                "look"
            };
            let cells = self.tested.len() + self.anomalies.len();
            let of = format!(
                "{} of {}",
                self.anomalies.len(),
                words::count(cells, "cell")
            );
            Some(format!("for {of} {verb} better than native"))
        } else {
            let count =
                |of: fn(&Judgement) -> bool| self.tested.iter().filter(|(_, it)| of(it)).count();
            let dependent = count(|it| it.depends_on_placement);
            if dependent > 0 && 2 * dependent >= self.tested.len() {
                let why = "for too many verdicts depend on the CPU that native runs on";
                return Some(why.to_owned());
            }
            let hidden = count(|it| it.hides_stalls);
            (hidden > 0).then(|| {
                let verb = if hidden == 1 { "has" } else { "have" };
                let cells = words::count(hidden, "cell");
                format!("for {cells} {verb} unequal shares of void blocks, which may hide stalls")
            })
        }
    }

    /// How the guest stumbles in these cells, a sentence; `None` where it does not. `mean` is what they come to together,
    /// where there is such a thing.
    pub fn stumbling(&self, mean: Option<(&Throughput, f64)>) -> Option<String> {
        let stumbles = |(it, _): &&Judged<'_>| it.stalls.is_some_and(|stalls| stalls.stumbles);
        let cells: Vec<Judged<'_>> = self.tested.iter().filter(stumbles).copied().collect();
        if let Some((mean, confidence)) = mean {
            let (cost, low, high) = mean.stalls(confidence);
            return (low > 0.0).then(|| {
                let percent = |log: f64| words::percent(-(-log).exp_m1());
                format!(
                    "It stumbles: stalls cost it {} % of its throughput [{}, {}].",
                    percent(cost),
                    percent(low),
                    percent(high)
                )
            });
        }
        (!cells.is_empty()).then(|| {
            let number = words::count(cells.len(), "cell");
            format!("It stumbles in {number}: {}.", workloads(&cells))
        })
    }

    /// Which stalls these cells would have shown, a sentence; `None` where that is not known.
    pub fn limit(&self) -> Option<String> {
        let stalls = self.tested.iter().filter_map(|(it, _)| it.stalls);
        let nanos: f64 = stalls.map(|it| it.excluded_nanos).sum();
        (nanos > 0.0).then(|| words::excluded(nanos))
    }

    /// Verdict and sentence, without the full stop, where no cell that decides has a share to be believed.
    pub fn without_share(
        &self,
        record: &RunRecord,
        threshold: f64,
        work: &str,
    ) -> (Verdict, String) {
        let claim = format!("{} of native on {work}", words::threshold(threshold));
        let undecided = |why: String| {
            let sentence = format!(
                "Whether {} reaches {claim} is undecided: {why}",
                words::GUEST
            );
            (Verdict::Undecided, sentence)
        };
        if !self.anomalies.is_empty() {
            let cells = words::count(self.anomalies.len(), "cell");
            return undecided(match self.anomalies.len() {
                1 => "the only cell with a share looks better than native".to_owned(),
                _ => format!("all {cells} with a share look better than native"),
            });
        }
        if !self.unfinished.is_empty() {
            let cells = words::count(self.unfinished.len(), "cell");
            return undecided(format!("none of {cells} has two boots that count"));
        }
        let has_value =
            |it: &&ExperimentResult| it.metrics.iter().any(|metric| metric.repetitions > 0);
        let experiments = self.experiments.iter().filter(has_value).count();
        let measured: Vec<String> = [(self.costs, "cost"), (experiments, "experiment")]
            .into_iter()
            .filter(|&(number, _)| number > 0)
            .map(|(number, thing)| words::count(number, thing))
            .collect();
        if !measured.is_empty() && self.failed.is_empty() && self.not_testable.is_empty() {
            let measured = measured.join(" and ");
            let guest = words::MEASURED;
            return (
                Verdict::Cost,
                format!(
                    "{measured} measured ({guest}), and nothing that could be compared with native"
                ),
            );
        }
        let lacking = self.failed.first().or(self.not_testable.first());
        if lacking.is_none()
            && let Some(filtered) = filtered(record)
        {
            return filtered;
        }
        if lacking.is_none() && !self.experiments.is_empty() {
            return without_value(self.experiments);
        }
        let reason = match lacking {
            Some((_, judgement)) => judgement.reason.trim_end_matches('.').to_owned(),
            None => format!("no cell of this scenario is {work}"),
        };
        let guest = words::GUEST;
        let sentence = format!("Whether {guest} reaches {claim} cannot be tested here: {reason}");
        (Verdict::NotTestable, sentence)
    }

    /// What a reader of the sentence must know besides, a sentence each. Cells below the threshold are named where the
    /// sentence did not count them.
    pub fn remarks(&self, record: &RunRecord, below: Option<f64>) -> Vec<String> {
        let refuted: Vec<Judged<'_>> = self
            .tested
            .iter()
            .filter(|(_, judgement)| judgement.verdict == Verdict::Refuted)
            .filter(|_| below.is_some())
            .copied()
            .collect();
        let limit = words::threshold(below.unwrap_or_default());
        let remarks: [(&[Judged<'_>], &str, &str); 5] = [
            (&refuted, "is below", "are below"),
            (
                &self.anomalies,
                "looks better than native and is left out",
                "look better than native and are left out",
            ),
            (
                &self.failed,
                "has no result because the guest failed",
                "have no result because the guest failed",
            ),
            (&self.unfinished, "is not finished", "are not finished"),
            (
                &self.not_testable,
                "is not testable on this host",
                "are not testable on this host",
            ),
        ];
        let is_said = self.tested.is_empty() && self.anomalies.is_empty();
        let mut sentences: Vec<String> = remarks
            .into_iter()
            .enumerate()
            .filter(|(_, (cells, ..))| !cells.is_empty() && !is_said)
            .map(|(place, (cells, one, many))| {
                let verb = if cells.len() == 1 { one } else { many };
                let limit = if place == 0 {
                    format!(" {limit}")
                } else {
                    String::new()
                };
                let number = words::count(cells.len(), "cell");
                format!("{number} {verb}{limit}: {}.", workloads(cells))
            })
            .collect();
        sentences.extend(nested(record));
        sentences
    }
}

/// Verdict and sentence, without the full stop, where a filter left out what would decide the claim: it was not asked for, so
/// nothing is lacking. `None` where nothing was filtered.
pub(super) fn filtered(record: &RunRecord) -> Option<(Verdict, String)> {
    let filter = record.plan.filter.as_ref()?;
    let plan = &record.plan;
    let parts = [
        (plan.cells.len(), "cell"),
        (plan.experiments.len(), "experiment"),
    ];
    let chosen: Vec<String> = parts
        .into_iter()
        .filter(|&(number, _)| number > 0)
        .map(|(number, what)| words::count(number, what))
        .collect();
    Some((
        Verdict::Cost,
        format!(
            "{} measured ({}), and nothing is said of the claim: --filter {filter:?} left out what decides it",
            chosen.join(" and "),
            words::MEASURED
        ),
    ))
}

/// The workloads of some cells, with how many of each where there are several; the first four stand for many.
pub(super) fn workloads(cells: &[Judged<'_>]) -> String {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for (measured, _) in cells {
        let name = measured.cell.workload.name.as_str();
        match counted.iter_mut().find(|(known, _)| *known == name) {
            Some((_, number)) => *number += 1,
            None => counted.push((name, 1)),
        }
    }
    let mut names: Vec<String> = counted
        .iter()
        .take(4)
        .map(|&(name, number)| match number {
            1 => name.to_owned(),
            _ => format!("{name} ({number})"),
        })
        .collect();
    if counted.len() > names.len() {
        names.push("…".to_owned());
    }
    names.join(", ")
}

/// Whether a cell is among those that decide. Workloads of unknown family and deliberate faults never do.
pub(super) fn decides(cell: &Cell, over: ClaimOver) -> bool {
    let Some((_, workload)) = vtax_workloads::find(&cell.workload.name) else {
        return false;
    };
    Question::of(workload.name) == Question::Ratio && over.takes(workload.family)
}
