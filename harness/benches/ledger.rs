//! Whether the account of the gap names a planted cause and gets its size: port exits of known number against the
//! measured loss, and a rival's own CPU time against what the account calls waiting for a CPU.

#[path = "common/planted.rs"]
mod planted;
#[path = "common/table.rs"]
mod table;

use anyhow::Context as _;
use planted::{Outcome, measure};
use table::{Measured, print};
use vtax::counters::kvm::KvmStatistics;
use vtax::guest::small::SmallGuest;
use vtax::measure::plant::{Planted, Rival};
use vtax::rig::Rig;
use vtax_reports::ledger::{Cause, Finding, Price};

/// Port exits planted in a block of 12 ms.
const EXITS: u64 = 150;
/// How far a size may be off.
const TOLERANCE: f64 = 0.2;
const WANTED: &str = "named first, size within 20 %";
/// Readings of KVM's statistics that are timed.
const READINGS: u32 = 10_000;

fn main() -> anyhow::Result<()> {
    if !table::asked() {
        return Ok(());
    }
    let rig = Rig::prepare()?;
    let exits = measure(&rig, Planted::Exits(EXITS)).and_then(|outcome| {
        let predicted = outcome.entry(Cause::PortExits).context("no port exits")?;
        told(
            &outcome,
            Cause::PortExits,
            predicted.loss.value,
            outcome.ledger.loss.value,
        )
    });
    print("account of 150 planted port exits a block", WANTED, exits);
    let rival = Rival::on(*rig.cpus.first().context("no CPU")?)?;
    let waiting = measure(&rig, Planted::Rival(&rival)).and_then(|outcome| {
        let predicted = outcome
            .entry(Cause::RunDelay)
            .context("no run delay here")?;
        let truth = rival.cpu_nanos() as f64 / outcome.guest_iterations as f64;
        told(&outcome, Cause::RunDelay, predicted.loss.value, truth)
    });
    print("account of a rival on the vCPU's CPU", WANTED, waiting);
    print(
        "KVM's statistics around a block",
        "< 0.01 % of 25 ms",
        reading(&rig),
    );
    Ok(())
}

/// Whether the account names the cause first, and how large it says that it is.
fn told(outcome: &Outcome, cause: Cause, predicted: f64, truth: f64) -> anyhow::Result<Measured> {
    let first = outcome.ledger.causes.first().context("no cause at all")?;
    let ratio = predicted / truth;
    let a_block = first.events.value * outcome.block_iterations as f64;
    let finding = match outcome.ledger.finding {
        Finding::Explained => "nothing unexplained".to_owned(),
        other => format!(
            "residual {:.1} % of the loss {}",
            100.0 * outcome.ledger.residual.value / outcome.ledger.loss.value,
            other.word()
        ),
    };
    Ok(Measured {
        value: format!(
            "{} first ({} a block), {:.1} % of the truth, {finding}",
            first.cause.title(),
            match first.cause.price() {
                Price::Time => format!("{:.2} ms", a_block / 1e6),
                Price::Of(_) | Price::Unknown(_) => format!("{a_block:.1}"),
            },
            100.0 * ratio
        ),
        met: first.cause == cause && (ratio - 1.0).abs() <= TOLERANCE,
    })
}

/// What reading KVM's statistics twice takes.
fn reading(rig: &Rig) -> anyhow::Result<Measured> {
    let nanos = SmallGuest::with(&rig.kvm, &rig.image, |guest| {
        let mut statistics: KvmStatistics = match guest.vcpu.statistics() {
            Ok(statistics) => statistics,
            Err(_) => return Ok(None),
        };
        let mut counts = vtax_reports::counters::Counts::NONE;
        let start = std::time::Instant::now();
        for _ in 0..READINGS {
            statistics.read(&mut counts);
        }
        Ok(Some(
            start.elapsed().as_nanos() as f64 / f64::from(READINGS),
        ))
    })?
    .context("this KVM has no statistics")?;
    Ok(Measured {
        value: format!("{:.2} µs", 2.0 * nanos / 1e3),
        met: 2.0 * nanos < 25e6 * 1e-4,
    })
}
