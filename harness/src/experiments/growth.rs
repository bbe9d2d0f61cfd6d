//! A guest that is given memory while it runs, and gives it back: how soon it has it, what another vCPU notices meanwhile,
//! and what comes back to the host.
//!
//! ```text
//! host: asks ──► virtio-mem ──► vCPU 0: plugs, writes every page ──► host: asks for none ──► vCPU 0: unplugs
//!                               vCPU 1: goes from page to page of its memory, all the time
//! ```

use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::{Scope, sleep};
use std::time::{Duration, Instant};

use procfs::process::Process;
use vtax_scenarios::memory::{MEMORY_STEP_BYTES, arena_bytes};
use vtax_scenarios::plan::{Backing, Experiment, PageSize, Topology};
use vtax_workloads::MAX_PARAMS;
use vtax_workloads::abi::Op;
use vtax_workloads::machine::{DEVICE_MEMORY, DEVICES_VIRTUAL, HOLE_START, RAM_BASE, Signals};

use super::{ExperimentError, LOOK, Outcome, pause};
use crate::guest::Executor as _;
use crate::guest::embedded::devices::mem::{Mem, MemConfig, Region};
use crate::guest::embedded::devices::{Devices, DevicesConfig};
use crate::guest::embedded::{self, Vm, VmConfig};
use crate::guest::layout;
use crate::guest::mailbox::{Mailbox, Request};
use crate::guest::ram::{Ram, RamConfig};
use crate::host::affinity::Pinned;
use crate::host::tsc::now_raw_nanos;
use crate::rig::Rig;
use crate::watchdog::Slot;

const VCPUS: u32 = 2;
/// The vCPU that grows, and the one that goes on.
const GROWS: u32 = 0;
const WATCHES: u32 = 1;

/// Memory that the second vCPU works on, at most: it is to be there, and its last page still the same pass.
const WATCHED_BYTES: u64 = 16 << 20;

/// Places in [`Signals`].
const BEGUN: u64 = offset_of!(Signals, begun) as u64;
const STOP: u64 = offset_of!(Signals, stop) as u64;

/// How long a vCPU may take to be at work.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a request may take for each 4 KiB page on top: far more than a page fault takes.
const PATIENCE_OF_A_PAGE: Duration = Duration::from_micros(200);

/// Grows a guest and shrinks it again.
pub(super) fn repeat(
    rig: &Rig,
    experiment: &Experiment,
    stop: &AtomicBool,
) -> Result<Outcome, ExperimentError> {
    let plan = Plan::of(rig, experiment)?;
    let kvm = embedded::open()?;
    let ram = Ram::map(&RamConfig {
        address: RAM_BASE,
        len: plan.region.offset + plan.region.len,
        backing: plan.backing,
        numa_node: None,
    })?;
    let devices = DevicesConfig {
        mem: Some(MemConfig {
            region: plan.region,
            io_cpu: plan.cpus.map(|[grows, _]| grows),
        }),
        ..DevicesConfig::default()
    };
    let devices = Devices::new(&ram, &devices)?;
    let mem = devices.mem().ok_or(ExperimentError::Aborted)?;
    let config = VmConfig {
        topology: Topology {
            cores: VCPUS,
            ..VmConfig::single(PageSize::Size2M).topology
        },
        vcpus: VCPUS,
        interrupts: true,
        ..VmConfig::single(PageSize::Size2M)
    };
    let vm = Vm::create(&kvm, &ram, &rig.image, &devices, config)?;
    std::thread::scope(|scope| {
        let guest = Guest {
            plan,
            ram: &ram,
            mem,
            stop,
            grows: Hand::start(scope, &vm, &ram, &plan, GROWS)?,
            watches: match plan.cpus {
                Some(_) => Some(Hand::start(scope, &vm, &ram, &plan, WATCHES)?),
                None => None,
            },
        };
        let outcome = guest.grow_and_shrink(rig);
        // Nobody waits for what is not to come: neither the vCPU that watches, nor, where the other has failed, this thread.
        guest.signal(WATCHES, STOP)?.store(1, Ordering::Release);
        let outcome = outcome?;
        devices.check()?;
        Ok(outcome)
    })
}

/// What is tried, with whole pages.
#[derive(Clone, Copy)]
struct Plan {
    /// RAM before it grows.
    memory: u64,
    region: Region,
    backing: Backing,
    /// CPUs of the two vCPUs; `None` where there are not two.
    cpus: Option<[u32; 2]>,
}

impl Plan {
    fn of(rig: &Rig, experiment: &Experiment) -> Result<Self, ExperimentError> {
        let bytes = |name| experiment.param(name) / MEMORY_STEP_BYTES * MEMORY_STEP_BYTES;
        let (memory, growth) = (bytes("memory"), bytes("growth"));
        // The region is in one piece: where it would reach across the hole in guest-physical memory it begins behind it.
        let offset = if memory + growth > HOLE_START {
            memory.max(HOLE_START)
        } else {
            memory
        };
        Ok(Self {
            memory,
            region: Region {
                offset,
                len: growth,
            },
            backing: [Backing::Small, Backing::Thp][usize::from(experiment.param("backing") != 0)],
            cpus: match rig.cpus.as_slice() {
                [first, .., last] => Some([*first, *last]),
                _ => None,
            },
        })
    }

