//! A boot: fresh memory, a fresh guest, and one thread for each vCPU.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use vtax_reports::counters::CounterRow;
use vtax_reports::native_disk::{self as record, Waiting};
use vtax_reports::record::{Sample, Side};
use vtax_scenarios::memory::{MEMORY_STEP_BYTES, arena_bytes, arena_start};
use vtax_scenarios::plan::{Backing, Cell, Neighbour};
use vtax_workloads::machine::RAM_BASE;
use vtax_workloads::{Task, Workload};

use super::BootError;
use super::block::Stopwatch;
use super::native_disk::NativeDisk;
use super::plant::Planted;
use super::rendezvous::Rendezvous;
use super::worker::{Arena, Harvest, Shared, Worker};
use super::{disk, net};
use crate::counters::Counters;
use crate::disks::{self, DisksError};
use crate::guest::embedded::devices::{Devices, DevicesConfig};
use crate::guest::embedded::{self, Vm, VmConfig};
use crate::guest::layout;
use crate::guest::mailbox::{Mailbox, MailboxError};
use crate::guest::native::{NativeAreas, NativeCpu};
use crate::guest::ram::{Ram, RamConfig, RamError};
use crate::host::affinity::Pinned;
use crate::host::disturbance::DisturbanceProbe;
use crate::host::ksm;
use crate::host::root::HostRoot;
use crate::host::scheduling::Scheduled;
use crate::rig::Rig;
use crate::twin;
use crate::twin::partner::{Partner, Words};
use crate::watchdog::Slot;

/// Virtual address of a baseline's own memory: beyond any guest RAM, aligned to 1 GiB.
const BASELINE_BASE: u64 = 0x400_0000_0000;

/// What is known of a cell once its first boot is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Of blocks on the host.
    pub native: Portion,
    /// Of blocks in the guest. The same as on the host, but where each side does the work in its own way: one may then be
    /// a thousand times slower, and its blocks shall last as long all the same.
    pub guest: Portion,
    /// The fastest way for the host to wait for its disk; `None` where there is nothing to choose.
    #[serde(default)]
    pub waiting: Option<Waiting>,
}

/// What a block does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portion {
    /// Units of work.
    pub iterations: u64,
    /// The checksum that they must come to.
    pub checksum: u64,
}

impl Known {
    /// The same on both sides.
    #[must_use]
    pub const fn alike(portion: Portion) -> Self {
        Self {
            native: portion,
            guest: portion,
            waiting: None,
        }
    }

    /// What a block of this side does.
    #[must_use]
    pub const fn of(&self, side: Side) -> Portion {
        match side {
            Side::Guest => self.guest,
            Side::Native | Side::Control => self.native,
        }
    }
}

/// What the guest's blocks are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// The host.
    Native,
    /// The guest itself, without planted work: the truth is then known (`vtax selftest`).
    Guest,
}

/// One boot of one cell.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    /// The cell.
    pub cell: &'a Cell,
    /// Its boot, from 0.
    pub boot: u32,
    /// The plan's seed.
    pub seed: u64,
    /// What earlier boots found out.
    pub known: Option<Known>,
    /// What is planted in guest blocks, to try vtax itself. Normally nothing.
    pub planted: Planted<'a>,
    /// What the guest is compared with.
    pub baseline: Baseline,
    /// Set when the user wants to stop: the boot then ends after its round.
    pub stop: &'a AtomicBool,
}

/// What a boot brought.
#[derive(Debug)]
pub struct Outcome {
    /// All blocks, in order per vCPU.
    pub samples: Vec<Sample>,
    /// What was counted around each of them, the warm-up left out.
    pub counters: Vec<CounterRow>,
    /// Single latencies in TSC ticks.
    pub latencies: Vec<(Side, Vec<u32>)>,
    /// What the next boot of the cell need not find out again.
    pub known: Known,
    /// Whether the warm-up ended in a steady state on every vCPU.
    pub settled: bool,
    /// What the native side had, where its work goes to a file or block device.
    pub native_disk: Option<record::NativeDisk>,
}

