//! A suite of claims: each is run as the scenario that it is, one after another, in a run directory of its own.
//!
//! ```text
//! [Testable claim] ──run──► Results ──► ClaimResult ─┐
//! [untestable claim, why] ──────────────────────────┴─► Suite ──► claims.json, report.html
//! ```
//!
//! Both files are written anew after every claim. A suite that is killed goes on by `plans.json`, which is written first, and by
//! what its runs have finished.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use vtax_reports::claims::{ClaimResult, Suite};
use vtax_reports::estimate::whole;
use vtax_reports::html::{HtmlError, claims::render};
use vtax_reports::record::SCHEMA;
use vtax_reports::result::Verdict;
use vtax_reports::store::{
    CLAIMS_FILE, PLANS_FILE, RECORD_FILE, REPORT_FILE, StoreError, read, replace_file,
    replace_json, versioned,
};
use vtax_reports::suite::read as read_suite;
use vtax_scenarios::plan::{HostFacts, Plan};
use vtax_scenarios::{NotTestable, Testability};

use crate::host::fingerprint::fingerprint;
use crate::host::root::HostRoot;
use crate::progress::{Progress, Talk};
use crate::resume::{ResumeError, Unfinished, same_program_and_host};
use crate::run::{Job, RunError, run as measure};
use crate::say::say;

/// A claim, and whether this host can test it.
#[derive(Debug)]
pub struct Claim {
    /// Its scenario, resolved.
    pub plan: Plan,
    /// What this host lacks for it.
    pub here: Testability,
}

impl Claim {
    /// Looks at what the claim needs of the host.
    #[must_use]
    pub fn new(plan: Plan, facts: &HostFacts) -> Self {
        let plan = plan.settled(facts);
        let here = Testability::of(&plan, facts);
        Self { plan, here }
    }

    /// How many intervals it adds to the suite's.
    #[must_use]
    pub fn intervals(&self) -> usize {
        self.here.whole.as_ref().map_or(self.plan.verdicts(), |_| 0)
    }

    /// What it takes at most.
    #[must_use]
    pub fn budget_nanos(&self) -> u64 {
        self.here
            .whole
            .as_ref()
            .map_or(self.plan.budget_nanos, |_| 0)
    }
}

/// `plans.json`: what a suite is to test.
#[derive(Serialize, Deserialize)]
struct Plans {
    schema: u32,
    /// In the order of the claims in `claims.json`.
    plans: Vec<Plan>,
}

/// What to test and where to put it.
#[derive(Debug)]
pub struct SuiteJob<'a> {
    /// The claims, in the order in which they are tested.
    pub claims: &'a [Claim],
    /// The suite's directory; must not hold one yet.
    pub dir: &'a Path,
    /// The command line, for the records.
    pub command: Vec<String>,
    /// Set when the user wants to stop.
    pub stop: &'a AtomicBool,
    /// How much is said meanwhile.
    pub talk: Talk,
}

/// Tests all claims.
///
/// # Errors
/// [`RunError`]: nothing can be measured here, or a directory cannot be written.
pub fn run(suite: &SuiteJob<'_>) -> Result<Suite, RunError> {
    let intervals = suite.claims.iter().map(Claim::intervals).sum();
    let mut results = Suite::new(
        env!("CARGO_PKG_VERSION"),
        jiff::Timestamp::now().to_string(),
        fingerprint(&HostRoot::default()),
        intervals,
    );
    if suite.dir.join(CLAIMS_FILE).exists() {
        let occupied = StoreError::Occupied(suite.dir.to_owned());
        return Err(RunError::Directory(occupied));
    }
    create(suite.dir)?;
    results.claims = suite
        .claims
        .iter()
        .map(|claim| match &claim.here.whole {
            Some(why) => ClaimResult::untested(&claim.plan, why.to_string()),
            None => ClaimResult::not_begun(&claim.plan),
        })
        .collect();
    let plans = suite.claims.iter().map(|it| it.plan.clone()).collect();
    let plans = Plans {
        schema: SCHEMA,
        plans,
    };
    replace_json(&suite.dir.join(PLANS_FILE), &plans)?;
    finish(suite, results)
}

/// Reads the claims of a suite that was killed or interrupted, to go on with them by [`go_on`]. What this host could not test
/// when the suite began stays untested, since the number of intervals was settled then.
///
/// # Errors
/// There is no suite, another vtax began it, or this host is not as it was.
pub fn unfinished(dir: &Path, facts: &HostFacts) -> Result<(Vec<Claim>, Suite), ResumeError> {
    let suite = read_suite(dir)?.suite;
    let Plans { plans, .. } = versioned(&dir.join(PLANS_FILE))?;
    same_program_and_host(dir, &suite.vtax_version, &suite.host)?;
    let claims = plans.into_iter().zip(&suite.claims).map(|(plan, result)| {
        let line = &result.whole;
        let untested = line.verdict == Verdict::NotTestable && result.evidence.is_none();
        let here = match untested {
            true => Testability {
                whole: Some(NotTestable {
                    reason: line.sentence.clone(),
                    remedy: String::new(),
                }),
                ..Testability::default()
            },
            false => Testability::of(&plan, facts),
        };
        Claim { plan, here }
    });
    Ok((claims.collect(), suite))
}

