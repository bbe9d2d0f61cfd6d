//! A scenario on this host.

use vtax_scenarios::plan::HostFacts;
use vtax_scenarios::{Loaded, Testability, budget_warning};

use crate::progress::Talk;
use crate::say::say;

/// A scenario, settled for a host, and what that host can test of it.
#[derive(Debug)]
pub struct Judged {
    /// The scenario.
    pub loaded: Loaded,
    /// What can be tested of it.
    pub here: Testability,
}

impl Judged {
    /// Looks at what the scenario needs of the host.
    #[must_use]
    pub fn new(mut loaded: Loaded, facts: &HostFacts) -> Self {
        loaded.plan = loaded.plan.settled(facts);
        let here = Testability::of(&loaded.plan, facts);
        Self { loaded, here }
    }

    /// All that the host lacks for it, and what follows; empty where it lacks nothing.
    #[must_use]
    pub fn lacks(&self) -> String {
        let Self { loaded, here } = self;
        let mut text = here.render(&loaded.plan, &loaded.spans, true);
        if text.is_empty() && here.whole.is_none() {
            return text;
        }
        if !text.is_empty() {
            text += "\n\n";
        }
        text + &format!("{}: {}", loaded.plan.scenario, here.summary(&loaded.plan))
    }

    /// Says on stderr, before anything is measured, what will be missing from the results: what the host lacks, and what the
    /// budget does not suffice for. What keeps all of it from being tested is an error, which even a quiet user is told.
    pub fn tell(&self, talk: Talk) {
        let lacks = self.lacks();
        if !lacks.is_empty() && (talk != Talk::Quiet || self.here.whole.is_some()) {
            say!("{lacks}");
        }
        if talk != Talk::Quiet
            && self.here.whole.is_none()
            && let Some(warning) = budget_warning(&self.loaded.plan, &self.here)
        {
            say!("vtax: {}: {warning}", self.loaded.plan.scenario);
        }
    }
}
