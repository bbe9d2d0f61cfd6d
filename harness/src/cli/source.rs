//! Where a scenario comes from: a file, or one that ships inside the binary.

use std::path::Path;

use anyhow::anyhow;
use vtax_scenarios::{Loaded, Overrides, Shipped, claims, list, nearest, parse, shipped};

use super::exit::Failure;
use crate::host::affinity::allowed_cpus;
use crate::host::facts::host_facts;
use crate::host::root::HostRoot;
use crate::trial;
use vtax_scenarios::plan::HostFacts;

/// Reads the scenario of this name: a shipped one's, or a path.
///
/// # Errors
/// There is no such file, or it has errors, each with its place.
pub fn load(name: &str, overrides: &Overrides) -> Result<Loaded, Failure> {
    load_or_hint(name, overrides, "scenario", list())
}

/// Reads the claim of this name, likewise.
///
/// # Errors
/// As [`load`]; the hint is then about claims.
pub fn load_claim(name: &str, overrides: &Overrides) -> Result<Loaded, Failure> {
    load_or_hint(name, overrides, "claim", claims())
}

fn load_or_hint(
    name: &str,
    overrides: &Overrides,
    kind: &str,
    shipping: &[Shipped],
) -> Result<Loaded, Failure> {
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
        let names = || shipping.iter().map(|it| it.name);
        let hint = match nearest(name, names()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!(
                "give a file or one of the {kind}s that ship: {}",
                names().collect::<Vec<_>>().join(", ")
            ),
        };
        Failure::usage(anyhow!("cannot read the {kind} {name}: {error}; {hint}"))
    })?;
    Ok(parse(name, &text, &overrides)?)
}

/// What this host has.
#[must_use]
pub fn facts() -> HostFacts {
    let facts = host_facts(&HostRoot::default());
    HostFacts {
        without_exit: trial::without_exit(facts.hypercalls),
        ..facts
    }
}
