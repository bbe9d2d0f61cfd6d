//! The devices of a guest: who answers an access that leaves the guest.
//!
//! ```text
//! MMIO at DEVICES_PHYSICAL + page ─┬─ 0: nothing (every read is 0, every write is dropped)
//!                                  ├─ 1: virtio-blk ──► its registers (mmio) ──► I/O threads (worker) ──► disk
//!                                  ├─ 2: virtio-net ──► likewise, or the kernel (vhost-net) ──► tap
//!                                  └─ 3: virtio-mem ──► likewise ──► part of guest RAM
//! ```
//!
//! A kick does not come this way: KVM signals the I/O thread (ioeventfd), and an I/O thread interrupts the guest without
//! anybody's help (irqfd to an MSI). Nor does a thread outlive the guest's memory: it holds it.
//!
//! The guest is not trusted: an access of any length at any offset gets an answer, and one outside all devices is the
//! guest's fault, not the VMM's.

pub mod ata;
pub mod blk;
pub mod disk;
pub mod filter;
pub mod mem;
pub mod memory;
pub mod mmio;
pub mod net;
pub mod ring;
pub mod server;
pub mod worker;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod mmio_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod worker_tests;

use std::sync::Arc;
use std::{fmt, io};

use kvm_bindings::kvm_irq_routing_entry;
use kvm_ioctls::{IoEventAddress, VmFd};
use vtax_workloads::machine::{
    DEVICE_BLOCK, DEVICE_MEMORY, DEVICE_NET, DEVICE_NOTHING, DEVICES_PHYSICAL, VECTOR_DEVICE,
};

use super::{VmError, interrupts, kvm};
use crate::guest::ram::Ram;
use ata::Ata;
use blk::BlockConfig;
use disk::Disk;
use mem::{Mem, MemConfig};
use memory::{GuestMemory, MemoryError};
use mmio::{QUEUE_NOTIFY, Transport};
use net::vhost::VhostError;
use net::{Backend, NetConfig};
use server::{Attached, Condition, Counts};
use worker::{Worker, WorkerError};

const PAGE: u64 = 4096;

/// The first interrupt line of our own: KVM's two controllers have those below.
const FIRST_LINE: u32 = 24;

/// Why a guest's devices could not be made, or worked no longer.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Guest memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// An I/O thread.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The kernel does not serve a network card.
    #[error(transparent)]
    Vhost(#[from] VhostError),
    /// An I/O thread tried something that it has no business with.
    #[error(
        "an I/O thread of the guest's devices made system call {number}, which its seccomp filter refuses: a bug of vtax, or \
         a guest that has taken the thread over"
    )]
    Refused {
        /// The call's number on x86-64.
        number: i64,
    },
    /// No memory for the ATA drive's buffer.
    #[error("the emulated ATA disk: {0}")]
    Ata(#[source] io::Error),
    /// The device has stopped at something.
    #[error("the guest's {device} stopped: {reason}")]
    Stopped {
        /// Which device.
        device: &'static str,
        /// At what.
        reason: String,
    },
}

/// Which devices a guest has, apart from those that all have.
#[derive(Clone, Debug, Default)]
pub struct DevicesConfig {
    /// A disk as virtio-blk.
    pub block: Option<BlockConfig>,
    /// A network card as virtio-net.
    pub net: Option<NetConfig>,
    /// A disk as an emulated ATA drive.
    pub ata: Option<Arc<Disk>>,
    /// Memory that comes and goes, as virtio-mem.
    pub mem: Option<MemConfig>,
}

/// All devices of a guest.
#[derive(Debug, Default)]
pub struct Devices {
    block: Option<Transport<Worker>>,
    net: Option<Box<dyn Virtio>>,
    ata: Option<Ata>,
    mem: Option<Mem>,
}

/// A virtio device, whoever serves its queues.
trait Virtio: fmt::Debug + Send + Sync {
    fn read(&self, offset: u64, data: &mut [u8]);
    fn write(&self, offset: u64, data: &[u8]);
    fn condition(&self) -> &Condition;
    fn queues(&self) -> Box<dyn Iterator<Item = &dyn Attached> + '_>;
}

impl<L: Attached> Virtio for Transport<L> {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.read(offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.write(offset, data);
    }

    fn condition(&self) -> &Condition {
        self.condition()
    }

    fn queues(&self) -> Box<dyn Iterator<Item = &dyn Attached> + '_> {
        Box::new(self.lanes().iter().map(|lane| lane as &dyn Attached))
    }
}

