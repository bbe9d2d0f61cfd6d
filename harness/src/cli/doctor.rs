//! `vtax doctor`: what this host can and cannot measure, and how to enable it.

use std::{io::Write, process::ExitCode};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::exit;
use crate::host::{
    doctor::{Area, Examination, Finding, Status, examine},
    root::HostRoot,
};

/// Version of the JSON object.
const SCHEMA: u32 = 1;

/// Longest line of prose. Commands are never broken, so that they can be copied.
const WIDTH: usize = 96;

/// Arguments of `vtax doctor`.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// Print the findings as one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Output<'a> {
    schema: u32,
    findings: &'a [Finding],
}

/// Examines this host and prints the findings. The exit code is 0 where guests can be run, 5 where they cannot.
pub fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let examination = examine(&HostRoot::default());
    let mut out = anstream::stdout().lock();
    if args.json {
        let output = Output {
            schema: SCHEMA,
            findings: &examination.findings,
        };
        writeln!(out, "{}", serde_json::to_string_pretty(&output)?)?;
    } else {
        write!(out, "{}", render(&examination))?;
    }
    Ok(if examination.kvm_usable {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::HOST)
    })
}

fn render(examination: &Examination) -> String {
    let bold = Style::new().bold();
    let mut text = String::new();
    let mut area: Option<Area> = None;
    for finding in &examination.findings {
        if area != Some(finding.area) {
            let gap = if area.is_some() { "\n" } else { "" };
            text += &format!("{gap}{bold}{}{bold:#}\n", finding.area.title());
            area = Some(finding.area);
        }
        text += &line(finding);
    }
    text + "\n" + &verdict(examination) + "\n"
}

fn line(finding: &Finding) -> String {
    let (sign, color) = match finding.status {
        Status::Ok => ("✓", AnsiColor::Green),
        Status::Limited => ("!", AnsiColor::Yellow),
        Status::Missing => ("✗", AnsiColor::Red),
    };
    let style = color.on_default();
    let faint = Style::new().dimmed();
    let mut text = format!(
        "  {style}{sign}{style:#} {}: {}\n",
        finding.subject, finding.found
    );
    for prose in finding.means.iter().flat_map(|means| wrap(means, WIDTH)) {
        text += &format!("      {faint}{prose}{faint:#}\n");
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

/// Breaks prose at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
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
        anstream::adapter::strip_str(&render(examination)).to_string()
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
        let too_long = |line: &&str| line.starts_with("      word") && line.len() > WIDTH + 6;
        assert_eq!(text.lines().find(too_long), None);
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
        assert!(text.contains("1 of 2 scenarios"), "{text}");
        assert!(text.contains("(! and ✗): 1."), "{text}");
        examination.kvm_usable = false;
        assert!(plain(&examination).contains("can measure nothing"));
    }
}
