//! `vtax doctor --bundle FILE`: what somebody elsewhere needs to judge how vtax works on this host, in one file without
//! anything private.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;
use vtax_reports::record::HostFingerprint;
use vtax_reports::store::{RECORD_FILE, RESULTS_FILE, replace_json};
use vtax_scenarios::plan::HostFacts;

use super::private::{self, Private};
use super::source;
use crate::host::doctor::Finding;
use crate::host::fingerprint::fingerprint;
use crate::host::root::HostRoot;

/// Version of the JSON object.
const SCHEMA: u32 = 1;

/// Where the kernel's command line is.
const COMMAND_LINE: &str = "/host/facts/kernel_command_line/value";

/// What of a run's record is in the bundle besides its results: what the host did not count, and what its events cost.
const OF_THE_RECORD: [&str; 2] = ["counters_unavailable", "unit_costs"];

#[derive(Serialize)]
struct Bundle<'a> {
    schema: u32,
    vtax_version: &'static str,
    host: HostFingerprint,
    findings: &'a [Finding],
    facts: HostFacts,
    /// What the runs that were named came to, in that order.
    runs: Vec<Value>,
}

/// Writes the bundle.
///
/// # Errors
/// A run has no results, or the file cannot be written.
pub fn write(path: &Path, findings: &[Finding], runs: &[PathBuf]) -> anyhow::Result<()> {
    let bundle = Bundle {
        schema: SCHEMA,
        vtax_version: env!("CARGO_PKG_VERSION"),
        host: fingerprint(&HostRoot::default()),
        findings,
        facts: source::facts(),
        runs: runs
            .iter()
            .map(|run| outcome(run))
            .collect::<Result<_, _>>()?,
    };
    let mut bundle = serde_json::to_value(&bundle)?;
    if let Some(line) = bundle.pointer_mut(COMMAND_LINE)
        && let Some(text) = line.as_str()
    {
        *line = private::kernel_options(text).into();
    }
    let private = Private::of_this_host()?;
    for_each_text(&mut bundle, &mut |text| *text = private.without(text));
    Ok(replace_json(path, &bundle)?)
}

/// What a run came to.
fn outcome(run: &Path) -> anyhow::Result<Value> {
    let read = |name: &str| -> anyhow::Result<Value> {
        let path = run.join(name);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}: name a run directory", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
    };
    let mut outcome = serde_json::Map::from_iter([("results".to_owned(), read(RESULTS_FILE)?)]);
    let record = read(RECORD_FILE)?;
    outcome.extend(OF_THE_RECORD.map(|name| (name.to_owned(), record[name].clone())));
    Ok(outcome.into())
}

/// Calls `change` with every text of a value, names of fields left out.
fn for_each_text(value: &mut Value, change: &mut impl FnMut(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(values) => values.iter_mut().for_each(|it| for_each_text(it, change)),
        Value::Object(fields) => {
            for (_, value) in fields {
                for_each_text(value, change);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
