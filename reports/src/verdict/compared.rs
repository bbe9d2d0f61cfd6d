//! Verdicts on claims that compare cells with cells.

use std::time::Duration;

use vtax_scenarios::given;
use vtax_scenarios::plan::{Bound, Cell, Compare, Unit};

use super::bound::{Reach, claimed, headline, position, shown};
use super::deciding::filtered;
use super::{Measured, time_to_decide, words};
use crate::compare::{Lack, Measured as Compared, Quotient};
use crate::record::{NotMeasured, RunRecord};
use crate::result::{Finding, Headline, Interval, Verdict};

/// A pair of cells that has a figure.
struct Pair<'a> {
    cell: &'a Cell,
    quotient: Quotient,
    interval: Interval,
    time: Duration,
}

/// All pairs, by what became of them.
#[derive(Default)]
struct Pairs<'a> {
    tested: Vec<Pair<'a>>,
    /// Why this host cannot test them.
    lacking: Vec<String>,
    /// How they failed.
    failed: Vec<String>,
    /// Why they have no figure.
    unfinished: Vec<String>,
    /// Which cells came to a wrong checksum, and in how many blocks.
    miscomputed: Vec<String>,
}

/// Judges cells against cells: the geometric mean over all pairs, a fixed set; a claim of equivalence holds where each pair by
/// itself keeps the bound too. Pairs that this host cannot test are left out; one that failed or was not finished leaves the
/// claim undecided, and so does a wrong checksum of what would hold.
pub(crate) fn compared(
    record: &RunRecord,
    compare: &Compare,
    measured: &[Measured<'_>],
    sides: &[Compared<'_>],
) -> Headline {
    let what = format!(
        "{} with {} over that with {}",
        words::capitalized(compare.what.words()),
        given(&compare.of),
        given(&compare.against)
    );
    let pairs = Pairs::new(record, compare, measured, sides);
    let quotients: Vec<Quotient> = pairs.tested.iter().map(|it| it.quotient).collect();
    let confidences = pairs.tested.iter().map(|it| it.interval.confidence);
    let confidence = confidences.fold(0.0, f64::max);
    let Some(mean) = Quotient::combined(&quotients) else {
        if pairs.is_empty()
            && let Some((verdict, sentence)) = filtered(record)
        {
            return headline(record, None, verdict, sentence);
        }
        let (verdict, why) = pairs.without_figure();
        let sentence = format!("{what} {why}{}", pairs.remarks());
        return headline(record, None, verdict, sentence);
    };
    let finding = Finding {
        what,
        unit: Unit::Share,
        interval: mean.interval(confidence),
        bound: compare.bound,
    };
    let (verdict, why) = pairs.verdict(&mean, &finding);
    let sentence = claimed(&finding, verdict, &why) + &pairs.remarks();
    headline(record, Some(finding), verdict, sentence)
}

impl<'a> Pairs<'a> {
    fn new(
        record: &'a RunRecord,
        compare: &Compare,
        measured: &[Measured<'a>],
        sides: &[Compared<'a>],
    ) -> Self {
        let at = |id: u32| usize::try_from(id).unwrap_or(usize::MAX);
        let side = |id: u32| sides.get(at(id)).zip(measured.get(at(id)));
        let mut pairs = Self::default();
        for (of, against) in compare.pairs(&record.plan.cells) {
            let Some(((of, of_measured), (against, against_measured))) =
                side(of.id).zip(side(against.id))
            else {
                continue;
            };
            for side in [of_measured, against_measured] {
                if side.miscomputed > 0 {
                    let blocks = words::count(side.miscomputed, "block");
                    let told = format!("{blocks} of {} came to a wrong checksum", side.cell.label);
                    pairs.miscomputed.push(told);
                }
            }
            let why = of_measured.not_measured.or(against_measured.not_measured);
            match (why, Quotient::new(of, against, compare.what)) {
                (Some(NotMeasured::NotTestable(why)), _) => pairs.lacking.push(why.clone()),
                (Some(NotMeasured::Failed(why)), _) => pairs.failed.push(why.clone()),
                (None, Err((cell, lack))) => {
                    let unavailable = &record.counters_unavailable;
                    let of_host = lack == Lack::CpuTime && Lack::no_cpu_time(unavailable).is_some();
                    let place = if of_host {
                        &mut pairs.lacking
                    } else {
                        &mut pairs.unfinished
                    };
                    place.push(lack.words(cell, unavailable));
                }
                (None, Ok(quotient)) => pairs.tested.push(Pair {
                    cell: of.cell,
                    quotient,
                    interval: quotient.interval(of.cell.measure.confidence),
                    time: of_measured.time + against_measured.time,
                }),
            }
        }
        // A cell may be the partner of several.
        pairs.miscomputed.sort_unstable();
        pairs.miscomputed.dedup();
        pairs
    }

    /// Whether there is no pair at all.
    fn is_empty(&self) -> bool {
        self.tested.is_empty()
            && self.lacking.is_empty()
            && self.failed.is_empty()
            && self.unfinished.is_empty()
    }

    /// The verdict where no pair has a figure, and why, to go behind what is compared.
    fn without_figure(&self) -> (Verdict, String) {
        if let Some(why) = self.failed.first().or(self.lacking.first()) {
            let why = why.trim_end_matches('.');
            (
                Verdict::NotTestable,
                format!("cannot be tested here: {why}"),
            )
        } else if let Some(why) = self.unfinished.first() {
            (Verdict::Undecided, format!("is undecided: {why}"))
        } else {
            let why = "cannot be tested: no two cells differ in these parameters alone";
            (Verdict::NotTestable, why.to_owned())
        }
    }

    /// The verdict, and why where it is undecided.
    fn verdict(&self, mean: &Quotient, finding: &Finding) -> (Verdict, String) {
        let bound = finding.bound;
        let incomplete = self.failed.len() + self.unfinished.len();
        if let Some(why) = self.failed.first().or(self.unfinished.first()) {
            let number = words::count(incomplete, "pair");
            let why = why.trim_end_matches('.');
            return (
                Verdict::Undecided,
                format!("lacking a result of {number}: {why}"),
            );
        }
        match position(&finding.interval, bound) {
            Verdict::Holds if !self.miscomputed.is_empty() => {
                let why = "for not all that was computed is right".to_owned();
                (Verdict::Undecided, why)
            }
            // Of equivalence every pair must be shown; of another bound one figure is claimed of all pairs together.
            Verdict::Holds if matches!(bound, Bound::Within(_)) => self.each_within(bound),
            Verdict::Undecided => {
                let time = self.tested.iter().map(|it| it.time).sum();
                let why = outlook(mean, &finding.interval, bound, time);
                (Verdict::Undecided, why)
            }
            decided => (decided, String::new()),
        }
    }

    /// Whether each pair keeps the bound by itself, and if not, why not; the pair that misses it is named before one that
    /// straddles it.
    fn each_within(&self, bound: Bound) -> (Verdict, String) {
        let position = |pair: &&Pair<'_>| position(&pair.interval, bound);
        let mut astray: Vec<&Pair<'_>> = self.tested.iter().collect();
        astray.retain(|pair| position(pair) != Verdict::Holds);
        astray.sort_by_key(|pair| position(pair) != Verdict::Refuted);
        let Some(first) = astray.first() else {
            return (Verdict::Holds, String::new());
        };
        let verb = if astray.len() == 1 { "does" } else { "do" };
        let pairs = words::count(self.tested.len(), "pair");
        let number = astray.len();
        (
            Verdict::Undecided,
            format!(
                "for {number} of {pairs} {verb} not keep it: {}",
                first.alone(bound)
            ),
        )
    }

    /// What a reader must know besides, in brackets with a space before them.
    fn remarks(&self) -> String {
        let mut remarks = String::new();
        if let Some(why) = self.lacking.first().filter(|_| !self.tested.is_empty()) {
            let number = words::count(self.lacking.len(), "pair");
            let why = why.trim_end_matches('.');
            remarks += &format!(" ({number} not testable here: {why})");
        }
        if !self.miscomputed.is_empty() {
            remarks += &format!(" ({})", self.miscomputed.join("; "));
        }
        remarks
    }
}

impl Pair<'_> {
    /// Its own figure, and what would decide it: `cpu-hash / … is at 104.0 % [103.1, 105.3]`.
    fn alone(&self, bound: Bound) -> String {
        let finding = Finding {
            what: String::new(),
            unit: Unit::Share,
            interval: self.interval,
            bound,
        };
        let mut text = format!("{} is at {}", self.cell.label, shown(&finding));
        if position(&self.interval, bound) == Verdict::Undecided {
            let outlook = outlook(&self.quotient, &self.interval, bound, self.time);
            text += &format!(", and {outlook}");
        }
        text
    }
}

/// How much more time would decide a quotient. What histograms round away does not shrink with time.
fn outlook(quotient: &Quotient, interval: &Interval, bound: Bound, time: Duration) -> String {
    Reach::new(interval, bound, f64::ln).map_or_else(String::new, |it| {
        let rounded = if it.above {
            quotient.above
        } else {
            quotient.below
        };
        time_to_decide(it.reach - rounded, it.margin - rounded, time)
    })
}
