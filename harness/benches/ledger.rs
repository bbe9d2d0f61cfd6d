//! Whether the account of the gap names a planted cause and gets its size: port exits of known number, against the loss
//! that the same run measured, and a rival of known share on the vCPU's CPU, against what follows from that share.

#[path = "common/planted.rs"]
mod planted;
#[path = "common/table.rs"]
mod table;

use anyhow::Context as _;
use planted::{Outcome, measure};
use table::{Measured, print};
use vtax::counters::kvm::KvmStatistics;
use vtax::guest::embedded;
use vtax::guest::small::SmallGuest;
use vtax::measure::plant::{Planted, Rival};
use vtax::rig::Rig;
use vtax_reports::ledger::{Cause, Finding, Price};

/// Port exits planted in a block of 12 ms.
const EXITS: u64 = 150;
/// The rival's share of the vCPU's CPU.
const SHARE: f64 = 0.3;
/// How far a size may be off.
const TOLERANCE: f64 = 0.2;
const WANTED: &str = "named first, size within 20 %";
/// Readings of KVM's statistics that are timed together.
const READINGS: u32 = 1_000;
/// The best of so many counts: it is the reading that is asked for, not the load of others.
const BATCHES: u32 = 10;

fn main() -> anyhow::Result<()> {
    if !table::asked() {
        return Ok(());
    }
    let rig = Rig::prepare()?;
    let exits = measure(&rig, Planted::Exits(EXITS)).and_then(|outcome| {
        let predicted = outcome.entry(Cause::PortExits).context("no port exits")?;
        // Waiting is a time that was measured itself, and here it is the load of others.
        let waited: f64 = [Cause::RunDelay, Cause::Missing]
            .into_iter()
            .filter_map(|cause| Some(outcome.entry(cause)?.loss.value))
            .sum();
        let truth = outcome.ledger.loss.value - waited;
        told(&outcome, Cause::PortExits, predicted.loss.value, truth)
    });
    print("account of 150 planted port exits a block", WANTED, exits);
    let rival = Rival::on(*rig.cpus.first().context("no CPU")?, SHARE)?;
    let waiting = measure(&rig, Planted::Rival(&rival)).and_then(|outcome| {
        let predicted = outcome
            .entry(Cause::RunDelay)
            .context("no run delay here")?;
        // Known from the share alone: no clock of the run has a part in it.
        let truth = rival.loss_nanos(outcome.ledger.native_nanos);
        eprintln!(
            "measured: {:.1} % of what the rival takes",
            100.0 * outcome.ledger.loss.value / truth
        );
        told(&outcome, Cause::RunDelay, predicted.loss.value, truth)
    });
    print(
        "account of a rival that takes 30 % of the vCPU's CPU",
        WANTED,
        waiting,
    );
    print(
        "KVM's statistics around a block",
        "< 0.01 % of 25 ms",
        reading(&rig),
    );
    Ok(())
}

/// The account in nanoseconds per block, for whoever wonders about a figure.
fn explain(outcome: &Outcome) {
    let a_block = |nanos: f64| nanos * outcome.block_iterations as f64;
    let ledger = &outcome.ledger;
    eprintln!(
        "a block: native {:.0} ns, loss {:.0}, predicted {:.0}, residual {:.0} [{:.0}, {:.0}]",
        a_block(ledger.native_nanos),
        a_block(ledger.loss.value),
        a_block(ledger.predicted.value),
        a_block(ledger.residual.value),
        a_block(ledger.residual.low),
        a_block(ledger.residual.high)
    );
    for entry in &ledger.causes {
        eprintln!(
            "  {}: {:.2} at {:.0} ns",
            entry.cause.title(),
            a_block(entry.events.value),
            entry.cost.value
        );
    }
}

/// Whether the account names the cause first, and how large it says that it is.
fn told(outcome: &Outcome, cause: Cause, predicted: f64, truth: f64) -> anyhow::Result<Measured> {
    explain(outcome);
    let is_priced = |cause: Cause| matches!(cause.price(), Price::Of(_));
    let first = outcome
        .ledger
        .causes
        .iter()
        .find(|entry| is_priced(entry.cause) || !is_priced(cause))
        .context("no cause at all")?;
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
    let nanos = SmallGuest::with(&embedded::open()?, &rig.image, |guest| {
        let mut statistics: KvmStatistics = match guest.vcpu.statistics() {
            Ok(statistics) => statistics,
            Err(_) => return anyhow::Ok(None),
        };
        let mut counts = vtax_reports::counters::Counts::NONE;
        let mut best = f64::INFINITY;
        for _ in 0..BATCHES {
            let start = std::time::Instant::now();
            for _ in 0..READINGS {
                statistics.read(&mut counts);
            }
            best = best.min(start.elapsed().as_nanos() as f64 / f64::from(READINGS));
        }
        Ok(Some(best))
    })?
    .context("this KVM has no statistics")?;
    Ok(Measured {
        value: format!("{:.2} µs", 2.0 * nanos / 1e3),
        met: 2.0 * nanos < 25e6 * 1e-4,
    })
}
