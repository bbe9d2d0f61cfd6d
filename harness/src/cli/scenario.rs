//! `vtax scenario`: check, explain, list, schema.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use vtax_scenarios::{Overrides, explain, host, json_schema, list, shipped};

use super::exit::{self, Failure};
use super::source;

#[derive(Debug, Subcommand)]
pub enum ScenarioCommand {
    /// Look for errors in scenario files, and for what this host lacks to run them.
    Check {
        /// Files, or names of shipped scenarios.
        #[arg(required = true, value_name = "SCENARIO")]
        scenarios: Vec<String>,
    },
    /// Say what would be measured, in which order and how long it would take.
    Explain {
        /// A file, or the name of a shipped scenario.
        #[arg(default_value = "quick")]
        scenario: String,
    },
    /// List the shipped scenarios, or print one to copy and edit.
    List {
        /// Print this one's text.
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// Print the JSON schema of scenario files, for editors.
    Schema,
}

pub fn run(command: &ScenarioCommand) -> Result<ExitCode, Failure> {
    let mut out = anstream::stdout();
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
            write!(out, "{}", scenario.text).context("writing to stdout")?;
        }
        ScenarioCommand::Schema => {
            writeln!(out, "{}", json_schema().trim_end()).context("writing to stdout")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether this host can measure some of the scenario. What it lacks for an experiment, only trying it tells.
fn check(name: &str) -> Result<bool, Failure> {
    let loaded = source::load(name, &Overrides::default())?;
    let facts = source::facts();
    let untestable = host::check(&loaded.plan, &facts);
    let premise = host::premise_lacking(&loaded.plan, &facts);
    let (lacking, cells) = (untestable.iter().flatten().count(), untestable.len());
    for text in [
        loaded.render_warnings(true),
        host::render_untestable(&loaded.plan, &loaded.spans, &untestable, true),
    ] {
        if !text.is_empty() {
            anstream::eprintln!("{}", text.trim_end());
        }
    }
    let experiments = loaded.plan.experiments.len();
    let mut told = vec![format!("{name}: no error")];
    if cells > 0 {
        let can = cells - lacking;
        told.push(format!(
            "{cells} cells, of which this host can measure {can}"
        ));
    }
    if experiments > 0 {
        told.push(format!("{experiments} experiments"));
    }
    if let Some(why) = &premise {
        told.push(format!("not testable here: {why}"));
    }
    writeln!(anstream::stdout(), "{}", told.join("; ")).context("writing to stdout")?;
    // A claim that nothing can decide yet has neither, and lacks nothing of this host.
    Ok(premise.is_none() && (lacking < cells || cells == 0))
}
