//! The host's side of block workloads: the same requests on the same disk, from the same thread, as many under way at
//! once. A file or block device is reached through io_uring, a disk in memory by copying.
//!
//! ```text
//! engine ──► Drive ─┬─► Copying: done when it is started
//!                   └─► Ring: io_uring on the disk's own file, with its own O_DIRECT
//! ```

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use io_uring::{IoUring, opcode, types};
use vm_memory::VolatileSlice;
use vtax_workloads::block::engine::{self, Drive, Request as DiskRequest};
use vtax_workloads::block::{Job, SECTOR_BYTES, fill};
use vtax_workloads::{Latencies, Task};

use super::{Twin, TwinError};
use crate::guest::embedded::devices::disk::{Aligned, Disk};
use crate::guest::mailbox::Request;

/// A block task on this disk.
pub struct Block {
    task: Task,
    disk: Arc<Disk>,
    way: Option<Way>,
}

enum Way {
    Copying(Copying),
    Ring(Box<Ring>),
}

impl Block {
    /// Does `task` on `disk`.
    #[must_use]
    pub fn new(task: Task, disk: Arc<Disk>) -> Self {
        Self {
            task,
            disk,
            way: None,
        }
    }

    fn job(&self, request: &Request) -> Result<Job, TwinError> {
        self.task
            .disk_job(&request.params)
            .ok_or(TwinError::Request)
    }
}

impl Twin for Block {
    fn set_up(&mut self, request: &Request) -> Result<(), TwinError> {
        let job = self.job(request)?;
        let disk = Arc::clone(&self.disk);
        let buffers = Buffers::new(job).map_err(TwinError::Disk)?;
        let way = if disk.file().is_some() {
            Ring::new(disk, buffers, job).map(|ring| Way::Ring(Box::new(ring)))
        } else {
            Ok(Way::Copying(Copying {
                disk,
                buffers,
                done: VecDeque::new(),
            }))
        };
        self.way = Some(way.map_err(TwinError::Disk)?);
        Ok(())
    }

    fn run(&mut self, request: &Request, latencies: &mut Latencies<'_>) -> Result<u64, TwinError> {
        let job = self.job(request)?;
        let bytes = self.disk.bytes();
        let (count, seed) = (request.iterations, request.seed);
        match &mut self.way {
            Some(Way::Copying(drive)) => engine::work(job, bytes, count, seed, drive, latencies),
            Some(Way::Ring(drive)) => {
                engine::work(job, bytes, count, seed, drive.as_mut(), latencies)
            }
            None => return Err(TwinError::Request),
        }
        .map_err(TwinError::Disk)
    }
}

/// A block for each slot.
struct Buffers {
    memory: Aligned,
    block_bytes: usize,
}

impl Buffers {
    fn new(job: Job) -> io::Result<Self> {
        let size = |bytes: u64| usize::try_from(bytes).map_err(io::Error::other);
        let mut memory = Aligned::new(size(job.buffer_bytes())?)?;
        if job.writes() {
            fill(memory.bytes(), 0);
        }
        Ok(Self {
            memory,
            block_bytes: size(job.block_bytes)?,
        })
    }

    fn slot(&mut self, slot: usize) -> &mut [u8] {
        &mut self.memory.bytes()[slot * self.block_bytes..][..self.block_bytes]
    }
}

/// A disk in memory.
struct Copying {
    disk: Arc<Disk>,
    buffers: Buffers,
    done: VecDeque<usize>,
}

impl Drive for Copying {
    type Error = io::Error;

    fn buffer(&mut self, slot: usize) -> &mut [u8] {
        self.buffers.slot(slot)
    }

    fn start(&mut self, slot: usize, request: DiskRequest) -> io::Result<()> {
        let data = VolatileSlice::from(self.buffers.slot(slot));
        match request {
            DiskRequest::Read(sector) => self.disk.read(sector * SECTOR_BYTES, &data)?,
            DiskRequest::Write(sector) => self.disk.write(sector * SECTOR_BYTES, &data)?,
            DiskRequest::Flush => self.disk.flush()?,
        }
        self.done.push_back(slot);
        Ok(())
    }

