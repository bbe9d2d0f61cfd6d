//! A small guest of one vCPU, for what is found out about a host before anything is measured on it.

use kvm_ioctls::Kvm;
use vtax_scenarios::memory::{MIN_MEMORY_BYTES, arena_bytes};
use vtax_scenarios::plan::{Backing, PageSize};
use vtax_workloads::abi::Op;
use vtax_workloads::machine::RAM_BASE;

use super::embedded::devices::Devices;
use super::embedded::vcpu::EmbeddedVcpu;
use super::embedded::{Vm, VmConfig};
use super::image::Image;
use super::layout;
use super::mailbox::{Answer, Mailbox, Request};
use super::native::{NativeAreas, NativeCpu};
use super::ram::{Ram, RamConfig};
use super::{Executor, Exits};
use crate::host::tsc::now_raw_nanos;
use crate::rig::RigError;
use crate::watchdog::Slot;

/// The guest and its native twin.
pub struct SmallGuest<'a> {
    /// The guest's side.
    pub vcpu: EmbeddedVcpu<'a>,
    native: NativeCpu<'a>,
    mailbox: Mailbox<'a>,
    native_mailbox: Mailbox<'a>,
    ram: &'a Ram,
}

/// Which side answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// The guest.
    Guest,
    /// The host.
    Host,
}

/// A request that was carried out.
#[derive(Debug)]
pub struct Done {
    /// What was answered.
    pub answer: Answer,
    /// CLOCK_MONOTONIC_RAW around it.
    pub outer_nanos: u64,
    /// Exits meanwhile.
    pub exits: Exits,
}

impl SmallGuest<'_> {
    /// Makes the guest, and hands it to `work`.
    ///
    /// # Errors
    /// No memory, no guest, or what `work` says.
    pub fn with<T, E: From<RigError>>(
        kvm: &Kvm,
        image: &Image,
        work: impl FnOnce(&mut SmallGuest<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        Self::of(kvm, image, VmConfig::single(PageSize::Size4K), work)
    }

    /// The same for a guest that has an interrupt controller, and a doorbell that KVM answers itself.
    ///
    /// # Errors
    /// As [`Self::with`].
    pub fn with_interrupts<T>(
        kvm: &Kvm,
        image: &Image,
        work: impl FnOnce(&mut SmallGuest<'_>) -> Result<T, RigError>,
    ) -> Result<T, RigError> {
        let config = VmConfig {
            interrupts: true,
            ..VmConfig::single(PageSize::Size4K)
        };
        Self::of(kvm, image, config, work)
    }

    fn of<T, E: From<RigError>>(
        kvm: &Kvm,
        image: &Image,
        config: VmConfig,
        work: impl FnOnce(&mut SmallGuest<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let ram = Ram::map(&RamConfig {
            address: RAM_BASE,
            len: MIN_MEMORY_BYTES,
            backing: Backing::Small,
            numa_node: None,
        })
        .map_err(RigError::from)?;
        let devices = Devices::default();
        let vm = Vm::create(kvm, &ram, image, &devices, config).map_err(RigError::from)?;
        let doorbell = config.interrupts.then(|| vm.doorbell()).transpose();
        let _doorbell = doorbell.map_err(RigError::from)?;
        let areas = NativeAreas::map(1, Backing::Small, None).map_err(RigError::from)?;
        let mailbox = Mailbox::new(&ram, layout::mailbox(0));
        let mut vcpu = vm.vcpu(0).map_err(RigError::from)?;
        vcpu.watched(Slot::for_this_thread().map_err(RigError::from)?);
        work(&mut SmallGuest {
            vcpu,
            native: NativeCpu::new(image, &areas, 0).map_err(RigError::from)?,
            mailbox,
            native_mailbox: areas.mailbox(0),
            ram: &ram,
        })
    }

    /// One request, with the workload's smallest parameters.
    ///
    /// # Errors
    /// The guest failed or the payload refused.
    pub fn ask(
        &mut self,
        on: On,
        op: Op,
        workload: &str,
        iterations: u64,
    ) -> Result<Done, RigError> {
        let mut request = self.request(op, workload, iterations);
        if op == Op::Touch {
            request.arena_len = 0;
        }
        self.carry_out(on, &request)
    }

    /// Has the guest run a workload whose first parameter is `first`, and whose others are as small as can be.
    ///
    /// # Errors
    /// The guest failed or the payload refused.
    pub fn run(&mut self, workload: &str, first: u64, iterations: u64) -> Result<(), RigError> {
        let mut request = self.request(Op::Run, workload, iterations);
        request.params[0] = first;
        self.carry_out(On::Guest, &request).map(drop)
    }

    fn request(&self, op: Op, workload: &str, iterations: u64) -> Request {
        let mut params = [0; vtax_workloads::MAX_PARAMS];
        let mut index = 0;
        if let Some((found, workload)) = vtax_workloads::find(workload) {
            index = found as u64;
            for (value, param) in params.iter_mut().zip(workload.params) {
                *value = param.min;
            }
        }
        Request {
            op,
            workload: index,
            arena: RAM_BASE + layout::arena(MIN_MEMORY_BYTES, 1, 0),
            arena_len: arena_bytes(MIN_MEMORY_BYTES, 1),
            iterations,
            run_in: 0,
            planted: 0,
            params,
            seed: 0,
        }
    }

    fn carry_out(&mut self, on: On, request: &Request) -> Result<Done, RigError> {
        let (executor, mailbox): (&mut dyn Executor, _) = match on {
            On::Guest => (&mut self.vcpu, self.mailbox),
            On::Host => (&mut self.native, self.native_mailbox),
        };
        mailbox.put(request)?;
        let exits = executor.exits();
        let start = now_raw_nanos();
        executor.execute()?;
        let outer_nanos = now_raw_nanos() - start;
        Ok(Done {
            exits: executor.exits().since(exits),
            answer: mailbox.take()?,
            outer_nanos,
        })
    }

    /// Gives the arena's pages back to the host, so that the next request takes each anew.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn discard_arena(&self) -> Result<(), RigError> {
        let offset = layout::arena(MIN_MEMORY_BYTES, 1, 0);
        Ok(self.ram.discard(offset, arena_bytes(MIN_MEMORY_BYTES, 1))?)
    }
}
