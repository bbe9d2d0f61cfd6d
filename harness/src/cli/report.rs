//! `vtax report`: everything that can be said of a run, or of a suite of claims with its runs, from its directory alone.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use vtax_reports::estimate::whole;
use vtax_reports::html;
use vtax_reports::store::{REPORT_FILE, RESULTS_FILE, read, replace_file, replace_json};
use vtax_reports::suite;

use super::claims;
use super::exit::{self, Failure};
use super::output::OutputArgs;
use crate::say::say;

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The run directory, or that of a suite of claims.
    run: PathBuf,
    /// Where to put the report; the run directory by default.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

pub fn run(args: &ReportArgs) -> Result<ExitCode, Failure> {
    args.output.can_be_written()?;
    if suite::is_in(&args.run) {
        return first_page(args);
    }
    let run = read(&args.run).map_err(Failure::usage)?;
    for note in &run.notes {
        say!("vtax: {note}");
    }
    let results = whole(&run);
    let page = html::render(&run, &results).context("rendering the report")?;
    let path = args
        .html
        .clone()
        .unwrap_or_else(|| args.run.join(REPORT_FILE));
    replace_file(&path, page.as_bytes()).context("writing the report")?;
    if args.html.is_none() && run.record.finished.is_none() {
        // A run that was killed has left none.
        replace_json(&args.run.join(RESULTS_FILE), &results).context("writing the results")?;
    }
    args.output.show(&results)?;
    say!("report: {}", path.display());
    Ok(ExitCode::from(exit::of(&results)))
}

/// The first page of a suite of claims, and the reports of their runs.
fn first_page(args: &ReportArgs) -> Result<ExitCode, Failure> {
    let read = suite::read(&args.run).map_err(Failure::usage)?;
    for note in &read.notes {
        say!("vtax: {note}");
    }
    for (dir, run, results) in &read.runs {
        let page = html::render(run, results).context("rendering the report of a run")?;
        replace_file(&dir.join(REPORT_FILE), page.as_bytes()).context("writing the report")?;
    }
    let page = html::claims::render(&read.suite).context("rendering the first page")?;
    let first = args.run.join(REPORT_FILE);
    let path = args.html.clone().unwrap_or(first);
    replace_file(&path, page.as_bytes()).context("writing the first page")?;
    claims::show(&read.suite, &args.output)?;
    say!("report: {}", path.display());
    Ok(claims::code(&read.suite))
}
