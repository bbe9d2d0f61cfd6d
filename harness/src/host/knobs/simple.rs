//! Knobs that are one file.

use vtax_scenarios::plan::Obstacle;
use vtax_scenarios::units::{duration_text, parse_duration};

use super::super::root::HostRoot;
use super::{HostKnob, Part, Wanted, absent};

/// How a file and a scenario say the same thing.
#[derive(Debug)]
pub(super) enum Form {
    /// In the same words.
    Same,
    /// In different words: the scenario's, the file's.
    Words(&'static [(&'static str, &'static str)]),
    /// The file has a number of so many nanoseconds.
    Time(u64),
}

/// The file's words of a switch.
pub(super) const SWITCH: Form = Form::Words(&[("on", "1"), ("off", "0")]);

/// A knob that is one file.
#[derive(Debug)]
pub(super) struct Simple {
    /// What it is, for messages.
    pub what: &'static str,
    /// Relative to the root.
    pub file: &'static str,
    /// Its language.
    pub form: Form,
    /// How else it can be set.
    pub elsewise: &'static str,
}

impl Form {
    /// What the file holds for the scenario's `value`.
    pub(super) fn text(&self, value: &str) -> Result<String, Obstacle> {
        let unfit = || Obstacle {
            reason: format!("{value:?} is no value that the kernel takes"),
            remedy: "`vtax host show` shows what this host has".to_owned(),
        };
        match self {
            Self::Same => Ok(value.to_owned()),
            Self::Words(words) => words
                .iter()
                .find(|(ours, _)| *ours == value)
                .map(|(_, theirs)| (*theirs).to_owned())
                .ok_or_else(unfit),
            Self::Time(unit) => parse_duration(value)
                .map(|nanos| (nanos / unit).to_string())
                .map_err(|_| unfit()),
        }
    }

    /// What a scenario writes for the file's `text`; what no scenario can say stays as it is.
    pub(super) fn value(&self, text: &str) -> String {
        match self {
            Self::Same => text.to_owned(),
            Self::Words(words) => words
                .iter()
                .find(|(_, theirs)| *theirs == text)
                .map_or(text, |(ours, _)| ours)
                .to_owned(),
            Self::Time(unit) => text
                .parse::<u64>()
                .ok()
                .and_then(|number| number.checked_mul(*unit))
                .map_or_else(|| text.to_owned(), duration_text),
        }
    }
}

impl HostKnob for Simple {
    fn parts(&self, host: &HostRoot) -> Result<Vec<Part>, Obstacle> {
        if host.exists(self.file) {
            Ok(vec![Part::file(self.file)])
        } else {
            Err(absent(
                &format!("{} (/{})", self.what, self.file),
                self.elsewise,
            ))
        }
    }

    fn texts(&self, wanted: &Wanted<'_>) -> Result<Vec<String>, Obstacle> {
        Ok(vec![self.form.text(wanted.value)?])
    }

    fn value(&self, _parts: &[Part], texts: &[String]) -> String {
        texts
            .first()
            .map_or(String::new(), |text| self.form.value(text))
    }

    fn choices(&self, host: &HostRoot) -> Vec<String> {
        // `always [madvise] never`: the words that this kernel knows.
        host.text(self.file)
            .ok()
            .filter(|text| text.contains('['))
            .map(|text| {
                text.split_whitespace()
                    .map(|word| word.trim_matches(['[', ']']).to_owned())
                    .collect()
            })
            .unwrap_or_default()
    }

    fn elsewise(&self) -> &'static str {
        self.elsewise
    }
}
