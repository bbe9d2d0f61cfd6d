//! The run in one sentence, where a share of native decides or settings are the question.

use std::time::Duration;

use vtax_scenarios::plan::{Cell, ClaimOver};
use vtax_workloads::Family;

use super::apart;
use super::deciding::{Deciding, Judged, decides};
use super::settings;
use super::{Judgement, Measured, outlook, position, words};
use crate::record::RunRecord;
use crate::result::{ExperimentResult, Headline, Interval, Verdict};
use crate::settings::Effect;
use crate::stats::boot::Question;
use crate::stats::throughput::Throughput;

/// What settings may take of a sentence that is about a claim.
const BESIDE_A_CLAIM: usize = 1;
/// What a headline can hold beside its claim, in characters; more goes into a remark.
const LONGEST: usize = 225;

/// Judges the run.
///
/// Cells of one kind, CPU-bound or memory-bound, decide by their geometric mean, a fixed set. Cells of several kinds have no
/// mean that says anything, so that each must keep the claim. A cell in which the guest beats native is left out and counted,
/// so that an anomaly makes up for no loss; the run is undecided where anomalies are half of the cells or more, and where a
/// cell that decides failed or was not finished. Cells that this host cannot test are left out and counted. Where there are
/// experiments alone, the sentence says whether they produced anything. Where nobody claimed anything and the matrix varies
/// settings, the sentence is about these.
#[must_use]
pub(crate) fn headline(
    record: &RunRecord,
    measured: &[Measured<'_>],
    judgements: &[Judgement],
    experiments: &[ExperimentResult],
    effects: &[Effect],
) -> Headline {
    if record.plan.asks_of_settings() {
        return settings::headline(record, measured, judgements, effects);
    }
    let over = record.plan.claim.over;
    let takes = |cell: &Cell| decides(cell, over);
    let judged = measured.iter().zip(judgements);
    let mut headline = over_cells(record, judged, experiments, &takes, (over.words(), false));
    if let Some(more) = settings::sentence(effects, BESIDE_A_CLAIM) {
        let both = format!("{} {more}", headline.sentence);
        if both.chars().count() <= LONGEST {
            headline.sentence = both;
        } else {
            headline.remarks.insert(0, more);
        }
    }
    headline
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
        let judged = measured.iter().zip(judgements);
        over_cells(record, judged, &[], &takes, (name, true))
    };
    names.iter().map(class).collect()
}

/// `alike`: the work is of one kind whatever its family.
fn over_cells<'a>(
    record: &RunRecord,
    judged: impl Iterator<Item = Judged<'a>>,
    experiments: &'a [ExperimentResult],
    takes: &dyn Fn(&Cell) -> bool,
    (work, alike): (&str, bool),
) -> Headline {
    let threshold = record.plan.claim.ratio;
    let mut cells = Deciding {
        experiments,
        all: record.plan.cells.len(),
        ..Deciding::default()
    };
    for judged in judged {
        let taken = takes(judged.0.cell);
        if judged.1.verdict == Verdict::Cost {
            // The claim leaves out a share of native; what has no share is told.
            let told = taken || judged.0.question != Question::Ratio;
            cells.costs += usize::from(told);
        } else if taken {
            cells.sort_in(judged);
        }
    }
    let mut headline = Headline {
        threshold,
        over: work.to_owned(),
        ratio: None,
        finding: None,
        verdict: Verdict::Undecided,
        sentence: String::new(),
        remarks: cells.remarks(record, Some(threshold)),
    };
    let parts: Vec<Throughput> = cells.tested.iter().filter_map(|(it, _)| it.ratio).collect();
    if cells.tested.len() > 1 && !alike && !are_of_one_kind(&cells.tested) {
        headline.remarks = cells.remarks(record, None);
        (headline.verdict, headline.sentence) = apart::judged(&cells, threshold);
        headline.remarks.splice(0..0, cells.stumbling(None));
        if headline.verdict == Verdict::Holds {
            headline.remarks.extend(cells.limit());
        }
        return headline;
    }
    let confidence = |judged: &Judged<'_>| judged.0.cell.measure.confidence;
    let confidence = cells.tested.iter().map(confidence).fold(0.0, f64::max);
    let Some(mean) = Throughput::combined(&parts) else {
        let (verdict, sentence) = cells.without_share(record, threshold, work);
        headline.verdict = verdict;
        headline.sentence = format!("{sentence}.");
        return headline;
    };
    let ratio = mean.interval(confidence);
    headline.ratio = Some(ratio);
    headline.verdict = if cells.obstacle().is_some() {
        Verdict::Undecided
    } else {
        position(&ratio, threshold)
    };
    let of = match cells.tested.len() {
        number if number == cells.all => String::new(),
        number => format!(" ({number} of {})", words::count(cells.all, "cell")),
    };
    let subject = words::capitalized(words::GUEST);
    let shown = words::of_native(&ratio, threshold);
    let ending = ending(&cells, &mean, &ratio, threshold, headline.verdict);
    headline.sentence = format!("{subject} runs {work}{of} at {shown}: {ending}.");
    if let Some(stumbles) = cells.stumbling(Some((&mean, confidence))) {
        headline.sentence += &format!(" {stumbles}");
    }
    if headline.verdict == Verdict::Holds {
        headline.remarks.extend(cells.limit());
    }
    headline
}

/// `the 97 % claim holds`.
fn ending(
    cells: &Deciding<'_>,
    mean: &Throughput,
    ratio: &Interval,
    threshold: f64,
    verdict: Verdict,
) -> String {
    let claim = format!("the {} claim", words::threshold(threshold));
    match verdict {
        Verdict::Holds => format!("{claim} holds"),
        Verdict::Refuted => format!("{claim} is refuted"),
        Verdict::Undecided | Verdict::NotTestable | Verdict::Cost => {
            let why = cells.obstacle().unwrap_or_else(|| {
                let time: Duration = cells.tested.iter().map(|(it, _)| it.time).sum();
                outlook(mean, ratio.confidence, threshold, time)
            });
            format!("{claim} is undecided, {why}")
        }
    }
}

/// Whether a mean over these cells says something: work that computes, or work on memory, and not both together.
fn are_of_one_kind(cells: &[Judged<'_>]) -> bool {
    let kind = |(measured, _): &Judged<'_>| {
        let found = vtax_workloads::find(&measured.cell.workload.name)?;
        match found.1.family {
            family @ (Family::Cpu | Family::Memory) => Some(family),
            _ => None,
        }
    };
    let first = cells.first().and_then(kind);
    first.is_some() && cells.iter().all(|cell| kind(cell) == first)
}
