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
use super::source;
use crate::host::affinity::allowed_cpus;
use crate::host::cgroups::Cgroups;
use crate::host::journal::{Journal, JournalError, Origin};
use crate::host::knobs;
use crate::host::leftovers::{self, Leftover};
use crate::host::prepared::{Audit, Prepared, Restored};
use crate::host::root::HostRoot;
use crate::progress::Talk;

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
    let left = leftovers::find(&host).map_err(failed)?;
    let mut out = anstream::stdout().lock();
    if json {
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
    write!(out, "{text}").context("writing to stdout")?;
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
    for change in prepared.changes() {
        // What the kernel sets anew along with it has nothing that vtax set it to.
        if let Some(to) = change.to.last() {
            anstream::println!("{}: {} → {to}", change.part, change.from);
        }
    }
    prepared.keep();
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

fn restore() -> Result<ExitCode, Failure> {
    let _alone = alone()?;
    let host = HostRoot::default();
    let mut left = false;
    let found = leftovers::find(&host).map_err(failed)?;
    if found.is_empty() {
        anstream::eprintln!("vtax: there is nothing to put back");
    }
    for leftover in found {
        if !leftover.ours {
            anstream::eprintln!("vtax: {}", told(&leftover));
            left = true;
            continue;
        }
        if leftover.outlived {
            anstream::eprintln!("vtax: {}", leftover.sentence());
        }
        let restored = leftover.put_back(&host).map_err(failed)?;
        for line in lines(&restored) {
            anstream::println!("{line}");
        }
        for trouble in restored.troubles() {
            anstream::eprintln!("vtax: {trouble}");
        }
        if !restored.failed.is_empty() {
            return Ok(ExitCode::from(exit::FAILED));
        }
    }
    if let Ok(groups) = Cgroups::of(&host) {
        for group in groups.sweep() {
            anstream::println!("control group {}: removed", group.display());
        }
    }
    Ok(if left {
        ExitCode::from(exit::HOST)
    } else {
        ExitCode::SUCCESS
    })
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
    for leftover in leftovers::find(&host).map_err(failed)? {
        if !leftover.ours || (leftover.origin != Origin::Run && !leftover.outlived) {
            continue;
        }
        let sentence = leftover.sentence();
        let restored = leftover.put_back(&host).map_err(failed)?;
        if talk != Talk::Quiet {
            anstream::eprintln!("vtax: {sentence}");
            for line in lines(&restored) {
                anstream::eprintln!("vtax: put back: {line}");
            }
        }
        for trouble in restored.troubles() {
            anstream::eprintln!("vtax: {trouble}");
        }
    }
    Ok(())
}

/// Says on stderr what vtax has changed on this host and not put back.
pub fn tell_leftovers() {
    match leftovers::find(&HostRoot::default()) {
        Ok(found) => {
            for leftover in &found {
                anstream::eprintln!("vtax: {}", told(leftover));
            }
        }
        Err(error) => anstream::eprintln!("vtax: {error}"),
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
