//! Harness overhead inside a block: by what share of a 25 ms block the harness's clock, around it, says more than the
//! payload's, inside it.
//!
//! Native and guest blocks take turns on one CPU. For the guest the difference holds what entering and leaving it
//! costs; [`Rig`] measures that cost beforehand, and a run compares the clocks net of it. Both are printed.

#[path = "common/quantile.rs"]
mod quantile;
#[path = "common/table.rs"]
mod table;

use anyhow::Context as _;
use quantile::quantile;
use table::{Measured, print};
use vtax::counters::Counters;
use vtax::guest::Executor;
use vtax::guest::embedded::devices::Devices;
use vtax::guest::embedded::{self, Vm, VmConfig};
use vtax::guest::layout;
use vtax::guest::mailbox::{Mailbox, Request};
use vtax::guest::native::{NativeAreas, NativeCpu};
use vtax::guest::ram::{Ram, RamConfig};
use vtax::host::affinity::Pinned;
use vtax::host::disturbance::DisturbanceProbe;
use vtax::host::root::HostRoot;
use vtax::measure::block::Stopwatch;
use vtax::measure::calibrate;
use vtax::rig::Rig;
use vtax_scenarios::plan::{Backing, MIN_MEMORY_BYTES, PageSize, arena_bytes};
use vtax_workloads::abi::Op;
use vtax_workloads::machine::RAM_BASE;

const BLOCK_NANOS: u64 = 25_000_000;
/// Blocks of each side.
const BLOCKS: u32 = 200;
/// Share of a block.
const WANTED: f64 = 0.001;

/// How much more the outer clock says, as a share of the block: as it is, and less what entering costs.
#[derive(Default)]
struct Differences {
    raw: Vec<f64>,
    net: Vec<f64>,
}

fn main() -> anyhow::Result<()> {
    if !table::asked() {
        return Ok(());
    }
    let rig = Rig::prepare()?;
    let (native, guest) = {
        let _pinned = Pinned::to(&rig.cpus[..1])?;
        measure(&rig)?
    };
    eprintln!(
        "{BLOCKS} blocks of each side; clock calibrated to {:.1} ppm; entering and leaving the guest: {:.1} µs",
        rig.clock.error_ppm,
        rig.bound.entry_nanos as f64 / 1e3
    );
    figure("harness in a 25 ms block, native", &native.raw);
    figure(
        "harness in a 25 ms block, guest, net of entering",
        &guest.net,
    );
    figure("harness in a 25 ms block, guest, all", &guest.raw);
    Ok(())
}

/// Met when nine blocks out of ten are.
fn figure(name: &str, shares: &[f64]) {
    let (half, most) = (quantile(shares, 0.5), quantile(shares, 0.9));
    print(
        name,
        "< 0.1 %",
        Ok(Measured {
            value: format!("p50 {:.3} %, p90 {:.3} %", 100.0 * half, 100.0 * most),
            met: half.abs() < WANTED && most.abs() < WANTED,
        }),
    );
}

fn measure(rig: &Rig) -> anyhow::Result<(Differences, Differences)> {
    let ram = Ram::map(&RamConfig {
        address: RAM_BASE,
        len: MIN_MEMORY_BYTES,
        backing: Backing::Small,
        numa_node: None,
    })?;
    ram.prefault(0, MIN_MEMORY_BYTES)?;
    let config = VmConfig::single(PageSize::Size2M);
    let devices = Devices::default();
    let kvm = embedded::open()?;
    let vm = Vm::create(&kvm, &ram, &rig.image, &devices, config)?;
    let areas = NativeAreas::map(1, Backing::Small, None)?;
    let (guests, natives) = (Mailbox::new(&ram, layout::mailbox(0)), areas.mailbox(0));
    let (mut vcpu, mut native) = (vm.vcpu(0)?, NativeCpu::new(&rig.image, &areas, 0)?);
    let (workload, entry) = vtax_workloads::find("cpu-hash").context("no workload cpu-hash")?;
    let ask = |op, iterations| Request {
        op,
        workload: workload as u64,
        arena: RAM_BASE + layout::arena(MIN_MEMORY_BYTES, 1, 0),
        arena_len: arena_bytes(MIN_MEMORY_BYTES, 1),
        iterations,
        run_in: 0,
        planted: 0,
        params: vtax_workloads::default_params(entry),
        seed: 1,
    };
    natives.put(&ask(Op::Setup, 0))?;
    native.execute()?;
    let iterations = calibrate::iterations(BLOCK_NANOS, u64::MAX, |iterations| {
        natives.put(&ask(Op::Run, iterations))?;
        native.execute()?;
        Ok(rig.clock.nanos(natives.take()?.ticks))
    })?;
    let block = ask(Op::Run, iterations);

    let mut stopwatch = Stopwatch {
        probe: DisturbanceProbe::for_this_thread(&HostRoot::default()),
        counters: Counters::new(&vcpu),
        clock: rig.clock,
        bound: rig.bound,
        run_start: rig.run_start,
    };
    let mut time = |in_guest, executor: &mut dyn Executor, entry: u64, into: &mut Differences| {
        let mailbox = if in_guest { guests } else { natives };
        let sample = stopwatch.time(in_guest, executor, mailbox, &block)?.sample;
        let outer = sample.outer_nanos as f64;
        let difference = outer - rig.clock.nanos(sample.ticks);
        into.raw.push(difference / outer);
        into.net.push((difference - entry as f64) / outer);
        anyhow::Ok(())
    };
    let (mut of_native, mut of_guest) = (Differences::default(), Differences::default());
    for _ in 0..BLOCKS {
        time(false, &mut native, 0, &mut of_native)?;
        time(true, &mut vcpu, rig.bound.entry_nanos, &mut of_guest)?;
    }
    Ok((of_native, of_guest))
}
