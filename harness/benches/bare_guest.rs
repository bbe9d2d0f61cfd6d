//! No benchmark: a small process with the bare-ioctl guest of `cold_start`, against which `crowd` holds vtax's processes.

#[path = "cold_start/minimum.rs"]
mod minimum;

use std::io::{Read as _, Write as _};

use anyhow::ensure;

/// A start, in TSC ticks of the host.
#[derive(Clone, Copy, Debug)]
struct Start {
    begin: u64,
    reading: u64,
    end: u64,
}

/// A guest, held until stdin is closed.
fn main() -> anyhow::Result<()> {
    if !std::env::args().any(|argument| argument == "--bare-guest") {
        return Ok(());
    }
    let (start, _guest) = minimum::start()?;
    ensure!(start.begin < start.end && start.reading > 0, "it never ran");
    let mut stdout = std::io::stdout();
    writeln!(stdout, "ready")?;
    stdout.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
