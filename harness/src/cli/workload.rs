//! `vtax workload`: the workloads that a scenario may run.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::Args;
use vtax_scenarios::nearest;
use vtax_scenarios::reference::{workload_json, workload_text, workloads_text};
use vtax_workloads::{CATALOGUE, find};

use super::exit::Failure;
use super::names;
use crate::say;

#[derive(Debug, Args)]
pub struct WorkloadArgs {
    /// `list`, or the name of one, of which all is said: what it stresses, its figure, its parameters.
    #[arg(value_name = "list|NAME", default_value = "list", value_parser = names::workloads(), hide_possible_values = true)]
    name: String,
    /// Print JSON: an object for one workload, an array of all.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &WorkloadArgs) -> Result<ExitCode, Failure> {
    let (json, text) = if args.name == "list" {
        let all: Vec<_> = CATALOGUE.iter().map(workload_json).collect();
        (all.into(), workloads_text())
    } else {
        let (_, workload) = find(&args.name).ok_or_else(|| unknown(&args.name))?;
        (workload_json(workload), workload_text(workload))
    };
    if args.json {
        writeln!(std::io::stdout(), "{json:#}").context("writing to stdout")?;
    } else {
        write!(say::stdout(), "{text}").context("writing to stdout")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn unknown(name: &str) -> Failure {
    let meant = nearest(name, CATALOGUE.iter().map(|it| it.name));
    Failure::usage(match meant {
        Some(meant) => anyhow!("no workload is called {name}; did you mean {meant}?"),
        None => anyhow!("no workload is called {name}; `vtax workload list` names them"),
    })
}
