//! QEMU's microvm, whose main loop serves the card.

use std::os::fd::AsRawFd as _;

use vtax::guest::image::Image;
use vtax::guest::layout;
use vtax::guest::mailbox::Mailbox;
use vtax::guest::qemu::QemuGuest;
use vtax::host::net::Tap;
use vtax::measure::net;
use vtax_scenarios::plan::Completion;
use vtax_workloads::network::frame::GUEST;

use super::{Figures, MEMORY, Work, microvm};

/// Makes the guest, and hands its vCPU to `work`.
pub fn with(image: &Image, tap: &Tap, cpus: [u32; 2], work: Work<'_>) -> anyhow::Result<Figures> {
    // Without close-on-exec, for QEMU to inherit: the tap is in a namespace that QEMU is not in.
    let inherited = rustix::io::dup(tap.wire())?;
    let address: Vec<String> = GUEST.iter().map(|byte| format!("{byte:02x}")).collect();
    let arguments = [
        "-name".to_owned(),
        "vtax-bench,debug-threads=on".to_owned(),
        "-netdev".to_owned(),
        format!("tap,id=net,vhost=off,fd={}", inherited.as_raw_fd()),
        "-device".to_owned(),
        format!("virtio-net-device,netdev=net,mac={}", address.join(":")),
    ];
    let mut guest = QemuGuest::start(image, MEMORY, &arguments)?;
    microvm::pin(&guest, cpus)?;
    let ram = guest.ram().clone();
    microvm::find(|registers| {
        net::seat(&ram, Completion::Poll, registers)?;
        work(&mut guest, Mailbox::new(&ram, layout::mailbox(0)))
    })
}
