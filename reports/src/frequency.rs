//! At which frequency the CPU ran in the blocks of either side, and whether the sides differ in it.
//!
//! ```text
//! counters of a block ──► Hz ──► mean of a boot's side ──► guest over native, with an interval over boots ──► a sentence
//! ```
//!
//! Blocks take turns on one CPU, so both sides should find the same clock. Where one side's work lets the CPU go faster, by
//! another mix of instructions or by sleeping more, a part of the ratio is the clock's and not virtualization's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::counters::{Counter, CounterRow, Counts};
use crate::record::Side;
use crate::result::Interval;
use crate::stats::stein;
use crate::verdict::{Judgement, words};

/// A difference below this share is none that anybody would look for.
const SMALLEST: f64 = 0.001;

/// One cell in a hundred may seem to differ by chance.
const CONFIDENCE: f64 = 0.99;

/// Fewest boots that say something of a difference.
const FEWEST_BOOTS: usize = 3;

/// Frequencies of the CPU in the blocks of a cell, in Hz: means over boots.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Frequency {
    /// In native blocks, those of the control included.
    pub native: f64,
    /// In guest blocks.
    pub guest: f64,
    /// Guest over native, with confidence 99 %; `None` with fewer than three boots.
    pub ratio: Option<Interval>,
}

/// The frequency of one block: from APERF and MPERF, which counts at the TSC's frequency (Intel SDM volume 3, "IA32_MPERF and
/// IA32_APERF"), else as cpufreq said.
fn of_block(counts: &Counts, tsc_hz: f64) -> Option<f64> {
    let actual = counts.get(Counter::Aperf).zip(counts.get(Counter::Mperf));
    match actual {
        Some((actual, reference)) if reference > 0 => {
            Some(actual as f64 / reference as f64 * tsc_hz)
        }
        Some(_) => None,
        None => Some(counts.get(Counter::Cpufreq)? as f64 * 1000.0),
    }
}

impl Frequency {
    /// From what was counted in each boot of a cell; `None` where it was not, or on one side alone.
    pub(crate) fn of<'a>(
        boots: impl Iterator<Item = &'a [CounterRow]>,
        nanos_per_tick: f64,
    ) -> Option<Self> {
        let tsc_hz = 1e9 / nanos_per_tick;
        let mean = |rows: &[CounterRow], guest: bool| {
            let values: Vec<f64> = rows
                .iter()
                .filter(|row| (row.side == Side::Guest) == guest)
                .filter_map(|row| of_block(&row.counts, tsc_hz))
                .filter(|hertz| *hertz > 0.0)
                .collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let boots: Vec<(f64, f64)> = boots
            .filter_map(|rows| mean(rows, false).zip(mean(rows, true)))
            .collect();
        if boots.is_empty() {
            return None;
        }
        let count = boots.len() as f64;
        let logs: Vec<f64> = boots
            .iter()
            .map(|(native, guest)| (guest / native).ln())
            .collect();
        Some(Self {
            native: boots.iter().map(|(native, _)| native).sum::<f64>() / count,
            guest: boots.iter().map(|(_, guest)| guest).sum::<f64>() / count,
            ratio: stein::interval(&logs, logs.len(), CONFIDENCE)
                .filter(|_| logs.len() >= FEWEST_BOOTS),
        })
    }

    /// Whether the sides differ beyond chance, and enough to matter.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.ratio
            .is_some_and(|it| (it.low > 1.0 || it.high < 1.0) && (it.value - 1.0).abs() >= SMALLEST)
    }

    /// The difference as a sentence; `None` where there is none.
    fn sentence(&self) -> Option<String> {
        let ratio = self.ratio.filter(|_| self.differs())?;
        let (change, ends) = words::changed(&ratio);
        Some(format!(
            "The sides ran at different frequencies: {:.3} GHz in guest blocks, {:.3} GHz in native ones ({change} {ends}); up \
             to that much of the share is the clock's.",
            self.guest / 1e9,
            self.native / 1e9
        ))
    }
}

