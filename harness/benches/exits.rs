//! Exit round trips: what vtax's way of running a guest adds to an exit.
//!
//! ```text
//! ours   EmbeddedVcpu: watchdog, device table, exits counted ──┐
//! bare   ioctl(KVM_RUN) and a look at the exit's reason      ──┴─► the same image on the same memory, in turns
//! ```
//!
//! Two guests share one memory, so both execute the same instructions on the same pages: the image's loop over CPUID, port
//! and MMIO accesses, which times itself. They take turns of a millisecond on one CPU; who goes first changes. A figure is
//! the geometric mean over rounds of the ratio within a round.

#[path = "common/table.rs"]
mod table;

use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, bail};
use kvm_bindings::{KVM_EXIT_IO, KVM_EXIT_MMIO};
use kvm_ioctls::{VcpuFd, VmFd};
use table::{Measured, print};
use vtax::guest::Executor as _;
use vtax::guest::embedded::devices::Devices;
use vtax::guest::embedded::vcpu::EmbeddedVcpu;
use vtax::guest::embedded::{self, Vm, VmConfig, registers, tables};
use vtax::guest::layout;
use vtax::guest::mailbox::{Mailbox, Request};
use vtax::guest::ram::{Ram, RamConfig};
use vtax::host::affinity::Pinned;
use vtax::rig::Rig;
use vtax::trial;
use vtax::watchdog::Slot;
use vtax_reports::stats::stein;
use vtax_scenarios::plan::{Backing, MIN_MEMORY_BYTES, PageSize, arena_bytes};
use vtax_workloads::abi::Op;
use vtax_workloads::machine::{CODE_PHYSICAL, PORT_DONE, PORT_NOTHING, RAM_BASE};

/// Turns of each guest.
const ROUNDS: usize = 300;
/// How long a turn shall take.
const TURN_NANOS: f64 = 1e6;
/// By how much ours may be slower.
const WANTED: f64 = 1.10;

const KVM_RUN: libc::c_ulong = 0xae80;

const CONFIG: VmConfig = VmConfig::single(PageSize::Size2M);

fn main() -> anyhow::Result<()> {
    if !table::asked() {
        return Ok(());
    }
    let silent = trial::without_exit(false);
    let rig = Rig::prepare()?;
    let _pinned = Pinned::to(&rig.cpus[..1])?;
    let ram = Ram::map(&RamConfig {
        address: RAM_BASE,
        len: MIN_MEMORY_BYTES,
        backing: Backing::Small,
        numa_node: None,
    })?;
    ram.prefault(0, MIN_MEMORY_BYTES)?;
    let devices = Devices::default();
    let kvm = embedded::open()?;
    let vm = Vm::create(&kvm, &ram, &rig.image, &devices, CONFIG)?;
    let mut ours = vm.vcpu(0)?;
    ours.watched(Slot::for_this_thread()?);
    let bare = Bare::start(&rig, &ram)?;
    let mut pair = Pair {
        ours,
        bare,
        mailbox: Mailbox::new(&ram, layout::mailbox(0)),
    };
    for (name, workload) in [
        ("CPUID", "lat-cpuid"),
        ("port I/O", "lat-port"),
        ("MMIO", "lat-mmio"),
    ] {
        let figure = format!("{name} round trip, against a bare-ioctl loop");
        let measured = if silent.iter().any(|name| name == workload) {
            Err(anyhow::anyhow!("{workload} does not leave the guest here"))
        } else {
            pair.figure(&rig, workload)
        };
        print(&figure, "≤ 1.10 ×", measured);
    }
    Ok(())
}

/// The two guests.
struct Pair<'a> {
    ours: EmbeddedVcpu<'a>,
    bare: Bare,
    mailbox: Mailbox<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Ours,
    Bare,
}

