//! What a disk is made of, whatever the guest takes it for: memory of the harness, or a file.
//!
//! ```text
//! virtio-blk ─┐
//! ATA         ├─► Disk ─┬─ memory: copied
//! native twin ┘         └─ file or block device
//! ```

use std::io;

use vm_memory::mmap::MmapRegion;
use vm_memory::{VolatileMemory, VolatileSlice};

/// Bytes of a sector: the unit in which virtio and ATA count, whatever the disk's own is.
pub const SECTOR: u64 = 512;

/// Why there is no disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Not a size for a disk.
    #[error("a disk cannot have {bytes} bytes: its size is a multiple of {SECTOR} and not 0")]
    Size {
        /// What was asked for.
        bytes: u64,
    },
    /// No memory for it.
    #[error("no memory for a disk of {bytes} bytes: {reason}; choose a smaller one")]
    Memory {
        /// What was asked for.
        bytes: u64,
        /// What the kernel answered.
        reason: String,
    },
}

/// A disk. All who use it share it; a guest that reads what it is writing elsewhere gets either.
#[derive(Debug)]
pub struct Disk {
    memory: MmapRegion<()>,
    bytes: u64,
    read_only: bool,
}

impl Disk {
    /// A disk in memory, all zeroes and populated, so that no access to it waits for a page.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn memory(bytes: u64) -> Result<Self, DiskError> {
        if bytes == 0 || !bytes.is_multiple_of(SECTOR) {
            return Err(DiskError::Size { bytes });
        }
        let refused = |reason: String| DiskError::Memory { bytes, reason };
        let size = usize::try_from(bytes).map_err(|error| refused(error.to_string()))?;
        let memory = MmapRegion::build(
            None,
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_POPULATE,
        )
        .map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            memory,
            bytes,
            read_only: false,
        })
    }

    /// The same, but for reading only.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self {
            read_only: true,
            ..self
        }
    }

    /// Bytes, a multiple of [`SECTOR`].
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it may not be written.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Bytes of its own block: what is read and written at once without a detour.
    #[must_use]
    pub fn block_bytes(&self) -> u32 {
        512
    }

    /// Copies from the disk.
    ///
    /// # Errors
    /// Beyond its end.
    pub fn read(&self, offset: u64, into: &VolatileSlice<'_>) -> io::Result<()> {
        self.part(offset, into.len())?.copy_to_volatile_slice(*into);
        Ok(())
    }

    /// Copies to the disk.
    ///
    /// # Errors
    /// Beyond its end, or the disk is read-only.
    pub fn write(&self, offset: u64, from: &VolatileSlice<'_>) -> io::Result<()> {
        self.writable()?;
        from.copy_to_volatile_slice(self.part(offset, from.len())?);
        Ok(())
    }

    /// Makes a stretch of the disk zero.
    ///
    /// # Errors
    /// Beyond its end, or the disk is read-only.
    pub fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        self.writable()?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let part = self.part(offset, len)?;
        // SAFETY: the guard's pointer is good for `len` bytes, and nobody has a reference to them: the disk's memory is
        // reached through volatile slices alone.
        unsafe { part.ptr_guard_mut().as_ptr().write_bytes(0, len) };
        Ok(())
    }

    fn writable(&self) -> io::Result<()> {
        if self.read_only {
            Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem))
        } else {
            Ok(())
        }
    }

    fn part(&self, offset: u64, len: usize) -> io::Result<VolatileSlice<'_>> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.memory.get_slice(offset, len).map_err(io::Error::other)
    }
}