/// Boots the cell's guest once and measures its rounds.
///
/// # Errors
/// [`BootError`]: it concerns this cell alone.
pub fn boot(rig: &Rig, spec: &Spec<'_>) -> Result<Outcome, BootError> {
    let guest = &spec.cell.guest;
    let task = workload(spec)?.1.task();
    let arena = arena_used(spec)?;
    let map = |address, backing| {
        Ram::map(&RamConfig {
            address,
            len: guest.memory,
            backing,
            numa_node: guest.numa_node,
        })
    };
    let populate = |ram: &Ram| {
        if !guest.prefault {
            return Ok(());
        }
        // KSM looks at all of it.
        if guest.mergeable {
            return ram.prefault(0, guest.memory);
        }
        ram.prefault(0, arena_start(guest.memory, guest.vcpus))?;
        (0..guest.vcpus).try_for_each(|vcpu| {
            ram.prefault(layout::arena(guest.memory, guest.vcpus, vcpu), arena)
        })
    };
    let ram = map(RAM_BASE, guest.backing)?;
    populate(&ram)?;
    if guest.mergeable {
        ram.mergeable()?;
    }
    let own = spec
        .cell
        .baseline_backing
        .map(|backing: Backing| {
            let own = map(BASELINE_BASE, backing)?;
            populate(&own)?;
            Ok::<_, RamError>(own)
        })
        .transpose()?;
    let areas = NativeAreas::map(guest.vcpus, guest.backing, guest.numa_node)?;
    let disk = guest
        .disk
        .as_ref()
        .map(|plan| Ok::<_, DisksError>((plan, rig.disks.get(plan)?)))
        .transpose()?;
    let job = task.and_then(|task| task.disk_job(&spec.cell.workload.params));
    if let Some(((_, disk), job)) = disk.as_ref().zip(job) {
        disks::fits(disk, job)?;
    }
    let config = disk
        .as_ref()
        .map_or_else(DevicesConfig::default, |(plan, disk)| {
            disk::devices(plan, Arc::clone(disk))
        });
    let network = guest.net.as_ref().map(net::network).transpose()?;
    let config = DevicesConfig {
        net: guest
            .net
            .as_ref()
            .zip(network.as_ref())
            .map(|(plan, (network, _))| net::device(plan, network)),
        ..config
    };
    let devices = Devices::new(&ram, &config)?;
    // Open for this boot alone: between two of them the host may have KVM's module loaded anew.
    let kvm = embedded::open()?;
    let vm = Vm::create(
        &kvm,
        &ram,
        &rig.image,
        &devices,
        VmConfig {
            page_size: guest.page_size,
            topology: guest.topology,
            vcpus: guest.vcpus,
            interrupts: devices.interrupt() || task.is_some_and(Task::needs_interrupts),
            halt_poll_nanos: guest.halt_poll_nanos,
        },
    )?;
    disk::tell(&ram, guest)?;
    net::tell(&ram, guest.net.as_ref())?;
    let _doorbell = (task == Some(Task::Kick))
        .then(|| vm.doorbell())
        .transpose()?;
    let native_disk =
        (disk.as_ref().zip(job)).and_then(|((_, disk), _)| NativeDisk::of(guest, disk, &rig.cpus));
    let shared = Shared {
        disk: disk.map(|(_, disk)| disk),
        native_disk,
        network,
        meeting: Rendezvous::new(guest.vcpus),
        known: OnceLock::new(),
        unsettled: Default::default(),
        stopping: AtomicBool::new(false),
    };
    let mut neighbours = spec.cell.neighbours.iter();
    if guest.mergeable || neighbours.any(Neighbour::offers_memory) {
        ksm::await_merging(&HostRoot::default(), spec.stop)?;
    }
    let memory = Memory {
        ram: &ram,
        own: own.as_ref(),
        areas: &areas,
    };
    let harvests = run_all(rig, spec, memory, &vm, &shared);
    // A device that has stopped is why its guest fails.
    devices.check()?;
    let harvests = harvests?;
    let known = shared.known.get().copied().ok_or(BootError::Aborted)?;
    let settled = harvests.iter().all(|harvest| harvest.settled);
    let mut outcome = Outcome {
        samples: Vec::new(),
        counters: Vec::new(),
        latencies: Vec::new(),
        known,
        settled,
        native_disk: shared
            .native_disk
            .map(|disk| disk.record(known.waiting.unwrap_or(Waiting::Sleep))),
    };
    for harvest in harvests {
        outcome.samples.extend(harvest.samples);
        outcome.counters.extend(harvest.counters);
        outcome.latencies.extend(harvest.latencies);
    }
    Ok(outcome)
}

/// What the sides of a boot work on.
#[derive(Clone, Copy)]
struct Memory<'a> {
    /// The guest's RAM.
    ram: &'a Ram,
    /// The native side's arenas, where they are not the guest's.
    own: Option<&'a Ram>,
    /// The native side's mailboxes and stacks.
    areas: &'a NativeAreas,
}

