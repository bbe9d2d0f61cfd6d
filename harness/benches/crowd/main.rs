//! Many guests at once: how long until each of 1, 8, 32 and 64 idle neighbours has run its first instructions, and what
//! their VMMs take of the host's memory.
//!
//! ```text
//! ours  Crowd::start: spawn N × `vtax neighbour` (orders, control group, RAM, VM, vCPU, a request) ──► N × "ready"
//! bare  spawn N × `bare_guest` (the bare-ioctl guest of `cold_start`: 4 pages, VM, vCPU)           ──► N × "ready"
//! ```
//!
//! Both start a process for each guest, by fork and exec, all before the first is awaited, and both hold all guests until the
//! last is there. What ours does on top is in its time: orders in JSON, a control group for each, guest RAM of 16 MiB with
//! image and page tables, an interrupt controller, since an idle guest sleeps in the kernel. They take turns. Not timed is
//! how they end.

#[path = "../common/quantile.rs"]
mod quantile;
#[path = "../common/table.rs"]
mod table;
#[path = "../common/turns.rs"]
mod turns;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, ensure};
use quantile::quantile;
use table::{Measured, print};
use vtax::host::cgroups::Cgroups;
use vtax::host::root::HostRoot;
use vtax::neighbours::footprint::Footprint;
use vtax::neighbours::{Around, Crowd};
use vtax_reports::stats::stein;
use vtax_scenarios::plan::Neighbour;
use vtax_scenarios::{Overrides, parse};

/// Guests at once, and how often each number is started.
const CROWDS: [(u32, usize); 4] = [(1, 100), (8, 60), (32, 60), (64, 60)];

const CONFIDENCE: f64 = 0.95;

/// By how much ours may be slower.
const WANTED: f64 = 1.5;

/// Firecracker's promise of its VMM's overhead (its SPECIFICATION.md).
const WANTED_OVERHEAD: f64 = 5.0;

/// What `bare_guest` is called with to be one.
const BARE: &str = "--bare-guest";

fn main() -> anyhow::Result<()> {
    if !table::asked() {
        return Ok(());
    }
    let cgroups = Cgroups::of(&HostRoot::default())?;
    let bare = bare_guest()?;
    for (count, rounds) in CROWDS {
        let mut footprints = Vec::new();
        let result = compare(count, rounds, &cgroups, &bare, &mut footprints);
        let (figure, whose) = match count {
            1 => (
                "an idle neighbour's start, against a process with a bare-ioctl guest".to_owned(),
                "one idle guest alone".to_owned(),
            ),
            _ => (
                format!("the same for {count} at once"),
                format!("each of {count} idle guests"),
            ),
        };
        print(&figure, "≤ 1.5 ×", result);
        if [1, 64].contains(&count) {
            print_memory(&whose, &footprints);
        }
    }
    Ok(())
}

/// What the VMM takes beyond guest RAM, of the largest of some guests. What the kernel keeps for it (its page tables, KVM's
/// structures) is no part of it.
fn print_memory(whose: &str, footprints: &[Footprint]) {
    let most = |bytes: fn(&Footprint) -> u64| {
        let all: Vec<f64> = footprints
            .iter()
            .map(|it| bytes(it) as f64 / f64::from(1 << 20))
            .collect();
        quantile(&all, 1.0)
    };
    let proportional = most(|it| it.overhead);
    print(
        &format!("memory of the VMM beyond guest RAM and without the kernel's, {whose}"),
        "≤ 5 MiB",
        Ok(Measured {
            value: format!(
                "{proportional:.2} MiB PSS, {:.2} MiB RSS ({:.2} MiB private)",
                most(|it| it.resident.saturating_sub(it.guest)),
                most(|it| it.private_overhead)
            ),
            met: proportional <= WANTED_OVERHEAD,
        }),
    );
}

