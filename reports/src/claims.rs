//! A suite of claims: what each came to, and what may be said of all of them together.
//!
//! ```text
//! Plan + Results of each claim ──► ClaimResult ──► Suite ──► claims.json, the first page, the table
//! ```
//!
//! The family-wise rule: with m intervals in a suite each has confidence 1 − 0.05 / m (Bonferroni), so that with probability
//! 95 % or more all of them hold what they should, and no verdict of the suite is wrong. m is settled before anything is
//! measured.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vtax_scenarios::plan::{Bound, Form, Plan, Unit};

use crate::record::{HostFingerprint, SCHEMA};
use crate::result::{Finding, Headline, Interval, Results, Verdict};
use crate::verdict::{parts, shown, words};

/// The probability with which no verdict of a suite is wrong.
pub const FAMILY_CONFIDENCE: f64 = 0.95;

/// The confidence of each of `intervals` intervals of a suite.
#[must_use]
pub fn confidence(intervals: usize) -> f64 {
    1.0 - (1.0 - FAMILY_CONFIDENCE) / intervals.max(1) as f64
}

/// One verdict with its figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// What it is about: the claim's words, or the name of a workload.
    pub words: String,
    /// The verdict.
    pub verdict: Verdict,
    /// The figure with its interval; `None` where nothing was measured.
    pub finding: Option<Finding>,
    /// The verdict in a sentence: what decided it, or what is missing. In JSON `reason`, and by its older name.
    #[serde(flatten, with = "crate::result::told")]
    #[schemars(with = "crate::result::told::Told")]
    pub sentence: String,
}

/// What a claim came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimResult {
    /// Its name: the scenario's.
    pub id: String,
    /// The verdict on the claim as a whole.
    #[serde(flatten)]
    pub whole: Line,
    /// The verdicts on its parts, where it has any.
    pub parts: Vec<Line>,
    /// Who published it.
    pub source: String,
    /// Why the threshold is what it is.
    pub why: String,
    /// Whether a guest failed.
    pub failed: bool,
    /// The folder of its run, below that of the suite; `None` where nothing was measured.
    pub evidence: Option<String>,
    /// What it took, in seconds.
    pub seconds: f64,
}

/// A suite of claims, tested together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Suite {
    /// Version of this object.
    pub schema: u32,
    /// Version of vtax that measured.
    pub vtax_version: String,
    /// Start, RFC 3339, UTC.
    pub started: String,
    /// Whether the user ended it before its time.
    pub interrupted: bool,
    /// The machine.
    pub host: HostFingerprint,
    /// How many intervals are tested together: settled before anything is measured.
    pub intervals: usize,
    /// Confidence of each of them.
    pub confidence: f64,
    /// The probability with which no verdict is wrong.
    pub family_confidence: f64,
    /// The claims, in the order in which they are tested.
    pub claims: Vec<ClaimResult>,
}

impl Suite {
    /// A suite before its first claim.
    #[must_use]
    pub fn new(version: &str, started: String, host: HostFingerprint, intervals: usize) -> Self {
        Self {
            schema: SCHEMA,
            vtax_version: version.to_owned(),
            started,
            interrupted: false,
            host,
            intervals,
            confidence: confidence(intervals),
            family_confidence: FAMILY_CONFIDENCE,
            claims: Vec::new(),
        }
    }

    /// All its verdicts: of claims, and of their parts.
    pub fn lines(&self) -> impl Iterator<Item = &Line> {
        self.claims
            .iter()
            .flat_map(|claim| std::iter::once(&claim.whole).chain(&claim.parts))
    }

