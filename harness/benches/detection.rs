//! How surely a slowdown of 1 % is found, and stalls of one block in ten and in a hundred, and how often something is found
//! that is not there: `vtax selftest` with these and ten seconds for each slowdown, thrice that where stalls are planted.
//! `-- --trials N` in place of 20 of each.

#[path = "common/table.rs"]
mod table;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context as _;
use table::{Measured, print};
use vtax::selftest::{Options, STALLS, selftest};
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
        stalls: &STALLS,
        trials: trials()?,
        patience: PATIENCE,
        seed: 1,
        stop: &AtomicBool::new(false),
    };
    let result = selftest(&options, |trial| eprintln!("{trial}"))?;
    let level = |planted: f64| {
        let wanted = |level: &&Level| level.planted == planted && level.stalls.is_none();
        let level = result.levels.iter().find(wanted);
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
    for stalls in STALLS {
        let level = result.levels.iter().find(|it| it.stalls == Some(stalls));
        print(
            &format!("planted stalls found: {stalls}"),
            "≥ 95 % of trials",
            level
                .context("no trial came to an end")
                .map(|level| Measured {
                    value: in_words(level),
                    met: level.alarms.share.value >= 0.95,
                }),
        );
    }
    for (what, rate) in [
        ("stumbles without planted stalls", result.false_stumbles),
        (
            "price of taking turns seen, both sides guests",
            result.carry_over,
        ),
    ] {
        print(
            what,
            "≤ 5 % of trials",
            rate.context("no trial came to an end")
                .map(|rate| Measured {
                    value: format!("{} of {}", rate.hits, rate.trials),
                    met: rate.share.value <= 0.05,
                }),
        );
    }
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
