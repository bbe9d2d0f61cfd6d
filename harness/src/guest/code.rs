//! The image's code in this process: pages of their own that nobody can write any more.

use vtax_scenarios::plan::Backing;
use vtax_workloads::machine::{CODE_BASE, CODE_BYTES};

use super::ram::{Ram, RamConfig, RamError};

/// Code and constants at [`CODE_BASE`], readable and executable. The native side calls them there; a guest has the same
/// pages in a slot that it can only read, and none of its devices reaches them. So they stay what the image has, whatever
/// a guest does.
///
/// One mapping serves every guest of a process, in 4 KiB pages, as a program's own code has them.
#[derive(Clone, Debug)]
pub struct Code(Ram);

impl Code {
    /// Maps them.
    ///
    /// # Errors
    /// Another image is mapped there, or the kernel refuses.
    pub(super) fn map(text: &[u8]) -> Result<Self, RamError> {
        let ram = Ram::map(&RamConfig {
            address: CODE_BASE,
            len: CODE_BYTES,
            backing: Backing::Small,
            numa_node: None,
        })?;
        ram.populate(0, text.len() as u64)?;
        ram.write_bytes(0, text)?;
        ram.seal()?;
        Ok(Self(ram))
    }

    /// Where they stand in this process, for a guest's read-only slot.
    pub(super) fn address(&self) -> u64 {
        self.0.address()
    }
}
