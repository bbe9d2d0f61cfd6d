//! Figures in words. No rounding may contradict the verdict beside it.

use std::time::Duration;

use vtax_scenarios::plan::{Bound, Unit};

use crate::result::Interval;
use crate::stats::stalls::EXCLUDED_WITH;

/// Which guest was measured and by which VMM it ran, to begin a sentence with.
pub(crate) const GUEST: &str = "a bare guest in ring 3 under vtax's own VMM";
/// The same in brackets.
pub(crate) const MEASURED: &str = "vtax's own VMM, bare guest in ring 3";

/// That the host is itself a guest.
pub(crate) fn nested(hypervisor: &str) -> String {
    format!("Native here is itself a virtual machine under {hypervisor}.")
}

/// How many decimals a percentage needs so that value and ends, as shown, lie on the same side of `threshold` as they
/// do in truth; at least one, and below 1 % as many as two significant digits take.
#[must_use]
pub fn decimals(interval: &Interval, threshold: f64) -> usize {
    let magnitude = (interval.value * 100.0).abs().log10().floor();
    let least = (1..=6).find(|&decimals| magnitude + f64::from(decimals) >= 1.0);
    let least = least.map_or(1, |decimals: u8| decimals.into());
    true_decimals(least, interval, (threshold, f64::INFINITY), 0.01)
}

/// How many decimals, `least` or more, value and ends of `interval` need in a unit that is worth `worth`, so that as shown
/// they lie between the ends `from` and `to` of a bound where they do in truth, and only there.
pub(crate) fn true_decimals(
    least: usize,
    interval: &Interval,
    (from, to): (f64, f64),
    worth: f64,
) -> usize {
    const MOST: usize = 12;
    let is_true = |decimals: &usize| {
        [interval.low, interval.value, interval.high]
            .into_iter()
            .all(|value| {
                let shown = format!("{:.*}", *decimals, value / worth).parse::<f64>();
                // A bound itself has few digits: what multiplication adds to it is dust.
                let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs();
                shown.map(|shown| shown * worth).is_ok_and(|shown| {
                    (shown >= from || near(shown, from)) == (value >= from)
                        && (shown <= to || near(shown, to)) == (value <= to)
                })
            })
    };
    (least..MOST).find(is_true).unwrap_or(MOST)
}

/// The name with which figures up to `largest` are shown, and what it is worth in their unit.
pub(crate) fn scale(unit: Unit, largest: f64) -> (f64, &'static str) {
    let steps: &[(f64, &str)] = match unit {
        Unit::Share => return (0.01, " %"),
        Unit::Number => return (1.0, ""),
        Unit::Watts => return (1.0, " W"),
        Unit::Nanos => &[(1e9, " s"), (1e6, " ms"), (1e3, " µs"), (1.0, " ns")],
        Unit::Bytes => &[
            (1_073_741_824.0, " GiB"),
            (1_048_576.0, " MiB"),
            (1024.0, " KiB"),
            (1.0, " B"),
        ],
    };
    let fits = steps.iter().find(|(worth, _)| largest >= *worth);
    *fits.or(steps.last()).unwrap_or(&(1.0, ""))
}

/// `99.6 % of native [99.2, 100.0]`, with as many decimals as the truth beside `threshold` takes.
#[must_use]
pub fn of_native(interval: &Interval, threshold: f64) -> String {
    let decimals = decimals(interval, threshold);
    format!(
        "{:.decimals$} % of native {}",
        100.0 * interval.value,
        ends(interval, threshold)
    )
}

/// `[99.2, 100.0]`, with as many decimals as the truth beside `threshold` takes.
#[must_use]
pub fn ends(interval: &Interval, threshold: f64) -> String {
    let decimals = decimals(interval, threshold);
    format!(
        "[{:.decimals$}, {:.decimals$}]",
        100.0 * interval.low,
        100.0 * interval.high
    )
}

/// `97 %`: a threshold as its author wrote it.
#[must_use]
pub fn threshold(ratio: f64) -> String {
    format!("{} %", as_percent(ratio))
}

