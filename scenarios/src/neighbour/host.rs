//! What a host lacks for a cell's neighbours, memory apart.

use crate::host::{Untestable, allowed};
use crate::plan::{Backing, Cell, HostFacts, NeighbourPinning};
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
            if neighbour.limits_cpu() && !facts.cgroup_cpu {
                return missing(
                    "vtax cannot make a control group for CPU time here",
                    "run as root, or where a cgroup with the cpu controller is delegated to you \
                     (systemd-run --user --scope -p Delegate=yes)",
                );
            }
            if neighbour.memory_limit.is_some() && !facts.cgroup_memory {
                return missing(
                    "vtax cannot make a control group that limits memory here",
                    "run as root, or where a cgroup with the memory controller is delegated to you",
                );
            }
            if neighbour.mergeable && !facts.ksm {
                return missing(
                    "this kernel has no KSM",
                    "leave mergeable out, or run a kernel with CONFIG_KSM",
                );
            }
            if neighbour.backing == Backing::Thp && !facts.thp {
                return missing(
                    "transparent huge pages are switched off",
                    "as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
                );
            }
            None
        })
}
