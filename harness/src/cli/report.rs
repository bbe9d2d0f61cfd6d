//! `vtax report`: everything that can be said of a run, from its directory alone.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use vtax_reports::estimate::whole;
use vtax_reports::html;
use vtax_reports::store::{REPORT_FILE, read, replace_file};

use super::exit::{self, Failure};
use super::output::OutputArgs;

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The run directory.
    run: PathBuf,
    /// Where to put the report; the run directory by default.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

pub fn run(args: &ReportArgs) -> Result<ExitCode, Failure> {
    let run = read(&args.run).map_err(Failure::usage)?;
    for note in &run.notes {
        anstream::eprintln!("vtax: {note}");
    }
    let results = whole(&run);
    let page = html::render(&run, &results).context("rendering the report")?;
    let path = args
        .html
        .clone()
        .unwrap_or_else(|| args.run.join(REPORT_FILE));
    replace_file(&path, page.as_bytes()).context("writing the report")?;
    args.output.show(&results)?;
    anstream::eprintln!("report: {}", path.display());
    Ok(exit::of(&results))
}
