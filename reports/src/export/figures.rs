//! How figures and verdicts look, the same in every sink for people.

use vtax_scenarios::plan::Unit;

use crate::result::{CellResult, Interval, Verdict};
use crate::verdict::words;

/// What stands where there is no figure.
pub const NONE: &str = "–";

/// A share in percent: `99.6 %`.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A ratio's point estimate in percent, with as many decimals as [`words::ends`] has: `99.6 %`.
#[must_use]
pub fn share(ratio: &Interval, threshold: f64) -> String {
    let decimals = words::decimals(ratio, threshold);
    format!("{:.decimals$} %", ratio.value * 100.0)
}

/// A ratio with its interval, rounded so that it does not contradict its verdict: `99.6 % [99.2, 100.0]`.
#[must_use]
pub fn percent_interval(ratio: &Interval, threshold: f64) -> String {
    format!(
        "{} {}",
        share(ratio, threshold),
        words::ends(ratio, threshold)
    )
}

/// A noise floor in percent: `±0.41 %`.
#[must_use]
pub fn floor(share: f64) -> String {
    format!("±{:.2} %", share * 100.0)
}

/// A measured value to four significant digits: `0.01234`, `58.31`, `1851`.
#[must_use]
pub fn figure(value: f64) -> String {
    const DIGITS: i32 = 4;
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    // The exponent as the rounded figure has it: 9.99996 has five digits before it is rounded, 10.00 after.
    let rounded = format!("{value:.3e}");
    let exponent = rounded
        .rsplit_once('e')
        .and_then(|(_, exponent)| exponent.parse::<i32>().ok())
        .unwrap_or_default();
    let decimals = usize::try_from(DIGITS - 1 - exponent).unwrap_or_default();
    format!("{value:.decimals$}")
}

/// A duration that a reader can grasp: `850 ns`, `12.4 µs`, `3.10 ms`, `51.0 s`.
#[must_use]
pub fn nanos(nanos: f64) -> String {
    let (worth, name) = words::scale(Unit::Nanos, nanos.abs());
    let value = nanos / worth;
    match value.abs() {
        v if v >= 100.0 || worth == 1.0 => format!("{value:.0}{name}"),
        v if v >= 10.0 => format!("{value:.1}{name}"),
        _ => format!("{value:.2}{name}"),
    }
}

/// A figure of a metric, with no bound beside it: `1.23 ms`, `0.512 MiB`.
#[must_use]
pub fn quantity(value: f64, unit: Unit) -> String {
    if unit == Unit::Nanos {
        return nanos(value);
    }
    let (worth, name) = words::scale(unit, value.abs());
    let decimals = if unit == Unit::Share { 2 } else { 3 };
    format!("{:.decimals$}{name}", value / worth)
}

/// A multiple of a workload's unit: figures of up to three digits before the point read best, and those that stand beside
/// each other have the same one.
#[derive(Clone, Debug, PartialEq)]
pub struct Multiple {
    /// What it is worth in the workload's unit.
    worth: f64,
    /// Its name: `ms/page`, `MB/s`, `IOPS`.
    pub name: String,
}

