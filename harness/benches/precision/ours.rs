//! vtax's protocol: boots of the cell for as long as the time lasts, and the intervals of its A/A control.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use vtax::measure::boot::{Baseline, Spec, boot};
use vtax::measure::plant::Planted;
use vtax::rig::Rig;
use vtax_reports::estimate::{BootValue, Question, Series, boot_value};
use vtax_reports::record::Side;
use vtax_reports::result::Interval;
use vtax_reports::stats::{median, stein};
use vtax_scenarios::plan::Cell;

use crate::CONFIDENCE;

/// Native against its control, by throughput and by the typical block.
pub fn intervals(
    rig: &Rig,
    cell: &Cell,
    seed: u64,
    time: Duration,
) -> anyhow::Result<[Interval; 2]> {
    let begin = Instant::now();
    let (mut known, mut boots) = (None, Vec::new());
    for number in 0.. {
        if begin.elapsed() >= time {
            break;
        }
        let outcome = boot(
            rig,
            &Spec {
                cell,
                boot: number,
                seed,
                known,
                planted: Planted::Nothing,
                baseline: Baseline::Native,
                stop: &AtomicBool::new(false),
            },
        )?;
        known = Some(outcome.known);
        boots.push(boot_value(&outcome.samples, Question::Ratio));
    }
    let series = Series::new(boots, cell.measure.pilot_boots);
    eprintln!("vtax: {} boots count", series.boots.len());
    let control = series.control().context("too few boots count")?;
    let logs: Vec<f64> = series.boots.iter().filter_map(typical).collect();
    let typical = stein::interval(&logs, logs.len(), CONFIDENCE).context("too few boots")?;
    Ok([control.interval(CONFIDENCE), typical])
}

/// The logarithm of what one boot's median blocks come to.
fn typical(boot: &BootValue) -> Option<f64> {
    let of = |side: Side| {
        let mut times: Vec<f64> = boot.times.iter().map(|it| it[side as usize]).collect();
        median(&mut times)
    };
    Some((of(Side::Native)? / of(Side::Control)?).ln())
}
