//! Opening a file or block device as a disk: alone, of a size that a disk can have, and directly where that is asked.
//!
//! ```text
//! path ──► open (O_DIRECT, O_EXCL on devices) ──► lock ──► size, alignment ──► Opened
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, StatxFlags, flock, ioctl_blksszget, statx};
use rustix::io::Errno;

use super::SECTOR;

/// What direct I/O is aligned to where the kernel does not say (before Linux 6.1): no disk has larger blocks.
const CAUTIOUS_ALIGNMENT: u32 = 4096;

/// Why a path is no disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing there.
    #[error(
        "there is no disk at {}; make one with `truncate -s 4G {}` or name another",
        .path.display(), .path.display()
    )]
    Missing {
        /// Where.
        path: PathBuf,
    },
    /// Something else than a file or block device.
    #[error("{} is neither a file nor a block device; name one of these", .path.display())]
    NoDisk {
        /// Which.
        path: PathBuf,
    },
    /// Not whole sectors.
    #[error(
        "{} has {bytes} bytes, and a disk has a multiple of {SECTOR}, at least one: extend it with \
         `truncate -s '%{SECTOR}' {}`",
        .path.display(), .path.display()
    )]
    Short {
        /// Which.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Someone else has it.
    #[error(
        "{} is in use: mounted, part of a volume, or a running guest's disk (`lsof {}` names who has it open); free it or \
         name another",
        .path.display(), .path.display()
    )]
    Busy {
        /// Which.
        path: PathBuf,
    },
    /// The file system has no direct I/O.
    #[error(
        "{} cannot be opened for direct I/O (O_DIRECT): its file system has none; use another one, or go without",
        .path.display()
    )]
    NotDirect {
        /// Which.
        path: PathBuf,
    },
    /// Rights, a read-only file system, or anything else.
    #[error("the disk {} cannot be opened{}: {source}", .path.display(), if *.read_only { "" } else { " for writing" })]
    Refused {
        /// Which.
        path: PathBuf,
        /// Whether it was to be written.
        read_only: bool,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// A file that is fit for a disk.
#[derive(Debug)]
pub struct Opened {
    /// Locked, as long as it is open.
    pub file: File,
    /// Bytes.
    pub bytes: u64,
    /// Requests begin and end at multiples of this on the disk.
    pub block_bytes: u32,
    /// Buffers begin at multiples of this in memory.
    pub memory_alignment: u32,
}

/// Opens the disk at `path`. Regular files are locked (`flock`), block devices are opened exclusively, which fails while
/// they are mounted.
///
/// # Errors
/// [`OpenError`].
pub fn open(path: &Path, direct: bool, read_only: bool) -> Result<Opened, OpenError> {
    let path_buf = || path.to_path_buf();
    let refused = |source: io::Error| OpenError::Refused {
        path: path_buf(),
        read_only,
        source,
    };
    let kind = match std::fs::metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::Missing { path: path_buf() });
        }
        Err(error) => return Err(refused(error)),
    };
    if !kind.is_file() && !kind.is_block_device() {
        return Err(OpenError::NoDisk { path: path_buf() });
    }
    let mut flags = libc::O_CLOEXEC;
    if direct {
        flags |= libc::O_DIRECT;
    }
    if kind.is_block_device() {
        flags |= libc::O_EXCL;
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(!read_only)
        .custom_flags(flags)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY) => OpenError::Busy { path: path_buf() },
            Some(libc::EINVAL) if direct => OpenError::NotDirect { path: path_buf() },
            _ => refused(error),
        })?;
    let lock = if read_only {
        FlockOperation::NonBlockingLockShared
    } else {
        FlockOperation::NonBlockingLockExclusive
    };
    match flock(&file, lock) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(OpenError::Busy { path: path_buf() }),
        Err(error) => return Err(refused(error.into())),
    }
    let bytes = file.seek(SeekFrom::End(0)).map_err(refused)?;
    let (block_bytes, memory_alignment) = if direct {
        alignment(&file, kind.is_block_device())
    } else {
        (512, 1)
    };
    if bytes == 0 || !bytes.is_multiple_of(SECTOR) {
        return Err(OpenError::Short {
            path: path_buf(),
            bytes,
        });
    }
    Ok(Opened {
        file,
        bytes,
        block_bytes,
        memory_alignment,
    })
}

/// What direct I/O on the file is aligned to: on the disk, and in memory (statx(2), STATX_DIOALIGN).
fn alignment(file: &File, device: bool) -> (u32, u32) {
    let asked = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
    if let Ok(answer) = asked
        && answer.stx_dio_offset_align >= 512
        && answer.stx_dio_mem_align > 0
    {
        return (answer.stx_dio_offset_align, answer.stx_dio_mem_align);
    }
    let block = if device {
        ioctl_blksszget(file).unwrap_or(CAUTIOUS_ALIGNMENT)
    } else {
        CAUTIOUS_ALIGNMENT
    };
    (block, block)
}
