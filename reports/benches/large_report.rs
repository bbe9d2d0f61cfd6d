//! How reading, estimating and rendering grow with the run: `cargo bench -p vtax-reports --bench large_report`.
//!
//! Each size runs in a process of its own, so that its peak memory is its own.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use vtax_reports::record::{
    ClockBound, HostFingerprint, Marks, Reading, RunRecord, SCHEMA, Sample, Side,
};
use vtax_reports::store::{self, Writer};
use vtax_reports::{estimate, html};
use vtax_scenarios::plan::{
    Backing, Cell, Claim, ClaimOver, Guest, Measure, PageSize, Pinning, Plan, Topology,
    WorkloadChoice,
};

/// Cells of the two runs; each has [`SAMPLES_PER_CELL`].
const SIZES: [u32; 2] = [1_000, 10_000];
const SAMPLES_PER_CELL: u32 = 1_000;
const ROUNDS: u32 = 10;
const NANOS_PER_TICK: f64 = 0.4;
/// Set in the child processes: the run directory to report on.
const CHILD: &str = "VTAX_LARGE_REPORT_DIR";

fn main() {
    if let Some(dir) = std::env::var_os(CHILD) {
        report(Path::new(&dir));
        return;
    }
    let measured: Vec<[f64; 4]> = SIZES.map(measure).to_vec();
    let growth = |index: usize| measured[1][index] / measured[0][index];
    println!(
        "samples ×{:.0}: time ×{:.1}, peak memory ×{:.1}, document ×{:.1}",
        growth(0),
        growth(1),
        growth(2),
        growth(3)
    );
}

/// Samples, seconds, peak memory in bytes and length of the document in bytes for a run of `cells` cells.
fn measure(cells: u32) -> [f64; 4] {
    let dir = tempfile::tempdir().expect("a temporary directory");
    write(dir.path(), cells);
    let output = Command::new(std::env::current_exe().expect("the path of this program"))
        .env(CHILD, dir.path())
        .output()
        .expect("this program starts again");
    let text = String::from_utf8(output.stdout).expect("the child writes UTF-8");
    assert!(output.status.success(), "the child failed: {text}");
    let figures: Vec<f64> = text
        .split_whitespace()
        .map(|figure| figure.parse().expect("the child writes figures"))
        .collect();
    let [read, estimated, rendered, peak, length] = figures[..] else {
        panic!("five figures, not {figures:?}");
    };
    let samples = f64::from(cells * SAMPLES_PER_CELL);
    println!(
        "{cells} cells, {samples} samples: read {read:.2} s, estimate {estimated:.2} s, render {rendered:.2} s; \
         peak {:.0} MiB, {:.0} bytes per sample; document {:.1} MiB",
        peak / 1048576.0,
        peak / samples,
        length / 1048576.0
    );
    [samples, read + estimated + rendered, peak, length]
}

/// In the child: reads, estimates, renders, and prints the seconds of each, the peak memory and the length.
fn report(dir: &Path) {
    let start = Instant::now();
    let run = store::read(dir).expect("a readable run directory");
    let read = start.elapsed().as_secs_f64();
    let results = estimate::estimate(&run.record, &run.samples, &run.latencies, &run.counters);
    let estimated = start.elapsed().as_secs_f64() - read;
    let document = black_box(html::render(&run, &results).expect("a report"));
    let rendered = start.elapsed().as_secs_f64() - read - estimated;
    println!(
        "{read} {estimated} {rendered} {} {}",
        peak_memory(),
        document.len()
    );
}

/// Peak resident memory of this process in bytes. Source: proc(5), VmHWM.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|figure| figure.parse().ok())
        .expect("the kernel reports VmHWM");
    kib * 1024
}

