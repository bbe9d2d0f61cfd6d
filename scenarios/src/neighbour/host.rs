//! What a host lacks for a cell's neighbours, memory apart.

use crate::host::{NO_CPU_GROUP, THP_OFF, THP_ON, Untestable, allowed, io_uring};
use crate::plan::{Backing, Cell, HostFacts, Neighbour, NeighbourDisk, NeighbourPinning};
use crate::spans::Field;

/// The first thing that is missing.
pub(crate) fn lacks(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    (0..)
        .zip(&cell.neighbours)
        .filter(|(_, neighbour)| neighbour.count > 0)
        .find_map(|(place, neighbour)| {
            let field = Field::Neighbour(place);
            let missing = |reason: &str, remedy: &str| {
                Some(Untestable {
                    field,
                    reason: reason.to_owned(),
                    remedy: remedy.to_owned(),
                })
            };
            if let NeighbourPinning::List(cpus) = &neighbour.pinning
                && let Some(refused) = allowed(field, cpus, facts)
            {
                return Some(refused);
            }
            if let Some(cpus) = &neighbour.cpuset {
                if !facts.cgroup_cpuset {
                    return missing(
                        "vtax cannot make a control group with a cpuset here",
                        "run as root, or where a cgroup with the cpuset controller is delegated to you",
                    );
                }
                let refused = allowed(field, cpus, facts)
                    .or_else(|| bound_outside(field, neighbour, cpus, cell, facts));
                if refused.is_some() {
                    return refused;
                }
            }
            if neighbour.disk == NeighbourDisk::Scratch
                && let Some(refused) = io_uring(field, facts)
            {
                return Some(refused);
            }
            if neighbour.limits_cpu() && !facts.cgroup_cpu {
                return missing(NO_CPU_GROUP.0, NO_CPU_GROUP.1);
            }
            if neighbour.memory_limit.is_some() && !facts.cgroup_memory {
                return missing(
                    "vtax cannot make a control group that limits memory here",
                    "run as root, or where a cgroup with the memory controller is delegated to you",
                );
            }
            if let Some((reason, remedy)) = neighbour
                .io_weight
                .and_then(|weight| unweighed(weight, facts))
            {
                return missing(&reason, remedy);
            }
            if neighbour.mergeable && !facts.ksm {
                return missing(
                    "this kernel has no KSM",
                    "leave mergeable out, or run a kernel with CONFIG_KSM",
                );
            }
            if neighbour.backing == Backing::Thp && !facts.thp {
                return missing(THP_OFF, THP_ON);
            }
            None
        })
}

/// Why a weight for a block device would say nothing, and what to do about it.
fn unweighed(weight: u32, facts: &HostFacts) -> Option<(String, &'static str)> {
    let most = facts.io_weight;
    if !facts.cgroup_io {
        Some((
            "vtax cannot make a control group for I/O here".to_owned(),
            "run as root, or where a cgroup with the io controller is delegated to you",
        ))
    } else if most == 0 {
        Some((
            "no block device here is shared by weight".to_owned(),
            "as root, for the disk that the run directory is on: modprobe bfq; echo bfq > \
             /sys/block/DISK/queue/scheduler; or, with cgroup v2, enable blk-iocost for it in io.cost.qos",
        ))
    } else if weight > most {
        Some((
            format!("block devices here are shared by weights up to {most}"),
            "write a lower io-weight, or enable blk-iocost (cgroup v2), which knows weights up to 10000",
        ))
    } else {
        None
    }
}

/// A copy that goes with a vCPU to a CPU that its cpuset does not have.
fn bound_outside(
    field: Field,
    neighbour: &Neighbour,
    cpuset: &[u32],
    cell: &Cell,
    facts: &HostFacts,
) -> Option<Untestable> {
    let guest = &cell.guest;
    let guest_cpus: Vec<u32> = (0..guest.vcpus)
        .filter_map(|vcpu| guest.cpu_of(vcpu, &facts.cpus))
        .collect();
    let outside = (0..neighbour.count)
        .filter_map(|copy| neighbour.cpu_of(copy, &guest_cpus))
        .find(|cpu| !cpuset.contains(cpu))?;
    Some(Untestable {
        field,
        reason: format!(
            "a vCPU has CPU {outside}, and a neighbour that goes with it is confined to {cpuset:?}"
        ),
        remedy: format!("add {outside} to cpuset, or pin the neighbour or the vCPUs otherwise"),
    })
}
