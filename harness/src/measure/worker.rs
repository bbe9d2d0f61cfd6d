//! A vCPU's thread through one boot: set-up, identity, warm-up, rounds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use vtax_reports::counters::{Counter, CounterRow};
use vtax_reports::native_disk::Waiting;
use vtax_reports::record::{Marks, Sample, Side};
use vtax_reports::stats::median;
use vtax_scenarios::order::{BlockKind, child_seed, round_order};
use vtax_scenarios::plan::Completion;
use vtax_workloads::abi::{LATENCY_SLOTS, Op};
use vtax_workloads::network::engine::lost;
use vtax_workloads::{Body, Family, Figure, Latencies, Prepare, RunFn, SetupFn, Workload};

use super::block::{Block, Stopwatch};
use super::boot::{Baseline, Known, Portion, Spec};
use super::native_disk::NativeDisk;
use super::plant::Planted;
use super::rendezvous::Rendezvous;
use super::{BootError, calibrate};
use crate::guest::Executor;
use crate::guest::embedded::devices::disk::Disk;
use crate::guest::embedded::vcpu::EmbeddedVcpu;
use crate::guest::image::Image;
use crate::guest::mailbox::{Answer, Mailbox, Request};
use crate::guest::native::NativeCpu;
use crate::guest::ram::Ram;
use crate::host::net::Network;
use crate::host::tsc::rdtsc_fenced;
use crate::twin::TwinCpu;
use crate::twin::partner::Partner;

/// Warm-up passes; a boot that is still getting faster then is measured all the same, and says so.
pub const MAX_WARM_UP: usize = 8;

/// A warm-up block is this part of a block.
const WARM_UP_PART: u64 = 4;

/// A run-in is at least this part of a block's work, 1.5 ms before 12; where page tables have to come back into the caches,
/// what the workload says that takes ([`Workload::settles_after`]).
const RUN_IN_PART: u64 = 8;

/// Blocks of each way to wait for a disk, on each CPU that native blocks begin on, before one of them is chosen.
const WAITING_TRIALS: u32 = 5;

/// A side has settled when its last block is at most this much faster than its best before.
const SETTLED: f64 = 0.98;

/// Keeps the seeds of what is planted apart from them.
const PLANT_STREAM: u64 = 17;

/// Keeps the workloads' seeds apart from the plan's other random choices.
const WORKLOAD_STREAM: u64 = 16;

const PAGE: usize = 4096;

/// A stretch of memory that a workload works on.
#[derive(Clone, Copy, Debug)]
pub struct Arena<'a> {
    /// The mapping it lies in.
    pub ram: &'a Ram,
    /// Where in it.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// What all vCPU threads of a boot share.
#[derive(Debug)]
pub struct Shared {
    /// Where they meet before each block.
    pub meeting: Rendezvous,
    /// What vCPU 0 found out for all.
    pub known: OnceLock<Known>,
    /// The guest's disk, for the host's side.
    pub disk: Option<Arc<Disk>>,
    /// What the host's side has of it; `None` where that is no file and no block device.
    pub native_disk: Option<NativeDisk>,
    /// The guest's network link, for the host's side, and how to learn of frames.
    pub network: Option<(Arc<Network>, Completion)>,
    /// For each warm-up pass: whether some side of some vCPU has not settled.
    pub unsettled: [AtomicBool; MAX_WARM_UP],
    /// vCPU 0 has seen that the user wants to stop.
    pub stopping: AtomicBool,
}

/// One vCPU and its native twin, on one thread.
pub struct Worker<'a> {
    /// What to measure.
    pub spec: &'a Spec<'a>,
    /// The workload.
    pub workload: &'static Workload,
    /// Its number in the catalogue.
    pub workload_index: u64,
    /// Which vCPU.
    pub index: u32,
    /// The guest's side.
    pub vcpu: EmbeddedVcpu<'a>,
    /// The host's side, with the guest's own code.
    pub native: NativeCpu<'a>,
    /// The host's side where each has its own way.
    pub twin: Option<TwinCpu<'a>>,
    /// The thread that works with either, where the task needs one.
    pub partner: Option<&'a Partner<'a>>,
    /// Whether the scheduler may move the vCPU's thread.
    pub floats: bool,
    /// Counts the rounds of all boots: by it native blocks take turns in where they begin.
    pub turn: u32,
    /// The guest's mailbox.
    pub mailbox: Mailbox<'a>,
    /// The host's.
    pub native_mailbox: Mailbox<'a>,
    /// The guest's arena.
    pub arena: Arena<'a>,
    /// The native side's arena: the guest's, or its own.
    pub native_arena: Arena<'a>,
    /// The clocks.
    pub stopwatch: Stopwatch,
    /// The other vCPUs.
    pub shared: &'a Shared,
    /// The guest's blocks so far.
    pub blocks: u64,
}

