//! A disk: what the guest's driver and the host's twin both do, block by block. No code here reaches a disk: the guest
//! image and the harness each have their own way to it (`Task`).
//!
//! ```text
//! Task::disk_job ──► Job::block_of(operation) ──► read, or write what belongs there ──► sum of the data, in any order
//! ```
//!
//! A disk that vtax fills holds a pattern which depends on the sector alone, so a read proves that it brought the right
//! sectors, and a write puts back what was there: the disk stays as it was, whoever writes in which order.

pub mod engine;

use crate::catalogue::{MAX_PARAMS, at_once, baseline, unlimited};
use crate::mix::mix;
use crate::{Body, Direction, Family, Metric, Param, ParamKind, Prepare, Task, Workload};

/// Bytes of a sector: the unit in which disks count.
///
/// Source: virtio 1.2, section 5.2.4 (capacity in 512-byte sectors); ATA/ATAPI-7, 4.2 (sector size of 512 bytes).
pub const SECTOR_BYTES: u64 = 512;

/// Bytes of which [`sum`] reads the first word: a cache line of every x86-64 CPU.
const LINE_BYTES: usize = 64;

/// Most operations under way at once.
pub const MAX_DEPTH: u64 = 64;

/// Block sizes as scenarios name them, each double the last, from one sector on.
const BLOCK_SIZES: &[&str] = &[
    "512B", "1KiB", "2KiB", "4KiB", "8KiB", "16KiB", "32KiB", "64KiB", "128KiB", "256KiB",
    "512KiB", "1MiB",
];
const DEFAULT_BLOCK: u64 = 3;
const SEQUENTIAL_BLOCK_BYTES: u64 = 128 << 10;
const FLUSH_BLOCK_BYTES: u64 = 4096;

const ACCESS: Param = Param {
    name: "access",
    kind: ParamKind::Choice(&["read", "write"]),
    default: 0,
    min: 0,
    max: 1,
    help: "Whether blocks are read or written.",
};

const DEPTH: Param = Param {
    name: "depth",
    kind: ParamKind::Count,
    default: 1,
    min: 1,
    max: MAX_DEPTH,
    help: "Operations that are under way at once (queue depth).",
};

/// Blocks in random order.
pub(crate) const RANDOM: Workload = Workload {
    name: "block-random",
    family: Family::Block,
    title: "Random disk I/O",
    stresses: "Reads or writes blocks of the guest's disk in random order: the cost of one operation on the way through \
               the virtual disk, and how many are handled at once.",
    source: "fio(1), rw=randread and rw=randwrite with iodepth",
    metric: Metric {
        unit: "kIOPS",
        direction: Direction::HigherIsBetter,
        amount_per_iteration: 1e6,
    },
    params: &[
        ACCESS,
        DEPTH,
        Param {
            name: "block",
            kind: ParamKind::Choice(BLOCK_SIZES),
            default: DEFAULT_BLOCK,
            min: 0,
            max: BLOCK_SIZES.len() as u64 - 1,
            help: "Bytes of each operation.",
        },
    ],
    requires: baseline,
    footprint: |params| Job::random(params).footprint(),
    prepare: Prepare::Nothing,
    max_iterations: unlimited,
    settles_after: at_once,
    latencies: true,
    body: Body::PerSide(Task::BlockRandom),
};

/// Large blocks, one after the other.
pub(crate) const SEQUENTIAL: Workload = Workload {
    name: "block-sequential",
    family: Family::Block,
    title: "Sequential disk I/O",
    stresses: "Reads or writes the guest's disk from its start in blocks of 128 KiB: the bandwidth of the virtual disk.",
    source: "fio(1), rw=read and rw=write with bs=128k",
    metric: Metric {
        unit: "MB/s",
        direction: Direction::HigherIsBetter,
        amount_per_iteration: SEQUENTIAL_BLOCK_BYTES as f64 * 1e3,
    },
    params: &[ACCESS, DEPTH],
    requires: baseline,
    footprint: |params| Job::sequential(params).footprint(),
    prepare: Prepare::Nothing,
    max_iterations: unlimited,
    settles_after: at_once,
    latencies: true,
    body: Body::PerSide(Task::BlockSequential),
};

