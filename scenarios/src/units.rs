//! Quantities as a user writes them: sizes, shares and durations, each with its unit, and never a bare number.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Why a text is not a quantity. [`UnitError::advice`] says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// There is no number at the start.
    #[error("`{text}` does not start with a number")]
    NoNumber {
        /// What was written.
        text: String,
        /// A text that would do.
        write: String,
    },
    /// There is a number alone.
    #[error("`{text}` has no unit")]
    NoUnit {
        /// What was written.
        text: String,
        /// A text that would do.
        write: String,
    },
    /// The unit is none that is known here.
    #[error("`{unit}` is no unit of {quantity}")]
    UnknownUnit {
        /// The unit that was written.
        unit: String,
        /// What the unit should be of.
        quantity: &'static str,
        /// A text that would do.
        write: String,
    },
    /// The number is no decimal number, or has places that the unit does not divide into.
    #[error("`{text}` is not a number of whole {base}")]
    NotWhole {
        /// What was written.
        text: String,
        /// The smallest unit.
        base: &'static str,
        /// A text that would do.
        write: String,
    },
    /// The quantity does not fit.
    #[error("`{text}` is too large")]
    TooLarge {
        /// What was written.
        text: String,
        /// A text that would do.
        write: String,
    },
}

impl UnitError {
    /// What to write instead.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::UnknownUnit {
                quantity: "size",
                write,
                ..
            } => {
                format!("write {write}: sizes are in B, KiB, MiB, GiB or TiB, powers of 1024")
            }
            Self::UnknownUnit {
                quantity: "time",
                write,
                ..
            } => {
                format!("write {write}: times are in ns, us, ms, s, min or h")
            }
            Self::NoNumber { write, .. }
            | Self::NoUnit { write, .. }
            | Self::UnknownUnit { write, .. }
            | Self::NotWhole { write, .. }
            | Self::TooLarge { write, .. } => format!("write {write}"),
        }
    }
}

struct Quantity {
    name: &'static str,
    base: &'static str,
    example: &'static str,
    /// What a bare number may be meant in.
    usual: [&'static str; 2],
    /// Units with their worth in the base unit, from small to large.
    units: &'static [(&'static str, u64)],
    /// Other words for some quantity, of which an error says how it is written.
    others: &'static [(&'static str, u64)],
}

const SIZE: Quantity = Quantity {
    name: "size",
    base: "bytes",
    example: "64MiB",
    usual: ["MiB", "KiB"],
    units: &[
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ],
    others: &[],
};

