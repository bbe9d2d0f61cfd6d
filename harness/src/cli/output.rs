//! Where results go: the terminal, `--json`, and the exports.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use vtax_reports::export::{ExportError, Format, terminal};
use vtax_reports::result::Results;

use super::exit::Failure;
use super::place;
use crate::say;

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
    /// Whether all that was asked for can be had: one thing on stdout, and files that can be written. Asked before anything is
    /// measured.
    ///
    /// # Errors
    /// A usage error that names what is in the way.
    pub fn can_be_written(&self) -> Result<(), Failure> {
        let to_stdout = |&(_, path): &(Format, &PathBuf)| is_stdout(path);
        let on_stdout = self.exports().filter(to_stdout).count() + usize::from(self.json);
        if on_stdout > 1 {
            return Err(Failure::usage(anyhow!(
                "stdout takes one of --json and exports to `-`, not {on_stdout}: write the others to files"
            )));
        }
        self.exports()
            .filter(|&(_, path)| !is_stdout(path))
            .try_for_each(|(_, path)| place::can_be_written(path))
    }

    /// The exports that were asked for, each with its path.
    fn exports(&self) -> impl Iterator<Item = (Format, &PathBuf)> {
        let exports = [
            (Format::Json, &self.export_json),
            (Format::Csv, &self.export_csv),
            (Format::Markdown, &self.export_markdown),
            (Format::Junit, &self.export_junit),
        ];
        let given = exports.into_iter();
        given.filter_map(|(format, path)| Some((format, path.as_ref()?)))
    }

    /// Writes what was asked for, `write` being how a format is written; whether stdout has been used.
    ///
    /// # Errors
    /// A file or stdout cannot be written.
    pub fn write(
        &self,
        write: impl Fn(Format, &mut dyn Write) -> Result<(), ExportError>,
    ) -> Result<bool, Failure> {
        let mut stdout_taken = self.json;
        let print =
            |format| write(format, &mut std::io::stdout().lock()).context("writing to stdout");
        if self.json {
            print(Format::Json)?;
        }
        for (format, path) in self.exports() {
            if is_stdout(path) {
                stdout_taken = true;
                print(format)?;
                continue;
            }
            let mut file =
                File::create(path).with_context(|| format!("creating {}", path.display()))?;
            write(format, &mut file).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(stdout_taken)
    }

    /// Shows the results in all forms that were asked for: the table, unless stdout carries data.
    ///
    /// # Errors
    /// A file or stdout cannot be written.
    pub fn show(&self, results: &Results) -> Result<(), Failure> {
        let stdout_taken = self.write(|format, output| format.write(results, output))?;
        if !stdout_taken {
            let cells =
                (!results.cells.is_empty()).then(|| terminal::table(results, width(), true));
            let experiments = terminal::experiments(results, width(), true);
            let settings = terminal::settings(results, width(), true);
            for table in settings.into_iter().chain(cells).chain(experiments) {
                writeln!(say::stdout(), "{table}").context("writing the table")?;
            }
            writeln!(say::stdout(), "{}", prose(&results.headline.text()))
                .context("writing the table")?;
        }
        Ok(())
    }
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// A paragraph in lines that the terminal need not break; in one where there is none, for programs that look for it.
pub(super) fn prose(text: &str) -> String {
    match columns() {
        Some(width) => terminal::words(text, width.into()).join("\n"),
        None => text.to_owned(),
    }
}

/// Columns of the terminal; wide where there is none, so that a file gets whole lines.
pub(super) fn width() -> u16 {
    const NO_TERMINAL: u16 = 160;
    columns().unwrap_or(NO_TERMINAL)
}

fn columns() -> Option<u16> {
    rustix::termios::tcgetwinsize(std::io::stdout())
        .ok()
        .map(|size| size.ws_col)
        .filter(|&columns| columns > 0)
}