/// The judgement on a cell, with what is to be said of its frequencies.
pub(crate) fn told(judgement: Judgement, frequency: Option<&Frequency>) -> Judgement {
    match frequency.and_then(Frequency::sentence) {
        Some(sentence) => Judgement {
            reason: format!("{} {sentence}", judgement.reason),
            ..judgement
        },
        None => judgement,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TSC_HZ: f64 = 2e9;

    /// Boots of three blocks a side, whose guest is off by `off`; boots differ among each other.
    fn boots(off: f64, count: u32, counts: impl Fn(u64) -> Counts) -> Vec<Vec<CounterRow>> {
        let row = |boot, side, counts| CounterRow {
            cell: 0,
            boot,
            round: 0,
            side,
            vcpu: 0,
            counts,
        };
        // Positive, and far below 2^53.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let whole = |hertz: f64| hertz as u64;
        (0..count)
            .map(|boot| {
                let native = 3e9 + 1e8 * f64::from(boot % 4);
                let jitter = 1e-4 * f64::from(boot * 7 % 5);
                let guest = native * (1.0 + off + jitter - 2e-4);
                let mut rows = vec![row(boot, Side::Control, Counts::NONE)];
                for _ in 0..3 {
                    rows.push(row(boot, Side::Native, counts(whole(native))));
                    rows.push(row(boot, Side::Guest, counts(whole(guest))));
                }
                rows
            })
            .collect()
    }

    /// A block of 12 ms in which the CPU slept for half of the time.
    fn clocks(hertz: u64) -> Counts {
        let mut counts = Counts::NONE;
        counts.set(Counter::Aperf, Some(hertz * 6 / 1000));
        counts.set(Counter::Mperf, Some(2_000_000_000 * 6 / 1000));
        counts
    }

    fn cpufreq(hertz: u64) -> Counts {
        let mut counts = Counts::NONE;
        counts.set(Counter::Cpufreq, Some(hertz / 1000));
        counts
    }

    fn frequency(boots: &[Vec<CounterRow>]) -> Option<Frequency> {
        Frequency::of(boots.iter().map(Vec::as_slice), 1e9 / TSC_HZ)
    }

    #[test]
    fn a_guest_that_has_another_clock_is_told_with_its_size() {
        for counts in [clocks, cpufreq] {
            let found = frequency(&boots(-0.03, 12, counts)).unwrap();
            assert!((found.native / 3.15e9 - 1.0).abs() < 1e-6, "{found:?}");
            let ratio = found.ratio.unwrap();
            assert!(ratio.low < 0.97 && 0.97 < ratio.high, "{ratio:?}");
            let sentence = found.sentence().unwrap();
            assert!(
                sentence.contains("3.055 GHz in guest blocks, 3.150 GHz in native ones (−3.0 %"),
                "{sentence}"
            );
        }
    }

    #[test]
    fn no_difference_and_a_trifle_are_not_told() {
        for off in [0.0, 0.0006] {
            let found = frequency(&boots(off, 40, clocks)).unwrap();
            assert!(!found.differs(), "{off}: {found:?}");
            assert_eq!(found.sentence(), None);
        }
        // Too few boots to tell it from chance.
        let found = frequency(&boots(-0.03, 2, clocks)).unwrap();
        assert_eq!(found.ratio, None);
        assert!(!found.differs());
    }

    #[test]
    fn what_was_not_counted_has_no_frequency() {
        assert_eq!(frequency(&boots(0.0, 12, |_| Counts::NONE)), None);
        // A register that stands still says nothing.
        let still = |_| {
            let mut counts = Counts::NONE;
            counts.set(Counter::Aperf, Some(0));
            counts.set(Counter::Mperf, Some(0));
            counts
        };
        assert_eq!(frequency(&boots(0.0, 12, still)), None);
    }
}
