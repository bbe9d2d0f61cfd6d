//! What can be set on a host: each [`Knob`] of a scenario with the files behind it.
//!
//! ```text
//! Knob ──of──► HostKnob ──parts──► Part (a file, a module) ──read, write──► text
//!                       ──texts──► what each part shall hold
//! ```
//!
//! A knob knows no past: [`super::prepared`] keeps the old values, in the [`super::journal`].

mod cpufreq;
mod halt_poll;
mod hugepages;
mod idle;
mod irq;
mod kernel;
mod ksm;
mod paging;
mod part;
mod simple;
mod smt;
#[cfg(test)]
mod tests;
mod thp;

use std::collections::BTreeMap;

use vtax_scenarios::plan::{Knob, KnobFact, Obstacle};

use super::root::HostRoot;
pub use part::{Part, PartError};

/// A knob on this host.
pub trait HostKnob: Sync {
    /// The places that it is made of, in the order in which they are set.
    ///
    /// # Errors
    /// This host has no such knob.
    fn parts(&self, host: &HostRoot) -> Result<Vec<Part>, Obstacle>;

    /// What each of `parts` shall hold for the knob to have this value.
    ///
    /// # Errors
    /// The value does not suit this host.
    fn texts(&self, wanted: &Wanted<'_>) -> Result<Vec<String>, Obstacle>;

    /// The knob's value where its `parts` hold `texts`, as a scenario would write it.
    fn value(&self, parts: &[Part], texts: &[String]) -> String;

    /// The values that the host lists for it; empty where it lists none.
    fn choices(&self, _host: &HostRoot) -> Vec<String> {
        Vec::new()
    }

    /// How else it can be set, where the kernel does not let it be changed while it runs.
    fn elsewise(&self) -> &'static str;

    /// Further places that the kernel sets anew when the knob is changed: they are put back with it.
    fn carried(&self, _host: &HostRoot) -> Vec<Part> {
        Vec::new()
    }

    /// Whether single parts may refuse, without the knob being useless for it.
    fn parts_may_refuse(&self) -> bool {
        false
    }

    /// Makes one of its parts, or of the places that it carries, hold `text`, and makes sure that it does.
    ///
    /// # Errors
    /// [`PartError`].
    fn write(
        &self,
        host: &HostRoot,
        part: &Part,
        text: &str,
        _originals: &Originals,
    ) -> Result<(), PartError> {
        part.write(host, text)
    }
}

/// What parts held before vtax changed anything.
pub type Originals = BTreeMap<Part, String>;

/// A value for a knob, and what it depends on.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The machine.
    pub host: &'a HostRoot,
    /// The knob's parts.
    pub parts: &'a [Part],
    /// What they held before vtax changed anything.
    pub originals: &'a [String],
    /// The value, as a scenario writes it.
    pub value: &'a str,
    /// CPUs that are measured.
    pub measured: &'a [u32],
}

/// The host's side of a knob.
#[must_use]
pub fn of(knob: Knob) -> &'static dyn HostKnob {
    match knob {
        Knob::Smt => &smt::SMT,
        Knob::TwoDimensionalPaging => &paging::TwoDimensionalPaging,
        Knob::HaltPoll => &halt_poll::CEILING,
        Knob::HaltPollGrow => &halt_poll::GROW,
        Knob::HaltPollGrowStart => &halt_poll::GROW_START,
        Knob::HaltPollShrink => &halt_poll::SHRINK,
        Knob::Governor => &cpufreq::Governor,
        Knob::Turbo => &cpufreq::Turbo,
        Knob::CStateLatency => &idle::CStateLatency,
        Knob::Thp => &thp::ENABLED,
        Knob::ThpDefrag => &thp::DEFRAG,
        Knob::Hugepages2m => &hugepages::OF_2M,
        Knob::Hugepages1g => &hugepages::OF_1G,
        Knob::KsmMergeAcrossNodes => &ksm::MERGE_ACROSS_NODES,
        Knob::KsmAdvisor => &ksm::Advisor,
        Knob::KsmPagesToScan => &ksm::PAGES_TO_SCAN,
        Knob::KsmSleep => &ksm::SLEEP,
        Knob::Ksm => &ksm::RUN,
        Knob::NumaBalancing => &kernel::NUMA_BALANCING,
        Knob::NmiWatchdog => &kernel::NMI_WATCHDOG,
        Knob::IrqsAway => &irq::IrqsAway,
    }
}

/// What this host says of each knob.
#[must_use]
pub fn facts(host: &HostRoot) -> BTreeMap<Knob, KnobFact> {
    Knob::ALL
        .into_iter()
        .map(|knob| (knob, fact(host, of(knob))))
        .collect()
}

fn fact(host: &HostRoot, knob: &dyn HostKnob) -> KnobFact {
    let parts = match knob.parts(host) {
        Ok(parts) => parts,
        Err(obstacle) => {
            return KnobFact {
                obstacle: Some(obstacle),
                ..KnobFact::default()
            };
        }
    };
    let texts: Result<Vec<String>, _> = parts.iter().map(|part| part.read(host)).collect();
    let present = match texts {
        Ok(texts) => knob.value(&parts, &texts),
        Err(error) => {
            return KnobFact {
                obstacle: Some(Obstacle {
                    reason: error.to_string(),
                    remedy: AS_ROOT.to_owned(),
                }),
                ..KnobFact::default()
            };
        }
    };
    KnobFact {
        present: Some(present),
        obstacle: parts
            .iter()
            .find_map(|part| part.obstacle(host, knob.elsewise())),
        choices: knob.choices(host),
    }
}

/// What helps where the user lacks rights.
const AS_ROOT: &str = "run vtax as root";

/// A host that lacks a file.
fn absent(what: &str, remedy: &str) -> Obstacle {
    Obstacle {
        reason: format!("this host has no {what}"),
        remedy: remedy.to_owned(),
    }
}