impl Devices {
    /// Makes the devices of a guest with this RAM, and starts their threads.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn new(ram: &Ram, config: &DevicesConfig) -> Result<Self, DeviceError> {
        let block = match &config.block {
            Some(block) => Some(blk::device(block, GuestMemory::of(ram)?)?),
            None => None,
        };
        let net: Option<Box<dyn Virtio>> = match &config.net {
            Some(net) => Some(match net.backend {
                Backend::Vmm => Box::new(net::device(net, GuestMemory::of(ram)?)?),
                Backend::Vhost => Box::new(net::vhost::device(net, GuestMemory::of(ram)?)?),
            }),
            None => None,
        };
        let ata = config.ata.as_ref().map(|disk| Ata::new(Arc::clone(disk)));
        let ata = ata.transpose().map_err(DeviceError::Ata)?;
        let mem = match &config.mem {
            Some(mem) => Some(Mem::new(mem, ram, GuestMemory::of(ram)?)?),
            None => None,
        };
        Ok(Self {
            block,
            net,
            ata,
            mem,
        })
    }

    /// Whether they interrupt the guest, which then needs an interrupt controller.
    #[must_use]
    pub fn interrupt(&self) -> bool {
        self.virtio().any(|it| {
            it.device
                .queues()
                .any(|queue| queue.interrupt_event().is_some())
        })
    }

    /// Connects the devices' events with a guest's: kicks with the threads, the threads with vCPUs (queue by queue, in
    /// turn), and returns the routes that their interrupts take.
    ///
    /// # Errors
    /// KVM refuses one.
    pub fn attach(&self, vm: &VmFd, vcpus: u32) -> Result<Vec<kvm_irq_routing_entry>, VmError> {
        let mut routes = Vec::new();
        for Placed { page, device, .. } in self.virtio() {
            let notify = IoEventAddress::Mmio(DEVICES_PHYSICAL + page * PAGE + QUEUE_NOTIFY);
            for (queue, served) in (0_u32..).zip(device.queues()) {
                kvm("KVM_IOEVENTFD", || {
                    vm.register_ioevent(served.kick_event(), &notify, queue)
                })?;
                if let Some(event) = served.interrupt_event() {
                    let line = FIRST_LINE + u32::try_from(routes.len()).unwrap_or(u32::MAX);
                    routes.push(interrupts::message(
                        line,
                        queue % vcpus.max(1),
                        VECTOR_DEVICE,
                    ));
                    kvm("KVM_IRQFD", || vm.register_irqfd(event, line))?;
                }
            }
        }
        Ok(routes)
    }

    /// Nothing, as long as all devices work.
    ///
    /// # Errors
    /// A device has asked for a reset since the guest was made, by the guest's fault or the host's; or one of their
    /// threads was refused a system call.
    pub fn check(&self) -> Result<(), DeviceError> {
        if let Some(number) = filter::take_refused() {
            return Err(DeviceError::Refused { number });
        }
        for Placed { name, device, .. } in self.virtio() {
            if let Some(reason) = device.condition().failure() {
                return Err(DeviceError::Stopped {
                    device: name,
                    reason: reason.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// The memory that comes and goes, where there is any.
    #[must_use]
    pub fn mem(&self) -> Option<&Mem> {
        self.mem.as_ref()
    }

    /// What happened on the queues of the disk so far.
    #[must_use]
    pub fn block_counts(&self) -> Vec<Counts> {
        self.block
            .iter()
            .flat_map(Transport::lanes)
            .map(Worker::counts)
            .collect()
    }

    /// CPU time so far of all threads that serve the devices' queues, in nanoseconds; `None` where one's is not known.
    #[must_use]
    pub fn cpu_nanos(&self) -> Option<u64> {
        self.virtio()
            .flat_map(|it| it.device.queues())
            .map(Attached::cpu_nanos)
            .sum()
    }

    fn virtio(&self) -> impl Iterator<Item = Placed<'_>> {
        let block = self.block.iter().map(|device| Placed {
            page: DEVICE_BLOCK,
            name: "virtio-blk",
            device,
        });
        let net = self.net.iter().map(|device| Placed {
            page: DEVICE_NET,
            name: "virtio-net",
            device: &**device,
        });
        let mem = self.mem.iter().map(|device| Placed {
            page: DEVICE_MEMORY,
            name: "virtio-mem",
            device: &device.transport,
        });
        block.chain(net).chain(mem)
    }

    /// Answers a read of guest-physical memory; false where there is no device.
    pub fn read(&self, address: u64, data: &mut [u8]) -> bool {
        match place(address) {
            Some((DEVICE_NOTHING, _)) => {
                data.fill(0);
                true
            }
            Some((page, offset)) => self.at(page, |device| device.read(offset, data)),
            None => false,
        }
    }

    /// Takes a write to guest-physical memory; false where there is no device.
    pub fn write(&self, address: u64, data: &[u8]) -> bool {
        match place(address) {
            Some((DEVICE_NOTHING, _)) => true,
            Some((page, offset)) => self.at(page, |device| device.write(offset, data)),
            None => false,
        }
    }

    fn at(&self, page: u64, act: impl FnOnce(&dyn Virtio)) -> bool {
        let placed = self.virtio().find(|it| it.page == page);
        placed.map(|it| act(it.device)).is_some()
    }

    /// Answers a read of an I/O port; false where there is no device.
    pub fn read_port(&self, port: u16, data: &mut [u8]) -> bool {
        self.ata.as_ref().is_some_and(|ata| ata.read(port, data))
    }

    /// Takes a write to an I/O port; false where there is no device.
    pub fn write_port(&self, port: u16, data: &[u8]) -> bool {
        self.ata.as_ref().is_some_and(|ata| ata.write(port, data))
    }
}

/// A device, and the page of its registers.
struct Placed<'a> {
    page: u64,
    name: &'static str,
    device: &'a dyn Virtio,
}

/// The device page that an address lies in, and where in it.
fn place(address: u64) -> Option<(u64, u64)> {
    let offset = address.checked_sub(DEVICES_PHYSICAL)?;
    Some((offset / PAGE, offset % PAGE))
}
