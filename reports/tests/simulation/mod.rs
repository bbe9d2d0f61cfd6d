//! Simulated runs: blocks with known noise go through the code that real blocks go through, under the stopping rule
//! of `vtax run`. Shared by the coverage test and the example that writes the tables.

pub mod machine;
pub mod noise;
pub mod stalls;

use std::ops::Range;

use machine::Machine;
use vtax_reports::estimate::{Question, boot_value};
use vtax_reports::stats::series::Series;

/// Simulated runs per kind of noise and cap.
pub const REPETITIONS: u64 = 5_000;
/// Boots of the pilot.
pub const PILOT: u32 = 10;
/// Confidence of every interval.
pub const CONFIDENCE: f64 = 0.95;

/// Measures a cell as `vtax run` does: pilot, one computation of the size, at most `cap` boots.
pub fn run(machine: &mut Machine, half_width: f64, cap: u32) -> Series {
    let value = |machine: &mut Machine, boot| boot_value(&machine.boot(boot), Question::Ratio);
    let mut boots: Vec<_> = (0..PILOT).map(|boot| value(machine, boot)).collect();
    let size = Series::new(boots.clone(), PILOT).size(half_width, CONFIDENCE);
    boots.extend((PILOT..size.min(cap)).map(|boot| value(machine, boot)));
    Series::new(boots, PILOT)
}

/// A table's place in the document, between its marks.
pub fn section(document: &str, name: &str) -> Range<usize> {
    let begin = format!("<!-- {name} table: begin -->\n");
    let from = document.find(&begin).expect("the table's first mark") + begin.len();
    let to = document
        .find(&format!("<!-- {name} table: end -->"))
        .expect("the table's last mark");
    from..to
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
