//! The disks of a run: made when the first boot needs them, filled, and kept for the boots that follow.
//!
//! ```text
//! plan::Disk ──► Disks::get ─┬─ memory
//!                            ├─ scratch: a file in the run directory, without a name from the start
//!                            └─ path: the user's, written only by consent
//! ```
//!
//! What vtax may write it fills with the pattern of [`vtax_workloads::block`], by which reads are checked.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use vm_memory::VolatileSlice;
use vtax_scenarios::plan::{self, DiskBacking};
use vtax_workloads::block::{Job, fill};

use crate::guest::embedded::devices::disk::{Aligned, Disk, DiskError, SECTOR};

/// Bytes that are filled at once.
const CHUNK: usize = 1 << 20;

/// Why there is no disk. It concerns this host, not the scenario.
#[derive(Debug, thiserror::Error)]
pub enum DisksError {
    /// What is there cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// No scratch file.
    #[error(
        "a scratch file of {bytes} bytes cannot be made in {}: {source}; free some space there, or choose another --out \
         directory or a smaller disk-size",
        .directory.display()
    )]
    Scratch {
        /// Where.
        directory: PathBuf,
        /// How large.
        bytes: u64,
        /// Why not.
        source: io::Error,
    },
    /// What is read there comes from no disk.
    #[error(
        "{path} has no data at byte {at}: what is read from a hole never reaches a disk; let vtax fill the file \
         (disk-overwrite = true), or write data all over it"
    )]
    Hole {
        /// Which.
        path: String,
        /// Where the first hole begins.
        at: u64,
    },
    /// Filling failed.
    #[error("filling the disk {what} failed: {source}")]
    Fill {
        /// Which.
        what: String,
        /// At what.
        source: io::Error,
    },
    /// Smaller than the scenario says.
    #[error("{path} has {there} bytes, disk-size asks for {asked}; write a smaller disk-size")]
    Small {
        /// Which.
        path: String,
        /// Its size.
        there: u64,
        /// What it should hold.
        asked: u64,
    },
    /// A block of the workload's is no block of the disk's, or not one fits.
    #[error(
        "the workload's blocks of {block} bytes do not fit a disk of {there} bytes in blocks of {own}: {}",
        if .block > .there { "name a larger disk" } else { "write a larger block in its params" }
    )]
    Block {
        /// Bytes of the workload's block.
        block: u64,
        /// Bytes of the disk's own, smaller than which nothing is read or written.
        own: u32,
        /// Bytes of the disk.
        there: u64,
    },
}

/// Whether this job can be done on the disk.
///
/// # Errors
/// [`DisksError::Block`]: the disk has larger blocks, or less room than one.
pub fn fits(disk: &Disk, job: Job) -> Result<(), DisksError> {
    let (block, own, there) = (job.block_bytes, disk.block_bytes(), disk.bytes());
    if block.is_multiple_of(own.into()) && block <= there {
        Ok(())
    } else {
        Err(DisksError::Block { block, own, there })
    }
}

/// What tells one disk from another, however guests see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    backing: DiskBacking,
    bytes: Option<u64>,
    direct: bool,
    read_only: bool,
}

/// All that have been made so far.
#[derive(Debug)]
pub struct Disks {
    scratch: PathBuf,
    made: Mutex<BTreeMap<Key, Arc<Disk>>>,
}

impl Disks {
    /// None yet; scratch files will be in this directory.
    #[must_use]
    pub fn new(scratch: &Path) -> Self {
        Self {
            scratch: scratch.to_path_buf(),
            made: Mutex::default(),
        }
    }