    /// The verdict on all of them: refuted where one is, else undecided where one is, else holds where one does, else a cost
    /// where one is.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        [
            Verdict::Refuted,
            Verdict::Undecided,
            Verdict::Holds,
            Verdict::Cost,
        ]
        .into_iter()
        .find(|verdict| self.lines().any(|line| line.verdict == *verdict))
        .unwrap_or(Verdict::NotTestable)
    }

    /// The suite in one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let count = |verdict| {
            let of_it = |claim: &&ClaimResult| claim.whole.verdict == verdict;
            self.claims.iter().filter(of_it).count()
        };
        let parts = [
            (Verdict::Holds, "holds", "hold"),
            (Verdict::Refuted, "is refuted", "are refuted"),
            (Verdict::Undecided, "is undecided", "are undecided"),
            (
                Verdict::NotTestable,
                "is not testable here",
                "are not testable here",
            ),
            (
                Verdict::Cost,
                "has a cost and no verdict",
                "have costs and no verdict",
            ),
        ];
        let told: Vec<String> = parts
            .into_iter()
            .map(|(verdict, one, many)| (count(verdict), one, many))
            .filter(|&(number, ..)| number > 0)
            .map(|(number, one, many)| format!("{number} {}", if number == 1 { one } else { many }))
            .collect();
        let claims = words::count(self.claims.len(), "claim");
        format!("Of {claims} {}.", told.join(", "))
    }

    /// What may be said of all verdicts together, in one sentence.
    #[must_use]
    pub fn promise(&self) -> String {
        let each = (self.confidence * 1e6).round() / 1e4;
        let all = self.family_confidence * 100.0;
        match self.intervals {
            0 => "No interval is tested: nothing here can be.".to_owned(),
            1 => format!(
                "One interval is tested, with confidence {each} %: with probability {all} % or more the verdict is not wrong."
            ),
            number => format!(
                "{number} intervals are tested together, a number that was settled before anything was measured; each has \
                 confidence {each} % (Bonferroni), so that with probability {all} % or more no verdict here is wrong."
            ),
        }
    }
}

impl Line {
    /// The figure with its interval: `104.2 % [103.1, 105.3]`.
    #[must_use]
    pub fn figure(&self) -> Option<String> {
        self.finding.as_ref().map(shown)
    }

    /// The figure and its interval apart, and the threshold.
    pub(crate) fn figures(&self) -> Option<(String, String, String)> {
        let finding = self.finding.as_ref()?;
        let (value, ends) = parts(&finding.interval, finding.unit, finding.bound);
        Some((value, ends, threshold(finding)))
    }

    fn of(words: &str, headline: &Headline) -> Self {
        let share = |ratio: Interval| Finding {
            what: format!("{}, guest as a share of native", headline.over),
            unit: Unit::Share,
            interval: ratio,
            bound: Bound::AtLeast(headline.threshold),
        };
        Self {
            words: words.to_owned(),
            verdict: headline.verdict,
            finding: headline.finding.clone().or(headline.ratio.map(share)),
            sentence: headline.text(),
        }
    }
}

/// `at least 97 %`.
pub(crate) fn threshold(finding: &Finding) -> String {
    words::bound(finding.bound, finding.unit)
}

impl ClaimResult {
    /// What a run says of its claim. `evidence` is the folder of the run.
    #[must_use]
    pub fn measured(plan: &Plan, results: &Results, evidence: &str, seconds: f64) -> Self {
        Self {
            whole: Line::of(published(plan), &results.headline),
            parts: results
                .classes
                .iter()
                .map(|class| Line::of(&class.over, class))
                .collect(),
            failed: results.cells.iter().any(|cell| cell.failed)
                || results.experiments.iter().any(|it| it.failed),
            evidence: Some(evidence.to_owned()),
            seconds,
            ..Self::untested(plan, String::new())
        }
    }

    /// A claim that nothing was measured for, and why.
    #[must_use]
    pub fn untested(plan: &Plan, why: String) -> Self {
        Self {
            id: plan.scenario.clone(),
            whole: Line {
                words: published(plan).to_owned(),
                verdict: Verdict::NotTestable,
                finding: None,
                sentence: why,
            },
            parts: Vec::new(),
            source: plan.claim.source.clone(),
            why: plan.claim.why.clone(),
            failed: false,
            evidence: None,
            seconds: 0.0,
        }
    }

    /// A claim whose turn did not come before the user ended the suite.
    #[must_use]
    pub fn not_begun(plan: &Plan) -> Self {
        let mut claim = Self::untested(
            plan,
            "The suite was interrupted before its turn.".to_owned(),
        );
        if !matches!(plan.claim.form, Form::NotTestable(_)) {
            claim.whole.verdict = Verdict::Undecided;
        }
        claim
    }
}

