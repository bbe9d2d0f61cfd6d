//! From values to places on an axis, in percent of the plot's width: plots then fit any screen without scaling their
//! text.

/// An axis from `low` (0 %) to `high` (100 %).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
}

impl Axis {
    /// An axis with equal distances for equal differences.
    pub fn linear(low: f64, high: f64) -> Self {
        // An axis without extent would divide by zero.
        let room = if high > low {
            0.0
        } else {
            low.abs().max(1.0) * 0.01
        };
        Self {
            low: low - room,
            high: high + room,
            log: false,
        }
    }

    /// An axis with equal distances for equal ratios, over at most twelve decades.
    pub fn log(low: f64, high: f64) -> Self {
        let low = low.max(high * 1e-12).max(f64::MIN_POSITIVE);
        let high = if high > low { high } else { low * 2.0 };
        Self {
            low,
            high,
            log: true,
        }
    }

    /// Where `value` lies, in percent of the axis, clamped to its ends.
    pub fn at(&self, value: f64) -> f64 {
        let share = if self.log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        if share.is_nan() {
            0.0
        } else {
            share.clamp(0.0, 1.0) * 100.0
        }
    }

    /// [`Axis::at`] from the other end: SVG counts downwards.
    pub fn down(&self, value: f64) -> f64 {
        100.0 - self.at(value)
    }

    /// Whether `value` lies on the axis.
    pub fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Round values on the axis, at most about `most` of them.
    pub fn ticks(&self, most: usize) -> Vec<f64> {
        if self.log && self.high / self.low >= 8.0 {
            return self.log_ticks(most);
        }
        let step = round_step((self.high - self.low) / most.max(1) as f64);
        let first = (self.low / step - 1e-9).ceil();
        (0..=most * 2)
            .map(|index| (first + index as f64) * step)
            .take_while(|&tick| tick <= self.high + step * 1e-9)
            .collect()
    }

    fn log_ticks(&self, most: usize) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let mantissas: &[f64] = match decades * 3.0 {
            ticks if ticks <= most as f64 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let mut ticks = Vec::new();
        let mut decade = 10_f64.powf(self.low.log10().floor());
        while decade <= self.high {
            ticks.extend(
                mantissas
                    .iter()
                    .map(|mantissa| mantissa * decade)
                    .filter(|tick| self.holds(*tick)),
            );
            decade *= 10.0;
        }
        ticks
    }
}

/// The smallest of 1, 2, 5 × 10ⁿ that is not below `step`.
fn round_step(step: f64) -> f64 {
    let decade = 10_f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|mantissa| mantissa * decade)
        .find(|round| *round >= step * (1.0 - 1e-9))
        .unwrap_or(step)
}

/// A place as an SVG attribute: `12.34%`.
pub(super) fn place(percent: f64) -> String {
    format!("{percent:.2}%")
}

/// A labelled place on an axis.
pub(super) struct Tick {
    /// Where.
    pub at: String,
    /// What stands there.
    pub label: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_on_the_axis() {
        assert_eq!(
            Axis::linear(0.83, 1.05).ticks(5).len(),
            5,
            "0.85, 0.90, 0.95, 1.00, 1.05"
        );
        assert_eq!(
            Axis::log(1.0, 200.0).ticks(7),
            [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0]
        );
        assert_eq!(Axis::log(1.0, 1e6).ticks(7).len(), 7);
    }

    #[test]
    fn every_value_has_a_place() {
        for axis in [
            Axis::linear(1.0, 1.0),
            Axis::linear(0.0, 2.0),
            Axis::log(1.0, 1.0),
            Axis::log(0.0, 9.0),
        ] {
            for value in [
                f64::NAN,
                f64::NEG_INFINITY,
                -1.0,
                0.0,
                1.0,
                1e300,
                f64::INFINITY,
            ] {
                let at = axis.at(value);
                assert!((0.0..=100.0).contains(&at), "{axis:?} puts {value} at {at}");
            }
            assert!(axis.ticks(5).len() < 40);
        }
    }
}