    /// Offset in RAM of a vCPU's arena.
    fn arena(&self, vcpu: u32) -> u64 {
        layout::arena(self.memory, VCPUS, vcpu)
    }

    fn request(&self, vcpu: u32) -> Request {
        let arena_len = arena_bytes(self.memory, VCPUS);
        let mut params = [0; MAX_PARAMS];
        params[0] = DEVICES_VIRTUAL + DEVICE_MEMORY * 4096;
        Request {
            op: if vcpu == GROWS { Op::Resize } else { Op::Watch },
            workload: 0,
            arena: RAM_BASE + self.arena(vcpu),
            arena_len: arena_len.min(WATCHED_BYTES),
            iterations: 0,
            run_in: 0,
            planted: 0,
            params,
            seed: 0,
        }
    }

    fn patience(&self) -> Duration {
        let pages = u32::try_from(self.region.len >> 12).unwrap_or(u32::MAX);
        PATIENCE + PATIENCE_OF_A_PAGE.saturating_mul(pages)
    }
}

/// What a vCPU answered.
struct Answer {
    checksum: u64,
    /// CLOCK_MONOTONIC_RAW when it had.
    at: u64,
}

/// A vCPU's thread, as this one sees it. Dropped, it ends once its request is over.
struct Hand {
    orders: Sender<()>,
    /// There once the thread is ready for orders.
    watch: Arc<OnceLock<Arc<Slot>>>,
    answers: Receiver<Result<Answer, ExperimentError>>,
}

impl Hand {
    fn start<'s, 'a: 's>(
        scope: &'s Scope<'s, 'a>,
        vm: &'a Vm<'a>,
        ram: &'a Ram,
        plan: &Plan,
        index: u32,
    ) -> Result<Self, ExperimentError> {
        let (orders, inbox) = channel();
        let (outbox, answers) = channel();
        let watch = Arc::new(OnceLock::new());
        let (plan, own_watch) = (*plan, Arc::clone(&watch));
        std::thread::Builder::new()
            .name("growth".into())
            .spawn_scoped(scope, move || {
                if let Err(error) = serve(vm, ram, &plan, index, &own_watch, &inbox, &outbox) {
                    // Nobody listens any more only where the repetition is over.
                    let _ = outbox.send(Err(error));
                }
            })
            .map_err(io("starting a vCPU's thread"))?;
        Ok(Self {
            orders,
            watch,
            answers,
        })
    }

    fn begin(&self) -> Result<(), ExperimentError> {
        // A thread that is gone has said why: `end` reads it.
        self.orders.send(()).or(Ok(()))
    }

    /// Waits for the answer; once `stop` is set, no longer than the watchdog takes to bring the vCPU back.
    fn end(&self, stop: &AtomicBool) -> Result<Answer, ExperimentError> {
        loop {
            match self.answers.recv_timeout(LOOK) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Disconnected) => return Err(ExperimentError::Aborted),
                Err(RecvTimeoutError::Timeout) => {
                    if stop.load(Ordering::Relaxed)
                        && let Some(slot) = self.watch.get()
                    {
                        slot.cut_short();
                    }
                }
            }
        }
    }
}

/// The thread of a vCPU: its one request, as often as it is ordered.
fn serve(
    vm: &Vm<'_>,
    ram: &Ram,
    plan: &Plan,
    index: u32,
    watch: &OnceLock<Arc<Slot>>,
    orders: &Receiver<()>,
    answers: &Sender<Result<Answer, ExperimentError>>,
) -> Result<(), ExperimentError> {
    // The thread keeps its CPU to its end.
    let _pinned = plan
        .cpus
        .map(|cpus| Pinned::to(&[cpus[index as usize]]))
        .transpose()?;
    let mailbox = Mailbox::new(ram, layout::mailbox(index));
    let mut vcpu = vm.vcpu(index)?;
    let slot = Slot::for_this_thread().map_err(io("watching a guest"))?;
    vcpu.watched(Arc::clone(watch.get_or_init(|| slot)));
    vcpu.patient(plan.patience());
    while orders.recv().is_ok() {
        mailbox.put(&plan.request(index))?;
        vcpu.execute()?;
        let at = now_raw_nanos();
        let checksum = mailbox.take()?.checksum;
        if answers.send(Ok(Answer { checksum, at })).is_err() {
            break;
        }
    }
    Ok(())
}

struct Guest<'a> {
    plan: Plan,
    ram: &'a Ram,
    mem: &'a Mem,
    /// The user wants no more of it.
    stop: &'a AtomicBool,
    grows: Hand,
    watches: Option<Hand>,
}

