//! The sinks of a run's results other than the HTML report.
//!
//! ```text
//! Results ──► Format::write ──► JSON · CSV · Markdown · JUnit
//!        └──► terminal::table
//! ```
//!
//! A ratio is always performance: guest as a share of native, 1.0 is no loss, whatever the unit's direction.

pub(crate) mod csv;
pub mod figures;
mod junit;
mod markdown;
pub mod settings;
pub mod terminal;

use std::io::{self, Write};

use serde::Serialize;
use thiserror::Error;

use crate::claims::Suite;
use crate::result::Results;

/// Why an export could not be written.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The output refused.
    #[error("cannot write the {format} export: {source}")]
    Io {
        /// Which export.
        format: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The results cannot be expressed in the format.
    #[error("cannot express the results as {format}: {what}")]
    Encode {
        /// Which export.
        format: &'static str,
        /// Why not.
        what: String,
    },
}

/// A machine-readable form of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The whole [`Results`] as one object, the one that `--json` prints.
    Json,
    /// One row per cell.
    Csv,
    /// The headline, what settings do, and one table row per cell, for an issue or a wiki.
    Markdown,
    /// A test case for the claim and one for each cell, for a CI server: *holds* is a success, *refuted* a failure, *undecided*
    /// and *not testable* are skipped with their reason, a failed guest is an error. Whether anything is a failure is the claim's
    /// verdict, as it is for the exit code.
    Junit,
}

impl Format {
    /// Writes `results` to `output` in this format.
    ///
    /// # Errors
    /// When `output` refuses, or the format cannot express the results.
    pub fn write(self, results: &Results, output: &mut dyn Write) -> Result<(), ExportError> {
        let (format, text) = match self {
            Self::Json => ("JSON", json(results)?),
            Self::Csv => ("CSV", csv::rows(results)?),
            Self::Markdown => ("Markdown", markdown::document(results).into_bytes()),
            Self::Junit => ("JUnit", junit::document(results)?),
        };
        output
            .write_all(&text)
            .map_err(|source| ExportError::Io { format, source })
    }

    /// Writes a suite of claims to `output` in this format: a row, or a test case, for each claim and each of its parts.
    ///
    /// # Errors
    /// As [`Format::write`].
    pub fn write_claims(self, suite: &Suite, output: &mut dyn Write) -> Result<(), ExportError> {
        let (format, text) = match self {
            Self::Json => ("JSON", json(suite)?),
            Self::Csv => ("CSV", csv::claims(suite)?),
            Self::Markdown => ("Markdown", markdown::claims(suite).into_bytes()),
            Self::Junit => ("JUnit", junit::of_claims(suite)?),
        };
        output
            .write_all(&text)
            .map_err(|source| ExportError::Io { format, source })
    }
}

fn json(results: &impl Serialize) -> Result<Vec<u8>, ExportError> {
    let mut text = serde_json::to_vec_pretty(results).map_err(|error| ExportError::Encode {
        format: "JSON",
        what: error.to_string(),
    })?;
    text.push(b'\n');
    Ok(text)
}
