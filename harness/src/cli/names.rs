//! Names that completion scripts know, where an argument may be something else as well: a file, or a name that an error hints
//! at.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command, Error};
use vtax_scenarios::{claims, list};
use vtax_workloads::CATALOGUE;

/// Takes any text, and knows some.
#[derive(Clone, Debug)]
pub struct Names(Vec<&'static str>);

impl TypedValueParser for Names {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(
            self.0.iter().map(|&name| PossibleValue::new(name)),
        ))
    }
}

/// The scenarios that ship.
pub fn scenarios() -> Names {
    Names(list().iter().map(|it| it.name).collect())
}

/// The claims that ship.
pub fn published_claims() -> Names {
    Names(claims().iter().map(|it| it.name).collect())
}

/// The workloads, and the word for all of them.
pub fn workloads() -> Names {
    let names = CATALOGUE.iter().map(|it| it.name);
    Names(std::iter::once("list").chain(names).collect())
}