impl Pair<'_> {
    fn figure(&mut self, rig: &Rig, workload: &str) -> anyhow::Result<Measured> {
        let sample = self.ticks(Who::Bare, workload, 16)?;
        let wanted = TURN_NANOS / rig.clock.nanos_per_tick / sample;
        let iterations = vtax::whole::whole(wanted).max(1);
        let (mut ratios, mut nanos) = (Vec::new(), 0.0);
        for round in 0..ROUNDS {
            let mut turns = [Who::Ours, Who::Bare];
            turns.rotate_left(round % 2);
            let mut ticks = [0.0; 2];
            for who in turns {
                ticks[who as usize] = self.ticks(who, workload, iterations)?;
            }
            ratios.push((ticks[0] / ticks[1]).ln());
            nanos += ticks[0] * rig.clock.nanos_per_tick / ROUNDS as f64;
        }
        let ratio = stein::interval(&ratios, ratios.len(), 0.95).context("too few rounds")?;
        Ok(Measured {
            value: format!(
                "{:.3} × [{:.3}, {:.3}] ({nanos:.0} ns)",
                ratio.value, ratio.low, ratio.high
            ),
            met: ratio.high <= WANTED,
        })
    }

    /// TSC ticks of an operation by the guest's own clock: the median of a turn, which a preemption leaves alone.
    fn ticks(&mut self, who: Who, workload: &str, iterations: u64) -> anyhow::Result<f64> {
        let (index, workload) = vtax_workloads::find(workload).context("no such workload")?;
        self.mailbox.put(&Request {
            op: Op::Run,
            workload: index as u64,
            arena: RAM_BASE + layout::arena(MIN_MEMORY_BYTES, 1, 0),
            arena_len: arena_bytes(MIN_MEMORY_BYTES, 1),
            iterations,
            run_in: 0,
            planted: 0,
            params: vtax_workloads::default_params(workload),
            seed: 1,
        })?;
        match who {
            Who::Ours => {
                self.ours.execute()?;
            }
            Who::Bare => self.bare.execute()?,
        }
        let mut latencies = self.mailbox.take()?.latencies;
        latencies.sort_unstable();
        let median = latencies.get(latencies.len() / 2);
        Ok(f64::from(*median.context("the guest timed nothing")?))
    }
}

/// A second guest on the same memory, and nothing around it.
struct Bare {
    vcpu: VcpuFd,
    _vm: VmFd,
}

impl Bare {
    fn start(rig: &Rig, ram: &Ram) -> anyhow::Result<Self> {
        let vm = embedded::open()?.create_vm()?;
        for region in embedded::slots(ram, &rig.image.code()?) {
            // SAFETY: the range is part of `ram` or of the image, which outlive every run of this guest.
            unsafe { vm.set_user_memory_region(region) }?;
        }
        let vcpu = vm.create_vcpu(0)?;
        // The same tables in the same places: the other guest has laid them out already.
        let cr3 = tables::page_tables(ram, CONFIG.page_size, CONFIG.vcpus, CODE_PHYSICAL)?;
        registers::set_up(
            &vcpu,
            &registers::Start {
                vcpu: 0,
                cr3,
                entry: rig.image.header.ring3_entry,
                interrupts: CONFIG.interrupts,
                topology: CONFIG.topology,
            },
        )?;
        Ok(Self { vcpu, _vm: vm })
    }

    fn execute(&mut self) -> anyhow::Result<()> {
        loop {
            // SAFETY: KVM_RUN takes no argument.
            if unsafe { libc::ioctl(self.vcpu.as_raw_fd(), KVM_RUN, 0) } != 0 {
                return Err(std::io::Error::last_os_error()).context("KVM_RUN");
            }
            let run = self.vcpu.get_kvm_run();
            match run.exit_reason {
                KVM_EXIT_IO => {
                    // SAFETY: every bit pattern of the union's part for port I/O is valid.
                    match unsafe { run.__bindgen_anon_1.io.port } {
                        PORT_DONE => return Ok(()),
                        PORT_NOTHING => {}
                        port => bail!("the bare guest wrote port {port:#x}"),
                    }
                }
                KVM_EXIT_MMIO => run.__bindgen_anon_1.mmio.data = [0; 8],
                reason => bail!("the bare guest ended with exit {reason}"),
            }
        }
    }
}
