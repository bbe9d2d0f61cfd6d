//! Cells with a planted loss: what the account of the gap makes of them. Shared by the benchmark and the KVM test.

use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use vtax::costs::{self, Prices};
use vtax::host::fingerprint::fingerprint;
use vtax::host::root::HostRoot;
use vtax::measure::boot::{Baseline, Spec, boot};
use vtax::measure::plant::Planted;
use vtax::rig::Rig;
use vtax_reports::counters::CounterLog;
use vtax_reports::estimate::estimate;
use vtax_reports::ledger::{Entry, Ledger};
use vtax_reports::record::{RunRecord, SCHEMA};
use vtax_reports::store::LatencyLog;
use vtax_scenarios::{Overrides, parse};

/// A small guest and a workload that lives in the core: what is not planted costs next to nothing.
const SCENARIO: &str = r#"
schema = 1
name = "planted"

[guest]
vcpus = 1
memory = "16MiB"
backing = "4k"
page-size = "2M"
pinning = "one-to-one"

[measure]
block = "12ms"
rounds = 3
pilot-boots = 10
max-boots = 10

[[workload]]
name = "cpu-hash"
"#;

/// Boots of a cell.
const BOOTS: u32 = 10;

/// What came of a cell with a planted loss.
#[derive(Debug)]
pub struct Outcome {
    /// The account.
    pub ledger: Ledger,
    /// Units of work of one block.
    pub block_iterations: u64,
}

impl Outcome {
    /// What the account says of a cause; `None` where it could not tell.
    pub fn entry(&self, cause: vtax_reports::ledger::Cause) -> Option<&Entry> {
        self.ledger.causes.iter().find(|entry| entry.cause == cause)
    }
}

/// Measures a cell whose guest blocks lose something by `planted`.
pub fn measure(rig: &Rig, planted: Planted<'_>) -> anyhow::Result<Outcome> {
    let Prices {
        counters_unavailable,
        unit_costs,
    } = costs::measure(rig)?;
    let plan = parse("planted.toml", SCENARIO, &Overrides::default())
        .map_err(|error| anyhow::anyhow!("{error}"))?
        .plan;
    let cell = plan.cells.first().context("a plan without a cell")?;
    let (mut samples, mut counters, mut known) = (Vec::new(), CounterLog::default(), None);
    for number in 0..BOOTS {
        let outcome = boot(
            rig,
            &Spec {
                cell,
                boot: number,
                seed: plan.seed,
                known,
                planted,
                baseline: Baseline::Native,
                stop: &AtomicBool::new(false),
            },
        )?;
        samples.extend(outcome.samples);
        counters.extend(outcome.counters);
        known = Some(outcome.known);
    }
    let record = RunRecord {
        schema: SCHEMA,
        vtax_version: env!("CARGO_PKG_VERSION").to_owned(),
        started: String::new(),
        finished: Some(String::new()),
        interrupted: false,
        command: Vec::new(),
        host: fingerprint(&HostRoot::default()),
        payload_sha256: rig.image.sha256(),
        nanos_per_tick: rig.clock.nanos_per_tick,
        clock_bound: rig.bound,
        plan: plan.clone(),
        counters_unavailable,
        unit_costs,
        not_measured: std::collections::BTreeMap::new(),
        native_disks: std::collections::BTreeMap::new(),
        experiments_not_measured: std::collections::BTreeMap::new(),
        metrics_unavailable: std::collections::BTreeMap::new(),
        resumed: Vec::new(),
    };
    let results = estimate(&record, &samples, &LatencyLog::default(), &counters);
    let cell = results.cells.into_iter().next();
    Ok(Outcome {
        ledger: cell
            .and_then(|cell| cell.ledger)
            .context("fewer than two boots count")?,
        block_iterations: known.context("no boot")?.guest.iterations,
    })
}
