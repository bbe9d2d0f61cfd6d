//! vtax's own VMM.

use vtax::guest::embedded::devices::blk::Completion;
use vtax::guest::embedded::devices::net::{Backend, NetConfig};
use vtax::guest::embedded::devices::{Devices, DevicesConfig};
use vtax::guest::embedded::{self, Vm, VmConfig};
use vtax::guest::image::Image;
use vtax::guest::layout;
use vtax::guest::mailbox::Mailbox;
use vtax::guest::ram::{Ram, RamConfig};
use vtax::host::net::Tap;
use vtax::measure::net;
use vtax::watchdog::Slot;
use vtax_scenarios::plan::{self, Backing, PageSize};
use vtax_workloads::machine::{DEVICE_NET, DEVICES_VIRTUAL, RAM_BASE};
use vtax_workloads::network::frame::GUEST;

use super::{Figures, MEMORY, Work};

/// Makes the guest, and hands its vCPU to `work`.
pub fn with(image: &Image, tap: &Tap, io_cpu: u32, work: Work<'_>) -> anyhow::Result<Figures> {
    let ram = Ram::map(&RamConfig {
        address: RAM_BASE,
        len: MEMORY,
        backing: Backing::Small,
        numa_node: None,
    })?;
    ram.prefault(0, MEMORY)?;
    let devices = Devices::new(
        &ram,
        &DevicesConfig {
            net: Some(NetConfig {
                wire: tap.wire(),
                backend: Backend::Vmm,
                address: GUEST,
                completion: Completion::Poll,
                // QEMU's main loop, which serves its card, does not poll either.
                poll_nanos: 0,
                io_cpu: Some(io_cpu),
            }),
            ..DevicesConfig::default()
        },
    )?;
    let kvm = embedded::open()?;
    let vm = Vm::create(
        &kvm,
        &ram,
        image,
        &devices,
        VmConfig::single(PageSize::Size2M),
    )?;
    net::seat(
        &ram,
        plan::Completion::Poll,
        DEVICES_VIRTUAL + DEVICE_NET * 4096,
    )?;
    let mut vcpu = vm.vcpu(0)?;
    vcpu.watched(Slot::for_this_thread()?);
    let figures = work(&mut vcpu, Mailbox::new(&ram, layout::mailbox(0)))?;
    devices.check()?;
    Ok(figures)
}
