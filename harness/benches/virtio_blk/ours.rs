//! vtax's own VMM.

use std::sync::Arc;

use vtax::guest::Executor;
use vtax::guest::embedded::devices::Devices;
use vtax::guest::embedded::devices::disk::Disk as Backend;
use vtax::guest::embedded::{self, Vm, VmConfig};
use vtax::guest::image::Image;
use vtax::guest::layout;
use vtax::guest::mailbox::Mailbox;
use vtax::guest::ram::{Ram, RamConfig};
use vtax::measure::disk;
use vtax::watchdog::Slot;
use vtax_scenarios::plan::{self, Backing, Completion, DiskBacking, DiskDevice, PageSize};
use vtax_workloads::machine::{DEVICE_BLOCK, DEVICES_VIRTUAL, RAM_BASE};

use super::{DISK_BYTES, Disk, Figures, MEMORY};

/// The I/O thread's polling window in nanoseconds: as long as the longest of QEMU's iothread (`poll-max-ns`).
const POLL_NANOS: u64 = 32_768;

/// Makes the guest, and hands its vCPU to `work`.
pub fn with(
    image: &Image,
    of: Disk<'_>,
    io_cpu: u32,
    work: fn(&mut dyn Executor, Mailbox<'_>) -> anyhow::Result<Figures>,
) -> anyhow::Result<Figures> {
    let ram = Ram::map(&RamConfig {
        address: RAM_BASE,
        len: MEMORY,
        backing: Backing::Small,
        numa_node: None,
    })?;
    ram.prefault(0, MEMORY)?;
    let (backend, backing) = match of {
        Disk::Memory => (Backend::memory(DISK_BYTES)?, DiskBacking::Memory),
        Disk::File(path) => (Backend::open(path, true, true)?, DiskBacking::Scratch),
    };
    let plan = plan::Disk {
        device: DiskDevice::VirtioBlk,
        backing,
        bytes: Some(DISK_BYTES),
        direct: true,
        queues: 1,
        completion: Completion::Poll,
        poll_nanos: POLL_NANOS,
        io_cpus: vec![io_cpu],
        read_only: true,
    };
    let devices = Devices::new(&ram, &disk::devices(&plan, Arc::new(backend)))?;
    let config = VmConfig::single(PageSize::Size2M);
    let kvm = embedded::open()?;
    let vm = Vm::create(&kvm, &ram, image, &devices, config)?;
    disk::seat(&ram, 0, &plan, DEVICES_VIRTUAL + DEVICE_BLOCK * 4096)?;
    let mut vcpu = vm.vcpu(0)?;
    vcpu.watched(Slot::for_this_thread()?);
    let figures = work(&mut vcpu, Mailbox::new(&ram, layout::mailbox(0)))?;
    devices.check()?;
    Ok(figures)
}