    /// The disk that the plan describes.
    ///
    /// # Errors
    /// [`DisksError`]: this host cannot give it.
    pub fn get(&self, plan: &plan::Disk) -> Result<Arc<Disk>, DisksError> {
        let key = Key {
            backing: plan.backing.clone(),
            bytes: plan.bytes,
            direct: plan.direct,
            read_only: plan.read_only,
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(disk) = made.get(&key) {
            return Ok(Arc::clone(disk));
        }
        // A path is locked by whoever has it open.
        made.retain(|other, _| !matches!(other.backing, DiskBacking::Path { .. }));
        let disk = Arc::new(self.make(plan)?);
        made.insert(key, Arc::clone(&disk));
        Ok(disk)
    }

    fn make(&self, plan: &plan::Disk) -> Result<Disk, DisksError> {
        let bytes = plan.bytes.unwrap_or_default();
        let disk = match &plan.backing {
            DiskBacking::Memory => filled(Disk::memory(bytes)?, "in memory")?,
            DiskBacking::Scratch => filled(self.scratch(bytes, plan.direct)?, "in a scratch file")?,
            DiskBacking::Path { path, overwrite } => {
                let read_only = plan.read_only || !overwrite;
                let disk = Disk::open(Path::new(path), plan.direct, read_only)?;
                let there = disk.bytes();
                let disk = match plan.bytes {
                    Some(asked) if asked > there => {
                        let path = path.clone();
                        return Err(DisksError::Small { path, there, asked });
                    }
                    Some(asked) => disk.first(asked),
                    None => disk,
                };
                if read_only {
                    whole(disk, path)?
                } else {
                    filled(disk, path)?
                }
            }
        };
        Ok(if plan.read_only {
            disk.read_only()
        } else {
            disk
        })
    }

    /// A file that has no name, so that nothing is left of it however the run ends.
    fn scratch(&self, bytes: u64, direct: bool) -> Result<Disk, DisksError> {
        let failed = |source: io::Error| DisksError::Scratch {
            directory: self.scratch.clone(),
            bytes,
            source,
        };
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(&self.scratch, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| failed(error.into()))?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)
            .map_err(|error| failed(error.into()))?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(Disk::open(Path::new(&path), direct, false)?)
    }
}

/// The disk, if it has data everywhere. A block device has; a file system without holes says so of its files.
fn whole(disk: Disk, path: &str) -> Result<Disk, DisksError> {
    let hole = disk
        .file()
        .and_then(|file| rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(0)).ok());
    match hole.filter(|&at| at < disk.bytes()) {
        Some(at) => Err(DisksError::Hole {
            path: path.to_owned(),
            at,
        }),
        None => Ok(disk),
    }
}

/// Writes the pattern all over the disk.
fn filled(disk: Disk, what: &str) -> Result<Disk, DisksError> {
    let write = || -> io::Result<()> {
        let mut buffer = Aligned::new(CHUNK)?;
        let mut offset = 0;
        while offset < disk.bytes() {
            let left = usize::try_from(disk.bytes() - offset).unwrap_or(CHUNK);
            let data = &mut buffer.bytes()[..left.min(CHUNK)];
            fill(data, offset / SECTOR);
            let len = data.len() as u64;
            disk.write(offset, &VolatileSlice::from(data))?;
            offset += len;
        }
        disk.flush()
    };
    write().map_err(|source| DisksError::Fill {
        what: what.to_owned(),
        source,
    })?;
    Ok(disk)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use vtax_scenarios::plan::{Completion, DiskDevice};

    use super::*;

    #[test]
    fn a_hole_is_no_data() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let file = std::fs::File::create(&path).unwrap();
        file.write_all_at(&[1; 1 << 20], 0).unwrap();
        file.set_len(2 << 20).unwrap();
        let plan = |bytes, overwrite| plan::Disk {
            backing: DiskBacking::Path {
                path: path.display().to_string(),
                overwrite,
            },
            bytes: Some(bytes),
            direct: false,
            device: DiskDevice::VirtioBlk,
            queues: 1,
            completion: Completion::Interrupt,
            poll_nanos: 0,
            io_cpus: Vec::new(),
            read_only: false,
        };
        let get = |bytes, overwrite| Disks::new(folder.path()).get(&plan(bytes, overwrite));
        let error = get(2 << 20, false).unwrap_err();
        assert!(
            matches!(error, DisksError::Hole { at: 1_048_576, .. }),
            "{error}"
        );
        // What comes before it is data, and what vtax fills has no hole.
        get(1 << 20, false).unwrap();
        get(2 << 20, true).unwrap();
        get(2 << 20, false).unwrap();
    }
}
