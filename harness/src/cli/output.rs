//! Where results go: the terminal, `--json`, and the exports.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use vtax_reports::export::{Format, terminal};
use vtax_reports::result::Results;

use super::exit::Failure;

/// The options that say in which form results are wanted.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Print the results as one JSON object instead of the table.
    #[arg(long)]
    pub json: bool,
    /// Write the results as JSON to this file; `-` is stdout.
    #[arg(long, value_name = "FILE")]
    export_json: Option<PathBuf>,
    /// Write one CSV row per cell to this file; `-` is stdout.
    #[arg(long, value_name = "FILE")]
    export_csv: Option<PathBuf>,
    /// Write a Markdown table to this file; `-` is stdout.
    #[arg(long, value_name = "FILE")]
    export_markdown: Option<PathBuf>,
    /// Write a JUnit report to this file; `-` is stdout.
    #[arg(long, value_name = "FILE")]
    export_junit: Option<PathBuf>,
}

impl OutputArgs {
    /// Whether anything is to be written to a file of its own.
    pub(super) fn exports(&self) -> bool {
        let files = [
            &self.export_json,
            &self.export_csv,
            &self.export_markdown,
            &self.export_junit,
        ];
        files.into_iter().any(Option::is_some)
    }

    /// Shows the results in all forms that were asked for: the table, unless stdout carries data.
    ///
    /// # Errors
    /// A file or stdout cannot be written.
    pub fn show(&self, results: &Results) -> Result<(), Failure> {
        let exports = [
            (Format::Json, &self.export_json),
            (Format::Csv, &self.export_csv),
            (Format::Markdown, &self.export_markdown),
            (Format::Junit, &self.export_junit),
        ];
        let mut stdout_taken = self.json;
        if self.json {
            print(Format::Json, results)?;
        }
        for (format, path) in exports {
            match path.as_deref() {
                Some(path) if path == Path::new("-") => {
                    stdout_taken = true;
                    print(format, results)?;
                }
                Some(path) => {
                    let mut file = File::create(path)
                        .with_context(|| format!("creating {}", path.display()))?;
                    format
                        .write(results, &mut file)
                        .with_context(|| format!("writing {}", path.display()))?;
                }
                None => {}
            }
        }
        if !stdout_taken {
            let cells =
                (!results.cells.is_empty()).then(|| terminal::table(results, width(), true));
            let experiments = terminal::experiments(results, width(), true);
            let settings = terminal::settings(results, width(), true);
            for table in settings.into_iter().chain(cells).chain(experiments) {
                writeln!(anstream::stdout(), "{table}").context("writing the table")?;
            }
            writeln!(anstream::stdout(), "{}", results.headline.text())
                .context("writing the table")?;
        }
        Ok(())
    }
}

fn print(format: Format, results: &Results) -> Result<(), Failure> {
    Ok(format
        .write(results, &mut std::io::stdout().lock())
        .context("writing to stdout")?)
}

/// Columns of the terminal; wide where there is none, so that a file gets whole lines.
pub(super) fn width() -> u16 {
    const NO_TERMINAL: u16 = 160;
    rustix::termios::tcgetwinsize(std::io::stdout())
        .ok()
        .map(|size| size.ws_col)
        .filter(|&columns| columns > 0)
        .unwrap_or(NO_TERMINAL)
}
