//! Two ways to do the same, measured in turns: a row for each figure, as a ratio with its interval.

use anyhow::Context as _;
use vtax::host::tsc::TscClock;
use vtax_reports::stats::stein;

use super::quantile::quantile;
use super::table::{Measured, print};

const CONFIDENCE: f64 = 0.95;

/// A figure by its name, and where it stands: a time in ticks.
pub type Figure<F> = (&'static str, fn(&F) -> f64);

/// Prints how many times as good ours is as theirs, figure by figure, from one pair of each repetition; ours first.
pub fn rows<F>(
    subject: &str,
    figures: &[Figure<F>],
    pairs: anyhow::Result<Vec<(F, F)>>,
    clock: TscClock,
) {
    let pairs = match pairs {
        Ok(pairs) => pairs,
        Err(reason) => {
            print(subject, "≥ 1 ×", Err(reason));
            return;
        }
    };
    for (what, ticks) in figures {
        let median = |side: fn(&(F, F)) -> &F| {
            let all: Vec<f64> = pairs.iter().map(|pair| ticks(side(pair))).collect();
            clock.nanos(1) * quantile(&all, 0.5) / 1e3
        };
        eprintln!(
            "{subject}, {what}: {:.2} µs, QEMU {:.2} µs (medians)",
            median(|pair| &pair.0),
            median(|pair| &pair.1)
        );
        let ratios: Vec<f64> = pairs
            .iter()
            .map(|(ours, theirs)| (ticks(theirs) / ticks(ours)).ln())
            .collect();
        let measured = stein::interval(&ratios, ratios.len(), CONFIDENCE)
            .context("too few repetitions")
            .map(|ratio| Measured {
                value: format!(
                    "{:.2} × as good [{:.2}, {:.2}]",
                    ratio.value, ratio.low, ratio.high
                ),
                met: ratio.high >= 1.0,
            });
        print(&format!("{subject}: {what}"), "≥ 1 ×", measured);
    }
}
