//! `vtax man`: the manual pages.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Command};
use clap_mangen::Man;

use super::exit::Failure;
use super::{place, written};
use crate::say::say;

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write the pages of vtax and of all its commands into this directory, such as ~/.local/share/man/man1.
    #[arg(long, value_name = "DIR")]
    all: Option<PathBuf>,
}

pub fn run(args: &ManArgs, command: Command) -> Result<ExitCode, Failure> {
    match &args.all {
        Some(dir) => write_all(dir, command),
        None => {
            let mut page = Vec::new();
            Man::new(command)
                .render(&mut page)
                .map_err(anyhow::Error::from)?;
            written(&page)
        }
    }
}

fn write_all(dir: &Path, command: Command) -> Result<ExitCode, Failure> {
    place::can_hold_files(dir)?;
    let writing = || format!("writing manual pages into {}", dir.display());
    std::fs::create_dir_all(dir).with_context(writing)?;
    // A page for `help` would say what every page says.
    let command = command.disable_help_subcommand(true);
    clap_mangen::generate_to(command, dir).with_context(writing)?;
    say!("manual pages: {}", dir.display());
    Ok(ExitCode::SUCCESS)
}
