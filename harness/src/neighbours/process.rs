//! A neighbour's own side: `vtax neighbour`, which only vtax starts.

use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use vtax_scenarios::plan::Work;

use super::Orders;
use super::guest::{Life, LifeError};
use super::killed::{self, KilledError};
use super::page::Page;
use crate::host::affinity::Pinned;

/// The hidden subcommand.
pub const COMMAND: &str = "neighbour";

/// The line on stderr by which a neighbour says that it is at work.
pub(super) const READY: &str = "ready";

/// Exit code where the host lacks what the neighbour needs.
pub(super) const LACKING: i32 = 5;

/// Why a neighbour does not work, or works no longer.
#[derive(Debug, thiserror::Error)]
enum NeighbourError {
    #[error("`vtax neighbour` is started by vtax alone, with orders on its stdin: {0}")]
    Orders(String),
    #[error("{what}: {source}")]
    Host {
        what: String,
        source: std::io::Error,
    },
    #[error(transparent)]
    Affinity(#[from] crate::host::affinity::AffinityError),
    #[error(transparent)]
    Life(#[from] LifeError),
    #[error(transparent)]
    Killed(#[from] KilledError),
}

/// Lives as a neighbour until its parent kills it or is gone.
#[must_use]
pub fn run() -> ExitCode {
    let error = match live() {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let lacking = match &error {
        NeighbourError::Affinity(_) | NeighbourError::Host { .. } => true,
        NeighbourError::Life(error) => error.is_lack(),
        NeighbourError::Killed(error) => error.is_lack(),
        NeighbourError::Orders(_) => false,
    };
    // Nobody is left to tell where this fails.
    let _ = writeln!(std::io::stderr(), "{error}");
    match u8::try_from(LACKING) {
        Ok(code) if lacking => ExitCode::from(code),
        _ => ExitCode::FAILURE,
    }
}

fn live() -> Result<std::convert::Infallible, NeighbourError> {
    let host = |what: &str| {
        let what = what.to_owned();
        move |source| NeighbourError::Host { what, source }
    };
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| host("asking to die with the parent")(error.into()))?;
    let orders = read_orders()?;
    // The parent may have died before the kernel was asked.
    let parent = getppid().and_then(|id| u32::try_from(id.as_raw_nonzero().get()).ok());
    if parent != Some(orders.parent) {
        return Err(NeighbourError::Orders("its parent is gone".to_owned()));
    }
    // While there is one thread, that one thread is all that has to join, and all others are born in the group.
    for entrance in &orders.entrances {
        std::fs::write(entrance, "0").map_err(host(&format!("joining {}", entrance.display())))?;
    }
    let _pinned = orders.cpu.map(|cpu| Pinned::to(&[cpu])).transpose()?;
    let page = Page::of(std::io::stdout()).map_err(host("mapping the page of counts"))?;
    let mut announced = false;
    let mut ready = || {
        if !announced {
            announced = true;
            // In one piece: the parent wakes once.
            std::io::stderr().write_all(format!("{READY}\n").as_bytes())?;
        }
        Ok(())
    };
    if orders.plan.work == Work::Killed {
        return Ok(killed::go_on(&orders, &page, &mut ready)?);
    }
    Err(Life::new(&orders, &page)?.go_on(&mut ready).into())
}

/// One line, and not a byte more: what follows is the parent's silence.
fn read_orders() -> Result<Orders, NeighbourError> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| NeighbourError::Orders(error.to_string()))?;
    serde_json::from_str(&line).map_err(|error| NeighbourError::Orders(error.to_string()))
}