/// The newest build of the benchmark `bare_guest`, which lies beside this one.
fn bare_guest() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("a program in no folder")?;
    let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if path.extension().is_none() && name.is_some_and(|name| name.starts_with("bare_guest-")) {
            found.push((path.metadata()?.modified()?, path));
        }
    }
    let newest = found.into_iter().max();
    let (_, path) =
        newest.context("build it first: cargo bench -p vtax --bench bare_guest --no-run")?;
    Ok(path)
}

/// Starts so many of both kinds, in turns: how many times as long ours take, from one pair of each round.
fn compare(
    count: u32,
    rounds: usize,
    cgroups: &Cgroups,
    bare: &Path,
    footprints: &mut Vec<Footprint>,
) -> anyhow::Result<Measured> {
    let plans = idle(count)?;
    let pairs = turns::in_turns(
        rounds,
        || start_ours(&plans, cgroups),
        || Ok((start_bare(bare, count)?, Vec::new())),
    )?;
    let median = |who: &str, millis: Vec<f64>| {
        let median = quantile(&millis, 0.5);
        eprintln!(
            "{count} at once, {who}: {median:.1} ms (p10 {:.1}, p90 {:.1}, {rounds} starts)",
            quantile(&millis, 0.1),
            quantile(&millis, 0.9),
        );
        median
    };
    let ours = median("ours", pairs.iter().map(|(ours, _)| ours.0).collect());
    median("bare", pairs.iter().map(|(_, bare)| bare.0).collect());
    let ratios: Vec<f64> = pairs
        .iter()
        .map(|(ours, bare)| (ours.0 / bare.0).ln())
        .collect();
    let ratio = stein::interval(&ratios, ratios.len(), CONFIDENCE).context("too few rounds")?;
    if let Some(((_, found), _)) = pairs.into_iter().last() {
        *footprints = found;
    }
    Ok(Measured {
        value: format!(
            "{:.2} × [{:.2}, {:.2}] ({ours:.1} ms)",
            ratio.value, ratio.low, ratio.high
        ),
        met: ratio.value <= WANTED,
    })
}

/// The plan of so many idle neighbours.
fn idle(count: u32) -> anyhow::Result<Vec<Neighbour>> {
    let text = format!(
        "schema = 1\nname = \"crowd\"\n[[neighbour]]\nwork = \"idle\"\nmemory = \"16MiB\"\ncount = {count}\n\
         [[workload]]\nname = \"cpu-hash\"\n"
    );
    let plan = parse("crowd.toml", &text, &Overrides::default())
        .map_err(|error| anyhow::anyhow!("{error}"))?
        .plan;
    let cell = plan
        .cells
        .into_iter()
        .next()
        .context("a plan without a cell")?;
    Ok(cell.neighbours)
}

/// Milliseconds until all are at work, and what they take of memory then.
fn start_ours(plans: &[Neighbour], cgroups: &Cgroups) -> anyhow::Result<(f64, Vec<Footprint>)> {
    let scratch = std::env::temp_dir();
    let around = Around {
        program: Path::new(env!("CARGO_BIN_EXE_vtax")),
        cgroups,
        guest_cpus: &[],
        scratch: &scratch,
        seed: 1,
    };
    let begin = Instant::now();
    let crowd = Crowd::start(plans, &around)?;
    let millis = begin.elapsed().as_secs_f64() * 1e3;
    let found = crowd.memory().into_iter().collect::<Result<_, _>>()?;
    Ok((millis, found))
}

/// Milliseconds until all bare guests have handed over.
fn start_bare(program: &Path, count: u32) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let mut children = Children(Vec::new());
    for _ in 0..count {
        let child = Command::new(program)
            .arg(BARE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        children.0.push(child);
    }
    for child in &mut children.0 {
        let stdout = child.stdout.take().context("no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line.trim_end() == "ready", "a bare guest did not start");
    }
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

/// Processes of bare guests; killed when dropped.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Fails where it has ended already.
            let _ = child.kill();
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}
