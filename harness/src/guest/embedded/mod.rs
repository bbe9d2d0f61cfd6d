//! The VMM: a KVM guest made of RAM at a fixed address, page tables, and vCPUs that start in ring 3.
//!
//! ```text
//! Kvm ──► Vm::create (memory slots first, then what it asks of the interrupt controller) ──► Vm::vcpu ──► EmbeddedVcpu
//! ```

pub mod cpuid;
pub mod devices;
pub mod interrupts;
pub mod registers;
pub mod tables;
pub mod vcpu;

use std::sync::{Mutex, PoisonError};

use kvm_bindings::{KVM_MEM_READONLY, kvm_irq_routing_entry, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, NoDatamatch, VmFd};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use vtax_scenarios::plan::{PageSize, Topology};
use vtax_workloads::machine::{
    CODE_BYTES, CODE_PHYSICAL, DEVICE_NOTHING, DEVICES_PHYSICAL, DOORBELL,
};

use super::code::Code;
use super::image::Image;
use super::layout;
use super::ram::{Ram, RamError};
use devices::Devices;
use vcpu::EmbeddedVcpu;

/// Where KVM on Intel keeps three pages of its own, below 4 GiB and outside RAM (KVM API, KVM_SET_TSS_ADDR). The page
/// before them is the default place of its identity map.
const KVM_TSS: usize = 0xfffb_d000;

/// Why a guest could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// An ioctl failed.
    #[error("{what}: {source}")]
    Kvm {
        /// Which ioctl, on what.
        what: &'static str,
        /// Why.
        source: kvm_ioctls::Error,
    },
    /// Guest memory.
    #[error(transparent)]
    Ram(#[from] RamError),
}

/// Makes an ioctl, again where a signal came in between, as it may into nearly every one of KVM's; names it in an error.
pub(crate) fn kvm<T>(
    what: &'static str,
    mut ioctl: impl FnMut() -> Result<T, kvm_ioctls::Error>,
) -> Result<T, VmError> {
    loop {
        match ioctl() {
            Err(error) if error.errno() == libc::EINTR => {}
            result => return result.map_err(|source| VmError::Kvm { what, source }),
        }
    }
}

/// An error that no ioctl has reported.
fn refused(what: &'static str, errno: i32) -> VmError {
    VmError::Kvm {
        what,
        source: kvm_ioctls::Error::new(errno),
    }
}

/// What kind of guest to make.
#[derive(Clone, Copy, Debug)]
pub struct VmConfig {
    /// Page size of its own page tables.
    pub page_size: PageSize,
    /// How its vCPUs appear to it.
    pub topology: Topology,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Whether it has an interrupt controller. Without one a guest starts faster and takes no interrupt.
    pub interrupts: bool,
    /// How long KVM polls for a wake-up of a halted vCPU, in nanoseconds; `None`: as the host is set.
    pub halt_poll_nanos: Option<u64>,
}

impl VmConfig {
    /// One vCPU, without an interrupt controller.
    #[must_use]
    pub const fn single(page_size: PageSize) -> Self {
        Self {
            page_size,
            topology: Topology {
                sockets: 1,
                cores: 1,
                threads: 1,
            },
            vcpus: 1,
            interrupts: false,
            halt_poll_nanos: None,
        }
    }
}

/// Opens /dev/kvm.
///
/// # Errors
/// There is none, or it may not be used.
pub fn open() -> Result<Kvm, VmError> {
    kvm("opening /dev/kvm", Kvm::new)
}

/// A guest's memory: its RAM, and the image's code, which it can only read.
#[must_use]
pub fn slots(ram: &Ram, code: &Code) -> Vec<kvm_userspace_memory_region> {
    let ram = (layout::pieces(ram.len()).into_iter())
        .map(|(offset, len)| (layout::physical(offset), len, ram.address() + offset, 0));
    let code = (CODE_PHYSICAL, CODE_BYTES, code.address(), KVM_MEM_READONLY);
    (0..)
        .zip(ram.chain([code]))
        .map(
            |(slot, (physical, bytes, address, flags))| kvm_userspace_memory_region {
                slot,
                flags,
                guest_phys_addr: physical,
                memory_size: bytes,
                userspace_addr: address,
            },
        )
        .collect()
}

/// A guest. Its RAM and its image outlive it: the borrows see to that.
#[derive(Debug)]
pub struct Vm<'a> {
    fd: VmFd,
    ram: &'a Ram,
    image: &'a Image,
    devices: &'a Devices,
    config: VmConfig,
    cr3: u64,
    /// The routes of all lines, until those of partners are asked for.
    unrouted: Mutex<Option<Vec<kvm_irq_routing_entry>>>,
}