impl Multiple {
    /// That in which `value`, measured in `unit`, reads best. A unit that is none of the catalogue's stays as it is.
    #[must_use]
    pub fn of(unit: &str, value: f64) -> Self {
        const TIMES: &[(f64, &str)] = &[(1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")];
        const RATES: &[(f64, &str)] = &[(1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T")];
        let (steps, own, rest) = if unit == "us" {
            (TIMES, 1e3, "")
        } else if let Some(rest) = unit.strip_prefix("ns") {
            (TIMES, 1.0, rest)
        } else {
            let base = ["IOPS", "frames/s", "B/s", "FLOP/s"];
            let base = base.into_iter().find(|base| unit.ends_with(base));
            let prefix = base.and_then(|base| unit.strip_suffix(base));
            let step = RATES.iter().find(|(_, name)| Some(*name) == prefix);
            match (base, step) {
                (Some(base), Some((own, _))) => (RATES, *own, base),
                _ => (&[(1.0, "")] as &[_], 1.0, unit),
            }
        };
        let size = value.abs() * own;
        let fits = steps.iter().rev().find(|(worth, _)| size >= *worth);
        let (worth, name) = fits.or(steps.first()).copied().unwrap_or((1.0, ""));
        Self {
            worth: worth / own,
            name: format!("{name}{rest}"),
        }
    }

    /// The figure alone, to four digits.
    #[must_use]
    pub fn show(&self, value: f64) -> String {
        figure(value / self.worth)
    }
}

/// A measured value in the multiple of its unit that reads best: `54.23 ms`, `18.57 IOPS`, `31.78 GB/s`.
#[must_use]
pub fn measured(value: f64, unit: &str) -> String {
    let multiple = Multiple::of(unit, value);
    format!("{} {}", multiple.show(value), multiple.name)
}

/// A cost with its interval, all in one unit: `8.214 µs [8.153, 8.271]`.
#[must_use]
pub fn cost(cost: &Interval, unit: &str) -> String {
    let multiple = Multiple::of(unit, cost.value);
    format!(
        "{} {} [{}, {}]",
        multiple.show(cost.value),
        multiple.name,
        multiple.show(cost.low),
        multiple.show(cost.high)
    )
}

/// What became of a cell, in more detail than its [`Verdict`]; the most worrying first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The guest failed.
    Failed,
    /// Better than native, unexplained.
    Anomaly,
    /// [`Verdict::Refuted`].
    Refuted,
    /// [`Verdict::Undecided`].
    Undecided,
    /// [`Verdict::NotTestable`].
    NotTestable,
    /// [`Verdict::Holds`].
    Holds,
    /// [`Verdict::Cost`].
    Cost,
}

impl Outcome {
    /// The outcome of `cell`.
    #[must_use]
    pub const fn of(cell: &CellResult) -> Self {
        if cell.failed {
            Self::Failed
        } else if cell.anomaly.is_some() {
            Self::Anomaly
        } else {
            Self::of_verdict(cell.verdict)
        }
    }

    /// The outcome that a bare verdict stands for.
    #[must_use]
    pub const fn of_verdict(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Holds => Self::Holds,
            Verdict::Cost => Self::Cost,
            Verdict::Refuted => Self::Refuted,
            Verdict::Undecided => Self::Undecided,
            Verdict::NotTestable => Self::NotTestable,
        }
    }

    /// In words.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Anomaly => "anomaly",
            Self::Refuted => "refuted",
            Self::Undecided => "undecided",
            Self::NotTestable => "not testable",
            Self::Holds => "holds",
            Self::Cost => "measured",
        }
    }

    /// A sign that tells it apart without colour.
    #[must_use]
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Failed => "‼",
            Self::Anomaly => "▲",
            Self::Refuted => "✗",
            Self::Undecided => "?",
            Self::NotTestable => "–",
            Self::Holds => "✓",
            Self::Cost => "·",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_significant_digits() {
        for (value, text) in [
            (3.412, "3.412"),
            (58.31, "58.31"),
            (412.71, "412.7"),
            (1851.2, "1851"),
            (123_456.0, "123456"),
            (0.012_345, "0.01235"),
            (9.999_96, "10.00"),
            (-2.5, "-2.500"),
            (0.0, "0"),
        ] {
            assert_eq!(figure(value), text);
        }
    }

    #[test]
    fn figures_stand_in_the_multiple_that_reads_best() {
        for (value, unit, shown) in [
            (54_226.0, "us", "54.23 ms"),
            (65.26, "us", "65.26 µs"),
            (37_686.0, "ns", "37.69 µs"),
            (0.01857, "kIOPS", "18.57 IOPS"),
            (31_776.0, "MB/s", "31.78 GB/s"),
            (0.5, "GB/s", "500.0 MB/s"),
            (0.9, "ns/load", "0.9000 ns/load"),
            (4_000.0, "ns/page", "4.000 µs/page"),
            (1_500.0, "kframes/s", "1.500 Mframes/s"),
            (12_000.0, "turns", "12000 turns"),
            (0.0, "ns", "0 ns"),
        ] {
            assert_eq!(measured(value, unit), shown);
        }
        let interval = Interval {
            value: 121_000.0,
            low: 65_260.0,
            high: 1_300_000.0,
            confidence: 0.95,
        };
        assert_eq!(cost(&interval, "ns"), "121.0 µs [65.26, 1300]");
    }

    #[test]
    fn durations_change_their_unit() {
        for (value, text) in [
            (850.0, "850 ns"),
            (1_851.0, "1.85 µs"),
            (12_400.0, "12.4 µs"),
            (250_000.0, "250 µs"),
            (3_100_000.0, "3.10 ms"),
            (51e9, "51.0 s"),
        ] {
            assert_eq!(nanos(value), text);
        }
    }
}
