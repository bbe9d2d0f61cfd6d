//! The run in one sentence.

use std::time::Duration;

use vtax_scenarios::plan::{Cell, ClaimOver};

use super::metric::without_value;
use super::{Judgement, Measured, outlook, position, words};
use crate::record::{NotMeasured, RunRecord};
use crate::result::{ExperimentResult, Headline, Interval, Verdict};
use crate::stats::boot::Question;
use crate::stats::mean::{LogMean, combine};

/// A cell that decides, and its own verdict.
type Judged<'a> = (&'a Measured<'a>, &'a Judgement);

/// The deciding cells, by what became of them.
#[derive(Default)]
struct Deciding<'a> {
    tested: Vec<Judged<'a>>,
    not_testable: Vec<Judged<'a>>,
    failed: Vec<Judged<'a>>,
    unfinished: Vec<Judged<'a>>,
    /// Cells that have a cost and no ratio.
    costs: usize,
    /// No claim stands on them.
    experiments: &'a [ExperimentResult],
}

/// Judges the run: the geometric mean over the cells that decide its claim, a fixed set.
///
/// A cell in which the guest beats native counts as 100 %, so that an anomaly cannot make up for a loss elsewhere. The
/// run is undecided where anomalies are half of the cells or more, and where a cell that decides failed or was not
/// finished; cells that this host cannot test are left out and counted. Where there are experiments alone, the sentence tells
/// whether they brought anything.
#[must_use]
pub fn headline(
    record: &RunRecord,
    measured: &[Measured<'_>],
    judgements: &[Judgement],
    experiments: &[ExperimentResult],
) -> Headline {
    let over = record.plan.claim.over;
    let takes = |cell: &Cell| decides(cell, over);
    let judged = measured.iter().zip(judgements);
    over_cells(record, judged, experiments, &takes, over.words())
}

/// Judges each workload by itself, where the claim asks for it.
#[must_use]
pub fn classes(
    record: &RunRecord,
    measured: &[Measured<'_>],
    judgements: &[Judgement],
) -> Vec<Headline> {
    let names = record.plan.judged_workloads();
    let class = |name: &&str| {
        let takes = |cell: &Cell| cell.workload.name == *name && decides(cell, ClaimOver::All);
        over_cells(record, measured.iter().zip(judgements), &[], &takes, name)
    };
    names.iter().map(class).collect()
}

fn over_cells<'a>(
    record: &RunRecord,
    judged: impl Iterator<Item = Judged<'a>>,
    experiments: &'a [ExperimentResult],
    takes: &dyn Fn(&Cell) -> bool,
    work: &str,
) -> Headline {
    let claim = &record.plan.claim;
    let mut cells = Deciding {
        experiments,
        ..Deciding::default()
    };
    for judged in judged {
        if judged.1.verdict == Verdict::Cost {
            cells.costs += 1;
        } else if takes(judged.0.cell) {
            cells.sort_in(judged);
        }
    }
    let parts: Vec<LogMean> = cells.tested.iter().filter_map(credited).collect();
    let confidence = |judged: &Judged<'_>| judged.0.cell.measure.confidence;
    let confidence = cells.tested.iter().map(confidence).fold(0.0, f64::max);
    let mean = combine(&parts);
    let ratio = mean.map(|mean| mean.interval(confidence));
    let (verdict, sentence) = match mean.zip(ratio) {
        None => cells.without_ratio(claim.ratio, work),
        Some((mean, ratio)) => {
            let verdict = cells.verdict(&ratio, claim.ratio);
            let found = cells.found(&mean, &ratio, claim.ratio, verdict);
            let subject = format!("run {work} at");
            (verdict, format!("This host's guests {subject} {found}"))
        }
    };
    let nested = nested(record);
    Headline {
        threshold: claim.ratio,
        over: work.to_owned(),
        ratio,
        finding: None,
        verdict,
        sentence: format!("{sentence}{nested}.{}", cells.remarks(claim.ratio)),
    }
}

/// Whether a cell is among those that decide. Workloads of unknown family and deliberate faults never do.
fn decides(cell: &Cell, over: ClaimOver) -> bool {
    let Some((_, workload)) = vtax_workloads::find(&cell.workload.name) else {
        return false;
    };
    Question::of(workload.name) == Question::Ratio && over.takes(workload.family)
}

/// What a reader of the sentence must know where the host is itself a guest.
pub(super) fn nested(record: &RunRecord) -> String {
    record
        .host
        .nested_under
        .as_ref()
        .map_or(String::new(), |hypervisor| {
            format!(" — native here is itself a virtual machine under {hypervisor}")
        })
}

/// The cell's ratio as far as it is believed.
fn credited((measured, judgement): &Judged<'_>) -> Option<LogMean> {
    let ratio = measured.ratio?;
    Some(LogMean {
        mean: if judgement.anomaly.is_some() {
            ratio.mean.min(0.0)
        } else {
            ratio.mean
        },
        ..ratio
    })
}

/// The labels of some cells; the first three stand for many.
fn labels(cells: &[Judged<'_>]) -> String {
    let mut names: Vec<&str> = cells
        .iter()
        .take(3)
        .map(|(measured, _)| measured.cell.label.as_str())
        .collect();
    if cells.len() > names.len() {
        names.push("…");
    }
    names.join(", ")
}

impl<'a> Deciding<'a> {
    fn sort_in(&mut self, judged: Judged<'a>) {
        let place = match (judged.0.not_measured, judged.0.ratio) {
            (Some(NotMeasured::NotTestable(_)), _) => &mut self.not_testable,
            (Some(NotMeasured::Failed(_)), _) => &mut self.failed,
            (None, None) => &mut self.unfinished,
            (None, Some(_)) => &mut self.tested,
        };
        place.push(judged);
    }

    fn anomalies(&self) -> Vec<Judged<'a>> {
        let anomalous = |judged: &&Judged<'_>| judged.1.anomaly.is_some();
        self.tested.iter().filter(anomalous).copied().collect()
    }

    /// How many cells have no verdict because it depends on where native runs.
    fn dependent(&self) -> usize {
        let depends = |judged: &&Judged<'_>| judged.1.depends_on_placement;
        self.tested.iter().filter(depends).count()
    }

    fn is_incomplete(&self) -> bool {
        !self.failed.is_empty() || !self.unfinished.is_empty()
    }

    fn verdict(&self, ratio: &Interval, threshold: f64) -> Verdict {
        let no_answer = self.anomalies().len() + self.dependent();
        if self.is_incomplete() || 2 * no_answer >= self.tested.len() {
            Verdict::Undecided
        } else {
            position(ratio, threshold)
        }
    }

    /// `99.6 % of native [99.2, 100.0]: the 97 % claim holds`, without the full stop.
    fn found(&self, mean: &LogMean, ratio: &Interval, threshold: f64, verdict: Verdict) -> String {
        let ending = match verdict {
            Verdict::Holds => "holds".to_owned(),
            Verdict::Refuted => "is refuted".to_owned(),
            Verdict::Undecided | Verdict::NotTestable | Verdict::Cost => {
                format!(
                    "is undecided, {}",
                    self.why_undecided(mean, ratio, threshold)
                )
            }
        };
        format!(
            "{}: the {} claim {ending}",
            words::of_native(ratio, threshold),
            words::threshold(threshold)
        )
    }

    fn why_undecided(&self, mean: &LogMean, ratio: &Interval, threshold: f64) -> String {
        if self.is_incomplete() {
            let missing = self.failed.len() + self.unfinished.len();
            format!("lacking a result of {}", words::count(missing, "cell"))
        } else if position(ratio, threshold) != Verdict::Undecided {
            if self.dependent() > self.anomalies().len() {
                "for too many verdicts depend on the CPU that native runs on".to_owned()
            } else {
                "for too many cells look better than native".to_owned()
            }
        } else {
            let time: Duration = self.tested.iter().map(|(measured, _)| measured.time).sum();
            outlook(mean, ratio.confidence, threshold, time)
        }
    }

    /// Verdict and sentence, without the full stop, where no cell that decides has a ratio.
    fn without_ratio(&self, threshold: f64, work: &str) -> (Verdict, String) {
        let claim = format!("{} of native on {work}", words::threshold(threshold));
        if !self.unfinished.is_empty() {
            let sentence = format!(
                "Whether this host's guests reach {claim} is undecided: none of {} has two boots that count",
                words::count(self.unfinished.len(), "cell")
            );
            return (Verdict::Undecided, sentence);
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
            return (
                Verdict::Cost,
                format!("{measured} measured, and nothing that could be compared with native"),
            );
        }
        let lacking = self.failed.first().or(self.not_testable.first());
        if lacking.is_none() && !self.experiments.is_empty() {
            return without_value(self.experiments);
        }
        let reason = match lacking {
            Some((_, judgement)) => judgement.reason.trim_end_matches('.').to_owned(),
            None => format!("no cell of this scenario is {work}"),
        };
        let sentence =
            format!("Whether this host's guests reach {claim} cannot be tested here: {reason}");
        (Verdict::NotTestable, sentence)
    }

    /// What a reader of the sentence must know besides, each a sentence with a space before it.
    fn remarks(&self, threshold: f64) -> String {
        let below: Vec<Judged<'_>> = self
            .tested
            .iter()
            .filter(|(_, judgement)| judgement.verdict == Verdict::Refuted)
            .copied()
            .collect();
        let limit = words::threshold(threshold);
        let remarks: [(&[Judged<'_>], String); 5] = [
            (&below, format!("below {limit}")),
            (
                &self.anomalies(),
                "above native, an anomaly counted as 100 %".to_owned(),
            ),
            (
                &self.failed,
                "without a result because the guest failed".to_owned(),
            ),
            (&self.unfinished, "not finished".to_owned()),
            (&self.not_testable, "not testable on this host".to_owned()),
        ];
        remarks
            .into_iter()
            .filter(|(cells, _)| !cells.is_empty() && !self.tested.is_empty())
            .map(|(cells, what)| {
                let verb = if cells.len() == 1 { "is" } else { "are" };
                let number = words::count(cells.len(), "cell");
                format!(" {number} {verb} {what}: {}.", labels(cells))
            })
            .collect()
    }
}
