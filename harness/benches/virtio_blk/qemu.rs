//! QEMU's microvm with an iothread.

use vtax::guest::Executor;
use vtax::guest::image::Image;
use vtax::guest::layout;
use vtax::guest::mailbox::Mailbox;
use vtax::guest::qemu::QemuGuest;
use vtax::measure::disk;
use vtax_scenarios::plan::{self, Completion, DiskBacking, DiskDevice};

use super::{DISK_BYTES, Disk, Figures, MEMORY, microvm};

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
    microvm::pin(&guest, cpus)?;
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
    let ram = guest.ram().clone();
    microvm::find(|registers| {
        disk::seat(&ram, 0, &plan, registers)?;
        work(&mut guest, Mailbox::new(&ram, layout::mailbox(0)))
    })
}