/// What a vCPU's thread brings back.
#[derive(Debug, Default)]
pub struct Harvest {
    /// Its blocks.
    pub samples: Vec<Sample>,
    /// What was counted around each of them, the warm-up left out.
    pub counters: Vec<CounterRow>,
    /// Single latencies in ticks.
    pub latencies: Vec<(Side, Vec<u32>)>,
    /// Whether the warm-up ended in a steady state.
    pub settled: bool,
}

impl Worker<'_> {
    /// Goes through the boot.
    ///
    /// # Errors
    /// The guest failed, or the sides are not comparable.
    pub fn run(mut self, image: &Image) -> Result<Harvest, BootError> {
        if self.workload.family == Family::Diagnostic {
            self.guest(Op::Run, 1)?;
            return Err(BootError::NoFault(self.workload.name.to_owned()));
        }
        self.check_identity(image)?;
        self.set_up()?;
        let known = self.learn()?;
        let mut harvest = Harvest::default();
        if let (Some(twin), Some(waiting)) = (&mut self.twin, known.waiting) {
            twin.wait_by(waiting);
        }
        self.warm_up(known, &mut harvest)?;
        let rounds = self.spec.cell.measure.rounds;
        for round in 0..rounds {
            self.turn = self.spec.boot.wrapping_mul(rounds).wrapping_add(round);
            if self.index == 0 && self.spec.stop.load(Ordering::Relaxed) {
                self.shared.stopping.store(true, Ordering::Relaxed);
            }
            self.shared.meeting.meet()?;
            if self.shared.stopping.load(Ordering::Relaxed) {
                break;
            }
            for (position, side) in (0..).zip(self.order(round)) {
                let portion = known.of(side);
                let mut block = self.block(side, portion.iterations)?;
                if block.answer.checksum != portion.checksum {
                    block.sample.marks = block.sample.marks.union(Marks::CHECKSUM);
                }
                if !harvest.settled {
                    block.sample.marks = block.sample.marks.union(Marks::UNSETTLED);
                }
                self.keep(block, round, position, &mut harvest);
            }
        }
        Ok(harvest)
    }

    /// The order of a round's blocks; where the host has no part in it, the guest's block alone.
    fn order(&self, round: u32) -> impl Iterator<Item = Side> + use<> {
        let alone = !self.workload.has_native_twin();
        round_order(self.spec.seed, self.spec.cell.id, self.spec.boot, round)
            .into_iter()
            .map(|kind| match kind {
                BlockKind::Native => Side::Native,
                BlockKind::Guest => Side::Guest,
                BlockKind::Control => Side::Control,
            })
            .filter(move |&side| side == Side::Guest || !alone)
    }

    /// Both sides see the same code at the same address.
    fn check_identity(&mut self, image: &Image) -> Result<(), BootError> {
        self.native_mailbox
            .put(&self.request(Op::Identity, 0, self.native_arena))?;
        self.native.execute()?;
        let native = self.native_mailbox.take()?;
        let guest = self.guest(Op::Identity, 0)?;
        let expected = (image.text_hash(), image.header.payload);
        for (side, answer) in [("native", native), ("guest", guest)] {
            if (answer.checksum, answer.code_address) != expected {
                return Err(BootError::Identity(format!(
                    "the {side} side sees code {:#x} at {:#x}, the image has {:#x} at {:#x}",
                    answer.checksum, answer.code_address, expected.0, expected.1
                )));
            }
        }
        Ok(())
    }

    /// Lays out the arenas, and lets the guest touch its own, so that no block meets the set-up's page faults.
    fn set_up(&mut self) -> Result<(), BootError> {
        if let Body::PerSide(task) = self.workload.body {
            let before = rdtsc_fenced();
            let inside = self.guest(Op::Setup, 0)?.ticks;
            let shares_clock = (before..rdtsc_fenced()).contains(&inside);
            if self.partner.is_some() && task.needs_interrupts() && !shares_clock {
                return Err(BootError::OtherTsc);
            }
            if self.twin.is_some() {
                self.native(Op::Setup, 0)?;
            }
            return Ok(());
        }
        self.native(Op::Setup, 0)?;
        if self.has_own_baseline() {
            // By the native twin: faster, and it leaves the same bytes.
            self.native_mailbox
                .put(&self.request(Op::Setup, 0, self.arena))?;
            self.native.execute()?;
            self.native_mailbox.take()?;
        }
        if self.workload.prepare == Prepare::Nothing {
            self.guest(Op::Touch, 0)?;
            self.native(Op::Touch, 0)?;
        }
        Ok(())
    }

    fn has_own_baseline(&self) -> bool {
        self.arena.ram.address() != self.native_arena.ram.address()
    }

    /// Block size and checksum: known from an earlier boot of the cell, or found out by vCPU 0 for all.
    fn learn(&mut self) -> Result<Known, BootError> {
        if self.index == 0 {
            let known = match self.spec.known {
                Some(known) => known,
                None => self.find_out()?,
            };
            // Only vCPU 0 sets it, once.
            let _ = self.shared.known.set(known);
        }
        self.shared.meeting.meet()?;
        self.shared.known.get().copied().ok_or(BootError::Aborted)
    }

    fn find_out(&mut self) -> Result<Known, BootError> {
        let params = &self.spec.cell.workload.params;
        let most = (self.workload.max_iterations)(params);
        let pace = self
            .workload
            .task()
            .and_then(|task| task.pace_nanos(params));
        if let Some(pace) = pace {
            let iterations = (self.spec.cell.measure.block_nanos / pace).clamp(1, most);
            let checksum = iterations;
            return Ok(Known::alike(Portion {
                iterations,
                checksum,
            }));
        }
        match self.workload.body {
            Body::Shared { setup, run } => {
                let iterations = self.calibrate(Side::Native, most)?;
                // The reference is this binary's own compilation of the workload: other code, so a miscompiled or
                // miscomputed payload is noticed.
                let checksum = self.reference(setup, run, iterations);
                Ok(Known::alike(Portion {
                    iterations,
                    checksum,
                }))
            }
            Body::PerSide(_) => {
                let iterations = self.calibrate(Side::Guest, most)?;
                if self.twin.is_none() {
                    return Ok(Known::alike(self.portion(Side::Guest, iterations)?));
                }
                // The host says what the guest's checksum must be.
                let guest = self.portion(Side::Native, iterations)?;
                let iterations = self.calibrate(Side::Native, most)?;
                let waiting = self.fastest_wait(iterations)?;
                let iterations = match waiting {
                    Some(_) => self.calibrate(Side::Native, most)?,
                    None => iterations,
                };
                let native = self.portion(Side::Native, iterations)?;
                Ok(Known {
                    native,
                    guest,
                    waiting,
                })
            }
        }
    }

    /// The way of waiting by which the native side is the fastest, from untimed blocks in turns, wherever they may begin; the
    /// twin waits by it then. `None` where there is but one. `iterations` make a block.
    fn fastest_wait(&mut self, iterations: u64) -> Result<Option<Waiting>, BootError> {
        let shared = self.shared;
        let Some(disk) = shared
            .native_disk
            .as_ref()
            .filter(|disk| disk.ways.len() > 1)
        else {
            return Ok(None);
        };
        let mut fastest: Option<(f64, Waiting)> = None;
        let mut ticks = vec![Vec::new(); disk.ways.len()];
        for turn in 0..WAITING_TRIALS * disk.starts() {
            for (&way, ticks) in disk.ways.iter().zip(&mut ticks) {
                let _placed = disk.place(self.index, turn)?;
                if let Some(twin) = &mut self.twin {
                    twin.wait_by(way);
                }
                ticks.push(self.untimed(Side::Native, iterations)?.ticks as f64);
            }
        }
        for (&way, ticks) in disk.ways.iter().zip(&mut ticks) {
            let Some(median) = median(ticks) else {
                continue;
            };
            if fastest.is_none_or(|(best, _)| median < best) {
                fastest = Some((median, way));
            }
        }
        let fastest = fastest.map(|(_, way)| way);
        if let (Some(twin), Some(way)) = (&mut self.twin, fastest) {
            twin.wait_by(way);
        }
        Ok(fastest)
    }

    /// So many iterations, with the checksum that this side comes to.
    fn portion(&mut self, side: Side, iterations: u64) -> Result<Portion, BootError> {
        Ok(Portion {
            iterations,
            checksum: self.untimed(side, iterations)?.checksum,
        })
    }

    /// How many iterations make a block on this side.
    fn calibrate(&mut self, side: Side, most: u64) -> Result<u64, BootError> {
        let clock = self.stopwatch.clock;
        calibrate::iterations(self.spec.cell.measure.block_nanos, most, |count| {
            self.prepare(side)?;
            Ok(clock.nanos(self.untimed(side, count)?.ticks))
        })
    }

    /// The workload as compiled into the harness, on fresh memory.
    fn reference(&self, setup: SetupFn, run: RunFn, iterations: u64) -> u64 {
        let params = &self.spec.cell.workload.params;
        let bytes = usize::try_from((self.workload.footprint)(params)).unwrap_or(usize::MAX);
        let mut memory = vec![0; bytes + PAGE];
        let start = memory.as_ptr().align_offset(PAGE);
        let arena = &mut memory[start..start + bytes];
        let mut slots = Box::new([0; LATENCY_SLOTS]);
        let (mut len, mut dropped) = (0, 0);
        let mut latencies = Latencies::new(&mut slots, &mut len, &mut dropped);
        let seed = self.workload_seed();
        if self.workload.prepare == Prepare::Nothing {
            setup(arena, params, seed);
        }
        run(arena, params, iterations, seed, &mut latencies)
    }

    /// Runs short blocks on both sides until neither is getting faster on any vCPU.
    fn warm_up(&mut self, known: Known, harvest: &mut Harvest) -> Result<(), BootError> {
        let shared = self.shared;
        let mut best = [f64::INFINITY; 2];
        for (pass, unsettled) in (0..).zip(&shared.unsettled) {
            self.turn = pass;
            for (position, side) in [(0, Side::Native), (1, Side::Guest)] {
                if side == Side::Native && !self.workload.has_native_twin() {
                    continue;
                }
                let iterations = (known.of(side).iterations / WARM_UP_PART).max(1);
                let mut block = self.block(side, iterations)?;
                let ticks = block.answer.ticks as f64;
                let best = &mut best[usize::from(position)];
                if ticks < SETTLED * *best {
                    unsettled.store(true, Ordering::Relaxed);
                }
                *best = best.min(ticks);
                block.sample.marks = block.sample.marks.union(Marks::WARMUP);
                block.answer.latencies.clear();
                self.keep(block, pass, position, harvest);
            }
            shared.meeting.meet()?;
            if !unsettled.load(Ordering::Relaxed) {
                harvest.settled = true;
                break;
            }
        }
        Ok(())
    }

    /// One timed block; all vCPUs start theirs together.
    fn block(&mut self, side: Side, iterations: u64) -> Result<Block, BootError> {
        self.prepare(side)?;
        let in_guest = side == Side::Guest || self.spec.baseline == Baseline::Guest;
        // Where the host's side has more CPUs than the vCPU; given back at the block's end.
        let disk = self.shared.native_disk.as_ref();
        let _placed = disk
            .filter(|_| !in_guest)
            .map(|disk| disk.place(self.index, self.turn))
            .transpose()?;
        let mut request = self.request(Op::Run, iterations, self.arena_of(side));
        request.run_in = self.run_in(side, iterations)?;
        if side == Side::Guest {
            self.blocks += 1;
            let planted = self.spec.planted;
            let place = [PLANT_STREAM, self.spec.boot.into(), self.blocks];
            request.planted = planted.work(iterations, child_seed(self.spec.seed, &place));
            if let Planted::Exits(exits) = planted {
                request.op = Op::RunAndExit;
                // What is planted is counted against the timed work alone.
                request.run_in = 0;
                request.planted = exits;
            }
        }
        self.shared.meeting.meet()?;
        let (executor, mailbox): (&mut dyn Executor, _) = match &mut self.twin {
            _ if in_guest => (&mut self.vcpu, self.mailbox),
            Some(twin) => (twin, self.native_mailbox),
            None => (&mut self.native, self.native_mailbox),
        };
        let rival = match side {
            Side::Guest => self.spec.planted.compete(),
            Side::Native | Side::Control => None,
        };
        if let Some(partner) = self.partner {
            partner.begin(in_guest, iterations);
        }
        let mut block = self.stopwatch.time(in_guest, executor, mailbox, &request)?;
        drop(rival);
        block.sample.side = side;
        if disk.is_some() && (!in_guest || self.floats) {
            // It was let go wherever it went.
            block.sample.marks = block.sample.marks.without(Marks::MIGRATION);
        }
        let params = &self.spec.cell.workload.params;
        if let Some(job) = self.workload.task().and_then(|task| task.net_job(params)) {
            let lost = lost(job, iterations, block.answer.checksum);
            block.counts.set(Counter::LostFrames, Some(lost));
        }
        if self.workload.figure() == Figure::Latencies {
            // The median, because a single wait may be long for reasons of its own: those show in the quantiles.
            let mut latencies = block.answer.latencies.clone();
            latencies.sort_unstable();
            let median = latencies.get(latencies.len() / 2).copied().unwrap_or(0);
            block.sample.latency_ticks = median.max(1);
        }
        Ok(block)
    }

    /// Brings the arena into the state in which each block must find it.
    fn prepare(&self, side: Side) -> Result<(), BootError> {
        if self.workload.prepare == Prepare::Discard {
            let arena = self.arena_of(side);
            arena.ram.discard(arena.offset, arena.len)?;
        }
        Ok(())
    }

    fn arena_of(&self, side: Side) -> Arena<'_> {
        match side {
            Side::Guest => self.arena,
            Side::Native | Side::Control => self.native_arena,
        }
    }

    fn keep(&self, mut block: Block, round: u32, position: u8, harvest: &mut Harvest) {
        if self.workload.figure() == Figure::Latencies && block.answer.latencies.is_empty() {
            // A vCPU that only helps another has no figure of its own.
            return;
        }
        block.sample.cell = self.spec.cell.id;
        block.sample.boot = self.spec.boot;
        block.sample.round = round;
        block.sample.position = position;
        block.sample.vcpu = u16::try_from(self.index).unwrap_or(u16::MAX);
        if !block.answer.latencies.is_empty() && !block.sample.marks.is_void() {
            harvest
                .latencies
                .push((block.sample.side, block.answer.latencies));
        }
        if !block.sample.marks.intersects(Marks::WARMUP) {
            harvest.counters.push(CounterRow {
                cell: block.sample.cell,
                boot: block.sample.boot,
                round,
                side: block.sample.side,
                vcpu: block.sample.vcpu,
                counts: block.counts,
            });
        }
        harvest.samples.push(block.sample);
    }

    /// `iterations` units of work, for what they answer.
    fn untimed(&mut self, side: Side, iterations: u64) -> Result<Answer, BootError> {
        if let Some(partner) = self.partner {
            partner.begin(side == Side::Guest, iterations);
        }
        match side {
            Side::Guest => self.guest(Op::Run, iterations),
            Side::Native | Side::Control => self.native(Op::Run, iterations),
        }
    }

    /// An untimed request on the host.
    fn native(&mut self, op: Op, iterations: u64) -> Result<Answer, BootError> {
        self.native_mailbox
            .put(&self.request(op, iterations, self.native_arena))?;
        match &mut self.twin {
            Some(twin) => twin.execute()?,
            None => self.native.execute()?,
        };
        Ok(self.native_mailbox.take()?)
    }

    /// An untimed request in the guest.
    fn guest(&mut self, op: Op, iterations: u64) -> Result<Answer, BootError> {
        self.mailbox
            .put(&self.request(op, iterations, self.arena))?;
        self.vcpu.execute()?;
        Ok(self.mailbox.take()?)
    }

    /// How much of the work goes right before the timed part of a block, so that it finds caches, TLBs and page tables as
    /// the work leaves them and not as the other side did.
    ///
    /// In the same call, since entering a guest is such a disturbance itself. What each side does in its own way has an
    /// untimed request instead, and where pages are touched for the first time there is nothing to go before.
    fn run_in(&mut self, side: Side, iterations: u64) -> Result<u64, BootError> {
        let settles = (self.workload.settles_after)(&self.spec.cell.workload.params);
        let part = (iterations / RUN_IN_PART).max(settles);
        match self.workload.body {
            Body::Shared { .. } if self.workload.prepare == Prepare::Nothing => Ok(part),
            Body::PerSide(_) if matches!(self.workload.family, Family::Block | Family::Network) => {
                self.shared.meeting.meet()?;
                self.untimed(side, part.max(1))?;
                Ok(0)
            }
            _ => Ok(0),
        }
    }

    fn request(&self, op: Op, iterations: u64, arena: Arena<'_>) -> Request {
        Request {
            op,
            workload: self.workload_index,
            arena: arena.ram.address() + arena.offset,
            arena_len: arena.len,
            iterations,
            run_in: 0,
            planted: 0,
            params: self.spec.cell.workload.params,
            seed: self.workload_seed(),
        }
    }

    /// The same for all boots and vCPUs of a cell, so that all must come to the same checksum.
    fn workload_seed(&self) -> u64 {
        child_seed(self.spec.seed, &[WORKLOAD_STREAM, self.spec.cell.id.into()])
    }
}
