//! The neighbours of a cell: started before its boot, gone after it, and both told for the audit log.

use std::path::Path;

use vtax_scenarios::plan::Cell;

use super::{Around, Crowd, CrowdError, Progress};
use crate::host::ksm;
use crate::host::root::HostRoot;
use crate::rig::Rig;

/// This very binary. The kernel resolves it in the new process, which is still a copy of this one then.
pub(crate) const PROGRAM: &str = "/proc/self/exe";

/// A neighbour in the audit log.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its name in the scenario.
    pub name: String,
    /// Which of its copies.
    pub copy: u32,
    /// What it does.
    pub work: &'static str,
    /// Its process.
    pub process: u32,
    /// The CPU that it is bound to.
    pub cpu: Option<u32>,
    /// Its control group, a path for each hierarchy.
    pub cgroups: Vec<String>,
    /// What it has done up to now.
    pub progress: Progress,
    /// Pages of its that KSM has merged with others; `None` where the kernel does not tell.
    pub merged_pages: Option<u64>,
}

impl Crowd {
    /// Starts the cell's neighbours; an empty crowd where it has none.
    ///
    /// # Errors
    /// [`CrowdError`]: it costs the cell.
    pub fn beside(rig: &Rig, cell: &Cell, seed: u64, scratch: &Path) -> Result<Self, CrowdError> {
        let guest = &cell.guest;
        let guest_cpus: Vec<u32> = (0..guest.vcpus)
            .filter_map(|vcpu| guest.cpu_of(vcpu, &rig.cpus))
            .collect();
        Self::start(
            &cell.neighbours,
            &Around {
                program: Path::new(PROGRAM),
                cgroups: &rig.cgroups,
                guest_cpus: &guest_cpus,
                scratch,
                seed,
            },
        )
    }

    /// Each as it stands.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        self.members()
            .iter()
            .map(|member| Told {
                name: member.plan().name.clone(),
                copy: member.copy(),
                work: member.plan().work.name(),
                process: member.process(),
                cpu: member.cpu(),
                cgroups: member
                    .cgroups()
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect(),
                progress: member.progress(),
                merged_pages: ksm::merged_pages(&HostRoot::default(), member.process()),
            })
            .collect()
    }
}
