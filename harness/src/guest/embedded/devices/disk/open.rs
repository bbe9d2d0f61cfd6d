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
use vmm_sys_util::ioctl::{_IOC_NONE, ioctl_expr, ioctl_with_mut_ref};

use super::SECTOR;

/// What direct I/O is aligned to where the kernel does not say (before Linux 6.1): no disk has larger blocks.
const CAUTIOUS_ALIGNMENT: u32 = 4096;

/// Why a path is no disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing there.
    #[error(
        "there is no disk at {}; make a file with `fallocate -l 4G FILE` and let vtax fill it (disk-overwrite = true), attach or activate the device (`lsblk` lists what \
         there is), or name another",
        .path.display()
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
    /// A device that stands for nothing: no medium in the drive, no file behind the loop device.
    #[error(
        "{} has nothing behind it: insert or attach its medium, or name another (`lsblk` lists what there is)",
        .path.display()
    )]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// A device that the kernel does not let anybody write.
    #[error(
        "{} is a read-only device, and was to be written: `blockdev --setrw {}` if its data may be lost, or leave \
         disk-overwrite out",
        .path.display(), .path.display()
    )]
    ReadOnly {
        /// Which.
        path: PathBuf,
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
    let device = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => false,
        Ok(metadata) if metadata.file_type().is_block_device() => true,
        Ok(_) => return Err(OpenError::NoDisk { path: path_buf() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::Missing { path: path_buf() });
        }
        Err(error) => return Err(refused(error)),
    };
    let mut flags = libc::O_CLOEXEC;
    if direct {
        flags |= libc::O_DIRECT;
    }
    if device {
        flags |= libc::O_EXCL;
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(!read_only)
        .custom_flags(flags)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY) => OpenError::Busy { path: path_buf() },
            Some(libc::ENOMEDIUM | libc::ENXIO) if device => OpenError::Empty { path: path_buf() },
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
    if device && bytes == 0 {
        return Err(OpenError::Empty { path: path_buf() });
    }
    if device && !read_only && is_read_only(&file).map_err(refused)? {
        return Err(OpenError::ReadOnly { path: path_buf() });
    }
    let (block_bytes, memory_alignment) = match (direct, device) {
        (true, _) => alignment(&file, device),
        // The page cache takes any part of a block; clearing one (fallocate) takes whole blocks.
        (false, true) => (ioctl_blksszget(&file).unwrap_or(CAUTIOUS_ALIGNMENT), 1),
        (false, false) => (512, 1),
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

/// Whether the kernel lets nobody write the device (`blockdev --setro`, `losetup --read-only`), whatever its file's mode.
fn is_read_only(device: &File) -> io::Result<bool> {
    // BLKROGET of linux/fs.h.
    const BLKROGET: libc::c_ulong = ioctl_expr(_IOC_NONE, 0x12, 94, 0);
    let mut answer: libc::c_int = 0;
    // SAFETY: the call writes one int, which is borrowed for it.
    let result = unsafe { ioctl_with_mut_ref(device, BLKROGET, &mut answer) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(answer != 0)
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
