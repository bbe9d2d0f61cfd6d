//! The scenarios that ship: which of their cells and experiments this host can measure.

use std::collections::BTreeMap;

use vtax_scenarios::{Overrides, Testability, list, shipped::Shipped};

use super::{Area, Finding, Host, kvm::usable};
use crate::host::facts::facts;

const HERE: Area = Area::Scenarios;

/// One finding per scenario, from the very check that a run makes.
pub(super) fn findings(host: &Host) -> Vec<Finding> {
    list()
        .iter()
        .map(|scenario| finding(host, scenario))
        .collect()
}

fn finding(host: &Host, scenario: &Shipped) -> Finding {
    let subject = scenario.name;
    if !usable(host) {
        return HERE.missing(
            subject,
            "not testable here",
            "/dev/kvm is not usable: see above",
        );
    }
    let facts = facts(&host.root, &host.probes);
    let overrides = Overrides {
        cpus: u32::try_from(facts.cpus.len()).ok(),
        ..Overrides::default()
    };
    let plan = match scenario.load(&overrides) {
        Ok(loaded) => loaded.plan,
        Err(error) => {
            return HERE.missing(subject, "not testable here", error.render(false));
        }
    };
    let plan = plan.settled(&facts);
    let here = Testability::of(&plan, &facts);
    let found = here.summary(&plan);
    let lacks = here.cells.values().chain(here.experiments.values());
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for lack in lacks.flatten() {
        *times.entry(lack.reason.clone()).or_default() += 1;
    }
    let reasons: Vec<String> = times
        .into_iter()
        .map(|(reason, count)| format!("{count} not testable here: {reason}"))
        .collect();
    let reasons = reasons.join("; ");
    match &here.whole {
        Some(_) => HERE.missing(subject, found, reasons),
        None if reasons.is_empty() => HERE.ok(subject, found),
        None => HERE.limited(subject, found, reasons),
    }
}
