//! A cell's disk: the device that its guest gets, and what the vCPUs are told of it.

use std::mem::offset_of;
use std::sync::Arc;

use vtax_scenarios::plan::{self, Completion, DiskDevice, Guest};
use vtax_workloads::machine::{
    AREA_DISK_SEAT, DEVICE_BLOCK, DEVICES_VIRTUAL, DISK_ATA, DISK_VIRTIO_INTERRUPT,
    DISK_VIRTIO_POLL, DiskSeat, RAM_BASE,
};

use crate::guest::embedded::devices::DevicesConfig;
use crate::guest::embedded::devices::blk::{self, BlockConfig};
use crate::guest::embedded::devices::disk::Disk;
use crate::guest::layout;
use crate::guest::ram::{Ram, RamError};

/// The devices of a guest with this disk.
#[must_use]
pub fn devices(plan: &plan::Disk, disk: Arc<Disk>) -> DevicesConfig {
    match plan.device {
        DiskDevice::VirtioBlk => DevicesConfig {
            block: Some(BlockConfig {
                disk,
                queues: plan.queues,
                completion: match plan.completion {
                    Completion::Interrupt => blk::Completion::Interrupt,
                    Completion::Poll => blk::Completion::Poll,
                },
                poll_nanos: plan.poll_nanos,
                io_cpus: plan.io_cpus.clone(),
            }),
            ..DevicesConfig::default()
        },
        DiskDevice::AtaPio => DevicesConfig {
            ata: Some(disk),
            ..DevicesConfig::default()
        },
    }
}

/// Tells each vCPU of the guest's disk, if it has one.
///
/// # Errors
/// RAM is too small.
pub fn tell(ram: &Ram, guest: &Guest) -> Result<(), RamError> {
    let Some(disk) = &guest.disk else {
        return Ok(());
    };
    for vcpu in 0..guest.vcpus {
        seat(ram, vcpu, disk, DEVICES_VIRTUAL + DEVICE_BLOCK * 4096)?;
    }
    Ok(())
}

/// Tells one vCPU of the disk whose registers are at this virtual address.
///
/// # Errors
/// RAM is too small.
pub fn seat(ram: &Ram, vcpu: u32, disk: &plan::Disk, registers: u64) -> Result<(), RamError> {
    let driver = match (disk.device, disk.completion) {
        (DiskDevice::AtaPio, _) => DISK_ATA,
        (DiskDevice::VirtioBlk, Completion::Interrupt) => DISK_VIRTIO_INTERRUPT,
        (DiskDevice::VirtioBlk, Completion::Poll) => DISK_VIRTIO_POLL,
    };
    let seat = |vcpu| layout::vcpu_area(vcpu) + AREA_DISK_SEAT;
    let queue = u64::from(vcpu) % u64::from(disk.queues.max(1));
    for (field, value) in [
        (offset_of!(DiskSeat, driver), driver),
        (offset_of!(DiskSeat, registers), registers),
        (offset_of!(DiskSeat, queue), queue),
        (offset_of!(DiskSeat, first), RAM_BASE + seat(0)),
    ] {
        ram.write(seat(vcpu) + field as u64, &value)?;
    }
    Ok(())
}
