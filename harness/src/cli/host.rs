//! `vtax host`: what can be set on this host, and what vtax has set.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;

use anstyle::AnsiColor;
use anyhow::{Context as _, anyhow};
use clap::Subcommand;
use serde::Serialize;
use vtax_scenarios::Overrides;
use vtax_scenarios::plan::{HostSettings, Knob, KnobFact, Plan};

use super::exit::{self, Failure};
use super::run::alone;
use super::{names, source};
use crate::host::affinity::allowed_cpus;
use crate::host::cgroups::Cgroups;
use crate::host::journal::{Journal, JournalError, Origin};
use crate::host::knobs;
use crate::host::leftovers::{self, Leftover};
use crate::host::prepared::{Audit, Prepared, Restored};
use crate::host::root::HostRoot;
use crate::progress::Talk;
use crate::say::{self, say};

/// Version of the JSON object.
const SCHEMA: u32 = 1;

#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// Each knob: what it is set to, whether vtax can change it here, and what vtax has changed.
    Show {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Set the host as the `[host]` table of a scenario says, and leave it so until `vtax host restore`.
    Apply {
        /// A file, or the name of a shipped scenario.
        #[arg(value_parser = names::scenarios(), hide_possible_values = true)]
        scenario: String,
    },
    /// Put back all that vtax has changed on this host, and remove what it has left.
    Restore,
}

