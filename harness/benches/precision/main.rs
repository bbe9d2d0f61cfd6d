//! How narrow an A/A interval is when a neighbour comes and goes: vtax against the usual protocol, at equal wall time.
//!
//! ```text
//! load     a thread that spins on the measured CPU, on and off every 2 to 5 s, the same for both protocols
//! vtax     boots of a cell as in a run; native against its control, with the statistics of a run
//! usual    all native blocks, then all "guest" blocks (native again: A/A); means and Welch's t interval
//! ```
//!
//! Nobody is favoured by what is not measured here: vtax spends a third of its time on guest blocks that do not enter
//! its A/A interval, and on boots; the usual protocol spends all of its time on blocks, and all are of equal length.

mod load;
mod ours;
#[path = "../common/quantile.rs"]
mod quantile;
#[path = "../common/table.rs"]
mod table;
mod usual;

use std::time::Duration;

use anyhow::Context as _;
use load::Load;
use quantile::quantile;
use table::{Measured, print};
use vtax::rig::Rig;
use vtax_reports::result::Interval;
use vtax_scenarios::{Overrides, parse};

const REPETITIONS: u64 = 5;
/// Wall time of one protocol in one repetition.
const TIME: Duration = Duration::from_secs(20);
const CONFIDENCE: f64 = 0.95;
/// How much narrower vtax's interval should be.
const WANTED: f64 = 5.0;

/// Native against native in a small guest's boots.
const SCENARIO: &str = r#"
schema = 1
name = "precision"
description = "A/A under load"
[guest]
vcpus = 1
memory = "16MiB"
backing = "4k"
page-size = "2M"
pinning = "one-to-one"
[measure]
block = "12ms"
rounds = 3
pilot-boots = 10
[[workload]]
name = "cpu-hash"
"#;

fn main() -> anyhow::Result<()> {
    if !table::asked() {
        return Ok(());
    }
    let rig = Rig::prepare()?;
    let cpu = *rig.cpus.first().context("no CPU")?;
    let plan = parse("precision.toml", SCENARIO, &Overrides::default())?.plan;
    let cell = plan.cells.first().context("no cell")?;
    let (mut ours, mut usual) = ([Vec::new(), Vec::new()], Vec::new());
    for repetition in 0..REPETITIONS {
        // Both meet the same load, and take turns in going first.
        for turn in 0..2 {
            let _load = Load::start(cpu, repetition)?;
            if (repetition + turn) % 2 == 0 {
                let found = ours::intervals(&rig, cell, repetition, TIME)?;
                for (ours, interval) in ours.iter_mut().zip(found) {
                    tell("vtax", &interval);
                    ours.push(interval);
                }
            } else {
                let interval = usual::interval(&rig, cell, TIME)?;
                tell("usual", &interval);
                usual.push(interval);
            }
        }
    }
    for (ours, what, wanted) in [
        (&ours[0], "throughput", 1.0),
        (&ours[1], "the typical block", WANTED),
    ] {
        let narrower = half_width(&usual) / half_width(ours);
        let missed = REPETITIONS - containing_one(ours);
        print(
            &format!("A/A interval of {what} under a switching load, against the usual protocol"),
            &format!("≥ {wanted:.0} × narrower, contains 1"),
            Ok(Measured {
                value: format!(
                    "{narrower:.1} × narrower: {} against {}",
                    in_words(ours),
                    in_words(&usual)
                ),
                // One 95 % interval of five may miss.
                met: narrower >= wanted && missed <= 1,
            }),
        );
    }
    Ok(())
}

fn tell(who: &str, interval: &Interval) {
    eprintln!(
        "{who}: {:.2} % [{:.2}, {:.2}]",
        100.0 * interval.value,
        100.0 * interval.low,
        100.0 * interval.high
    );
}

fn half_width(intervals: &[Interval]) -> f64 {
    let half_widths: Vec<f64> = intervals
        .iter()
        .map(|interval| (interval.high - interval.low) / 2.0)
        .collect();
    quantile(&half_widths, 0.5)
}

fn containing_one(intervals: &[Interval]) -> u64 {
    let contains = |interval: &&Interval| (interval.low..=interval.high).contains(&1.0);
    intervals.iter().filter(contains).count() as u64
}

fn in_words(intervals: &[Interval]) -> String {
    format!(
        "±{:.2} % (contains 1: {} of {})",
        100.0 * half_width(intervals),
        containing_one(intervals),
        intervals.len()
    )
}
