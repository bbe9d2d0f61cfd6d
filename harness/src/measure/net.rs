//! A cell's network link: what the host makes for it, the device that its guest gets, and what the vCPU is told of it.

use std::mem::offset_of;
use std::sync::Arc;

use vtax_scenarios::plan::{self, Completion, NetBackend};
use vtax_workloads::machine::{
    AREA_NET_SEAT, DEVICE_NET, DEVICES_VIRTUAL, NET_INTERRUPT, NET_POLL, NetSeat,
};
use vtax_workloads::network::frame::GUEST;

use crate::guest::embedded::devices::blk;
use crate::guest::embedded::devices::net::{Backend, NetConfig};
use crate::guest::layout;
use crate::guest::ram::{Ram, RamError};
use crate::host::net::{NetError, Network};

/// The link of this plan.
///
/// # Errors
/// The host cannot make it.
pub fn network(plan: &plan::Net) -> Result<(Arc<Network>, Completion), NetError> {
    Ok((Arc::new(Network::build(plan.link)?), plan.completion))
}

/// The network card at the guest's end of it.
#[must_use]
pub fn device(plan: &plan::Net, network: &Network) -> NetConfig {
    NetConfig {
        wire: network.tap.wire(),
        backend: match plan.backend {
            NetBackend::Vhost => Backend::Vhost,
            // A plan is settled before it is measured.
            NetBackend::Auto | NetBackend::Vmm => Backend::Vmm,
        },
        address: GUEST,
        completion: match plan.completion {
            Completion::Interrupt => blk::Completion::Interrupt,
            Completion::Poll => blk::Completion::Poll,
        },
        poll_nanos: plan.poll_nanos,
        io_cpu: plan.io_cpu,
    }
}

/// Tells the first vCPU, which drives the card, if there is one.
///
/// # Errors
/// RAM is too small.
pub fn tell(ram: &Ram, net: Option<&plan::Net>) -> Result<(), RamError> {
    net.map_or(Ok(()), |net| {
        seat(ram, net.completion, DEVICES_VIRTUAL + DEVICE_NET * 4096)
    })
}

/// Tells the first vCPU of the card whose registers are at this virtual address.
///
/// # Errors
/// RAM is too small.
pub fn seat(ram: &Ram, completion: Completion, registers: u64) -> Result<(), RamError> {
    let completion = match completion {
        Completion::Interrupt => NET_INTERRUPT,
        Completion::Poll => NET_POLL,
    };
    let seat = layout::vcpu_area(0) + AREA_NET_SEAT;
    for (field, value) in [
        (offset_of!(NetSeat, completion), completion),
        (offset_of!(NetSeat, registers), registers),
    ] {
        ram.write(seat + field as u64, &value)?;
    }
    Ok(())
}
