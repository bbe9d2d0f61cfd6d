//! Memory of somebody else that KSM may merge, as other guests on a host have it.

use std::ffi::c_void;
use std::ptr::null_mut;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// Equal pages that are offered to KSM; taken back when dropped.
#[derive(Debug)]
pub struct Mergeable {
    start: *mut c_void,
    len: usize,
}

impl Mergeable {
    /// So many bytes of it; `None` where the kernel has no KSM.
    ///
    /// # Panics
    /// There is no memory.
    #[must_use]
    pub fn new(len: usize) -> Option<Self> {
        // SAFETY: the kernel chooses a place where nothing is mapped.
        let mapped = unsafe {
            mmap_anonymous(
                null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        };
        let start = mapped.expect("memory");
        let it = Self { start, len };
        // SAFETY: the mapping is this value's own, readable and writable, and nothing refers to it.
        unsafe { start.cast::<u8>().write_bytes(0x5a, len) };
        // SAFETY: as above, and the advice changes no byte.
        unsafe { madvise(start, len, Advice::LinuxMergeable) }.ok()?;
        Some(it)
    }
}

impl Drop for Mergeable {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it is left.
        let _ = unsafe { munmap(self.start, self.len) };
    }
}
