//! The guest in a neighbour's process: made, put to work, and made again where dying is its work.

use std::convert::Infallible;
use std::io;
use std::time::{Duration, Instant};

use kvm_ioctls::Kvm;
use vtax_scenarios::memory::arena_bytes;
use vtax_scenarios::plan::{
    Backing, Completion, DISK_BYTES, Disk as DiskPlan, DiskBacking, DiskDevice, NeighbourDisk,
    PageSize, Work,
};
use vtax_workloads::abi::Op;
use vtax_workloads::machine::{DEVICE_BLOCK, DEVICES_BYTES, DEVICES_VIRTUAL, RAM_BASE};
use vtax_workloads::{MAX_PARAMS, Workload};

use super::page::{Page, Word};
use super::{Orders, content, workload};
use crate::disks::{Disks, DisksError};
use crate::guest::embedded::devices::{DeviceError, Devices, DevicesConfig};
use crate::guest::embedded::vcpu::EmbeddedVcpu;
use crate::guest::embedded::{self, Vm, VmConfig, VmError, tables};
use crate::guest::fault::GuestFault;
use crate::guest::image::{Image, ImageError};
use crate::guest::mailbox::{Mailbox, MailboxError, Request};
use crate::guest::ram::{Ram, RamConfig, RamError};
use crate::guest::{Executor as _, Failure, layout};
use crate::host::caches::last_level_cache;
use crate::host::root::HostRoot;
use crate::lack::Lack as _;
use crate::measure::disk;

/// A block aims at twice this, so that progress is seen every 10 ms or so.
const SHORT_BLOCK: Duration = Duration::from_millis(5);

/// What the last-level cache is taken for where the host does not tell.
const DEFAULT_CACHE_BYTES: u64 = 32 << 20;

/// Where the guest's page tables map what lies beyond its memory: the 2 MiB behind the devices.
const BEYOND: u64 = DEVICES_VIRTUAL + DEVICES_BYTES;

/// Bytes of the VMM's own memory right behind guest RAM, which no guest may change.
const CANARY: [u8; 4096] = [0xc5; 4096];

/// Memory that a request is about: virtual address and bytes.
type Place = (u64, u64);

