//! vtax's protocol: boots of the cell for as long as the time lasts, and the interval of its A/A control.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use vtax::measure::boot::{Baseline, Spec, boot};
use vtax::measure::plant::Planted;
use vtax::rig::Rig;
use vtax_reports::estimate::{Question, Series, boot_value};
use vtax_reports::result::Interval;
use vtax_scenarios::plan::Cell;

use crate::CONFIDENCE;

pub fn interval(rig: &Rig, cell: &Cell, seed: u64, time: Duration) -> anyhow::Result<Interval> {
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
    Ok(control.interval(CONFIDENCE))
}