impl<'a> Vm<'a> {
    /// Makes a guest whose RAM is `ram` and which has these devices, and lays out its tables.
    ///
    /// # Errors
    /// [`VmError`].
    pub fn create(
        kvm_fd: &Kvm,
        ram: &'a Ram,
        image: &'a Image,
        devices: &'a Devices,
        config: VmConfig,
    ) -> Result<Self, VmError> {
        let fd = kvm("KVM_CREATE_VM", || kvm_fd.create_vm())?;
        if kvm_fd.check_extension(Cap::SetTssAddr) {
            kvm("KVM_SET_TSS_ADDR", || fd.set_tss_address(KVM_TSS))?;
        }
        // Slots before the interrupt controller: afterwards each one waits for a grace period of RCU.
        for region in slots(ram, &image.code()?) {
            kvm("KVM_SET_USER_MEMORY_REGION", || {
                // SAFETY: the range is part of `ram` or of the image's code, both of which the guest borrows for its whole
                // life.
                unsafe { fd.set_user_memory_region(region) }
            })?;
        }
        if config.interrupts {
            kvm("KVM_CREATE_IRQCHIP", || fd.create_irq_chip())?;
        }
        if let Some(nanos) = config.halt_poll_nanos {
            interrupts::poll_when_halted(&fd, nanos)?;
        }
        let mut routes = devices.attach(&fd, config.vcpus)?;
        interrupts::route(&fd, &routes)?;
        routes.extend(interrupts::partner_routes(config.vcpus));
        tables::interrupt_table(ram, image)?;
        let cr3 = tables::page_tables(ram, config.page_size, config.vcpus, CODE_PHYSICAL)?;
        Ok(Self {
            fd,
            ram,
            image,
            devices,
            config,
            cr3,
            unrouted: Mutex::new(Some(routes)),
        })
    }

    /// Makes vCPU number `index`, ready to run its first request.
    ///
    /// # Errors
    /// [`VmError`].
    pub fn vcpu(&self, index: u32) -> Result<EmbeddedVcpu<'a>, VmError> {
        tables::descriptors(self.ram, index)?;
        let fd = kvm("KVM_CREATE_VCPU", || self.fd.create_vcpu(u64::from(index)))?;
        tables::about(
            self.ram,
            index,
            kvm("KVM_GET_TSC_KHZ", || fd.get_tsc_khz())?,
        )?;
        registers::set_up(
            &fd,
            &registers::Start {
                vcpu: index,
                cr3: self.cr3,
                entry: self.image.header.ring3_entry,
                interrupts: self.config.interrupts,
                topology: self.config.topology,
            },
        )?;
        if self.config.interrupts {
            interrupts::share_tsc(&fd);
        }
        Ok(EmbeddedVcpu::new(fd, self.ram, self.devices))
    }

    /// An eventfd whose every write interrupts vCPU `index`, with the vector of its partner. It works as long as it lives.
    ///
    /// # Errors
    /// The guest has no interrupt controller, or no eventfd is to be had.
    pub fn partner_line(&self, index: u32) -> Result<EventFd, VmError> {
        // Not for a guest that never has one: each change of routes waits for a grace period of RCU.
        let mut unrouted = self.unrouted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(routes) = unrouted.take() {
            interrupts::route(&self.fd, &routes)?;
        }
        drop(unrouted);
        let line = event()?;
        kvm("KVM_IRQFD", || {
            self.fd
                .register_irqfd(&line, interrupts::partner_line(index))
        })?;
        Ok(line)
    }

    /// An eventfd that the guest's writes to its doorbell signal.
    ///
    /// # Errors
    /// KVM refuses, or no eventfd is to be had.
    pub fn doorbell(&self) -> Result<EventFd, VmError> {
        let bell = event()?;
        let address = IoEventAddress::Mmio(DEVICES_PHYSICAL + DEVICE_NOTHING * 4096 + DOORBELL);
        kvm("KVM_IOEVENTFD", || {
            self.fd.register_ioevent(&bell, &address, NoDatamatch)
        })?;
        Ok(bell)
    }
}

fn event() -> Result<EventFd, VmError> {
    EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)
        .map_err(|error| refused("eventfd", error.raw_os_error().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_call_is_made_again_and_another_error_named() {
        let mut answers = vec![Ok(7), Err(libc::EINTR), Err(libc::EINTR)];
        let mut call = || {
            let answer = answers.pop().unwrap_or(Err(libc::ENOMEM));
            answer.map_err(kvm_ioctls::Error::new)
        };
        assert_eq!(kvm("KVM_CREATE_VM", &mut call).unwrap(), 7);
        let error = kvm("KVM_CREATE_VM", &mut call).unwrap_err().to_string();
        assert!(error.starts_with("KVM_CREATE_VM: "), "{error}");
    }
}