/// `at most 5 MiB`, `100 % ± 3 %`: a bound as its author wrote it, spaced as figures are.
pub(crate) fn bound(bound: Bound, unit: Unit) -> String {
    let mut text = String::new();
    for character in bound.text(unit).chars() {
        let behind_number = text.ends_with(|before: char| before.is_ascii_digit());
        if behind_number && (character == '%' || character.is_alphabetic()) {
            text.push(' ');
        }
        text.push(character);
    }
    text.replace(" us", " µs")
}

/// In percent, without the binary dust of the multiplication.
fn as_percent(ratio: f64) -> f64 {
    (ratio * 1e12).round() / 1e10
}

/// `40 s`, `3 min`, `2.5 h`: rounded up, for the future is never exact.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds <= 90.0 {
        format!("{} s", seconds.ceil().max(1.0))
    } else if seconds <= 90.0 * 60.0 {
        format!("{} min", (seconds / 60.0).ceil())
    } else {
        format!("{} h", (seconds / 360.0).ceil() / 10.0)
    }
}

/// `40 µs`, `2.5 s`: two digits or more of a length of time.
#[must_use]
pub fn nanos(nanos: f64) -> String {
    let (worth, name) = scale(Unit::Nanos, nanos);
    let value = nanos / worth;
    let decimals = usize::from(value < 9.95);
    format!("{value:.decimals$}{name}")
}

/// `4.2`: a share in per cent, with two digits where it is small.
#[must_use]
pub fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    let decimals = if percent.abs() < 0.995 { 2 } else { 1 };
    format!("{percent:.decimals$}")
}

/// Which stalls `nanos` of [`crate::stats::stalls::Stalls::excluded_nanos`] exclude, a sentence.
pub(crate) fn excluded(excluded_nanos: f64) -> String {
    format!(
        "Stalls of any length more often than every {} are excluded with {} %; rarer ones are not.",
        nanos(excluded_nanos),
        100.0 * EXCLUDED_WITH
    )
}

/// A count as far as this machine can hold it.
pub(crate) fn at_most(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// `1 cell`, `3 cells`.
#[must_use]
pub fn count(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// From this factor on it is clearer than a change in percent.
pub(crate) const MANIFOLD: f64 = 2.0;

/// Whether a quotient shows a difference: 1 is outside of its interval.
pub(crate) fn is_shown(ratio: &Interval) -> bool {
    ratio.low > 1.0 || ratio.high < 1.0
}

/// A quotient as a change, and its interval: `−45 %` and `[−46, −44]`, `+8.7 %` and `[+8.0, +9.4]`, `3.1 ×` and `[3.0, 3.2]`; with
/// as many decimals as it takes for a difference that is shown not to look like none.
pub(crate) fn changed(ratio: &Interval) -> (String, String) {
    if ratio.value >= MANIFOLD {
        let ends = format!("[{:.1}, {:.1}]", ratio.low, ratio.high);
        return (format!("{:.1} ×", ratio.value), ends);
    }
    let of = |value: f64| value - 1.0;
    let change = Interval {
        value: of(ratio.value),
        low: of(ratio.low),
        high: of(ratio.high),
        ..*ratio
    };
    let decimals = change_decimals(&change);
    let show = |change: f64| match minus(&format!("{:.decimals$}", 100.0 * change)) {
        text if text.starts_with('−') || text.chars().all(|it| "0.".contains(it)) => text,
        text => format!("+{text}"),
    };
    (
        format!("{} %", show(change.value)),
        format!("[{}, {}]", show(change.low), show(change.high)),
    )
}

/// How many decimals a change of so many percent needs so that no end that is not 0 looks like it.
pub(crate) fn change_decimals(change: &Interval) -> usize {
    let least = usize::from(change.high - change.low < 0.02);
    let either = [
        (f64::MIN_POSITIVE, f64::INFINITY),
        (f64::NEG_INFINITY, -f64::MIN_POSITIVE),
    ];
    let decimals = either.map(|bound| true_decimals(least, change, bound, 0.01));
    decimals.into_iter().fold(least, usize::max).min(3)
}

/// A minus sign in the place of a hyphen, and none before a zero.
pub(crate) fn minus(text: &str) -> String {
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|it| "0.".contains(it)) => rest.to_owned(),
        Some(rest) => format!("−{rest}"),
        None => text.to_owned(),
    }
}