fn published(plan: &Plan) -> &str {
    if plan.claim.words.is_empty() {
        &plan.description
    } else {
        &plan.claim.words
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;

    use super::*;
    use crate::stats::stein;

    fn suite(verdicts: &[Verdict]) -> Suite {
        let host = HostFingerprint {
            facts: Default::default(),
            nested_under: None,
        };
        let mut suite = Suite::new("0", String::new(), host, verdicts.len());
        let claims = verdicts.iter().map(|&verdict| ClaimResult {
            id: String::new(),
            whole: Line {
                words: String::new(),
                verdict,
                finding: None,
                sentence: String::new(),
            },
            parts: Vec::new(),
            source: String::new(),
            why: String::new(),
            failed: false,
            evidence: None,
            seconds: 0.0,
        });
        suite.claims = claims.collect();
        suite
    }

    #[test]
    fn every_verdict_has_its_place_in_the_sentence() {
        use Verdict::{Cost, Holds, NotTestable, Refuted, Undecided};
        let all = suite(&[Holds, Refuted, Undecided, NotTestable, Cost, Holds]);
        assert_eq!(
            all.sentence(),
            "Of 6 claims 2 hold, 1 is refuted, 1 is undecided, 1 is not testable here, 1 has a cost and no verdict."
        );
        assert_eq!(all.verdict(), Refuted);
        let cost = suite(&[Cost]);
        assert_eq!(cost.sentence(), "Of 1 claim 1 has a cost and no verdict.");
        assert_eq!(cost.verdict(), Cost);
        assert_eq!(suite(&[NotTestable, Cost, Holds]).verdict(), Holds);
        assert_eq!(suite(&[NotTestable]).verdict(), NotTestable);
    }

    #[test]
    fn all_intervals_together_may_be_wrong_as_often_as_one() {
        assert_eq!(confidence(1), 0.95);
        assert_eq!(confidence(0), 0.95);
        for number in [2, 7, 30] {
            let wrong = number as f64 * (1.0 - confidence(number));
            assert!((wrong - 0.05).abs() < 1e-12, "{number}: {wrong}");
        }
    }

    #[test]
    fn the_promise_says_how_many_intervals_there_are() {
        let promise = |number| suite(&vec![Verdict::Holds; number]).promise();
        assert!(promise(0).starts_with("No interval"));
        let one = "One interval is tested, with confidence 95 %";
        assert!(promise(1).starts_with(one), "{}", promise(1));
        let several = promise(20);
        assert!(several.starts_with("20 intervals"), "{several}");
        assert!(
            several.contains("confidence 99.75 % (Bonferroni)"),
            "{several}"
        );
    }

    /// Suites of twelve claims, each about a mean of six values: how many have no interval that misses its truth.
    #[test]
    fn no_verdict_of_a_suite_is_wrong_as_often_as_promised() {
        const SUITES: u32 = 4_000;
        const CLAIMS: usize = 12;
        let mut random = ChaCha8Rng::seed_from_u64(12);
        let mut right = |confidence| {
            let mut covers = || {
                let values: Vec<f64> = (0..6).map(|_| random.sample(StandardNormal)).collect();
                let mean = stein::estimate(&values, values.len());
                mean.is_some_and(|mean| mean.mean.abs() <= mean.half_width(confidence))
            };
            // All of them, so that every suite draws as many values.
            let suites = (0..SUITES).filter(|_| (0..CLAIMS).filter(|_| covers()).count() == CLAIMS);
            suites.count() as f64 / f64::from(SUITES)
        };
        // Independent claims are right a little more often than promised: (1 - 0.05 / 12)^12 is 95.1 %. Three standard
        // errors of the share are 1 %.
        let promised = right(confidence(CLAIMS));
        assert!((promised - 0.951).abs() < 0.0105, "{promised}");
        let unadjusted = right(FAMILY_CONFIDENCE);
        assert!(
            (unadjusted - 0.95_f64.powi(12)).abs() < 0.024,
            "{unadjusted}"
        );
    }
}
