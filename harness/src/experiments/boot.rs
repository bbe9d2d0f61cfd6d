//! Guests that are started at once, each on a thread of its own: how long until they work. Then as many idle ones, each in a
//! process of its own: what these take of memory beyond the guests' RAM.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, mpsc};

use vtax_scenarios::plan::{Backing, Experiment, Neighbour, PageSize, Work};
use vtax_workloads::MAX_PARAMS;
use vtax_workloads::abi::Op;
use vtax_workloads::machine::RAM_BASE;

use super::{ExperimentError, Outcome, guests};
use crate::guest::Executor as _;
use crate::guest::embedded::devices::Devices;
use crate::guest::embedded::{self, Vm, VmConfig};
use crate::guest::layout;
use crate::guest::mailbox::{Mailbox, Request};
use crate::guest::ram::{Ram, RamConfig};
use crate::host::tsc::now_raw_nanos;
use crate::rig::Rig;
use crate::watchdog::Slot;

/// RAM of these guests lies apart by a multiple of this, so that no two share a page table of the host.
const STEP: u64 = 1 << 30;
/// Where it begins: clear of what else a run maps at fixed addresses.
const BASE: u64 = RAM_BASE + (1 << 44);

/// What the threads of one repetition share.
#[derive(Default)]
struct Shared {
    /// Held until all threads are there.
    gate: RwLock<()>,
    /// When it was opened.
    started: AtomicU64,
    /// A thread could not be had: nobody starts.
    aborted: AtomicBool,
    /// Held until all guests work: how one ends must not be in the time of another.
    look: RwLock<()>,
}

/// Starts all guests and lets each answer one request.
pub(super) fn repeat(
    rig: &Rig,
    experiment: &Experiment,
    seed: u64,
    stop: &AtomicBool,
) -> Result<Outcome, ExperimentError> {
    let memory = experiment.param("memory") / (2 << 20) * (2 << 20);
    let guests = experiment.param("guests");
    let shared = Shared::default();
    let mut nanos = std::thread::scope(|scope| {
        let gate = shared.gate.write().unwrap_or_else(PoisonError::into_inner);
        let look = shared.look.write().unwrap_or_else(PoisonError::into_inner);
        let (answers, all) = mpsc::channel();
        let spawned = (0..guests).try_for_each(|number| {
            let (answer, shared) = (answers.clone(), &shared);
            let address = BASE + number * memory.next_multiple_of(STEP);
            let work = move || one(rig, address, memory, shared, stop, &answer);
            let thread = std::thread::Builder::new().name("boot".into());
            thread.spawn_scoped(scope, work).map(|_| ())
        });
        drop(answers);
        shared.aborted.store(spawned.is_err(), Ordering::Release);
        shared.started.store(now_raw_nanos(), Ordering::Release);
        drop(gate);
        // Not to the channel's end: those who have answered keep their end of it while they wait for the others.
        let expected = usize::try_from(guests).unwrap_or(usize::MAX);
        let nanos: Result<Vec<u64>, ExperimentError> = all.iter().take(expected).collect();
        drop(look);
        spawned.map_err(|source| ExperimentError::Io {
            what: "starting a thread for a guest",
            source,
        })?;
        nanos
    })?;
    if stop.load(Ordering::Relaxed) {
        return Err(ExperimentError::Aborted);
    }
    nanos.sort_unstable();
    let median = nanos.get(nanos.len() / 2).copied().unwrap_or(0);
    Ok(Outcome {
        values: vec![
            ("first-instruction", median as f64),
            ("all-running", nanos.last().copied().unwrap_or(0) as f64),
            ("vmm-memory", vmm_bytes(rig, guests, memory, seed)?),
        ],
        ..Outcome::default()
    })
}

/// A guest's thread. It sends its time, or why there is none, before it waits for all others.
fn one(
    rig: &Rig,
    address: u64,
    memory: u64,
    shared: &Shared,
    stop: &AtomicBool,
    answer: &mpsc::Sender<Result<u64, ExperimentError>>,
) {
    drop(shared.gate.read().unwrap_or_else(PoisonError::into_inner));
    let start = || -> Result<(), ExperimentError> {
        if shared.aborted.load(Ordering::Acquire) || stop.load(Ordering::Relaxed) {
            return Err(ExperimentError::Aborted);
        }
        let kvm = embedded::open()?;
        let ram = Ram::map(&RamConfig {
            address,
            len: memory,
            backing: Backing::Small,
            numa_node: None,
        })?;
        let devices = Devices::default();
        let config = VmConfig::single(PageSize::Size2M);
        let vm = Vm::create(&kvm, &ram, &rig.image, &devices, config)?;
        let mailbox = Mailbox::new(&ram, layout::mailbox(0));
        let mut vcpu = vm.vcpu(0)?;
        vcpu.watched(
            Slot::for_this_thread().map_err(|source| ExperimentError::Io {
                what: "watching a guest",
                source,
            })?,
        );
        mailbox.put(&Request {
            op: Op::Touch,
            workload: 0,
            arena: RAM_BASE + layout::arena(memory, 1, 0),
            arena_len: 0,
            iterations: 0,
            run_in: 0,
            planted: 0,
            params: [0; MAX_PARAMS],
            seed: 0,
        })?;
        vcpu.execute()?;
        let nanos = now_raw_nanos() - shared.started.load(Ordering::Acquire);
        mailbox.take()?;
        // Nobody listens any more only where the repetition is over.
        let _ = answer.send(Ok(nanos));
        drop(shared.look.read().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    };
    if let Err(error) = start() {
        let _ = answer.send(Err(error));
    }
}

/// What the VMM's process of an idle guest takes beyond the guest's RAM in bytes, the mean over as many as are started at
/// once.
fn vmm_bytes(rig: &Rig, guests: u64, memory: u64, seed: u64) -> Result<f64, ExperimentError> {
    let plan = Neighbour {
        count: u32::try_from(guests).unwrap_or(u32::MAX),
        memory,
        ..guests::of(Work::Idle)
    };
    let crowd = guests::start(rig, &[plan], seed)?;
    let mut sum = 0;
    for footprint in crowd.memory() {
        sum += footprint?.overhead;
    }
    Ok(sum as f64 / guests as f64)
}