/// With a capital letter.
pub(crate) fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or(String::new(), |first| {
        first.to_uppercase().chain(characters).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(low: f64, value: f64, high: f64) -> Interval {
        Interval {
            value,
            low,
            high,
            confidence: 0.95,
        }
    }

    #[test]
    fn one_decimal_where_one_is_true() {
        let shown = of_native(&interval(0.992, 0.9962, 1.0), 0.97);
        assert_eq!(shown, "99.6 % of native [99.2, 100.0]");
    }

    #[test]
    fn a_refuted_claim_never_shows_its_threshold() {
        let shown = of_native(&interval(0.9612, 0.9641, 0.96997), 0.97);
        assert_eq!(shown, "96.410 % of native [96.120, 96.997]");
    }

    #[test]
    fn an_undecided_claim_shows_that_it_straddles() {
        assert_eq!(
            ends(&interval(0.96996, 0.972, 0.974), 0.97),
            "[96.996, 97.400]"
        );
    }

    #[test]
    fn a_small_share_keeps_its_digits() {
        let shown = of_native(&interval(0.000_008, 0.000_009_4, 0.000_010_3), 0.8);
        assert_eq!(shown, "0.00094 % of native [0.00080, 0.00103]");
        assert_eq!(decimals(&interval(0.0098, 0.01, 0.0102), 0.8), 1);
        assert_eq!(decimals(&interval(0.0, 0.0, 0.0), 0.8), 1);
    }

    #[test]
    fn an_end_on_the_threshold_is_above_it() {
        assert_eq!(decimals(&interval(0.97, 0.98, 0.99), 0.97), 1);
    }

    #[test]
    fn thresholds_appear_as_written() {
        assert_eq!(threshold(0.97), "97 %");
        assert_eq!(threshold(0.57), "57 %");
        assert_eq!(threshold(0.995), "99.5 %");
    }

    #[test]
    fn bounds_are_spaced_as_figures_are() {
        for (given, unit, text) in [
            (
                Bound::AtMost(5.0 * 1_048_576.0),
                Unit::Bytes,
                "at most 5 MiB",
            ),
            (Bound::AtLeast(0.97), Unit::Share, "at least 97 %"),
            (Bound::Within(0.03), Unit::Share, "100 % ± 3 %"),
            (Bound::AtMost(1_500.0), Unit::Nanos, "at most 1500 ns"),
            (Bound::AtMost(2_000.0), Unit::Nanos, "at most 2 µs"),
            (Bound::AtMost(1.5), Unit::Watts, "at most 1.5 W"),
            (Bound::AtMost(7.0), Unit::Number, "at most 7"),
        ] {
            assert_eq!(bound(given, unit), text);
        }
    }

    #[test]
    fn changes_keep_their_sign_and_do_not_look_like_none() {
        let of = |low, value, high| {
            let (value, ends) = changed(&interval(low, value, high));
            format!("{value} {ends}")
        };
        assert_eq!(of(0.541, 0.55, 0.559), "−45.0 % [−45.9, −44.1]");
        assert_eq!(of(0.5, 0.55, 0.6), "−45 % [−50, −40]");
        assert_eq!(of(1.0803, 1.087, 1.0941), "+8.7 % [+8.0, +9.4]");
        // Less than a difference of 0.05 % is still one.
        assert_eq!(of(1.0002, 1.005, 1.0098), "+0.50 % [+0.02, +0.98]");
        assert_eq!(of(0.98, 1.0, 1.02), "0 % [−2, +2]");
        assert_eq!(of(2.9, 3.05, 3.2), "3.0 × [2.9, 3.2]");
        assert!(is_shown(&interval(1.0002, 1.005, 1.01)));
        assert!(is_shown(&interval(0.9, 0.95, 0.999)));
        assert!(!is_shown(&interval(0.9, 1.05, 1.2)));
    }

    #[test]
    fn durations_round_up() {
        let of = |seconds| duration(Duration::from_secs_f64(seconds));
        assert_eq!(of(0.2), "1 s");
        assert_eq!(of(41.5), "42 s");
        assert_eq!(of(121.0), "3 min");
        assert_eq!(of(9_000.0), "2.5 h");
    }
}
