//! Where a scenario comes from: a file, or one that ships inside the binary.

use std::path::Path;

use anyhow::anyhow;
use vtax_scenarios::{Loaded, Overrides, list, parse, shipped};

use super::exit::Failure;
use crate::host::affinity::allowed_cpus;
use crate::host::facts::host_facts;
use crate::host::root::HostRoot;
use vtax_scenarios::plan::HostFacts;

/// Reads the scenario of this name: a shipped one's, or a path.
///
/// # Errors
/// There is no such file, or it has errors, each with its place.
pub fn load(name: &str, overrides: &Overrides) -> Result<Loaded, Failure> {
    let overrides = Overrides {
        cpus: allowed_cpus()
            .ok()
            .and_then(|cpus| u32::try_from(cpus.len()).ok()),
        ..overrides.clone()
    };
    if let Some(scenario) = shipped(name) {
        return Ok(scenario.load(&overrides)?);
    }
    let text = std::fs::read_to_string(Path::new(name)).map_err(|error| {
        let known: Vec<&str> = list().iter().map(|scenario| scenario.name).collect();
        Failure::usage(anyhow!(
            "cannot read the scenario {name}: {error}; give a file or one of the shipped scenarios: {}",
            known.join(", ")
        ))
    })?;
    Ok(parse(name, &text, &overrides)?)
}

/// What this host has.
#[must_use]
pub fn facts() -> HostFacts {
    host_facts(&HostRoot::default())
}
