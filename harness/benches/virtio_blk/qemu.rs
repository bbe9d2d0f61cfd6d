//! QEMU's microvm with an iothread.

use anyhow::{Context as _, bail};
use rustix::thread::{CpuSet, Pid, sched_setaffinity};
use vtax::guest::Executor;
use vtax::guest::image::Image;
use vtax::guest::mailbox::Mailbox;
use vtax::guest::qemu::{QemuGuest, VIRTIO_MMIO, VIRTIO_MMIO_SLOTS, VIRTIO_MMIO_STRIDE};
use vtax::measure::disk;
use vtax_scenarios::plan::{self, Completion, DiskBacking, DiskDevice};

use super::{DISK_BYTES, Disk, Figures, MEMORY};

/// Makes the guest, and hands its vCPU to `work`.
pub fn with(
    image: &Image,
    of: Disk<'_>,
    cpus: [u32; 2],
    work: fn(&mut dyn Executor, Mailbox<'_>) -> anyhow::Result<Figures>,
) -> anyhow::Result<Figures> {
    let backend = match of {
        Disk::Memory => format!("driver=null-co,node-name=disk,size={DISK_BYTES},read-zeroes=on"),
        Disk::File(path) => format!(
            "driver=file,node-name=disk,filename={},aio=io_uring,cache.direct=on,read-only=on",
            path.display()
        ),
    };
    let arguments = [
        "-name",
        "vtax-bench,debug-threads=on",
        "-object",
        "iothread,id=io0",
        "-blockdev",
        &backend,
        "-device",
        "virtio-blk-device,drive=disk,iothread=io0",
    ]
    .map(str::to_owned);
    let mut guest = QemuGuest::start(image, MEMORY, &arguments)?;
    pin(guest.pid(), cpus)?;
    let plan = plan::Disk {
        device: DiskDevice::VirtioBlk,
        backing: DiskBacking::Memory,
        bytes: Some(DISK_BYTES),
        direct: true,
        queues: 1,
        completion: Completion::Poll,
        poll_nanos: 0,
        io_cpus: Vec::new(),
        read_only: true,
    };
    // Which of its slots microvm gives a device is its own affair: the driver finds it.
    let ram = guest.ram().clone();
    for slot in (0..VIRTIO_MMIO_SLOTS).rev() {
        disk::seat(&ram, 0, &plan, VIRTIO_MMIO + slot * VIRTIO_MMIO_STRIDE)?;
        let mailbox = Mailbox::new(&ram, vtax::guest::layout::mailbox(0));
        match work(&mut guest, mailbox) {
            Ok(figures) => return Ok(figures),
            Err(error) if slot == 0 => return Err(error),
            Err(_) => {}
        }
    }
    bail!("QEMU's microvm has no slots")
}

/// The vCPU's thread goes to the first CPU, all others to the second.
fn pin(pid: u32, cpus: [u32; 2]) -> anyhow::Result<()> {
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        let name = std::fs::read_to_string(task.path().join("comm"))?;
        let cpu = cpus[usize::from(!name.contains("KVM"))];
        let mut set = CpuSet::new();
        set.set(usize::try_from(cpu)?);
        let thread: i32 = task.file_name().to_string_lossy().parse()?;
        let thread = Pid::from_raw(thread).context("a thread without a number")?;
        sched_setaffinity(Some(thread), &set)?;
    }
    Ok(())
}
