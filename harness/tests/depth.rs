//! Both sides keep a disk's queue full: a real guest with virtio-blk, and its native twin, at depth 32 on a file.

// Helpers of tests are tests: what fails here fails the test.
#![allow(clippy::unwrap_used)]

#[path = "common/kvm.rs"]
mod kvm;
#[path = "common/skip.rs"]
mod skip;

use std::mem::offset_of;
use std::path::Path;
use std::sync::Arc;

use kvm::has_kvm;
use vtax::disks::Disks;
use vtax::guest::Executor;
use vtax::guest::embedded::devices::Devices;
use vtax::guest::embedded::{self, Vm, VmConfig};
use vtax::guest::image::Image;
use vtax::guest::layout;
use vtax::guest::mailbox::{Mailbox, Request};
use vtax::guest::ram::{Ram, RamConfig};
use vtax::measure::disk;
use vtax::watchdog::Slot;
use vtax_scenarios::memory::arena_bytes;
use vtax_scenarios::plan::{self, Backing, Completion, DiskBacking, DiskDevice, PageSize};
use vtax_workloads::abi::Op;
use vtax_workloads::machine::{AREA_DISK_SEAT, DEVICE_BLOCK, DEVICES_VIRTUAL, DiskSeat, RAM_BASE};

const MEMORY: u64 = 16 << 20;
const DEPTH: u64 = 32;

#[test]
fn a_guest_has_as_many_requests_under_way_as_its_depth_says() {
    if !has_kvm() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for completion in [Completion::Poll, Completion::Interrupt] {
        for backing in [DiskBacking::Memory, DiskBacking::Scratch] {
            let fewest = fewest_under_way(folder.path(), &plan(backing, completion));
            assert!((DEPTH - 1..=DEPTH).contains(&fewest), "{fewest}");
        }
    }
}

fn plan(backing: DiskBacking, completion: Completion) -> plan::Disk {
    plan::Disk {
        device: DiskDevice::VirtioBlk,
        backing,
        bytes: Some(1 << 20),
        direct: false,
        queues: 1,
        completion,
        poll_nanos: 30_000,
        io_cpus: Vec::new(),
        read_only: false,
    }
}

/// Has a guest read from this disk, and returns what it says of its queue.
fn fewest_under_way(scratch: &Path, plan: &plan::Disk) -> u64 {
    let ram = Ram::map(&RamConfig {
        address: RAM_BASE,
        len: MEMORY,
        backing: Backing::Small,
        numa_node: None,
    })
    .unwrap();
    let disk = Disks::new(scratch).get(plan).unwrap();
    let devices = Devices::new(&ram, &disk::devices(plan, Arc::clone(&disk))).unwrap();
    let config = VmConfig {
        interrupts: devices.interrupt(),
        ..VmConfig::single(PageSize::Size4K)
    };
    let kvm = embedded::open().unwrap();
    let image = Image::embedded().unwrap();
    let vm = Vm::create(&kvm, &ram, &image, &devices, config).unwrap();
    disk::seat(&ram, 0, plan, DEVICES_VIRTUAL + DEVICE_BLOCK * 4096).unwrap();
    let mut vcpu = vm.vcpu(0).unwrap();
    vcpu.watched(Slot::for_this_thread().unwrap());
    let mailbox = Mailbox::new(&ram, layout::mailbox(0));
    let (workload, entry) = vtax_workloads::find("block-random").unwrap();
    let mut params = vtax_workloads::default_params(entry);
    params[1] = DEPTH;
    for (op, iterations) in [(Op::Setup, 0), (Op::Run, 2000)] {
        mailbox
            .put(&Request {
                op,
                workload: workload as u64,
                arena: RAM_BASE + layout::arena(MEMORY, 1, 0),
                arena_len: arena_bytes(MEMORY, 1),
                iterations,
                run_in: 0,
                planted: 0,
                params,
                seed: 1,
            })
            .unwrap();
        vcpu.execute().unwrap();
        mailbox.take().unwrap();
    }
    devices.check().unwrap();
    let seat = layout::vcpu_area(0) + AREA_DISK_SEAT;
    ram.read(seat + offset_of!(DiskSeat, fewest_under_way) as u64)
        .unwrap()
}