    fn kick(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn ready(&mut self) -> io::Result<Option<usize>> {
        Ok(self.done.pop_front())
    }

    fn wait(&mut self) -> io::Result<usize> {
        self.done
            .pop_front()
            .ok_or_else(|| io::Error::other("nothing is under way"))
    }
}

/// A file or block device.
struct Ring {
    // Before the buffers: it is dropped first, and with it go the requests that use them.
    ring: IoUring,
    disk: Arc<Disk>,
    buffers: Buffers,
    file: types::Fd,
}

impl Ring {
    fn new(disk: Arc<Disk>, buffers: Buffers, job: Job) -> io::Result<Self> {
        let entries = u32::try_from(job.depth).map_err(io::Error::other)?;
        let file = disk
            .file()
            .map(|file| types::Fd(file.as_raw_fd()))
            .ok_or_else(|| io::Error::other("the disk has no file"))?;
        Ok(Self {
            ring: IoUring::new(entries.next_power_of_two())?,
            disk,
            buffers,
            file,
        })
    }
}

impl Drive for Ring {
    type Error = io::Error;

    fn buffer(&mut self, slot: usize) -> &mut [u8] {
        self.buffers.slot(slot)
    }

    fn start(&mut self, slot: usize, request: DiskRequest) -> io::Result<()> {
        let data = self.buffers.slot(slot);
        let len = u32::try_from(data.len()).map_err(io::Error::other)?;
        let entry = match request {
            DiskRequest::Read(sector) => opcode::Read::new(self.file, data.as_mut_ptr(), len)
                .offset(sector * SECTOR_BYTES)
                .build(),
            DiskRequest::Write(_) if self.disk.is_read_only() => {
                return Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem));
            }
            DiskRequest::Write(sector) => opcode::Write::new(self.file, data.as_ptr(), len)
                .offset(sector * SECTOR_BYTES)
                .build(),
            DiskRequest::Flush => opcode::Fsync::new(self.file)
                .flags(types::FsyncFlags::DATASYNC)
                .build(),
        };
        // SAFETY: the slot's buffer lives as long as the ring, and the engine leaves it alone until the request is done;
        // the disk keeps its file open.
        unsafe {
            self.ring
                .submission()
                .push(&entry.user_data(slot as u64))
                .map_err(io::Error::other)
        }
    }

    fn kick(&mut self) -> io::Result<()> {
        self.ring.submit().map(drop)
    }

    fn ready(&mut self) -> io::Result<Option<usize>> {
        let Some(entry) = self.ring.completion().next() else {
            return Ok(None);
        };
        let slot = usize::try_from(entry.user_data()).map_err(io::Error::other)?;
        match usize::try_from(entry.result()) {
            // A flush moves nothing.
            Ok(moved) if moved == 0 || moved == self.buffers.block_bytes => Ok(Some(slot)),
            Ok(_) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Err(_) => Err(io::Error::from_raw_os_error(-entry.result())),
        }
    }

    fn wait(&mut self) -> io::Result<usize> {
        loop {
            if let Some(slot) = self.ready()? {
                return Ok(slot);
            }
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => drop(result?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use vtax_scenarios::plan::{self, Completion, DiskBacking, DiskDevice};
    use vtax_workloads::abi::{LATENCY_SLOTS, Op};
    use vtax_workloads::{Body, MAX_PARAMS, default_params};

    use super::*;
    use crate::disks::{Disks, fits};

    const MIB: u64 = 1 << 20;

    fn plan(backing: DiskBacking, read_only: bool) -> plan::Disk {
        plan::Disk {
            device: DiskDevice::VirtioBlk,
            backing,
            bytes: Some(MIB),
            direct: false,
            queues: 1,
            completion: Completion::Poll,
            poll_nanos: 0,
            io_cpus: Vec::new(),
            read_only,
        }
    }

    /// A hundred operations of a workload; their checksum.
    fn run(
        name: &str,
        change: impl Fn(&mut [u64; MAX_PARAMS]),
        disk: Arc<Disk>,
    ) -> Result<u64, TwinError> {
        let (index, workload) = vtax_workloads::find(name).unwrap();
        let Body::PerSide(task) = workload.body else {
            panic!("{name} has one code for both sides");
        };
        let mut params = default_params(workload);
        change(&mut params);
        let request = Request {
            op: Op::Run,
            workload: index as u64,
            arena: 0,
            arena_len: 0,
            iterations: 100,
            run_in: 0,
            planted: 0,
            params,
            seed: 3,
        };
        let mut slots = Box::new([0; LATENCY_SLOTS]);
        let (mut len, mut dropped) = (0, 0);
        let mut latencies = Latencies::new(&mut slots, &mut len, &mut dropped);
        let mut twin = Block::new(task, disk);
        twin.set_up(&request)?;
        let checksum = twin.run(&request, &mut latencies)?;
        assert_eq!(len, 100);
        Ok(checksum)
    }

    #[test]
    fn memory_and_files_bring_the_same_data_at_any_depth() {
        let folder = tempfile::tempdir().unwrap();
        let disks = Disks::new(folder.path());
        let memory = disks.get(&plan(DiskBacking::Memory, false)).unwrap();
        let scratch = disks.get(&plan(DiskBacking::Scratch, false)).unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        for name in ["block-random", "block-sequential"] {
            let expected = run(name, |_| (), Arc::clone(&memory)).unwrap();
            for depth in [1, 32] {
                let deep = |params: &mut [u64; MAX_PARAMS]| params[1] = depth;
                assert_eq!(run(name, deep, Arc::clone(&scratch)).unwrap(), expected);
                // Writing leaves everything as it was.
                let write = |params: &mut [u64; MAX_PARAMS]| (params[0], params[1]) = (1, depth);
                run(name, write, Arc::clone(&scratch)).unwrap();
            }
            run("block-flush", |_| (), Arc::clone(&scratch)).unwrap();
            assert_eq!(run(name, |_| (), Arc::clone(&scratch)).unwrap(), expected);
        }
    }

    #[test]
    fn a_disk_that_may_not_be_written_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine");
        std::fs::write(&path, vec![7; 2 << 20]).unwrap();
        let mine = |overwrite| DiskBacking::Path {
            path: path.display().to_string(),
            overwrite,
        };
        let disks = Disks::new(folder.path());
        for plan in [plan(mine(false), false), plan(DiskBacking::Memory, true)] {
            let disk = disks.get(&plan).unwrap();
            run("block-random", |_| (), Arc::clone(&disk)).unwrap();
            assert!(matches!(
                run("block-flush", |_| (), disk),
                Err(TwinError::Disk(_))
            ));
        }
        assert_eq!(std::fs::read(&path).unwrap(), vec![7; 2 << 20]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small");
        let plan = plan(
            DiskBacking::Path {
                path: path.display().to_string(),
                overwrite: false,
            },
            false,
        );
        let disks = Disks::new(folder.path());
        let missing = disks.get(&plan).unwrap_err().to_string();
        assert!(missing.contains("small"), "{missing}");
        std::fs::write(&path, [0; 512]).unwrap();
        let short = disks.get(&plan).unwrap_err().to_string();
        assert!(short.contains("512 bytes"), "{short}");
        let Some(job) = Task::BlockFlush.disk_job(&[0; MAX_PARAMS]) else {
            panic!("it has no job");
        };
        let tight = fits(&Disk::memory(512).unwrap(), job).unwrap_err();
        assert!(tight.to_string().contains("a larger disk"), "{tight}");
        fits(&Disk::memory(4096).unwrap(), job).unwrap();
    }
}