/// Writes that must last.
pub(crate) const FLUSH: Workload = Workload {
    name: "block-flush",
    family: Family::Block,
    title: "Disk flush",
    stresses: "Writes 4 KiB to a random place of the guest's disk and has the disk put it on stable storage, one at a \
               time: what a database commit waits for.",
    source: "fio(1), rw=randwrite with fsync=1",
    metric: Metric {
        unit: "us",
        direction: Direction::LowerIsBetter,
        amount_per_iteration: 1e3,
    },
    params: &[],
    requires: baseline,
    footprint: |_| Job::FLUSH.footprint(),
    prepare: Prepare::Nothing,
    max_iterations: unlimited,
    settles_after: at_once,
    latencies: true,
    body: Body::PerSide(Task::BlockFlush),
};

/// What is done with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    Read,
    /// Write what belongs there.
    Write,
    /// Write it, then flush the disk; only then is the operation over.
    WriteAndFlush,
}

impl Access {
    fn of(param: u64) -> Self {
        if param == 0 { Self::Read } else { Self::Write }
    }
}

/// A workload's parameters, understood: what both sides do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// What is done with each block.
    pub access: Access,
    /// In random order, or one block after the other from the disk's start.
    pub random: bool,
    /// Bytes of a block: a power of two from [`SECTOR_BYTES`] up.
    pub block_bytes: u64,
    /// Operations under way at once, from 1 to [`MAX_DEPTH`].
    pub depth: u64,
}

impl Job {
    /// The job of `block-random` with these parameters.
    pub(crate) fn random(params: &[u64; MAX_PARAMS]) -> Self {
        Self {
            access: Access::of(params[0]),
            random: true,
            block_bytes: SECTOR_BYTES << params[2].min(BLOCK_SIZES.len() as u64 - 1),
            depth: params[1],
        }
    }

    /// The job of `block-sequential` with these parameters.
    pub(crate) fn sequential(params: &[u64; MAX_PARAMS]) -> Self {
        Self {
            access: Access::of(params[0]),
            random: false,
            block_bytes: SEQUENTIAL_BLOCK_BYTES,
            depth: params[1],
        }
    }

    /// The job of `block-flush`.
    pub(crate) const FLUSH: Self = Self {
        access: Access::WriteAndFlush,
        random: true,
        block_bytes: FLUSH_BLOCK_BYTES,
        depth: 1,
    };

    /// Whether it changes the disk.
    #[must_use]
    pub fn writes(self) -> bool {
        self.access != Access::Read
    }

    /// Bytes of all buffers together.
    #[must_use]
    pub const fn buffer_bytes(self) -> u64 {
        self.depth.saturating_mul(self.block_bytes)
    }

    /// Bytes of arena: the driver's own and the buffers.
    const fn footprint(self) -> u64 {
        DRIVER_BYTES + self.buffer_bytes()
    }

    /// The block that operation number `operation` is about, on a disk of `blocks` blocks, at least one.
    #[inline]
    #[must_use]
    pub fn block_of(self, operation: u64, seed: u64, blocks: u64) -> u64 {
        if self.random {
            // The upper half of a 128-bit product: evenly spread over 0..blocks, without a division.
            let drawn = u128::from(mix(seed.wrapping_add(operation)));
            ((drawn * u128::from(blocks)) >> 64) as u64
        } else {
            operation % blocks
        }
    }
}

/// Bytes at the start of the arena that the guest's driver keeps for its state and rings; the buffers follow.
///
/// As large as the largest block: no buffer then lies across a boundary of its own size.
pub const DRIVER_BYTES: u64 = 1 << 20;

/// Why the guest's driver came to nothing: the checksum of a request that has [`crate::abi::Status::Failed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum DiskTrouble {
    /// The harness has told of no disk.
    NoDisk = 1,
    /// The device does not do what its specification says.
    Device = 2,
    /// The device has refused a request, or failed at it.
    Failed = 3,
}

