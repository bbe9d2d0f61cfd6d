//! A cell's network link: what the host makes for it, the device that its guest gets, and what the vCPU is told of it.

use std::sync::Arc;

use vtax_scenarios::plan::{self, Completion};
use vtax_workloads::machine::{AREA_NET, NET_INTERRUPT, NET_POLL};
use vtax_workloads::network::frame::GUEST;

use crate::guest::embedded::devices::blk;
use crate::guest::embedded::devices::net::NetConfig;
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
    let word = match net.map(|net| net.completion) {
        None => return Ok(()),
        Some(Completion::Interrupt) => NET_INTERRUPT,
        Some(Completion::Poll) => NET_POLL,
    };
    ram.write(layout::vcpu_area(0) + AREA_NET, &word)
}
