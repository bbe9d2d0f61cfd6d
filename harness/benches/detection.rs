//! How surely a slowdown of 1 % is found, and how often one is found that is not there: `vtax selftest` with these two
//! levels and ten seconds for each trial. `-- --trials N` in place of 20 of each.

#[path = "common/table.rs"]
mod table;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context as _;
use table::{Measured, print};
use vtax::selftest::{Options, selftest};
use vtax_reports::selftest::{Level, Rate};

/// Nothing, and the slowdown.
const LEVELS: [f64; 2] = [0.0, 0.01];
const LONGEST_SECONDS: f64 = 10.0;
/// A trial that is out of time ends with its present boot: there must be room for one.
const PATIENCE: Duration = Duration::from_millis(9_500);

fn main() -> anyhow::Result<()> {
    if !table::asked() {
        return Ok(());
    }
    let options = Options {
        levels: &LEVELS,
        stalls: &[],
        trials: trials()?,
        patience: PATIENCE,
        seed: 1,
        stop: &AtomicBool::new(false),
    };
    let result = selftest(&options, |trial| eprintln!("{trial}"))?;
    let level = |planted: f64| {
        let level = result.levels.iter().find(|level| level.planted == planted);
        level.context("no trial came to an end")
    };
    print(
        "1 % planted slowdown found",
        "≥ 95 % of trials of ≤ 10 s",
        level(LEVELS[1]).map(|level| Measured {
            value: in_words(level),
            met: level.alarms.share.value >= 0.95 && level.longest_seconds <= LONGEST_SECONDS,
        }),
    );
    print(
        "false alarms in A/A",
        "≤ 5 % of trials",
        level(LEVELS[0]).map(|level| Measured {
            value: in_words(level),
            met: level.alarms.share.value <= 0.05,
        }),
    );
    Ok(())
}

fn in_words(level: &Level) -> String {
    let Rate {
        hits,
        trials,
        share,
    } = level.alarms;
    format!(
        "{hits} of {trials} [{:.0} %, {:.0} %], {:.1} s each, at most {:.1} s",
        100.0 * share.low,
        100.0 * share.high,
        level.median_seconds,
        level.longest_seconds
    )
}

/// What stands behind `--trials`.
fn trials() -> anyhow::Result<u32> {
    match std::env::args()
        .skip_while(|argument| argument != "--trials")
        .nth(1)
    {
        Some(number) => number.parse().context("--trials wants a number"),
        None => Ok(20),
    }
}