/// Fills `data`, whole sectors, with what belongs to the disk from sector `first` on.
pub fn fill(data: &mut [u8], first: u64) {
    for (sector, chunk) in (first..).zip(data.chunks_exact_mut(SECTOR_BYTES as usize)) {
        for (index, word) in (0_u64..).zip(chunk.chunks_exact_mut(8)) {
            word.copy_from_slice(&mix(FILLER ^ index).to_le_bytes());
        }
        stamp(chunk, sector);
    }
}

/// Turns `data`, filled for some sectors, into what belongs to those from `first` on: the same, but for the first word
/// of each line.
#[inline]
pub fn stamp(data: &mut [u8], first: u64) {
    let start = first.wrapping_mul(SECTOR_BYTES / LINE_BYTES as u64);
    for (line, chunk) in (start..).zip(data.chunks_exact_mut(LINE_BYTES)) {
        chunk[..8].copy_from_slice(&mix(line).to_le_bytes());
    }
}

/// The sum of the first words of all lines of `data`: what a reader of the block has looked at. Sums add up in any
/// order.
#[inline]
#[must_use]
pub fn sum(data: &[u8]) -> u64 {
    data.chunks_exact(LINE_BYTES).fold(0, |sum: u64, line| {
        let mut word = [0; 8];
        word.copy_from_slice(&line[..8]);
        sum.wrapping_add(u64::from_le_bytes(word))
    })
}

/// Sets the rest of a sector apart from the words that say which sector it is.
const FILLER: u64 = 0x7654_7856_4458_4156;

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn a_stamped_buffer_is_a_filled_one() {
        let mut stamped = vec![0; 4096];
        fill(&mut stamped, 77);
        stamp(&mut stamped, 8);
        let mut filled = vec![0; 4096];
        fill(&mut filled, 8);
        assert_eq!(stamped, filled);
        // Sector by sector it is the same as all at once.
        let mut one = vec![0; 512];
        fill(&mut one, 10);
        assert_eq!(one, filled[1024..1536]);
    }

    #[test]
    fn the_sum_tells_any_two_blocks_apart_and_forgets_their_order() {
        let sum_of = |first| {
            let mut data = vec![0; 4096];
            fill(&mut data, first);
            sum(&data)
        };
        let sums: std::collections::BTreeSet<u64> = (0..4096).map(|b| sum_of(b * 8)).collect();
        assert_eq!(sums.len(), 4096);
        let mut both = vec![0; 8192];
        fill(&mut both, 16);
        assert_eq!(sum(&both), sum_of(24).wrapping_add(sum_of(16)));
    }

    #[test]
    fn blocks_stay_on_the_disk_and_reach_all_of_it() {
        for blocks in [1, 3, 1000] {
            let job = Job::random(&[0, 1, 3, 0]);
            let drawn: std::collections::BTreeSet<u64> = (0..20 * blocks)
                .map(|operation| job.block_of(operation, 7, blocks))
                .collect();
            assert!(drawn.iter().all(|&block| block < blocks));
            assert_eq!(drawn.len() as u64, blocks);
        }
        let job = Job::sequential(&[0, 1, 0, 0]);
        let order: std::vec::Vec<u64> = (0..5).map(|i| job.block_of(i, 9, 3)).collect();
        assert_eq!(order, [0, 1, 2, 0, 1]);
    }

    #[test]
    fn parameters_mean_what_scenarios_say() {
        let job = Job::random(&[1, 32, 3, 0]);
        assert_eq!(
            (job.access, job.depth, job.block_bytes),
            (Access::Write, 32, 4096)
        );
        assert!(job.writes() && Job::FLUSH.writes());
        for (index, name) in (0..).zip(BLOCK_SIZES) {
            let bytes = Job::random(&[0, 1, index, 0]).block_bytes;
            let text = match bytes {
                1048576.. => std::format!("{}MiB", bytes >> 20),
                1024.. => std::format!("{}KiB", bytes >> 10),
                _ => std::format!("{bytes}B"),
            };
            assert_eq!(*name, text);
        }
    }
}
