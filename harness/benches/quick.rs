//! How long `vtax run` takes with nothing else said: the quick scenario, report included.

#[path = "common/table.rs"]
mod table;

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::ensure;
use table::{Measured, print};

const WANTED_SECONDS: f64 = 30.0;

/// Exit codes of a run that measured: all is well, a claim is refuted, undecided.
const MEASURED: [i32; 3] = [0, 3, 4];

fn main() -> anyhow::Result<()> {
    if !table::asked() {
        return Ok(());
    }
    print("quick scenario", "< 30 s", run());
    Ok(())
}

fn run() -> anyhow::Result<Measured> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let begin = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_vtax"))
        .args(["run", "--quiet", "--out"])
        .arg(dir.path().join("run"))
        .stdout(Stdio::null())
        .status()?;
    let seconds = begin.elapsed().as_secs_f64();
    ensure!(
        status.code().is_some_and(|code| MEASURED.contains(&code)),
        "vtax run ended with {status}"
    );
    Ok(Measured {
        value: format!("{seconds:.1} s"),
        met: seconds < WANTED_SECONDS,
    })
}
