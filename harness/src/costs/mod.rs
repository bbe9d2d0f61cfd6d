//! What single events cost on this host, before the first boot: the prices of the account of the gap.
//!
//! ```text
//! SmallGuest ──► batches of one kind of event ──► nanoseconds per event, one figure a batch ──► run.json
//! ```
//!
//! Batches, not a mean: `reports` makes the interval. The guest makes its exits by the code of the latency workloads.

mod exits;
mod switches;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use vtax_reports::counters::Counter;
use vtax_reports::record::{CostOf, UnitCost};

use crate::counters::Counters;
use crate::guest::embedded;
use crate::guest::small::SmallGuest;
use crate::host::affinity::Pinned;
use crate::host::disturbance::DisturbanceProbe;
use crate::host::root::HostRoot;
use crate::rig::{Rig, RigError};

/// Most batches of a kind.
const BATCHES: usize = 15;
/// Fewest, however long they take.
const FEWEST: usize = 3;
/// Time for all batches of a kind: seven kinds stay below a second.
const BUDGET: Duration = Duration::from_millis(120);

/// What is known of a host's counters and prices.
#[derive(Clone, Debug, Default)]
pub struct Prices {
    /// Counters that it does not offer, and why.
    pub counters_unavailable: BTreeMap<Counter, String>,
    /// What events cost.
    pub unit_costs: BTreeMap<CostOf, UnitCost>,
}

/// Measures the prices, in about a second.
///
/// # Errors
/// The guest failed.
pub fn measure(rig: &Rig) -> Result<Prices, RigError> {
    let here = rig.cpus.first().copied();
    let _pinned = here.map(|cpu| Pinned::to(&[cpu])).transpose()?;
    let mut prices = SmallGuest::with_interrupts(&embedded::open()?, &rig.image, |guest| {
        let counters = Counters::new(&guest.vcpu);
        let mut prices = Prices {
            counters_unavailable: counters.unavailable().clone(),
            unit_costs: BTreeMap::new(),
        };
        exits::measure(guest, rig, &mut prices.unit_costs)?;
        Ok(prices)
    })?;
    let cost = switches::measure();
    prices.unit_costs.insert(CostOf::ContextSwitch, cost);
    prices.counters_unavailable.extend(of_the_scheduler());
    Ok(prices)
}

/// What the scheduler does not tell, and why.
fn of_the_scheduler() -> BTreeMap<Counter, String> {
    let probe = DisturbanceProbe::for_this_thread(&HostRoot::default());
    let mut missing = BTreeMap::new();
    for (source, why) in probe.unavailable() {
        if *source == "run delay" {
            missing.insert(Counter::RunDelay, why.clone());
            missing.insert(Counter::Missing, why.clone());
            missing.insert(Counter::Asleep, why.clone());
        }
    }
    if !probe.is_virtualized() {
        let why = "no hypervisor is below this host, so nothing can take time from it";
        missing.insert(Counter::Missing, why.to_owned());
    }
    missing
}

/// Repeats `batch`, which tells nanoseconds per event or that there was no event, as often as the budget allows.
fn batches<E>(mut batch: impl FnMut() -> Result<Option<f64>, E>) -> Result<Vec<f64>, E> {
    let start = Instant::now();
    let mut nanos = Vec::new();
    for number in 0..BATCHES {
        if number >= FEWEST && start.elapsed() > BUDGET {
            break;
        }
        nanos.extend(batch()?);
    }
    Ok(nanos)
}