/// Goes on with a suite: claims whose runs are finished are kept, one that was cut short goes on, the others are tested.
///
/// # Errors
/// As [`run`].
pub fn go_on(suite: &SuiteJob<'_>, mut results: Suite) -> Result<Suite, RunError> {
    for (claim, result) in suite.claims.iter().zip(&mut results.claims) {
        if let Some(why) = claim
            .here
            .whole
            .as_ref()
            .filter(|_| result.evidence.is_none())
        {
            *result = ClaimResult::untested(&claim.plan, why.to_string());
        }
    }
    finish(suite, results)
}

/// Tests the claims that are left, and writes the suite down after each.
fn finish(suite: &SuiteJob<'_>, mut results: Suite) -> Result<Suite, RunError> {
    // A suite that is killed has been interrupted, and says so.
    results.interrupted = true;
    write(suite.dir, &results)?;
    let mut left: u64 = suite.claims.iter().map(Claim::budget_nanos).sum();
    for (index, claim) in suite.claims.iter().enumerate() {
        if suite.stop.load(Ordering::Relaxed) {
            break;
        }
        if claim.here.whole.is_none() {
            suite.say(index + 1, claim, left);
            left -= claim.plan.budget_nanos;
            let result = one(suite, claim, results.claims[index].seconds)?;
            suite.told(&result);
            results.claims[index] = result;
            write(suite.dir, &results)?;
        }
    }
    results.interrupted = suite.stop.load(Ordering::Relaxed);
    write(suite.dir, &results)?;
    Ok(results)
}

/// Tests one claim, or what is left of it; `before` are the seconds that it took already.
fn one(suite: &SuiteJob<'_>, claim: &Claim, before: f64) -> Result<ClaimResult, RunError> {
    let start = Instant::now();
    let id = claim.plan.scenario.as_str();
    let dir = suite.dir.join(id);
    let unfinished = match dir.join(RECORD_FILE).exists() {
        false => None,
        true => match Unfinished::find(&dir, None)? {
            Some(unfinished) => Some(unfinished),
            None => {
                let results = whole(&read(&dir)?);
                return Ok(ClaimResult::measured(&claim.plan, &results, id, before));
            }
        },
    };
    let plan = match &unfinished {
        Some(unfinished) => unfinished.record().plan.clone(),
        None => claim.plan.clone(),
    };
    let results = measure(
        Job {
            plan: &plan,
            here: claim.here.clone(),
            dir: &dir,
            command: suite.command.clone(),
            stop: suite.stop,
            unfinished,
        },
        &Progress::new(suite.talk),
    )?;
    let seconds = before + start.elapsed().as_secs_f64();
    Ok(ClaimResult::measured(&claim.plan, &results, id, seconds))
}

/// Makes the suite's directory.
fn create(dir: &Path) -> Result<(), RunError> {
    std::fs::create_dir_all(dir).map_err(|source| {
        RunError::Directory(StoreError::Io {
            action: "create",
            path: dir.to_owned(),
            source,
        })
    })
}

/// Writes what is known of the suite so far.
fn write(dir: &Path, suite: &Suite) -> Result<(), RunError> {
    replace_json(&dir.join(CLAIMS_FILE), suite)?;
    let page = render(suite).map_err(|error: HtmlError| RunError::Html(error))?;
    Ok(replace_file(&dir.join(REPORT_FILE), page.as_bytes())?)
}

impl SuiteJob<'_> {
    /// Which claim is next, and how long it may take.
    fn say(&self, number: usize, claim: &Claim, left_nanos: u64) {
        if self.talk != Talk::Quiet {
            let time = |nanos| vtax_reports::verdict::words::duration(Duration::from_nanos(nanos));
            say!(
                "[{number}/{}] {}: up to {}; the whole suite ends within {}",
                self.claims.len(),
                claim.plan.scenario,
                time(claim.plan.budget_nanos),
                time(left_nanos),
            );
        }
    }

    /// What a claim came to.
    fn told(&self, result: &ClaimResult) {
        if self.talk != Talk::Quiet && result.evidence.is_some() {
            let outcome = vtax_reports::export::figures::Outcome::of_verdict(result.whole.verdict);
            let figure = result.whole.figure().unwrap_or_default();
            say!("      {} {} {figure}", outcome.sign(), outcome.word());
        }
    }
}
