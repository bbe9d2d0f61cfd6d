//! The command line: arguments in, exit code out. stdout is data, stderr is everything else.

mod bundle;
mod claims;
mod difference;
pub mod doctor;
mod exit;
mod host;
mod judged;
mod manual;
mod names;
mod output;
mod place;
mod private;
mod report;
mod run;
mod scenario;
mod selftest;
mod source;
mod workload;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::neighbours::process;
use exit::Failure;

/// Measures how much of bare-metal performance a KVM guest keeps, why the rest is lost, and how to get it back.
#[derive(Debug, Parser)]
#[command(name = "vtax", version, about, propagate_version = true, after_help = exit::HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// When to use colours; NO_COLOR is honoured too.
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto)]
    color: Colour,
    /// Say nothing but errors on stderr.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more on stderr.
    #[arg(short, long, global = true)]
    verbose: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Colour {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure; with no argument the quick scenario.
    Run(run::RunArgs),
    /// Test the published claims: each gets a verdict with its evidence.
    Claims(claims::ClaimsArgs),
    /// Rebuild the report and the exports from a run directory, on any machine.
    Report(report::ReportArgs),
    /// How small an effect this host can show: A/A runs and planted slowdowns.
    Selftest(selftest::SelftestArgs),
    /// What this host can and cannot measure, and how to enable it.
    Doctor(doctor::DoctorArgs),
    /// Show what can be set on this host, set it, and put it back.
    #[command(subcommand)]
    Host(host::HostCommand),
    /// Check, explain and list scenario files.
    #[command(subcommand)]
    Scenario(scenario::ScenarioCommand),
    /// The workloads that a scenario may run, and all that there is to know of one.
    Workload(workload::WorkloadArgs),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff): `vtax man | man -l -`.
    ///
    /// It refers to pages of all commands, which `--all DIR` writes.
    Man(manual::ManArgs),
}

impl Command {
    /// Whether it says what an earlier vtax left changed on the host. Some put it back, others print for programs alone.
    fn looks_at_leftovers(&self) -> bool {
        !matches!(
            self,
            Self::Run(_)
                | Self::Claims(_)
                | Self::Selftest(_)
                | Self::Host(_)
                | Self::Workload(_)
                | Self::Completions { .. }
                | Self::Man(_)
        )
    }
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    // Of these many start at once, and nobody types it: they do without the parser of all other commands.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == process::COMMAND)
    {
        return process::run();
    }
    let arguments = Arguments::parse();
    match arguments.color {
        Colour::Auto => anstream::ColorChoice::Auto,
        Colour::Always => anstream::ColorChoice::Always,
        Colour::Never => anstream::ColorChoice::Never,
    }
    .write_global();
    let talk = match (arguments.quiet, arguments.verbose) {
        (true, _) => crate::progress::Talk::Quiet,
        (_, true) => crate::progress::Talk::Verbose,
        _ => crate::progress::Talk::Bar,
    };
    if !arguments.quiet && arguments.command.looks_at_leftovers() {
        host::tell_leftovers();
    }
    let result = match arguments.command {
        Command::Run(args) => run::run(&args, talk),
        Command::Claims(args) => claims::run(&args, talk),
        Command::Report(args) => report::run(&args),
        Command::Selftest(args) => selftest::run(&args, talk),
        Command::Doctor(args) => doctor::run(&args),
        Command::Host(command) => host::run(&command),
        Command::Scenario(command) => scenario::run(&command),
        Command::Workload(args) => workload::run(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "vtax", &mut script);
            written(&script)
        }
        Command::Man(args) => manual::run(&args, Arguments::command()),
    };
    result.unwrap_or_else(|failure| failure.report())
}

/// Writes all of it to stdout.
fn written(bytes: &[u8]) -> Result<ExitCode, Failure> {
    let mut out = std::io::stdout();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .context("writing to stdout")?;
    Ok(ExitCode::SUCCESS)
}
