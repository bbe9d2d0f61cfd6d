//! virtio-blk against QEMU's: the same guest image with the same driver, in vtax's own VMM and under QEMU's microvm.
//!
//! ```text
//! repetition: QEMU's guest, ours, in turns ──► one figure of each ──► paired log ratio ──► mean with its interval
//! ```
//!
//! Both have one queue, an I/O thread on the second CPU and the vCPU on the first; the guest polls for completions, so
//! that it is the path to the disk and back that counts. The disks: memory (for QEMU null-co, which reads zeroes from
//! nowhere), and a file with O_DIRECT through io_uring.

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

use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use quantile::quantile;
use vtax::guest::Executor;
use vtax::guest::image::Image;
use vtax::guest::layout;
use vtax::guest::mailbox::{Answer, Mailbox, Request};
use vtax::host::affinity::{Pinned, allowed_cpus};
use vtax::host::tsc::TscClock;
use vtax_scenarios::memory::arena_bytes;
use vtax_workloads::abi::Op;
use vtax_workloads::machine::RAM_BASE;

/// Guest RAM.
const MEMORY: u64 = 32 << 20;
/// The disk.
const DISK_BYTES: u64 = 64 << 20;
/// Repetitions of each guest with each disk.
const REPETITIONS: usize = 15;
/// Reads in a block, for each request that is under way.
const READS: u64 = 4000;

/// Which disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disk<'a> {
    Memory,
    File(&'a Path),
}

/// What one guest did.
#[derive(Clone, Copy)]
struct Figures {
    /// Ticks per read with one request under way.
    alone: f64,
    /// Ticks per read with 32 under way.
    many: f64,
    /// The 99th percentile of single reads at depth 1, in ticks.
    p99: f64,
}

const FIGURES: [versus::Figure<Figures>; 3] = [
    ("IOPS at depth 1", |figures| figures.alone),
    ("IOPS at depth 32", |figures| figures.many),
    ("p99 at depth 1", |figures| figures.p99),
];

fn main() -> anyhow::Result<()> {
    if !table::asked() {
        return Ok(());
    }
    let image = Image::embedded()?;
    let cpus = allowed_cpus()?;
    let clock = TscClock::calibrate(Duration::from_millis(100))?;
    ensure!(cpus.len() >= 2, "vCPU and I/O thread want a CPU each");
    // Without a name: nothing is left of it, whatever happens. Here, because a file in memory has no O_DIRECT.
    let mut file = tempfile::tempfile_in(".")?;
    file.write_all(&vec![0x5a; usize::try_from(DISK_BYTES)?])?;
    file.sync_all()?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    for (name, disk) in [
        ("memory disk", Disk::Memory),
        ("file, O_DIRECT, io_uring", Disk::File(Path::new(&path))),
    ] {
        versus::rows(
            &format!("virtio-blk against QEMU's iothread, {name}"),
            &FIGURES,
            pairs(disk, &image, [cpus[0], cpus[1]]),
            clock,
        );
    }
    Ok(())
}

fn pairs(disk: Disk<'_>, image: &Image, cpus: [u32; 2]) -> anyhow::Result<Vec<(Figures, Figures)>> {
    let _pinned = Pinned::to(&cpus[..1])?;
    turns::in_turns(
        REPETITIONS,
        || ours::with(image, disk, cpus[1], read),
        || qemu::with(image, disk, cpus, read),
    )
}

/// Reads 4 KiB blocks at random, alone and 32 at a time.
fn read(cpu: &mut dyn Executor, mailbox: Mailbox<'_>) -> anyhow::Result<Figures> {
    let (workload, entry) = vtax_workloads::find("block-random").context("no block-random")?;
    let mut ask = |op, depth, iterations| -> anyhow::Result<Answer> {
        let mut params = vtax_workloads::default_params(entry);
        let place = entry.params.iter().position(|param| param.name == "depth");
        params[place.context("no depth")?] = depth;
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
        Ok(mailbox.take()?)
    };
    ask(Op::Setup, 32, 0)?;
    ask(Op::Run, 32, READS)?;
    let alone = ask(Op::Run, 1, READS)?;
    let many = ask(Op::Run, 32, 8 * READS)?;
    let latencies: Vec<f64> = alone
        .latencies
        .iter()
        .map(|&ticks| f64::from(ticks))
        .collect();
    Ok(Figures {
        alone: alone.ticks as f64 / READS as f64,
        many: many.ticks as f64 / (8 * READS) as f64,
        p99: quantile(&latencies, 0.99),
    })
}
