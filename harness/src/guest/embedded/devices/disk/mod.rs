//! What a disk is made of, whatever the guest takes it for: memory of the harness, or a file.
//!
//! ```text
//! virtio-blk ─┐
//! ATA         ├─► Disk ─┬─ memory: copied
//! native twin ┘         └─ file or block device: io_uring (virtio-blk, the twin), or one call after the other (ATA)
//! ```

pub mod open;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::mm::{Advice, madvise};
use vm_memory::mmap::MmapRegion;
use vm_memory::{VolatileMemory, VolatileSlice};

use open::{OpenError, Opened};

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
    /// A path that is no disk.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// A disk. All who use it share it; a guest that reads what it is writing elsewhere gets either.
#[derive(Debug)]
pub struct Disk {
    storage: Storage,
    bytes: u64,
    read_only: bool,
}

#[derive(Debug)]
enum Storage {
    Memory(MmapRegion<()>),
    File {
        file: File,
        block_bytes: u32,
        memory_alignment: u32,
    },
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
        let memory = pages(bytes).map_err(|reason| DiskError::Memory { bytes, reason })?;
        // On large pages where the host has them, so that random access is not mostly a walk of page tables.
        // SAFETY: the range is the mapping's own, and the advice changes nothing that it holds.
        let _ = unsafe { madvise(memory.as_ptr().cast(), memory.size(), Advice::LinuxHugepage) };
        let disk = Self {
            storage: Storage::Memory(memory),
            bytes,
            read_only: false,
        };
        let populated = disk.zero(0, bytes);
        populated.map_err(|error| DiskError::Memory {
            bytes,
            reason: error.to_string(),
        })?;
        Ok(disk)
    }

    /// The file or block device at `path`, through the page cache or around it (`direct`).
    ///
    /// It is locked against other users as long as the disk lives: who shares it shares this value.
    ///
    /// # Errors
    /// [`DiskError::Open`], with the path and what to do.
    pub fn open(path: &Path, direct: bool, read_only: bool) -> Result<Self, DiskError> {
        let Opened {
            file,
            bytes,
            block_bytes,
            memory_alignment,
        } = open::open(path, direct, read_only)?;
        Ok(Self {
            storage: Storage::File {
                file,
                block_bytes,
                memory_alignment,
            },
            bytes,
            read_only,
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

    /// Its first `bytes` bytes, or all where it has no more.
    #[must_use]
    pub fn first(self, bytes: u64) -> Self {
        Self {
            bytes: self.bytes.min(bytes),
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

    /// Bytes of its own block, the logical one of a device: requests begin and end at multiples of this.
    #[must_use]
    pub fn block_bytes(&self) -> u32 {
        match self.storage {
            Storage::Memory(_) => 512,
            Storage::File { block_bytes, .. } => block_bytes,
        }
    }

    /// Whether a buffer at this address of the harness can be handed to the kernel as it is.
    #[must_use]
    pub fn takes(&self, address: usize, len: usize) -> bool {
        match self.storage {
            Storage::Memory(_) => true,
            Storage::File {
                memory_alignment: 0..=1,
                ..
            } => true,
            Storage::File {
                block_bytes,
                memory_alignment,
                ..
            } => {
                address.is_multiple_of(memory_alignment as usize)
                    && len.is_multiple_of(block_bytes as usize)
            }
        }
    }

    /// The file behind it, for io_uring; none for a disk in memory.
    #[must_use]
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        match &self.storage {
            Storage::Memory(_) => None,
            Storage::File { file, .. } => Some(file.as_fd()),
        }
    }

    /// Copies from the disk, and waits for it.
    ///
    /// # Errors
    /// Beyond its end, or the file cannot be read.
    pub fn read(&self, offset: u64, into: &VolatileSlice<'_>) -> io::Result<()> {
        match &self.storage {
            Storage::Memory(memory) => {
                part(memory, offset, into.len())?.copy_to_volatile_slice(*into);
                Ok(())
            }
            Storage::File { file, .. } => {
                let mut buffer = Aligned::new(into.len())?;
                file.read_exact_at(buffer.bytes(), offset)?;
                into.copy_from(buffer.bytes());
                Ok(())
            }
        }
    }

    /// Copies to the disk, and waits for it.
    ///
    /// # Errors
    /// Beyond its end, the disk is read-only, or the file cannot be written.
    pub fn write(&self, offset: u64, from: &VolatileSlice<'_>) -> io::Result<()> {
        self.writable()?;
        match &self.storage {
            Storage::Memory(memory) => {
                from.copy_to_volatile_slice(part(memory, offset, from.len())?);
                Ok(())
            }
            Storage::File { file, .. } => {
                let end = offset.checked_add(from.len() as u64);
                if end.is_none_or(|end| end > self.bytes) {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
                let mut buffer = Aligned::new(from.len())?;
                from.copy_to(buffer.bytes());
                file.write_all_at(buffer.bytes(), offset)
            }
        }
    }

    /// Makes finished writes durable.
    ///
    /// # Errors
    /// The file cannot be written back.
    pub fn flush(&self) -> io::Result<()> {
        match &self.storage {
            Storage::Memory(_) => Ok(()),
            Storage::File { file, .. } => file.sync_data(),
        }
    }

    /// Makes a stretch of a disk in memory zero.
    ///
    /// # Errors
    /// Beyond its end, the disk is read-only, or not in memory.
    pub fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        self.writable()?;
        let Storage::Memory(memory) = &self.storage else {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        };
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let part = part(memory, offset, len)?;
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
}

fn part(memory: &MmapRegion<()>, offset: u64, len: usize) -> io::Result<VolatileSlice<'_>> {
    let offset = usize::try_from(offset).map_err(io::Error::other)?;
    memory.get_slice(offset, len).map_err(io::Error::other)
}

/// Fresh pages of anonymous memory.
fn pages(bytes: u64) -> Result<MmapRegion<()>, String> {
    let size = usize::try_from(bytes).map_err(|error| error.to_string())?;
    MmapRegion::build(
        None,
        size,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_ANONYMOUS | libc::MAP_PRIVATE,
    )
    .map_err(|error| error.to_string())
}

/// A buffer that any disk takes: it begins at a page, and there is nobody else to look into it.
#[derive(Debug)]
pub struct Aligned {
    pages: MmapRegion<()>,
    len: usize,
}

impl Aligned {
    /// A buffer of `len` bytes.
    ///
    /// # Errors
    /// No memory.
    pub fn new(len: usize) -> io::Result<Self> {
        Ok(Self {
            pages: pages(len.max(1) as u64).map_err(io::Error::other)?,
            len,
        })
    }

    /// Its bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: `pages` is private memory of at least `len` bytes that only this value reaches, and it is borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.pages.as_ptr(), self.len) }
    }

    /// Some of its bytes. No reference to the others comes about, so the kernel may be at work on those.
    ///
    /// # Panics
    /// The buffer has no such bytes.
    pub fn part(&mut self, range: Range<usize>) -> &mut [u8] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: the range lies in `pages`, private memory that only this value reaches, and it is borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.pages.as_ptr().add(range.start), range.len()) }
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
