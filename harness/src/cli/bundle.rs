//! `vtax doctor --bundle FILE`: what somebody elsewhere needs to judge how vtax works on this host, in one file without
//! anything private.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;
use vtax_reports::record::HostFingerprint;
use vtax_reports::store::{RESULTS_FILE, replace_json};
use vtax_scenarios::plan::HostFacts;

use super::source;
use crate::host::doctor::Finding;
use crate::host::fingerprint::fingerprint;
use crate::host::root::HostRoot;

/// Version of the JSON object.
const SCHEMA: u32 = 1;

/// What stands in place of what is private.
const REMOVED: &str = "(removed)";

/// A private word shorter than this could be a part of any other.
const SHORTEST: usize = 3;

#[derive(Serialize)]
struct Bundle<'a> {
    schema: u32,
    vtax_version: &'static str,
    host: HostFingerprint,
    findings: &'a [Finding],
    facts: HostFacts,
    /// The results of the runs that were named, in that order.
    runs: Vec<Value>,
}

/// Writes the bundle.
///
/// # Errors
/// A run has no results, or the file cannot be written.
pub fn write(path: &Path, findings: &[Finding], runs: &[PathBuf]) -> anyhow::Result<()> {
    let results = |run: &PathBuf| -> anyhow::Result<Value> {
        let path = run.join(RESULTS_FILE);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}: name a run directory", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
    };
    let bundle = Bundle {
        schema: SCHEMA,
        vtax_version: env!("CARGO_PKG_VERSION"),
        host: fingerprint(&HostRoot::default()),
        findings,
        facts: source::facts(),
        runs: runs.iter().map(results).collect::<Result<_, _>>()?,
    };
    let mut bundle = serde_json::to_value(&bundle)?;
    let words = private_words();
    for_each_text(&mut bundle, &mut |text| *text = without(text, &words));
    Ok(replace_json(path, &bundle)?)
}

/// The names by which this host and its user are known.
fn private_words() -> Vec<String> {
    let system = rustix::system::uname();
    let of_environment = ["HOME", "USER", "LOGNAME", "SUDO_USER"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok());
    let folder = std::env::current_dir().ok();
    let mut words: Vec<String> = [system.nodename(), system.domainname()]
        .into_iter()
        .map(|name| name.to_string_lossy().into_owned())
        .chain(of_environment)
        .chain(folder.map(|folder| folder.display().to_string()))
        // The superuser is nobody in particular.
        .filter(|word| word.len() >= SHORTEST && word != "root" && word != "(none)")
        .collect();
    // A home contains its user's name: the longer first.
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    words
}

/// A text without private words, and without addresses of network cards.
fn without(text: &str, words: &[String]) -> String {
    let mut text = text.to_owned();
    for word in words {
        text = text.replace(word.as_str(), REMOVED);
    }
    text.split_inclusive(char::is_whitespace)
        .map(|word| match is_hardware_address(word.trim()) {
            true => word.replace(word.trim(), REMOVED),
            false => word.to_owned(),
        })
        .collect()
}

/// `02:00:5e:10:00:01`.
fn is_hardware_address(word: &str) -> bool {
    let parts: Vec<&str> = word.split(':').collect();
    let is_byte = |part: &&str| part.len() == 2 && part.chars().all(|it| it.is_ascii_hexdigit());
    parts.len() == 6 && parts.iter().all(is_byte)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_removed_wherever_they_stand() {
        let words = ["/home/eva".to_owned(), "host7".to_owned(), "eva".to_owned()];
        let mut value = serde_json::json!({
            "found": ["/home/eva/disk on host7", "eth0 02:00:5e:10:00:01 up"],
            "of": {"cpu": "Xeon", "cells": 3, "time": "02:00:59"},
        });
        for_each_text(&mut value, &mut |text| *text = without(text, &words));
        assert_eq!(
            value,
            serde_json::json!({
                "found": ["(removed)/disk on (removed)", "eth0 (removed) up"],
                "of": {"cpu": "Xeon", "cells": 3, "time": "02:00:59"},
            })
        );
    }
}
