//! `vtax doctor`: what this host can and cannot measure, and how to enable it.

use std::path::PathBuf;
use std::{io::Write, process::ExitCode};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use vtax_reports::export::terminal::words;

use super::bundle;
use super::exit::{self, Failure};
use super::output::width;
use crate::host::{
    doctor::{Area, Examination, Finding, Status, examine},
    root::HostRoot,
};
use crate::say;

/// Version of the JSON object.
const SCHEMA: u32 = 1;

/// Longest line of prose; a narrower terminal has shorter ones. Remedies are never broken, so that commands can be copied.
const WIDTH: usize = 100;

/// Arguments of `vtax doctor`.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// Print the findings as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Write the findings, the host's facts and the results of the runs named behind it to one file, without names of hosts,
    /// users or folders: to send to somebody who helps.
    #[arg(long, value_name = "FILE")]
    pub bundle: Option<PathBuf>,
    /// Run directories whose results go into the bundle.
    #[arg(value_name = "RUN_DIR", requires = "bundle")]
    pub runs: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Output<'a> {
    schema: u32,
    findings: &'a [Finding],
}

/// Examines this host and prints the findings. The exit code is 0 where guests can be run, 5 where they cannot.
pub fn run(args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let examination = examine(&HostRoot::default());
    if let Some(path) = &args.bundle {
        // What the user named cannot be read, or cannot be written to.
        bundle::write(path, &examination.findings, &args.runs).map_err(Failure::usage)?;
    }
    Ok(print(args, &examination)?)
}

fn print(args: &DoctorArgs, examination: &Examination) -> anyhow::Result<ExitCode> {
    if args.json {
        let output = Output {
            schema: SCHEMA,
            findings: &examination.findings,
        };
        writeln!(
            std::io::stdout(),
            "{}",
            serde_json::to_string_pretty(&output)?
        )?;
    } else {
        let text = render(examination, usize::from(width()).min(WIDTH));
        write!(say::stdout(), "{text}")?;
    }
    Ok(if examination.kvm_usable {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::HOST)
    })
}

fn render(examination: &Examination, width: usize) -> String {
    let bold = Style::new().bold();
    let mut text = String::new();
    let mut area: Option<Area> = None;
    for finding in &examination.findings {
        if area != Some(finding.area) {
            let gap = if area.is_some() { "\n" } else { "" };
            text += &format!("{gap}{bold}{}{bold:#}\n", finding.area.title());
            area = Some(finding.area);
        }
        text += &line(finding, width);
    }
    text + "\n" + &wrapped(&verdict(examination), width, "", "") + "\n"
}

fn line(finding: &Finding, width: usize) -> String {
    let (sign, color) = match finding.status {
        Status::Ok => ("✓", AnsiColor::Green),
        Status::Limited => ("!", AnsiColor::Yellow),
        Status::Missing => ("✗", AnsiColor::Red),
    };
    let style = color.on_default();
    let faint = Style::new().dimmed();
    let found = format!("{}: {}", finding.subject, finding.found);
    let found = wrapped(&found, width, "    ", "      ");
    let mut text = format!("  {style}{sign}{style:#} {}\n", found.trim_start());
    if let Some(means) = &finding.means {
        let means = wrapped(means, width, "      ", "      ");
        text += &format!("{faint}{means}{faint:#}\n");
    }
    if let Some(remedy) = &finding.remedy {
        text += &format!("      → {remedy}\n");
    }
    text
}

/// The last sentence.
fn verdict(examination: &Examination) -> String {
    if !examination.kvm_usable {
        return "This host cannot run KVM guests: vtax can measure nothing here until /dev/kvm works.".to_owned();
    }
    let scenarios = || {
        examination
            .findings
            .iter()
            .filter(|finding| finding.area == Area::Scenarios)
    };
    let whole = scenarios().filter(|f| f.status == Status::Ok).count();
    let remarks = examination
        .findings
        .iter()
        .filter(|f| f.area != Area::Scenarios && f.status != Status::Ok)
        .count();
    format!(
        "This host can run KVM guests: {whole} of {} scenarios that ship can be measured in full. Lines above that \
         limit results (! and ✗): {remarks}.",
        scenarios().count()
    )
}

/// Prose in lines of at most `width` columns, broken at spaces; `first` is before its first line, `next` before the others.
fn wrapped(text: &str, width: usize, first: &str, next: &str) -> String {
    let room = width.saturating_sub(next.len().max(first.len()));
    let lines = words(text, room);
    first.to_owned() + &lines.join(&format!("\n{next}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(area: Area, status: Status) -> Finding {
        Finding {
            area,
            status,
            subject: "subject",
            found: "found".to_owned(),
            means: (status != Status::Ok).then(|| "word ".repeat(40)),
            remedy: (status != Status::Ok).then(|| "command ".repeat(20).trim().to_owned()),
        }
    }

    fn plain(examination: &Examination) -> String {
        anstream::adapter::strip_str(&render(examination, 60)).to_string()
    }

    #[test]
    fn prose_is_wrapped_and_commands_are_not() {
        let text = plain(&Examination {
            findings: vec![
                finding(Area::Kvm, Status::Ok),
                finding(Area::Kvm, Status::Missing),
            ],
            kvm_usable: true,
        });
        let command = format!("      → {}", "command ".repeat(20).trim());
        assert!(
            text.starts_with("KVM\n  ✓ subject: found\n  ✗ subject: found\n"),
            "{text}"
        );
        assert!(text.lines().any(|line| line == command), "{text}");
        let too_long = |line: &&str| !line.contains('→') && line.chars().count() > 60;
        assert_eq!(text.lines().find(too_long), None);
        let words = text.split_whitespace().filter(|it| *it == "word").count();
        assert_eq!(words, 40, "no word is broken: {text}");
    }

    #[test]
    fn the_last_sentence_counts() {
        let findings = vec![
            finding(Area::Kvm, Status::Limited),
            finding(Area::Scenarios, Status::Ok),
            finding(Area::Scenarios, Status::Missing),
        ];
        let mut examination = Examination {
            findings,
            kvm_usable: true,
        };
        let text = plain(&examination);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("1 of 2 scenarios"), "{text}");
        assert!(text.contains("(! and ✗): 1."), "{text}");
        examination.kvm_usable = false;
        assert!(
            plain(&examination).contains("can measure nothing"),
            "{examination:?}"
        );
    }
}