/// Runs every vCPU's thread to its end, and reports the first failure that is not another's.
fn run_all(
    rig: &Rig,
    spec: &Spec<'_>,
    memory: Memory<'_>,
    vm: &Vm<'_>,
    shared: &Shared,
) -> Result<Vec<Harvest>, BootError> {
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..spec.cell.guest.vcpus)
            .map(|index| {
                std::thread::Builder::new()
                    .name(format!("vcpu{index}"))
                    .spawn_scoped(scope, move || {
                        let result = one(rig, spec, memory, vm, shared, index);
                        if result.is_err() {
                            shared.meeting.abort();
                        }
                        result
                    })
                    .inspect_err(|_| shared.meeting.abort())
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| match thread?.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect::<Vec<Result<Harvest, BootError>>>()
    });
    let (harvests, errors): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    let first = errors
        .into_iter()
        .filter_map(Result::err)
        .reduce(|first, next| match first {
            BootError::Aborted => next,
            first => first,
        });
    match first {
        Some(error) => Err(error),
        None => Ok(harvests.into_iter().filter_map(Result::ok).collect()),
    }
}

/// One vCPU's thread.
fn one(
    rig: &Rig,
    spec: &Spec<'_>,
    memory: Memory<'_>,
    vm: &Vm<'_>,
    shared: &Shared,
    index: u32,
) -> Result<Harvest, BootError> {
    let guest = &spec.cell.guest;
    let Memory { ram, own, areas } = memory;
    let _pinned = guest
        .cpu_of(index, &rig.cpus)
        .map(|cpu| Pinned::to(&[cpu]))
        .transpose()?;
    let _scheduled = guest.scheduling.map(Scheduled::by).transpose()?;
    let mut vcpu = vm.vcpu(index)?;
    vcpu.watched(Slot::for_this_thread()?);
    let counters = Counters::new(&vcpu);
    let mailbox = Mailbox::new(ram, layout::mailbox(index));
    let arena = Arena {
        ram,
        offset: layout::arena(guest.memory, guest.vcpus, index),
        len: arena_used(spec)?,
    };
    let (workload_index, workload) = workload(spec)?;
    let task = workload.task();
    std::thread::scope(|scope| {
        let partner = task
            .filter(|task| task.needs_partner())
            .map(|task| -> Result<Partner<'_>, BootError> {
                let line = task
                    .needs_interrupts()
                    .then(|| vm.partner_line(index))
                    .transpose()?;
                let words = Words::at(ram, arena.offset)?;
                let asked = (task, spec.cell.workload.params);
                let cpu = guest.partner_cpu(index, &rig.cpus);
                Ok(Partner::start(scope, asked, words, line, cpu)?)
            })
            .transpose()?;
        let words = partner.as_ref().map(|partner| partner.words().clone());
        let twin = match task {
            None => None,
            Some(task) => twin::of(
                task,
                twin::Around {
                    mailbox: areas.mailbox(index),
                    clock: rig.clock,
                    words,
                    disk: shared.disk.clone(),
                    network: shared.network.clone(),
                },
            )?,
        };
        Worker {
            spec,
            workload,
            workload_index: workload_index as u64,
            index,
            vcpu,
            native: NativeCpu::new(&rig.image, areas, index)?,
            twin,
            partner: partner.as_ref(),
            floats: guest.cpu_of(index, &rig.cpus).is_none(),
            turn: 0,
            mailbox,
            native_mailbox: areas.mailbox(index),
            arena,
            native_arena: own.map_or(arena, |own| Arena { ram: own, ..arena }),
            stopwatch: Stopwatch {
                probe: DisturbanceProbe::for_this_thread(&HostRoot::default()),
                counters,
                clock: rig.clock,
                bound: rig.bound,
                run_start: rig.run_start,
            },
            shared,
            blocks: 0,
        }
        .run(&rig.image)
    })
}

/// Bytes of each vCPU's arena that the workload uses, in whole 2 MiB pages: no other page of it is populated or touched.
fn arena_used(spec: &Spec<'_>) -> Result<u64, BootError> {
    let guest = &spec.cell.guest;
    let footprint = (workload(spec)?.1.footprint)(&spec.cell.workload.params);
    let used = footprint.max(1).next_multiple_of(MEMORY_STEP_BYTES);
    Ok(used.min(arena_bytes(guest.memory, guest.vcpus)))
}

/// The cell's workload and its number in the catalogue.
fn workload(spec: &Spec<'_>) -> Result<(usize, &'static Workload), BootError> {
    // The plan was checked against this binary's catalogue.
    vtax_workloads::find(&spec.cell.workload.name)
        .ok_or(BootError::Mailbox(MailboxError::Refused(0)))
}
