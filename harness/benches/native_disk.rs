//! The native side of a disk workload against fio: random reads of 4 KiB of one file with O_DIRECT through io_uring, both
//! on the same CPU and asleep while they wait.
//!
//! ```text
//! repetition: fio, ours, in turns ──► reads per second of each ──► paired log ratio ──► mean with its interval
//! ```

#[path = "common/quantile.rs"]
mod quantile;
#[path = "common/table.rs"]
mod table;
#[path = "common/turns.rs"]
mod turns;

use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use quantile::quantile;
use table::{Measured, print};
use vtax::guest::embedded::devices::disk::Disk;
use vtax::guest::mailbox::Request;
use vtax::host::affinity::{Pinned, allowed_cpus};
use vtax::twin::Twin as _;
use vtax::twin::block::Block;
use vtax_reports::native_disk::Waiting;
use vtax_reports::stats::stein;
use vtax_workloads::abi::{LATENCY_SLOTS, Op};
use vtax_workloads::{Latencies, Task};

const DISK_BYTES: u64 = 64 << 20;
const REPETITIONS: usize = 8;
const CONFIDENCE: f64 = 0.95;
/// How long a side reads in one repetition.
const STRETCH: Duration = Duration::from_secs(1);
/// Reads between two looks at the clock, for each that is under way.
const READS: u64 = 1000;
/// How far vtax may be from fio.
const WANTED: f64 = 0.1;
/// As the I/O thread of a guest's disk does where a scenario says nothing.
const POLL_NANOS: u64 = 32_000;

fn main() -> anyhow::Result<()> {
    if !table::asked() {
        return Ok(());
    }
    let cpu = *allowed_cpus()?.first().context("no CPU")?;
    // Without a name: nothing is left of it, whatever happens. Here, because a file in memory has no O_DIRECT.
    let mut file = tempfile::tempfile_in(".")?;
    file.write_all(&vec![0x5a; usize::try_from(DISK_BYTES)?])?;
    file.sync_all()?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    for depth in [1, 32] {
        print(
            &format!("native disk twin against fio's io_uring, depth {depth}"),
            "within 10 %",
            against_fio(Path::new(&path), cpu, depth),
        );
    }
    Ok(())
}

fn against_fio(path: &Path, cpu: u32, depth: u64) -> anyhow::Result<Measured> {
    let version = Command::new("fio").arg("--version").output();
    version.context("there is no fio: apt-get install fio")?;
    let pairs = turns::in_turns(
        REPETITIONS,
        || ours(path, cpu, depth, Waiting::Sleep),
        || fio(path, cpu, depth),
    )?;
    let ratios: Vec<f64> = pairs
        .iter()
        .map(|(ours, theirs)| (ours / theirs).ln())
        .collect();
    let ratio = stein::interval(&ratios, ratios.len(), CONFIDENCE).context("too few pairs")?;
    let median = |side: fn(&(f64, f64)) -> f64| {
        let all: Vec<f64> = pairs.iter().map(side).collect();
        quantile(&all, 0.5) / 1e3
    };
    eprintln!(
        "depth {depth}: ours {:.1} kIOPS, fio {:.1} kIOPS (medians)",
        median(|pair| pair.0),
        median(|pair| pair.1)
    );
    for waiting in [Waiting::PollThenSleep { nanos: POLL_NANOS }, Waiting::Poll] {
        let rate = ours(path, cpu, depth, waiting)?;
        eprintln!(
            "depth {depth}: {:.1} kIOPS where ours {}",
            rate / 1e3,
            waiting.text()
        );
    }
    Ok(Measured {
        value: format!(
            "{:.2} × its IOPS [{:.2}, {:.2}]",
            ratio.value, ratio.low, ratio.high
        ),
        met: (ratio.value - 1.0).abs() <= WANTED,
    })
}

/// Reads per second of the native twin.
fn ours(path: &Path, cpu: u32, depth: u64, waiting: Waiting) -> anyhow::Result<f64> {
    let _pinned = Pinned::to(&[cpu])?;
    let (workload, entry) = vtax_workloads::find("block-random").context("no block-random")?;
    let place = entry.params.iter().position(|param| param.name == "depth");
    let mut params = vtax_workloads::default_params(entry);
    params[place.context("no depth")?] = depth;
    let mut request = Request {
        op: Op::Run,
        workload: workload as u64,
        arena: 0,
        arena_len: 0,
        iterations: READS * depth,
        run_in: 0,
        planted: 0,
        params,
        seed: 0,
    };
    let mut twin = Block::new(Task::BlockRandom, Arc::new(Disk::open(path, true, true)?));
    twin.wait_by(waiting);
    twin.set_up(&request)?;
    let mut slots = Box::new([0; LATENCY_SLOTS]);
    let start = Instant::now();
    let mut reads = 0;
    while start.elapsed() < STRETCH {
        let (mut len, mut dropped) = (0, 0);
        let mut latencies = Latencies::new(&mut slots, &mut len, &mut dropped);
        request.seed += request.iterations;
        twin.run(&request, &mut latencies)?;
        reads += request.iterations;
    }
    Ok(reads as f64 / start.elapsed().as_secs_f64())
}

/// Reads per second of fio.
fn fio(path: &Path, cpu: u32, depth: u64) -> anyhow::Result<f64> {
    let output = Command::new("fio")
        .arg("--name=beside-vtax")
        .arg(format!("--filename={}", path.display()))
        .arg(format!("--size={DISK_BYTES}"))
        .arg(format!("--iodepth={depth}"))
        .arg(format!("--cpus_allowed={cpu}"))
        .arg(format!("--runtime={}s", STRETCH.as_secs()))
        .args([
            "--ioengine=io_uring",
            "--direct=1",
            "--rw=randread",
            "--bs=4k",
        ])
        .args(["--norandommap", "--time_based", "--output-format=json"])
        .output()?;
    ensure!(
        output.status.success(),
        "fio ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    said["jobs"][0]["read"]["iops"]
        .as_f64()
        .context("fio named no rate")
}
