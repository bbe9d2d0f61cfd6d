//! A paravirtual disk against an emulated one: what is planted comes back, with an interval and a verdict.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic as they do")]

mod fixture;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use vtax_reports::counters::{Counter, CounterRow, Counts};
use vtax_reports::estimate::estimate;
use vtax_reports::html;
use vtax_reports::record::{Marks, Sample, Side};
use vtax_reports::result::{Results, Verdict};
use vtax_reports::store::Run;
use vtax_scenarios::plan::{Completion, Disk, DiskBacking, DiskDevice, Net, NetBackend, NetLink};

const BOOTS: u32 = 12;
const OPERATIONS: u64 = 1_000;
/// Nanoseconds of an operation on the host.
const NATIVE: f64 = 10_000.0;
/// The disks with what an operation takes in time, on the vCPU's thread and on the I/O thread.
const DISKS: [(DiskDevice, f64, u64, u64); 2] = [
    (DiskDevice::VirtioBlk, 20_000.0, 12_000, 8_000),
    (DiskDevice::AtaPio, 60_000.0, 60_000, 0),
];

/// A run of one workload on both disks at two depths; the emulated one was not measured at the second.
fn run() -> Run {
    let mut run = fixture::run();
    run.record.not_measured.clear();
    run.samples.clear();
    let cells = run.record.plan.cells.clone();
    run.record.plan.cells.clear();
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for (id, (disk, depth)) in (0..).zip([(0, "1"), (1, "1"), (0, "32")]) {
        let (device, time, own, served) = DISKS[disk];
        let name = device.name();
        let mut cell = cells[0].clone();
        cell.id = id;
        cell.label = format!("block-random depth={depth} / guest.disk={name}");
        cell.workload.name = "block-random".to_owned();
        cell.guest.disk = Some(Disk {
            device,
            backing: DiskBacking::Scratch,
            bytes: Some(64 << 20),
            direct: true,
            queues: 1,
            completion: Completion::Poll,
            poll_nanos: 0,
            io_cpus: Vec::new(),
            read_only: false,
        });
        cell.parameters = [("depth", depth), ("guest.disk", name)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        run.record.plan.cells.push(cell);
        for boot in 0..BOOTS {
            for (position, side) in [(0, Side::Native), (1, Side::Guest), (2, Side::Control)] {
                let guest = side == Side::Guest;
                let noise: f64 = 0.01 * random.sample::<f64, _>(StandardNormal);
                let nanos = OPERATIONS as f64 * if guest { time } else { NATIVE } * noise.exp();
                run.samples.push(Sample {
                    cell: id,
                    boot,
                    round: 0,
                    position,
                    side,
                    vcpu: 0,
                    cpu: 0,
                    iterations: OPERATIONS,
                    ticks: whole(nanos / run.record.nanos_per_tick),
                    outer_nanos: whole(nanos),
                    run_in_ticks: 0,
                    latency_ticks: 0,
                    marks: Marks::CLEAN,
                    at_nanos: 0,
                });
                let mut counts = Counts::NONE;
                let cpu = if guest { own } else { 9_000 };
                counts.set(Counter::CpuTime, Some(cpu * OPERATIONS));
                counts.set(Counter::IoCpuTime, guest.then_some(served * OPERATIONS));
                run.counters.push(CounterRow {
                    cell: id,
                    boot,
                    round: 0,
                    side,
                    vcpu: 0,
                    counts,
                });
            }
        }
    }
    run
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "planted times are positive and far below 2^63"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

fn results(run: &Run) -> Results {
    estimate(&run.record, &run.samples, &run.latencies, &run.counters)
}

#[test]
fn the_planted_quotients_come_back_with_their_verdicts() {
    let results = results(&run());
    let [only] = &results.comparisons[..] else {
        panic!("{:?}", results.comparisons);
    };
    assert_eq!((only.virtio, only.emulated), (0, 1));
    assert!(only.speed.low < 3.0 && only.speed.high > 3.0, "{only:?}");
    assert!(only.speed.high - only.speed.low < 0.1, "{only:?}");
    assert_eq!(only.speed_verdict, Verdict::Holds);
    let cpu = only.cpu.unwrap();
    assert!((cpu.value - 3.0).abs() < 1e-9, "{only:?}");
    assert_eq!(only.cpu_verdict, Some(Verdict::Holds));
    let time = results.cells[0].cpu.unwrap();
    assert!(
        (time.guest.value - 20_000.0).abs() < 1e-6,
        "vCPU and I/O thread: {time:?}"
    );
    assert!((time.native.value - 9_000.0).abs() < 1e-6, "{time:?}");
}

#[test]
fn an_io_thread_that_was_not_counted_leaves_no_cpu_time() {
    let mut run = run();
    let rows: Vec<CounterRow> = (0..BOOTS)
        .flat_map(|boot| run.counters.boot(0, boot).to_vec())
        .collect();
    run.counters = Default::default();
    for mut row in rows {
        row.counts.set(Counter::IoCpuTime, None);
        run.counters.push(row);
    }
    let results = results(&run);
    assert_eq!(results.cells[0].cpu, None);
    assert_eq!(results.comparisons[0].cpu, None);
    assert_eq!(results.comparisons[0].cpu_verdict, None);
}

#[test]
fn lost_frames_have_a_column_and_whoever_served_the_card_is_named() {
    let mut run = run();
    for (cell, backend) in (0..).zip([NetBackend::Vmm, NetBackend::Vhost]) {
        let planned = &mut run.record.plan.cells[cell];
        planned.workload.name = "net-stream".to_owned();
        planned.guest.disk = None;
        planned.guest.net = Some(Net {
            link: NetLink::Namespace,
            backend,
            completion: Completion::Poll,
            poll_nanos: 0,
            io_cpu: None,
        });
        let name = if cell == 0 { "vmm" } else { "vhost" };
        planned.parameters = [("guest.net-backend".to_owned(), name.to_owned())].into();
    }
    run.record.plan.cells.truncate(2);
    let rows: Vec<CounterRow> = (0..2)
        .flat_map(|cell| (0..BOOTS).map(move |boot| (cell, boot)))
        .flat_map(|(cell, boot)| run.counters.boot(cell, boot).to_vec())
        .collect();
    run.counters = Default::default();
    for mut row in rows {
        let lost = match (row.cell, row.side, row.boot) {
            (1, Side::Guest, 0) => 5,
            (0, Side::Control, 3) => 2,
            _ => 0,
        };
        row.counts.set(Counter::LostFrames, Some(lost));
        run.counters.push(row);
    }
    let results = results(&run);
    let lost = |cell: usize| results.cells[cell].lost_frames.unwrap();
    assert_eq!((lost(0).native, lost(0).guest), (2, 0));
    assert_eq!((lost(1).native, lost(1).guest), (0, 5));
    assert_eq!(results.cells[1].net_backend, Some(NetBackend::Vhost));
    let document = html::render(&run, &results).unwrap();
    let section = document.split("<section id=\"devices\">").nth(1).unwrap();
    let section = section.split("</section>").next().unwrap();
    for text in [
        "<th class=\"n\">lost frames</th>",
        "virtio-net by the VMM</th>",
        "virtio-net by vhost-net</th>",
        "native 2, virtio-net by the VMM 0, virtio-net by vhost-net 5",
    ] {
        assert!(section.contains(text), "{text}: {section}");
    }
    assert!(
        document.contains("virtio-net by vhost-net, tap, poll"),
        "the plan names it"
    );
}

#[test]
fn the_report_shows_a_line_for_each_kind_of_work_and_a_column_for_each_disk() {
    let run = run();
    let document = html::render(&run, &results(&run)).unwrap();
    let section = document.split("<section id=\"devices\">").nth(1).unwrap();
    let section = section.split("</section>").next().unwrap();
    for text in [
        "virtio-blk</th><th class=\"n\">ata-pio</th>",
        "block-random depth=1",
        "block-random depth=32",
        "CPU 20.0 µs per operation",
        "holds",
    ] {
        assert!(section.contains(text), "{text}: {section}");
    }
}
