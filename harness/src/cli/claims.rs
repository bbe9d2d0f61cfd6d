//! `vtax claims`: the published claims, each with a verdict and its evidence.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::Args;
use vtax_reports::claims::{Suite, confidence};
use vtax_reports::export::terminal;
use vtax_reports::store::REPORT_FILE;
use vtax_scenarios::{Loaded, Overrides, budget_warning, claims, explain, explain_claim};

use super::exit::{self, Failure};
use super::output::{OutputArgs, prose, width};
use super::run::{alone_on_a_tidy_host, default_dir, duration, stop_on_signals};
use super::{names, place, source};
use crate::claims::{Claim, SuiteJob, go_on, run as test, unfinished};
use crate::progress::Talk;
use crate::run::RunError;
use crate::say::{self, say};

#[derive(Debug, Args)]
pub struct ClaimsArgs {
    /// Claims by their names, or scenario files of yours; by default all claims that ship.
    #[arg(
        value_name = "ID",
        value_parser = names::published_claims(),
        hide_possible_values = true
    )]
    ids: Vec<String>,
    /// List the claims that ship, and test none.
    #[arg(long, conflicts_with_all = ["ids", "explain", "json"])]
    list: bool,
    /// Say how this claim is decided, and why by that threshold; test none.
    #[arg(
        long,
        value_name = "ID",
        conflicts_with_all = ["ids", "json"],
        value_parser = names::published_claims(),
        hide_possible_values = true
    )]
    explain: Option<String>,
    /// Directory to make for the suite; each claim gets its run directory below it.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with a suite that was killed or interrupted: claims that were tested are not tested again, and all is as it was
    /// planned.
    #[arg(
        long,
        value_name = "SUITE_DIR",
        conflicts_with_all = ["ids", "out", "seed", "budget", "list", "explain"]
    )]
    resume: Option<PathBuf>,
    /// Seed of every random choice, in place of the scenarios'.
    #[arg(long)]
    seed: Option<u64>,
    /// Wall-clock budget of the whole suite such as `5min`, in place of the claims' own, which then shrink or grow alike.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    budget: Option<u64>,
    #[command(flatten)]
    output: OutputArgs,
}

pub fn run(args: &ClaimsArgs, talk: Talk) -> Result<ExitCode, Failure> {
    if args.list {
        return list();
    }
    if let Some(id) = &args.explain {
        let plan = source::load_claim(id, &Overrides::default())?.plan;
        let mut text = explain_claim(&plan);
        if plan.verdicts() > 0 {
            text += &format!("\n{}", explain(&plan));
        }
        write!(say::stdout(), "{text}").context("writing to stdout")?;
        return Ok(ExitCode::SUCCESS);
    }
    args.output.can_be_written()?;
    let (claims, begun, dir) = match &args.resume {
        Some(dir) => {
            let (claims, begun) = unfinished(dir, &source::facts()).map_err(RunError::from)?;
            if !begun.interrupted {
                say!(
                    "vtax: {} holds a finished suite: there is nothing to do (`vtax report` shows it)",
                    dir.display()
                );
                return Ok(ExitCode::SUCCESS);
            }
            (claims, Some(begun), dir.clone())
        }
        None => {
            let claims = claims_to_test(args)?;
            let dir = match &args.out {
                Some(dir) => dir.clone(),
                None => default_dir("claims")?,
            };
            place::can_hold_files(&dir)?;
            tell_short_budgets(&claims, talk);
            (claims, None, dir)
        }
    };
    let stop = stop_on_signals()?;
    let _alone = alone_on_a_tidy_host(talk)?;
    let job = SuiteJob {
        claims: &claims,
        dir: &dir,
        command: std::env::args().collect(),
        stop: &stop,
        talk,
    };
    let suite = match begun {
        Some(begun) => go_on(&job, begun)?,
        None => test(&job)?,
    };
    show(&suite, &args.output)?;
    if talk != Talk::Quiet {
        say!("report: {}", dir.join(REPORT_FILE).display());
    }
    Ok(code(&suite))
}

/// Says whose budget does not suffice for the pilots.
fn tell_short_budgets(claims: &[Claim], talk: Talk) {
    let testable = claims.iter().filter(|claim| claim.here.whole.is_none());
    for claim in testable.filter(|_| talk != Talk::Quiet) {
        if let Some(warning) = budget_warning(&claim.plan, &claim.here) {
            say!("vtax: {}: {warning}", claim.plan.scenario);
        }
    }
}

fn list() -> Result<ExitCode, Failure> {
    let mut out = say::stdout();
    for claim in claims() {
        let plan = claim.load(&Overrides::default())?.plan;
        writeln!(out, "{:24} {}", claim.name, plan.claim.words).context("writing to stdout")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Loads the claims twice: how many intervals there are says what confidence each needs.
fn claims_to_test(args: &ClaimsArgs) -> Result<Vec<Claim>, Failure> {
    let shipped = || claims().iter().map(|claim| claim.name.to_owned()).collect();
    let ids: Vec<String> = if args.ids.is_empty() {
        shipped()
    } else {
        args.ids.clone()
    };
    let facts = source::facts();
    let load = |id: &String, overrides: &Overrides| -> Result<Claim, Failure> {
        let Loaded { plan, .. } = source::load_claim(id, overrides)?;
        Ok(Claim::new(plan, &facts))
    };
    let first: Vec<Claim> = ids
        .iter()
        .map(|id| load(id, &Overrides::default()))
        .collect::<Result<_, _>>()?;
    let mut names = BTreeSet::new();
    for claim in &first {
        if !names.insert(claim.plan.scenario.as_str()) {
            return Err(Failure::usage(anyhow!(
                "two of these claims are called {}: each needs a name and a run directory of its own",
                claim.plan.scenario
            )));
        }
    }
    let intervals: usize = first.iter().map(Claim::intervals).sum();
    let in_all: u64 = first.iter().map(Claim::budget_nanos).sum();
    ids.iter()
        .zip(&first)
        .map(|(id, claim)| {
            let share = args.budget.map(|budget| {
                let share = u128::from(claim.plan.budget_nanos) * u128::from(budget)
                    / u128::from(in_all.max(1));
                u64::try_from(share).unwrap_or(u64::MAX).max(1)
            });
            let overrides = Overrides {
                seed: args.seed,
                budget_nanos: share,
                confidence: Some(confidence(intervals)),
                ..Overrides::default()
            };
            load(id, &overrides)
        })
        .collect()
}

/// The table of a suite with what may be said of it, or what was asked for in its place.
pub(super) fn show(suite: &Suite, output: &OutputArgs) -> Result<(), Failure> {
    if output.write(|format, sink| format.write_claims(suite, sink))? {
        return Ok(());
    }
    let text = format!(
        "{}\n{}\n{}",
        terminal::claims(suite, width(), true),
        prose(&suite.sentence()),
        prose(&suite.promise())
    );
    Ok(writeln!(say::stdout(), "{text}").context("writing to stdout")?)
}

/// The exit code that stands for a suite.
pub(super) fn code(suite: &Suite) -> ExitCode {
    ExitCode::from(if suite.interrupted {
        exit::INTERRUPTED
    } else if suite.claims.iter().any(|claim| claim.failed) {
        exit::FAILED
    } else {
        exit::of_verdict(suite.verdict())
    })
}
