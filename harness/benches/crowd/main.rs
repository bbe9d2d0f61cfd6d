//! Many guests at once: how long until each of 1, 8, 32 and 64 idle neighbours has run its first instructions, and what
//! their VMMs take of the host's memory.
//!
//! ```text
//! ours  Crowd::start: spawn N × `vtax neighbour` (orders, control group, RAM, VM, vCPU, a request) ──► N × "ready"
//! bare  spawn N × this benchmark (the bare-ioctl guest of `cold_start`: 4 pages, VM, vCPU)         ──► N × "ready"
//! ```
//!
//! Both start a process for each guest, by fork and exec, all before the first is awaited, and both hold all guests until the
//! last is there. What ours does on top is in its time: orders in JSON, a control group for each, guest RAM of 16 MiB with
//! image and page tables, an interrupt controller, since an idle guest sleeps in the kernel. They take turns. Not timed is
//! how they end.

#[path = "../cold_start/minimum.rs"]
mod minimum;
#[path = "../common/quantile.rs"]
mod quantile;
#[path = "../common/table.rs"]
mod table;
#[path = "../common/turns.rs"]
mod turns;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

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

/// What this benchmark is called with to be a bare guest.
const BARE: &str = "--bare-guest";

/// A start, in TSC ticks of the host.
#[derive(Clone, Copy, Debug)]
struct Start {
    begin: u64,
    reading: u64,
    end: u64,
}

fn main() -> anyhow::Result<()> {
    if std::env::args().any(|argument| argument == BARE) {
        return be_bare();
    }
    if !table::asked() {
        return Ok(());
    }
    let cgroups = Cgroups::of(&HostRoot::default())?;
    let mut footprints = Vec::new();
    for (count, rounds) in CROWDS {
        let result = compare(count, rounds, &cgroups, &mut footprints);
        let figure = match count {
            1 => "an idle neighbour's start, against a process with a bare-ioctl guest".to_owned(),
            _ => format!("the same for {count} at once"),
        };
        let wanted = if count == 64 { "≤ 1.5 ×" } else { "–" };
        print(&figure, wanted, result);
    }
    let mib = |bytes: fn(&Footprint) -> u64| -> Vec<f64> {
        let all = footprints.iter();
        all.map(|it| bytes(it) as f64 / f64::from(1 << 20))
            .collect()
    };
    let (overhead, private) = (mib(|it| it.overhead), mib(|it| it.private_overhead));
    let most = quantile(&overhead, 1.0);
    print(
        "memory of the VMM beyond guest RAM, for each of 64 idle guests",
        "≤ 5 MiB",
        Ok(Measured {
            value: format!(
                "{:.2} MiB (PSS, the largest; {:.2} MiB of it private)",
                most,
                quantile(&private, 1.0)
            ),
            met: most <= WANTED_OVERHEAD,
        }),
    );
    Ok(())
}

/// Starts so many of both kinds, in turns: how many times as long ours take, from one pair of each round.
fn compare(
    count: u32,
    rounds: usize,
    cgroups: &Cgroups,
    footprints: &mut Vec<Footprint>,
) -> anyhow::Result<Measured> {
    let plans = idle(count)?;
    let pairs = turns::in_turns(
        rounds,
        || start_ours(&plans, cgroups),
        || Ok((start_bare(count)?, Vec::new())),
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
fn start_bare(count: u32) -> anyhow::Result<f64> {
    let program = std::env::current_exe()?;
    let begin = Instant::now();
    let mut children = Children(Vec::new());
    for _ in 0..count {
        let child = Command::new(&program)
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

/// A bare guest, held until stdin is closed.
fn be_bare() -> anyhow::Result<()> {
    let (start, _guest) = minimum::start()?;
    ensure!(start.begin < start.end && start.reading > 0, "it never ran");
    let mut stdout = std::io::stdout();
    writeln!(stdout, "ready")?;
    stdout.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
