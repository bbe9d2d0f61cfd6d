//! `vtax scenario`: check, explain, list, schema.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use vtax_scenarios::plan::Form;
use vtax_scenarios::{Overrides, explain, json_schema, list, shipped};

use super::exit::{self, Failure};
use super::judged::Judged;
use super::{names, source};
use crate::say::{self, say};

#[derive(Debug, Subcommand)]
pub enum ScenarioCommand {
    /// Look for errors in scenario files, and for what this host lacks to run them.
    Check {
        /// Files, or names of shipped scenarios.
        #[arg(
            required = true,
            value_name = "SCENARIO",
            value_parser = names::scenarios(),
            hide_possible_values = true
        )]
        scenarios: Vec<String>,
    },
    /// Say what would be measured, in which order and how long it would take.
    Explain {
        /// A file, or the name of a shipped scenario.
        #[arg(
            default_value = "quick",
            value_parser = names::scenarios(),
            hide_possible_values = true
        )]
        scenario: String,
    },
    /// List the shipped scenarios, or print one to copy and edit. Its first line names the schema that editors complete by:
    /// `vtax scenario schema > scenario.schema.json` puts it beside your copy.
    List {
        /// Print this one's text.
        #[arg(
            value_name = "NAME",
            value_parser = names::scenarios(),
            hide_possible_values = true
        )]
        name: Option<String>,
    },
    /// Print the JSON schema of scenario files, for editors.
    Schema,
}

pub fn run(command: &ScenarioCommand) -> Result<ExitCode, Failure> {
    let mut out = say::stdout();
    match command {
        ScenarioCommand::Check { scenarios } => {
            let mut measurable = true;
            for name in scenarios {
                measurable &= check(name)?;
            }
            if !measurable {
                return Ok(ExitCode::from(exit::HOST));
            }
        }
        ScenarioCommand::Explain { scenario } => {
            let loaded = source::load(scenario, &Overrides::default())?;
            write!(out, "{}", explain(&loaded.plan)).context("writing to stdout")?;
        }
        ScenarioCommand::List { name: None } => {
            for scenario in list() {
                writeln!(out, "{:16} {}", scenario.name, scenario.description())
                    .context("writing to stdout")?;
            }
        }
        ScenarioCommand::List { name: Some(name) } => {
            let scenario = shipped(name).ok_or_else(|| {
                Failure::usage(anyhow::anyhow!(
                    "no shipped scenario is called {name}; `vtax scenario list` names them"
                ))
            })?;
            // A file to be: its bytes, whatever the locale.
            write!(std::io::stdout(), "{}", scenario.text).context("writing to stdout")?;
            if scenario.text.starts_with("#:schema") {
                say!(
                    "vtax: for completion in editors, beside your copy: vtax scenario schema > scenario.schema.json"
                );
            }
        }
        ScenarioCommand::Schema => {
            writeln!(out, "{}", json_schema().trim_end()).context("writing to stdout")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether this host can test the scenario.
fn check(name: &str) -> Result<bool, Failure> {
    let loaded = source::load(name, &Overrides::default())?;
    let warnings = loaded.render_warnings(true);
    if !warnings.is_empty() {
        say!("{}", warnings.trim_end());
    }
    let judged = Judged::new(loaded, &source::facts());
    let lacks = judged.lacks();
    if !lacks.is_empty() {
        say!("{lacks}");
    }
    let plan = &judged.loaded.plan;
    let summary = judged.here.summary(plan);
    writeln!(say::stdout(), "{name}: no error; {summary}").context("writing to stdout")?;
    // A claim that nothing can decide yet lacks nothing of this host.
    Ok(judged.here.whole.is_none() || matches!(plan.claim.form, Form::NotTestable(_)))
}