pub fn run(command: &HostCommand) -> Result<ExitCode, Failure> {
    match command {
        HostCommand::Show { json } => show(*json),
        HostCommand::Apply { scenario } => apply(scenario),
        HostCommand::Restore => restore(),
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    schema: u32,
    knobs: &'a BTreeMap<Knob, KnobFact>,
    changed: Vec<Changed>,
}

/// A part of a knob that vtax has changed and not put back.
#[derive(Serialize)]
struct Changed {
    knob: Knob,
    part: String,
    from: String,
    to: Vec<String>,
}

fn show(json: bool) -> Result<ExitCode, Failure> {
    let host = HostRoot::default();
    let facts = knobs::facts(&host);
    let left: Vec<Leftover> = leftovers::find(&host)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    if json {
        let mut out = std::io::stdout().lock();
        let shown = Shown {
            schema: SCHEMA,
            knobs: &facts,
            changed: left
                .iter()
                .filter(|leftover| !leftover.outlived)
                .flat_map(|leftover| leftover.journal.changes())
                .map(|change| Changed {
                    knob: change.knob,
                    part: change.part.to_string(),
                    from: change.from.clone(),
                    to: change.to.clone(),
                })
                .collect(),
        };
        serde_json::to_writer_pretty(&mut out, &shown).context("writing to stdout")?;
        writeln!(out).context("writing to stdout")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for (knob, fact) in &facts {
        text += &line(*knob, fact);
    }
    if !left.is_empty() {
        text += "\n";
    }
    for leftover in &left {
        text += &format!("{}\n", told(leftover));
    }
    write!(say::stdout(), "{text}").context("writing to stdout")?;
    Ok(ExitCode::SUCCESS)
}

fn line(knob: Knob, fact: &KnobFact) -> String {
    let (sign, color) = match fact.obstacle {
        None => ("✓", AnsiColor::Green),
        Some(_) => ("✗", AnsiColor::Yellow),
    };
    let style = color.on_default();
    let mut text = format!("{style}{sign}{style:#} {knob}");
    if let Some(present) = &fact.present {
        text += &format!(" = {present}");
    }
    if !fact.choices.is_empty() {
        text += &format!("   ({})", fact.choices.join(", "));
    }
    text += "\n";
    if let Some(obstacle) = &fact.obstacle {
        text += &format!("      {}\n      → {}\n", obstacle.reason, obstacle.remedy);
    }
    text
}

fn apply(scenario: &str) -> Result<ExitCode, Failure> {
    let loaded = source::load(scenario, &Overrides::default())?;
    let (settings, measured) = wanted(&loaded.plan)?;
    let _alone = alone()?;
    put_back_runs(Talk::Bar)?;
    let host = HostRoot::default();
    let journal = Journal::own(&host, Origin::Applied).map_err(failed)?;
    let audit = Audit::of_host(&journal);
    let mut prepared = Prepared::new(host, journal, audit);
    if let Err(error) = prepared.set(&settings, &measured) {
        let restored = prepared.restore();
        let mut told = format!("{error}");
        for trouble in restored.troubles() {
            told += &format!("; {trouble}");
        }
        if restored.troubles().next().is_none() {
            told += "; the host is left as it was before";
        }
        return Err(Failure::Message(anyhow!(told), exit::HOST));
    }
    // What the kernel sets anew along with it has nothing that vtax set it to.
    let lines: Vec<String> = prepared
        .changes()
        .iter()
        .filter_map(|change| {
            let to = change.to.last()?;
            Some(format!("{}: {} → {to}", change.part, change.from))
        })
        .collect();
    prepared.keep();
    print(&lines)?;
    Ok(ExitCode::SUCCESS)
}

/// What all cells of the plan want, and the CPUs that any of them measures.
fn wanted(plan: &Plan) -> Result<(HostSettings, Vec<u32>), Failure> {
    let settings = plan
        .cells
        .first()
        .map(|cell| cell.host.clone())
        .unwrap_or_default();
    if let Some(other) = plan.cells.iter().find(|cell| cell.host != settings) {
        let knob = Knob::ALL
            .into_iter()
            .find(|knob| other.host.get(knob) != settings.get(knob));
        return Err(Failure::usage(anyhow!(
            "the cells of {} do not agree on host.{}, and a host can be set in one way at a time: give a scenario whose \
             [matrix] leaves it out",
            plan.scenario,
            knob.map_or("", Knob::name)
        )));
    }
    if settings.is_empty() {
        return Err(Failure::usage(anyhow!(
            "{} sets nothing on the host: it has no [host] table",
            plan.scenario
        )));
    }
    let allowed = allowed_cpus().map_err(anyhow::Error::from)?;
    let mut measured: Vec<u32> = plan
        .cells
        .iter()
        .flat_map(|cell| cell.guest.measured_cpus(&allowed))
        .collect();
    measured.sort_unstable();
    measured.dedup();
    Ok((settings, measured))
}

/// What was put back and what was not. It is told once all is done: nothing must stay on the host for a stdout or a stderr
/// that takes no more.
#[derive(Default)]
struct Account {
    /// For stdout.
    done: Vec<String>,
    /// For stderr.
    said: Vec<String>,
    /// Something could not be put back.
    failed: bool,
    /// Something is another user's to put back.
    left: bool,
}

impl Account {
    fn settle(&mut self, host: &HostRoot) {
        // Of what a run set last and could not be put back.
        let mut held = Vec::new();
        for found in leftovers::find(host) {
            let leftover = match found {
                Ok(leftover) => leftover,
                Err(error) => {
                    // What it names is not known, so that what lies beneath it must wait.
                    self.fails(&error);
                    break;
                }
            };
            if !leftover.ours {
                self.said.push(told(&leftover));
                self.left = true;
                continue;
            }
            if leftover.outlived {
                self.said.push(leftover.sentence());
            }
            match leftover.put_back(host, &held) {
                Ok(restored) => {
                    self.done.extend(lines(&restored));
                    self.said.extend(restored.troubles());
                    self.failed |= !restored.failed.is_empty();
                    held.extend(restored.held);
                }
                Err(error) => self.fails(&error),
            }
        }
        if let Ok(groups) = Cgroups::of(host) {
            let removed = groups.sweep().into_iter();
            self.done
                .extend(removed.map(|group| format!("control group {}: removed", group.display())));
        }
        if self.done.is_empty() && self.said.is_empty() {
            self.said.push("there is nothing to put back".to_owned());
        }
    }

    fn fails(&mut self, error: &JournalError) {
        self.said.push(error.to_string());
        self.failed = true;
    }
}

fn restore() -> Result<ExitCode, Failure> {
    let _alone = alone()?;
    let mut account = Account::default();
    account.settle(&HostRoot::default());
    account.said.iter().for_each(|text| say(text));
    let told = print(&account.done);
    if account.failed {
        return Ok(ExitCode::from(exit::FAILED));
    }
    if account.left {
        return Ok(ExitCode::from(exit::HOST));
    }
    told?;
    Ok(ExitCode::SUCCESS)
}

/// Lines on stdout.
fn print(lines: &[String]) -> anyhow::Result<()> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    write!(say::stdout(), "{text}").context("writing to stdout")
}

/// A line on stderr, if it takes one: the host comes first.
fn say(text: &str) {
    say!("vtax: {text}");
}

/// Before something is measured: puts back what killed runs left, and says what else there is.
///
/// # Errors
/// A journal cannot be read or written.
pub fn recover(talk: Talk) -> Result<(), Failure> {
    put_back_runs(talk)?;
    if talk != Talk::Quiet {
        tell_leftovers();
    }
    Ok(())
}

/// Also drops what outlived a boot of the host: there is nothing to be put back of it.
fn put_back_runs(talk: Talk) -> Result<(), Failure> {
    let host = HostRoot::default();
    for leftover in leftovers::find(&host) {
        let leftover = leftover.map_err(failed)?;
        if !leftover.ours || (leftover.origin != Origin::Run && !leftover.outlived) {
            continue;
        }
        let sentence = leftover.sentence();
        let restored = leftover.put_back(&host, &[]).map_err(failed)?;
        if talk != Talk::Quiet {
            say(&sentence);
            for line in lines(&restored) {
                say(&format!("put back: {line}"));
            }
        }
        for trouble in restored.troubles() {
            say(&trouble);
        }
    }
    Ok(())
}

/// Says on stderr what vtax has changed on this host and not put back.
pub fn tell_leftovers() {
    for found in leftovers::find(&HostRoot::default()) {
        match found {
            Ok(leftover) => say(&told(&leftover)),
            Err(error) => say(&error.to_string()),
        }
    }
}

/// What is left, and how to be rid of it.
fn told(leftover: &Leftover) -> String {
    let remedy = match (leftover.ours, leftover.origin) {
        (true, Origin::Run) => "`vtax host restore` puts it back, and so does the next `vtax run`",
        (true, Origin::Applied) => "`vtax host restore` puts it back",
        (false, _) => "`vtax host restore` puts it back, as root",
    };
    if leftover.outlived {
        return leftover.sentence();
    }
    format!("{}; {remedy}", leftover.sentence())
}

fn lines(restored: &Restored) -> Vec<String> {
    restored
        .parts
        .iter()
        .map(|(part, present, from)| format!("{part}: {present} → {from}"))
        .collect()
}

fn failed(error: JournalError) -> Failure {
    Failure::Message(error.into(), exit::FAILED)
}