const TIME: Quantity = Quantity {
    name: "time",
    base: "nanoseconds",
    example: "12ms",
    usual: ["ms", "s"],
    units: &[
        ("ns", 1),
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("min", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ],
    others: &[
        ("m", 60_000_000_000),
        ("d", 24 * 3_600_000_000_000),
        ("day", 24 * 3_600_000_000_000),
        ("days", 24 * 3_600_000_000_000),
    ],
};

impl Quantity {
    /// Exact: `1.5s` is 1,500,000,000 ns without a detour through floating point.
    fn parse(&self, text: &str) -> Result<u64, UnitError> {
        let (number, unit) = split(text);
        if number.is_empty() {
            return Err(UnitError::NoNumber {
                text: text.to_owned(),
                write: quoted(self.example),
            });
        }
        let Some(&(_, worth)) = self.units.iter().find(|(name, _)| *name == unit) else {
            let write = |unit| quoted(&format!("{number}{unit}"));
            return Err(if unit.is_empty() {
                UnitError::NoUnit {
                    text: text.to_owned(),
                    write: self.usual.map(write).join(" or "),
                }
            } else {
                let same = self.same_in_a_known_unit(number, unit);
                UnitError::UnknownUnit {
                    unit: unit.to_owned(),
                    quantity: self.name,
                    write: same.map_or_else(|| write(self.meant(unit)), |text| quoted(&text)),
                }
            });
        };
        let not_whole = || UnitError::NotWhole {
            text: text.to_owned(),
            base: self.base,
            write: format!("a number such as {}", quoted(self.example)),
        };
        let too_large = || UnitError::TooLarge {
            text: text.to_owned(),
            write: format!(
                "something like {}; nothing here goes beyond 2^63 {}",
                quoted(self.example),
                self.base
            ),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let fraction = fraction.trim_end_matches('0');
        if whole.is_empty() || fraction.contains('.') || fraction.len() > 18 {
            return Err(not_whole());
        }
        let whole: u64 = whole.parse().map_err(|_| too_large())?;
        let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| not_whole())?);
        let part = match fraction {
            "" => 0,
            digits => digits.parse::<u128>().map_err(|_| not_whole())? * u128::from(worth),
        };
        if part % scale != 0 {
            return Err(not_whole());
        }
        let part = u64::try_from(part / scale).map_err(|_| too_large())?;
        whole
            .checked_mul(worth)
            .and_then(|value| value.checked_add(part))
            .filter(|&value| i64::try_from(value).is_ok())
            .ok_or_else(too_large)
    }

    /// A whole number of one of the `others`, as it is to be written.
    fn same_in_a_known_unit(&self, number: &str, unit: &str) -> Option<String> {
        let (_, worth) = self
            .others
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
        let value = number.parse::<u64>().ok()?.checked_mul(*worth)?;
        Some(self.text(value))
    }

    /// The unit that a user who wrote `unit` most likely meant.
    fn meant(&self, unit: &str) -> &'static str {
        let first = |text: &str| text.chars().next().map(|c| c.to_ascii_lowercase());
        self.units
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .or_else(|| {
                self.units
                    .iter()
                    .find(|(name, _)| unit.len() > 2 && unit.starts_with(name))
            })
            .or_else(|| {
                self.units
                    .iter()
                    .find(|(name, _)| first(name) == first(unit))
            })
            .map_or(self.usual[0], |(name, _)| name)
    }

    /// The largest unit in which `value` is a whole number.
    fn text(&self, value: u64) -> String {
        let &(name, worth) = self
            .units
            .iter()
            .rev()
            .find(|(_, worth)| value != 0 && value.is_multiple_of(*worth))
            .unwrap_or(&self.units[0]);
        format!("{}{name}", value / worth)
    }
}

/// The leading number and, without blanks, what follows it.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// Bytes of a size such as `64MiB`.
///
/// # Errors
/// When there is no number, no unit or one that is no power of 1024.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    SIZE.parse(text)
}

/// Nanoseconds of a time such as `12ms` or `1.5s`.
///
/// # Errors
/// When there is no number, no unit or one that is none of ns, us, ms, s, min and h.
pub fn parse_duration(text: &str) -> Result<u64, UnitError> {
    TIME.parse(text)
}

/// The share that a text such as `0.5%` names: 0.005.
///
/// # Errors
/// When there is no number or no percent sign.
pub fn parse_percent(text: &str) -> Result<f64, UnitError> {
    let (number, unit) = split(text);
    let text = text.to_owned();
    let value: f64 = match number.parse() {
        Ok(value) => value,
        Err(_) => {
            return Err(UnitError::NoNumber {
                text,
                write: quoted("0.5%"),
            });
        }
    };
    match unit {
        "%" => Ok(value / 100.0),
        "" if value <= 1.0 => Err(UnitError::NoUnit {
            text,
            write: format!(
                "{} or {}",
                quoted(&percent_text(value)),
                quoted(&format!("{number}%"))
            ),
        }),
        "" => Err(UnitError::NoUnit {
            text,
            write: quoted(&format!("{number}%")),
        }),
        unit => Err(UnitError::UnknownUnit {
            unit: unit.to_owned(),
            quantity: "share",
            write: quoted(&format!("{number}%")),
        }),
    }
}

/// A size as a user would write it: `1MiB`.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    SIZE.text(bytes)
}

/// A time as a user would write it: `12ms`.
#[must_use]
pub fn duration_text(nanos: u64) -> String {
    TIME.text(nanos)
}