/// What a change of the guest's memory came to, in nanoseconds from the host's request.
struct Change {
    /// Until the device had what was requested.
    settled: u64,
    /// Until the guest was ready with it.
    ready: u64,
    /// The longest gap that the other vCPU saw.
    gap: Option<f64>,
}

impl Guest<'_> {
    fn grow_and_shrink(&self, rig: &Rig) -> Result<Outcome, ExperimentError> {
        let growth = self.plan.region.len;
        let growing = self.change(rig, growth)?;
        let grown = self.resident()?;
        let shrinking = self.change(rig, 0)?;
        let shrunk = self.resident()?;
        let nanos = growing.ready + shrinking.ready;
        let calm = self.while_watched(rig, || {
            pause(Duration::from_nanos(nanos), self.stop);
            Ok(())
        });
        let returned = grown as f64 - shrunk as f64;
        let mut outcome = Outcome {
            values: vec![
                ("plugged", growing.settled as f64),
                ("usable", growing.ready as f64),
                ("shrunk", shrinking.settled as f64),
                ("returned", returned / growth as f64),
            ],
            ..Outcome::default()
        };
        match (growing.gap, shrinking.gap, calm?.1) {
            (Some(growing), Some(shrinking), Some(calm)) => {
                outcome.values.push(("pause", growing.max(shrinking)));
                outcome.values.push(("calm", calm));
            }
            _ => {
                let why = "vtax may run on one CPU alone, where two vCPUs wait for each other";
                for metric in ["pause", "calm"] {
                    outcome.unavailable.push((metric, why.to_owned()));
                }
            }
        }
        Ok(outcome)
    }

    /// Asks the guest to have so much of the region, and waits until it does.
    fn change(&self, rig: &Rig, bytes: u64) -> Result<Change, ExperimentError> {
        let ((asked, answer), gap) = self.while_watched(rig, || {
            self.begin(&self.grows, GROWS)?;
            let asked = now_raw_nanos();
            self.mem.request(bytes);
            Ok((asked, self.grows.end(self.stop)?))
        })?;
        let sizes = self.mem.sizes();
        if answer.checksum != bytes || sizes.plugged != bytes {
            return Err(ExperimentError::Unlike {
                what: "bytes of memory that a guest plugged",
                found: sizes.plugged,
                wanted: bytes,
            });
        }
        Ok(Change {
            settled: sizes.settled_nanos.saturating_sub(asked),
            ready: answer.at - asked,
            gap,
        })
    }

    /// Does `work` while the other vCPU is on its way, and says what its longest gap was, in nanoseconds.
    fn while_watched<T>(
        &self,
        rig: &Rig,
        work: impl FnOnce() -> Result<T, ExperimentError>,
    ) -> Result<(T, Option<f64>), ExperimentError> {
        let Some(watches) = &self.watches else {
            return Ok((work()?, None));
        };
        self.begin(watches, WATCHES)?;
        let done = work();
        self.signal(WATCHES, STOP)?.store(1, Ordering::Release);
        let answer = watches.end(self.stop);
        Ok((done?, Some(rig.clock.nanos(answer?.checksum))))
    }

    /// Gives a vCPU its request, and waits until it is at work.
    fn begin(&self, hand: &Hand, vcpu: u32) -> Result<(), ExperimentError> {
        self.signal(vcpu, STOP)?.store(0, Ordering::Relaxed);
        let begun = self.signal(vcpu, BEGUN)?;
        begun.store(0, Ordering::Release);
        hand.begin()?;
        let start = Instant::now();
        while begun.load(Ordering::Acquire) == 0 {
            if let Ok(early) = hand.answers.try_recv() {
                return early.and(Err(ExperimentError::Aborted));
            }
            if start.elapsed() > PATIENCE {
                return Err(ExperimentError::Silent {
                    what: "the start of a vCPU",
                    seconds: PATIENCE.as_secs(),
                });
            }
            sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// A word that a vCPU and this side share; the harness alone decides where.
    fn signal(&self, vcpu: u32, place: u64) -> Result<&AtomicU64, ExperimentError> {
        let offset = self.plan.arena(vcpu) + Signals::OFFSET + place;
        Ok(self.ram.atomic_u64(offset)?)
    }

    /// Resident memory of the guest in bytes.
    fn resident(&self) -> Result<u64, ExperimentError> {
        let ram = self.ram.address()..self.ram.address() + self.ram.len();
        let maps = Process::myself().and_then(|process| process.smaps());
        let maps =
            maps.map_err(|error| io("reading /proc/self/smaps")(std::io::Error::other(error)))?;
        Ok(maps
            .iter()
            .filter(|map| ram.contains(&map.address.0))
            .filter_map(|map| map.extension.map.get("Rss"))
            .sum())
    }
}

/// Names what was tried in an error.
fn io(what: &'static str) -> impl Fn(std::io::Error) -> ExperimentError {
    move |source| ExperimentError::Io { what, source }
}
