//! What a neighbour's process takes of the host's memory.

use procfs::process::{MMapExtension, Process};
use vtax_workloads::machine::RAM_BASE;

/// Why it is not known.
#[derive(Debug, thiserror::Error)]
pub enum FootprintError {
    /// The process is gone, or another user's.
    #[error("the memory of process {process} cannot be read: {source}")]
    Unreadable {
        /// Which.
        process: u32,
        /// Why not.
        source: procfs::ProcError,
    },
}

/// Memory of a process in bytes. What the kernel keeps for it (page tables, KVM's own structures) is no part of any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Resident, shared pages in full (RSS).
    pub resident: u64,
    /// Resident, of shared pages its share (PSS).
    pub proportional: u64,
    /// Resident, and nobody else's.
    pub private: u64,
    /// Guest RAM that is resident.
    pub guest: u64,
    /// What the VMM takes beyond guest RAM: its private pages and its share of what it has with others.
    pub overhead: u64,
    /// Of the private pages those that are not guest RAM.
    pub private_overhead: u64,
}

impl Footprint {
    /// That of a process whose guest has `memory` bytes of RAM.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(process: u32, memory: u64) -> Result<Self, FootprintError> {
        let unreadable = |source| FootprintError::Unreadable { process, source };
        let id = i32::try_from(process).unwrap_or(i32::MAX);
        let proc = Process::new(id).map_err(unreadable)?;
        let mut found = Self::default();
        let mut guest_proportional = 0;
        let mut guest_private = 0;
        for map in proc.smaps().map_err(unreadable)? {
            let size = |name: &str| field(&map.extension, name);
            let private = size("Private_Clean") + size("Private_Dirty");
            found.resident += size("Rss");
            found.proportional += size("Pss");
            found.private += private;
            if (RAM_BASE..RAM_BASE + memory).contains(&map.address.0) {
                found.guest += size("Rss");
                guest_proportional += size("Pss");
                guest_private += private;
            }
        }
        found.overhead = found.proportional.saturating_sub(guest_proportional);
        found.private_overhead = found.private.saturating_sub(guest_private);
        Ok(found)
    }
}

fn field(extension: &MMapExtension, name: &str) -> u64 {
    extension.map.get(name).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_a_guest_is_all_overhead() {
        let own = Footprint::of(std::process::id(), 16 << 20).unwrap();
        assert!(own.resident >= own.proportional && own.proportional >= own.private);
        assert!(own.private > 0);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        let error = Footprint::of(u32::MAX, 0).unwrap_err().to_string();
        assert!(error.contains("4294967295"), "{error}");
    }
}