fn write(dir: &Path, cells: u32) {
    let record = record(cells);
    let mut writer = Writer::create(dir, &record).expect("a fresh run directory");
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let boots = SAMPLES_PER_CELL / ROUNDS / 3 + 1;
    let mut at_nanos = 0;
    let mut samples = Vec::new();
    for cell in 0..cells {
        samples.clear();
        let tax = 1.0 + f64::from(cell % 97) / 1000.0;
        'cell: for boot in 0..boots {
            let placement = 1.0 + random.random_range(-0.002..0.002);
            for round in 0..ROUNDS {
                for (position, side) in (0..).zip([Side::Native, Side::Guest, Side::Control]) {
                    if samples.len() == SAMPLES_PER_CELL as usize {
                        break 'cell;
                    }
                    let noise = 1.0 + random.random_range(-0.005..0.005_f64);
                    let slower = if side == Side::Guest {
                        tax * placement
                    } else {
                        1.0
                    };
                    let nanos = 10e6 * noise * slower;
                    at_nanos += 10_000_000;
                    samples.push(Sample {
                        cell,
                        boot,
                        round,
                        position,
                        side,
                        vcpu: 0,
                        cpu: 1,
                        iterations: 1_000_000,
                        ticks: rounded(nanos / NANOS_PER_TICK),
                        outer_nanos: rounded(nanos + 3_000.0),
                        run_in_ticks: 0,
                        latency_ticks: 0,
                        marks: if random.random_range(0..100) == 0 {
                            Marks::PREEMPTED
                        } else {
                            Marks::CLEAN
                        },
                        at_nanos,
                    });
                }
            }
        }
        writer.samples(&samples).expect("room for the samples");
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "block lengths are positive and far below 2^63"
)]
fn rounded(value: f64) -> u64 {
    value as u64
}

fn record(cells: u32) -> RunRecord {
    let (_, workload) = vtax_workloads::CATALOGUE
        .iter()
        .enumerate()
        .next()
        .expect("a catalogue with a workload");
    let backings = [
        ("4k", Backing::Small),
        ("thp", Backing::Thp),
        ("2M", Backing::Huge2M),
        ("1G", Backing::Huge1G),
    ];
    let cell = |id: u32| {
        let (name, backing) = backings[id as usize % backings.len()];
        let memory = u64::from(id / 4 + 8) << 21;
        Cell {
            id,
            label: format!(
                "{} / guest.backing={name} guest.memory={memory}",
                workload.name
            ),
            parameters: BTreeMap::from([
                ("guest.backing".to_owned(), name.to_owned()),
                ("guest.memory".to_owned(), memory.to_string()),
            ]),
            guest: Guest {
                vcpus: 1,
                topology: Topology {
                    sockets: 1,
                    cores: 1,
                    threads: 1,
                },
                pinning: Pinning::OneToOne,
                memory,
                backing,
                prefault: true,
                mergeable: false,
                numa_node: None,
                page_size: PageSize::Size2M,
                halt_poll_nanos: None,
                scheduling: None,
                disk: None,
                net: None,
            },
            baseline_backing: None,
            neighbours: Vec::new(),
            host: Default::default(),
            workload: WorkloadChoice {
                name: workload.name.to_owned(),
                params: vtax_workloads::default_params(workload),
            },
            measure: Measure {
                precision: 0.005,
                confidence: 0.95,
                block_nanos: 10_000_000,
                rounds: ROUNDS,
                pilot_boots: 10,
                max_boots: 200,
            },
        }
    };
    RunRecord {
        schema: SCHEMA,
        vtax_version: env!("CARGO_PKG_VERSION").to_owned(),
        started: "2026-11-22T10:00:00Z".to_owned(),
        finished: Some("2026-11-22T22:00:00Z".to_owned()),
        interrupted: false,
        command: vec!["vtax".to_owned(), "run".to_owned()],
        host: HostFingerprint {
            facts: BTreeMap::from([("kernel".to_owned(), Reading::Value("none".to_owned()))]),
            nested_under: None,
        },
        payload_sha256: "0".repeat(64),
        nanos_per_tick: NANOS_PER_TICK,
        clock_bound: ClockBound {
            relative: 0.002,
            absolute_nanos: 100_000,
            entry_nanos: 26_000,
        },
        plan: Plan {
            scenario: "large".to_owned(),
            description: String::new(),
            source: String::new(),
            seed: 1,
            budget_nanos: 3_600_000_000_000,
            claim: Claim {
                ratio: 0.97,
                over: ClaimOver::All,
                ..Claim::default()
            },
            base: BTreeMap::new(),
            cells: (0..cells).map(cell).collect(),
            experiments: Vec::new(),
            filter: None,
        },
        counters_unavailable: BTreeMap::new(),
        unit_costs: BTreeMap::new(),
        not_measured: BTreeMap::new(),
        native_disks: BTreeMap::new(),
        experiments_not_measured: BTreeMap::new(),
        metrics_unavailable: BTreeMap::new(),
        resumed: Vec::new(),
    }
}
