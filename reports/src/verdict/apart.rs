//! A claim over cells of several kinds: each must keep it, and no mean is reported.
//!
//! Calling it true takes every cell's own interval above the threshold (an intersection–union test), so that the error stays
//! below that of one cell. Calling it false takes one cell below, and there are many to choose from: its interval has the
//! confidence that they share (Bonferroni).

use std::time::Duration;

use super::deciding::{Deciding, Judged};
use super::{outlook, position, words};
use crate::result::{Interval, Verdict};
use crate::stats::throughput::Throughput;

/// How many cells reach the threshold, are below it, and are undecided.
#[derive(Default)]
struct Counts {
    reach: usize,
    below: usize,
    undecided: usize,
    /// How many of those below are so at the confidence that all share.
    surely_below: usize,
}

/// Verdict and sentence, with its full stop, over the tested cells, two or more.
pub(super) fn judged(cells: &Deciding<'_>, threshold: f64) -> (Verdict, String) {
    let counts = Counts::of(&cells.tested, threshold);
    let (verdict, why) = if cells.is_anomalous() {
        (Verdict::Undecided, cells.obstacle())
    } else if counts.surely_below > 0 {
        (Verdict::Refuted, None)
    } else if cells.is_incomplete() {
        (Verdict::Undecided, cells.obstacle())
    } else if counts.reach == cells.tested.len() {
        (Verdict::Holds, None)
    } else if counts.below > 0 {
        let all = words::count(cells.tested.len(), "cell");
        let why = format!("as one of {all} may be by chance");
        (Verdict::Undecided, Some(why))
    } else {
        (Verdict::Undecided, more_time(&cells.tested, threshold))
    };
    let claim = words::threshold(threshold);
    let ending = match verdict {
        Verdict::Holds if counts.reach == 2 => "holds: both reach it".to_owned(),
        Verdict::Holds => format!("holds: all {} reach it", counts.reach),
        Verdict::Refuted => format!("is refuted: {}", counts.words()),
        _ => format!(
            "is undecided: {}{}",
            counts.words(),
            why.map_or(String::new(), |why| format!(", {why}"))
        ),
    };
    let sentence = format!(
        "{} of {} have a share of native, {} ({}). The {claim} claim {ending}.",
        cells.tested.len(),
        words::count(cells.all, "cell"),
        range(&cells.tested, threshold),
        words::MEASURED,
    );
    (verdict, sentence)
}

/// From the lowest to the highest share: `62.0 to 97.1 %`.
pub(super) fn range(cells: &[Judged<'_>], threshold: f64) -> String {
    let shares: Vec<f64> = cells
        .iter()
        .filter_map(|(measured, _)| Some(measured.ratio?.mean().exp()))
        .collect();
    let low = shares.iter().copied().fold(f64::INFINITY, f64::min);
    let high = shares.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let ends = Interval {
        value: low,
        low,
        high,
        confidence: 0.0,
    };
    let decimals = words::decimals(&ends, threshold);
    let show = |share: f64| format!("{:.decimals$}", 100.0 * share);
    if show(low) == show(high) {
        format!("{} %", show(low))
    } else {
        format!("{} to {} %", show(low), show(high))
    }
}

impl Counts {
    fn of(cells: &[Judged<'_>], threshold: f64) -> Self {
        let mut counts = Self::default();
        for (measured, judgement) in cells {
            let Some(ratio) = measured.ratio else {
                continue;
            };
            if judgement.depends_on_placement || judgement.hides_stalls {
                counts.undecided += 1;
                continue;
            }
            let confidence = measured.cell.measure.confidence;
            match position(&ratio.interval(confidence), threshold) {
                Verdict::Holds => counts.reach += 1,
                Verdict::Refuted => counts.below += 1,
                _ => counts.undecided += 1,
            }
            let shared = 1.0 - (1.0 - confidence) / cells.len() as f64;
            let surely = position(&ratio.interval(shared), threshold) == Verdict::Refuted;
            counts.surely_below += usize::from(surely);
        }
        counts
    }

    /// `3 cells reach it, 1 is below it, 2 are undecided`.
    fn words(&self) -> String {
        let parts = [
            (self.reach, "reaches it", "reach it"),
            (self.below, "is below it", "are below it"),
            (self.undecided, "is undecided", "are undecided"),
        ];
        let parts = parts.into_iter().filter(|(number, ..)| *number > 0);
        let parts: Vec<String> = parts
            .enumerate()
            .map(|(place, (number, one, many))| {
                let what = if number == 1 { one } else { many };
                match place {
                    0 => format!("{} {what}", words::count(number, "cell")),
                    _ => format!("{number} {what}"),
                }
            })
            .collect();
        parts.join(", ")
    }
}

/// What would decide the cell that takes longest.
fn more_time(cells: &[Judged<'_>], threshold: f64) -> Option<String> {
    let time: Duration = cells.iter().map(|(measured, _)| measured.time).sum();
    let undecided = cells.iter().filter_map(|(measured, _)| {
        let (mean, confidence) = (measured.ratio?, measured.cell.measure.confidence);
        let verdict = position(&mean.interval(confidence), threshold);
        (verdict == Verdict::Undecided).then_some((mean, confidence))
    });
    let margin = |(mean, confidence): &(Throughput, f64)| {
        (mean.mean() - threshold.ln()).abs() / mean.half_width(*confidence)
    };
    let (mean, confidence) = undecided.min_by(|a, b| margin(a).total_cmp(&margin(b)))?;
    Some(outlook(&mean, confidence, threshold, time))
}
