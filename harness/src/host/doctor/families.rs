//! The scenarios that ship: which of their cells this host can measure.

use std::collections::BTreeMap;

use vtax_scenarios::{Overrides, host::check, list, shipped::Shipped};

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
    if plan.cells.is_empty() {
        let experiments = plan.experiments.len();
        return HERE.ok(
            subject,
            format!(
                "{experiments} experiments; what this host lacks for them, only trying them tells"
            ),
        );
    }
    let cells = check(&plan, &facts);
    let mut cells_by_reason: BTreeMap<String, usize> = BTreeMap::new();
    for untestable in cells.iter().flatten() {
        *cells_by_reason
            .entry(untestable.reason.clone())
            .or_default() += 1;
    }
    let lacking: usize = cells_by_reason.values().sum();
    let all = cells.len();
    let found = format!("{} of {all} cells can be measured", all - lacking);
    let reasons: Vec<String> = cells_by_reason
        .into_iter()
        .map(|(reason, count)| format!("{count} not testable here: {reason}"))
        .collect();
    let reasons = reasons.join("; ");
    match lacking {
        0 => HERE.ok(subject, found),
        _ if lacking == all => HERE.missing(subject, found, reasons),
        _ => HERE.limited(subject, found, reasons),
    }
}
