//! The `net` keys of `[guest]`: what they mean, and whether a cell's workload has the network link that it needs.

use std::ops::Range;

use vtax_workloads::{Body, find};

use crate::check::{poll_nanos, value};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::plan::{Cell, Completion, HostFacts, Net, NetBackend, NetLink, Plan};
use crate::schema::{GuestSpec, NetSpec};
use crate::spans::Field;

/// While the thread polls it keeps the CPU from the peer that it waits for, unless there are CPUs for all.
const DEFAULT_POLL_NANOS: u64 = 0;

/// The network link that the keys describe.
pub(crate) fn net(spec: &GuestSpec, errors: &mut Diagnostics) -> Option<Net> {
    match value(&spec.net, NetSpec::None) {
        NetSpec::None => None,
        NetSpec::VirtioNet => Some(Net {
            link: value(&spec.net_link, NetLink::Namespace),
            backend: value(&spec.net_backend, NetBackend::Auto),
            completion: value(&spec.net_completion, Completion::Interrupt),
            poll_nanos: poll_nanos(&spec.net_poll, "net-poll", DEFAULT_POLL_NANOS, errors),
            io_cpu: spec.net_io_cpu.as_ref().map(|cpu| *cpu.get_ref()),
        }),
    }
}

impl Plan {
    /// The plan with what it leaves to the host settled for this one: who serves the guests' network cards.
    #[must_use]
    pub fn settled(&self, facts: &HostFacts) -> Self {
        let mut plan = self.clone();
        for net in plan
            .cells
            .iter_mut()
            .filter_map(|cell| cell.guest.net.as_mut())
        {
            net.backend = match net.backend {
                NetBackend::Auto if facts.vhost_net => NetBackend::Vhost,
                NetBackend::Auto => NetBackend::Vmm,
                settled => settled,
            };
        }
        plan
    }
}

/// What is wrong with a cell whose workload needs a network link.
pub(crate) fn usable(cell: &Cell, at: impl Fn(Field) -> Range<usize>) -> Option<Diagnostic> {
    let (_, workload) = find(&cell.workload.name)?;
    let Body::PerSide(task) = workload.body else {
        return None;
    };
    task.net_job(&cell.workload.params)?;
    if cell.guest.net.is_none() {
        return Some(
            Diagnostic::new(
                at(Field::Net),
                format!("`{}` needs a network link", workload.name),
            )
            .help("write net = \"virtio-net\" in [guest]"),
        );
    }
    (cell.guest.vcpus > 1).then(|| {
        Diagnostic::new(
            at(Field::Vcpus),
            format!("`{}` drives the link from one vCPU", workload.name),
        )
        .help("write vcpus = 1 in [guest]")
    })
}
