//! Memory of somebody else that KSM may merge, as other guests on a host have it.

use memmap2::{Advice, MmapMut};

/// Equal pages that are offered to KSM; taken back when dropped.
#[derive(Debug)]
pub struct Mergeable {
    _pages: MmapMut,
}

impl Mergeable {
    /// So many bytes of it; `None` where the kernel has no KSM.
    ///
    /// # Panics
    /// There is no memory.
    #[must_use]
    pub fn new(len: usize) -> Option<Self> {
        let mut pages = MmapMut::map_anon(len).expect("memory");
        pages.fill(0x5a);
        pages.advise(Advice::Mergeable).ok()?;
        Some(Self { _pages: pages })
    }
}
