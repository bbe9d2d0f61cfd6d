//! virtio-net against QEMU's: the same guest image with the same driver, in vtax's own VMM and under QEMU's microvm.
//!
//! ```text
//! repetition: QEMU's guest, ours, in turns, on one tap ──► one figure of each ──► paired log ratio ──► mean with its interval
//! ```
//!
//! The vCPU has the first CPU; the device's threads have the second, and so has the peer at the other end of the tap,
//! which answers both. The guest polls for frames, so that it is the path to the tap and back that counts. Neither side
//! may leave it to the kernel (vhost-net).

#[path = "../common/microvm.rs"]
mod microvm;
mod ours;
mod qemu;
#[path = "../common/quantile.rs"]
mod quantile;
#[path = "../common/table.rs"]
mod table;
#[path = "../common/turns.rs"]
mod turns;
#[path = "../common/versus.rs"]
mod versus;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use quantile::quantile;
use vtax::guest::Executor;
use vtax::guest::image::Image;
use vtax::guest::layout;
use vtax::guest::mailbox::{Answer, Mailbox, Request};
use vtax::host::affinity::{Pinned, allowed_cpus};
use vtax::host::net::Network;
use vtax::host::tsc::TscClock;
use vtax_scenarios::memory::arena_bytes;
use vtax_scenarios::plan::NetLink;
use vtax_workloads::abi::Op;
use vtax_workloads::machine::RAM_BASE;
use vtax_workloads::network::frame::{LARGEST, SMALLEST};

/// Guest RAM.
const MEMORY: u64 = 32 << 20;
/// Repetitions of each guest with each size of frame.
const REPETITIONS: usize = 15;
/// Round trips of a guest, after a fourth as many that do not count.
const PINGS: u64 = 4000;
/// Frames of a stream, likewise.
const FRAMES: u64 = 40_000;

/// What one guest did.
#[derive(Clone, Copy)]
struct Figures {
    /// The median of single round trips, in ticks.
    p50: f64,
    /// Their 99th percentile.
    p99: f64,
    /// Ticks per frame of a stream.
    stream: f64,
}

const FIGURES: [versus::Figure<Figures>; 3] = [
    ("round trip p50", |figures| figures.p50),
    ("round trip p99", |figures| figures.p99),
    ("packets per second", |figures| figures.stream),
];

/// What a guest is to do with its link.
type Work<'a> = &'a dyn Fn(&mut dyn Executor, Mailbox<'_>) -> anyhow::Result<Figures>;

fn main() -> anyhow::Result<()> {
    if !table::asked() {
        return Ok(());
    }
    let image = Image::embedded()?;
    let cpus = allowed_cpus()?;
    let clock = TscClock::calibrate(Duration::from_millis(100))?;
    ensure!(cpus.len() >= 2, "vCPU and I/O threads want a CPU each");
    let cpus = [cpus[0], cpus[1]];
    for (name, bytes) in [("64 B", SMALLEST), ("1514 B", LARGEST)] {
        versus::rows(
            &format!("virtio-net against QEMU's, {name} frames"),
            &FIGURES,
            pairs(bytes as u64, &image, cpus),
            clock,
        );
    }
    Ok(())
}

fn pairs(bytes: u64, image: &Image, cpus: [u32; 2]) -> anyhow::Result<Vec<(Figures, Figures)>> {
    let network = {
        // The peer's thread inherits the CPU.
        let _pinned = Pinned::to(&cpus[1..])?;
        Network::build(NetLink::Namespace)?
    };
    let work: Work<'_> = &|cpu, mailbox| exchange(bytes, cpu, mailbox);
    let _pinned = Pinned::to(&cpus[..1])?;
    turns::in_turns(
        REPETITIONS,
        || ours::with(image, &network.tap, cpus[1], work),
        || qemu::with(image, &network.tap, cpus, work),
    )
}

/// Sends frames there and back one at a time, and then as many as the window holds.
fn exchange(bytes: u64, cpu: &mut dyn Executor, mailbox: Mailbox<'_>) -> anyhow::Result<Figures> {
    let mut ask = |name, op, iterations: u64| -> anyhow::Result<Answer> {
        let (workload, entry) = vtax_workloads::find(name).context("no such workload")?;
        let mut params = vtax_workloads::default_params(entry);
        let place = entry.params.iter().position(|param| param.name == "frame");
        params[place.context("no frame")?] = bytes;
        mailbox.put(&Request {
            op,
            workload: workload as u64,
            arena: RAM_BASE + layout::arena(MEMORY, 1, 0),
            arena_len: arena_bytes(MEMORY, 1),
            iterations,
            run_in: 0,
            planted: 0,
            params,
            seed: 1,
        })?;
        cpu.execute()?;
        let answer = mailbox.take()?;
        if op == Op::Run {
            let lost = iterations.abs_diff(answer.checksum);
            ensure!(lost == 0, "{name}: {lost} of {iterations} frames were lost");
        }
        Ok(answer)
    };
    // The driver's state serves both.
    ask("net-ping", Op::Setup, 0)?;
    ask("net-ping", Op::Run, PINGS / 4)?;
    let pings = ask("net-ping", Op::Run, PINGS)?;
    ask("net-stream", Op::Run, FRAMES / 4)?;
    let stream = ask("net-stream", Op::Run, FRAMES)?;
    let latencies: Vec<f64> = pings
        .latencies
        .iter()
        .map(|&ticks| f64::from(ticks))
        .collect();
    Ok(Figures {
        p50: quantile(&latencies, 0.5),
        p99: quantile(&latencies, 0.99),
        stream: stream.ticks as f64 / FRAMES as f64,
    })
}