/// Why a neighbour works no longer.
#[derive(Debug, thiserror::Error)]
pub(super) enum LifeError {
    #[error(transparent)]
    Vm(#[from] VmError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Ram(#[from] RamError),
    #[error(transparent)]
    Disk(#[from] DisksError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Failed(#[from] Failure),
    #[error(transparent)]
    Mailbox(#[from] MailboxError),
    #[error("there is no workload {0}")]
    Workload(&'static str),
    #[error("a guest that should have died went on")]
    Survived,
    #[error("telling the parent: {0}")]
    Parent(#[from] io::Error),
}

impl LifeError {
    /// Whether the host lacks something, as opposed to a guest that failed.
    pub fn is_lack(&self) -> bool {
        match self {
            Self::Vm(error) => error.is_lack(),
            Self::Ram(error) => error.is_lack(),
            Self::Disk(error) => error.is_lack(),
            _ => false,
        }
    }
}

/// What stays the same for all guests of a process.
pub(super) struct Life<'a> {
    orders: &'a Orders,
    page: &'a Page,
    kvm: Kvm,
    image: Image,
    disks: Disks,
    workload: (&'static str, Vec<u64>),
}

impl<'a> Life<'a> {
    /// Opens KVM.
    pub fn new(orders: &'a Orders, page: &'a Page) -> Result<Self, LifeError> {
        let arena = arena_bytes(orders.plan.memory, 1);
        let cache = match orders.plan.work {
            Work::Cache => last_level_cache(&HostRoot::default()).unwrap_or(DEFAULT_CACHE_BYTES),
            _ => 0,
        };
        Ok(Self {
            kvm: embedded::open()?,
            image: Image::embedded()?,
            disks: Disks::new(&orders.scratch),
            workload: workload(orders.plan.work, arena, cache),
            orders,
            page,
        })
    }

    /// One guest after the other where they die on purpose, one for ever else; returns only with an error. `ready` is
    /// called when a guest is at work.
    pub fn go_on(&mut self, ready: &mut dyn FnMut() -> io::Result<()>) -> LifeError {
        let period = Duration::from_nanos(self.orders.plan.period_nanos);
        for number in 0.. {
            let start = Instant::now();
            let error = match self.one(number, ready) {
                Ok(never) => match never {},
                Err(error) => error,
            };
            if !as_planned(self.orders.plan.work, &error) {
                return error;
            }
            self.page.add(Word::Faults, 1);
            std::thread::sleep(period.saturating_sub(start.elapsed()));
        }
        LifeError::Survived
    }

    /// A guest, from its memory to its end.
    fn one(
        &self,
        number: u64,
        ready: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<Infallible, LifeError> {
        let plan = &self.orders.plan;
        let map = |address, len, backing| {
            Ram::map(&RamConfig {
                address,
                len,
                backing,
                numa_node: None,
            })
        };
        let ram = map(RAM_BASE, plan.memory, plan.backing)?;
        let canary = (plan.work == Work::Wild)
            .then(|| map(RAM_BASE + plan.memory, CANARY.len() as u64, Backing::Small))
            .transpose()?;
        if plan.mergeable {
            ram.mergeable()?;
        }
        let (offset, len) = (
            layout::arena(plan.memory, 1, 0),
            arena_bytes(plan.memory, 1),
        );
        if let Some(filling) = &plan.content {
            let seeds = (self.orders.common_seed, self.orders.own_seed);
            content::fill(&ram, (offset, len), filling, seeds)?;
        }
        let disk = (plan.work == Work::Io).then(|| disk_plan(plan.disk));
        let devices = self.devices(&ram, disk.as_ref())?;
        let vm = Vm::create(
            &self.kvm,
            &ram,
            &self.image,
            &devices,
            VmConfig {
                // An idle guest sleeps in the kernel, as guests with an operating system do.
                interrupts: devices.interrupt() || plan.work == Work::Idle,
                ..VmConfig::single(PageSize::Size2M)
            },
        )?;
        if let Some(disk) = &disk {
            disk::seat(&ram, 0, disk, DEVICES_VIRTUAL + DEVICE_BLOCK * 4096)?;
        }
        if canary.is_some() {
            tables::window(&ram, BEYOND, layout::physical(ram.len()))?;
        }
        let mut at_work = AtWork {
            vcpu: vm.vcpu(0)?,
            mailbox: Mailbox::new(&ram, layout::mailbox(0)),
            seed: self.orders.own_seed,
        };
        let arena = (RAM_BASE + offset, len);
        self.page.add(Word::Starts, 1);
        // Its first instructions: a request that asks for nothing.
        at_work.ask(Op::Touch, None, 0, (arena.0, 0))?;
        if let Some(canary) = &canary {
            ready()?;
            return self.beyond(&mut at_work, canary, number);
        }
        let job = Job::new(self.workload.0, &self.workload.1)?;
        match plan.work {
            // They do not come back from their work.
            Work::Idle | Work::TripleFault => {
                ready()?;
                at_work.ask(Op::Run, Some(&job), 1, arena)?;
                Err(LifeError::Survived)
            }
            _ => {
                at_work.ask(Op::Setup, Some(&job), 0, arena)?;
                self.blocks(&mut at_work, &job, arena, ready)
            }
        }
    }

    /// Block after block.
    fn blocks(
        &self,
        at_work: &mut AtWork<'_>,
        job: &Job,
        arena: Place,
        ready: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<Infallible, LifeError> {
        let most = (job.workload.max_iterations)(&job.params);
        let mut iterations = 1;
        loop {
            let start = Instant::now();
            at_work.ask(Op::Run, Some(job), iterations, arena)?;
            self.page.add(Word::Units, iterations);
            if start.elapsed() < SHORT_BLOCK && iterations < most {
                iterations = iterations.saturating_mul(2).min(most);
            } else {
                ready()?;
            }
            // What is written differs from what is there, in every pass over the memory.
            at_work.seed = at_work.seed.wrapping_add(1);
        }
    }

    /// Lets the guest read (even numbers) or write beyond the end of its memory, and looks whether that had an effect.
    fn beyond(
        &self,
        at_work: &mut AtWork<'_>,
        canary: &Ram,
        number: u64,
    ) -> Result<Infallible, LifeError> {
        canary.write_bytes(0, &CANARY)?;
        let outcome = if number.is_multiple_of(2) {
            at_work.ask(Op::Touch, None, 0, (BEYOND, 4096))
        } else {
            let job = Job::new(self.workload.0, &self.workload.1)?;
            at_work.ask(Op::Run, Some(&job), 1, (BEYOND, DEVICES_BYTES))
        };
        let mut found = [0; CANARY.len()];
        canary.read_bytes(0, &mut found)?;
        if outcome.is_ok() || found != CANARY {
            self.page.add(Word::Escapes, 1);
        }
        outcome?;
        Err(LifeError::Survived)
    }

    fn devices(&self, ram: &Ram, disk: Option<&DiskPlan>) -> Result<Devices, LifeError> {
        let config = match disk {
            Some(plan) => disk::devices(plan, self.disks.get(plan)?),
            None => DevicesConfig::default(),
        };
        Ok(Devices::new(ram, &config)?)
    }
}

/// A guest that dies on purpose has done so in the way it should.
fn as_planned(work: Work, error: &LifeError) -> bool {
    let LifeError::Failed(Failure::Guest(fault)) = error else {
        return false;
    };
    match work {
        Work::TripleFault => matches!(
            fault,
            GuestFault::TripleFault { .. } | GuestFault::TripleFaultReset
        ),
        Work::Wild => matches!(fault, GuestFault::OutsideMemory { .. }),
        _ => false,
    }
}

/// What the guest is asked to do.
struct Job {
    index: u64,
    workload: &'static Workload,
    params: [u64; MAX_PARAMS],
}

impl Job {
    /// `given` are the first parameters; the others keep their defaults.
    fn new(name: &'static str, given: &[u64]) -> Result<Self, LifeError> {
        let (index, workload) = vtax_workloads::find(name).ok_or(LifeError::Workload(name))?;
        let mut params = vtax_workloads::default_params(workload);
        for (param, given) in params.iter_mut().zip(given) {
            *param = *given;
        }
        Ok(Self {
            index: index as u64,
            workload,
            params,
        })
    }
}

/// A running guest. Nobody watches it: what it does may take for ever.
struct AtWork<'a> {
    vcpu: EmbeddedVcpu<'a>,
    mailbox: Mailbox<'a>,
    seed: u64,
}

impl AtWork<'_> {
    /// One request.
    fn ask(
        &mut self,
        op: Op,
        job: Option<&Job>,
        iterations: u64,
        (arena, arena_len): Place,
    ) -> Result<(), LifeError> {
        self.mailbox.put(&Request {
            op,
            workload: job.map_or(0, |job| job.index),
            arena,
            arena_len,
            iterations,
            run_in: 0,
            planted: 0,
            params: job.map_or([0; MAX_PARAMS], |job| job.params),
            seed: self.seed,
        })?;
        self.vcpu.execute()?;
        self.mailbox.take()?;
        Ok(())
    }
}

/// The disk of an `io` neighbour: as a guest has it by default, but that its I/O thread does not poll, which would take CPU
/// time from others to no end.
fn disk_plan(backing: NeighbourDisk) -> DiskPlan {
    DiskPlan {
        device: DiskDevice::VirtioBlk,
        backing: match backing {
            NeighbourDisk::Memory => DiskBacking::Memory,
            NeighbourDisk::Scratch => DiskBacking::Scratch,
        },
        bytes: Some(DISK_BYTES),
        direct: true,
        queues: 1,
        completion: Completion::Interrupt,
        poll_nanos: 0,
        io_cpus: Vec::new(),
        read_only: false,
    }
}