/// A share as a user would write it: `97%`.
#[must_use]
pub fn percent_text(share: f64) -> String {
    // Twelve places hide the rounding of the division by 100 and nothing else.
    let text = format!("{:.12}", share * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A size in bytes, in a scenario file `"64MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// A time in nanoseconds, in a scenario file `"12ms"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duration(pub u64);

/// A share, in a scenario file `"97%"`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percent(pub f64);

/// A line break separates what is wrong from what to write instead: all that an error can carry through serde is one
/// text.
pub(crate) fn serde_error<E: Error>(error: &UnitError) -> E {
    E::custom(format_args!("{error}\n{}", error.advice()))
}

macro_rules! quantity {
    ($name:ident, $parse:expr, $expecting:literal, $pattern:literal, $examples:tt) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: Error>(self, text: &str) -> Result<$name, E> {
                        $parse(text).map($name).map_err(|error| serde_error(&error))
                    }

                    fn visit_i64<E: Error>(self, number: i64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }

                    fn visit_f64<E: Error>(self, number: f64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }
                }
                deserializer.deserialize_any(Text)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "examples": $examples })
            }
        }
    };
}

quantity!(
    Size,
    parse_size,
    "a size such as \"64MiB\"",
    r"^\s*[0-9]+(\.[0-9]+)?\s*(B|KiB|MiB|GiB|TiB)\s*$",
    ["64MiB"]
);
quantity!(
    Duration,
    parse_duration,
    "a time such as \"12ms\"",
    r"^\s*[0-9]+(\.[0-9]+)?\s*(ns|us|ms|s|min|h)\s*$",
    ["12ms"]
);
quantity!(
    Percent,
    parse_percent,
    "a share such as \"97%\"",
    r"^\s*[0-9]+(\.[0-9]+)?\s*%\s*$",
    ["97%"]
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_are_exact() {
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size(" 1.5 GiB"), Ok(3 << 29));
        assert_eq!(parse_duration("1.5s"), Ok(1_500_000_000));
        assert_eq!(parse_duration("0.1us"), Ok(100));
        assert_eq!(parse_duration("2min"), Ok(120_000_000_000));
        assert_eq!(parse_duration("90h"), Ok(90 * 3_600_000_000_000));
        assert_eq!(parse_percent("97%"), Ok(0.97));
        assert_eq!(parse_percent("0.5 %"), Ok(0.005));
    }

    #[test]
    fn errors_say_what_to_write() {
        let advice = |text| {
            let error = parse_size(text).unwrap_err();
            format!("{error}: {}", error.advice())
        };
        insta::assert_snapshot!(
            [
                "64",
                "64MB",
                "64M",
                "64 mib",
                "64 gigabytes",
                "64 parsec",
                "many",
                "",
                ".5MiB",
                "0.3B",
                "1.2.3MiB",
                "99999999999TiB"
            ]
            .map(advice)
            .join("\n")
        );
        let advice = |text| {
            let error = parse_duration(text).unwrap_err();
            format!("{error}: {}", error.advice())
        };
        insta::assert_snapshot!(
            [
                "10",
                "10 seconds",
                "10m",
                "10 msec",
                "0.5ns",
                "-3ms",
                "90 hours",
                "2d",
                "30 Days"
            ]
            .map(advice)
            .join("\n")
        );
        let advice = |text| {
            let error = parse_percent(text).unwrap_err();
            format!("{error}: {}", error.advice())
        };
        insta::assert_snapshot!(["97", "97 percent", "half"].map(advice).join("\n"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_quantity_or_an_error(text: String) {
            let _ = parse_size(&text);
            let _ = parse_duration(&text);
            let _ = parse_percent(&text);
        }

        #[test]
        fn texts_come_back(value in 0..1u64 << 62, thousandths in 0..1_000_000u32) {
            prop_assert_eq!(parse_size(&size_text(value)), Ok(value));
            prop_assert_eq!(parse_duration(&duration_text(value)), Ok(value));
            let share = f64::from(thousandths) / 1000.0 / 100.0;
            prop_assert!((parse_percent(&percent_text(share)).unwrap() - share).abs() < 1e-12);
        }
    }
}
