//! A small guest that is tried before the first measurement: does the image run here, what does entering a guest cost,
//! and does the guest's clock keep the host's time?

use kvm_ioctls::Kvm;
use vtax_scenarios::memory::{MIN_MEMORY_BYTES, arena_bytes};
use vtax_scenarios::plan::{Backing, PageSize, Topology};
use vtax_workloads::abi::Op;
use vtax_workloads::machine::RAM_BASE;

use crate::guest::Executor as _;
use crate::guest::embedded::devices::Devices;
use crate::guest::embedded::vcpu::EmbeddedVcpu;
use crate::guest::embedded::{Vm, VmConfig};
use crate::guest::image::Image;
use crate::guest::layout;
use crate::guest::mailbox::{Answer, Mailbox, Request};
use crate::guest::ram::{Ram, RamConfig};
use crate::host::tsc::{TscClock, now_raw_nanos};
use crate::rig::RigError;
use crate::whole::whole;

/// How many empty requests the cost of entering is the best of.
const EMPTY_REQUESTS: u32 = 32;

/// How long the guest's clock is compared with the host's: long enough that a rate which differs by a tenth of a per
/// cent stands out from what entering the guest costs.
const COMPARISON_NANOS: f64 = 200e6;

/// The comparison is the best of this many: an interruption can only make clocks differ more.
const COMPARISONS: u32 = 3;

/// By how much the rates may differ, a tenth of the smallest effect that users ask about; in addition, entering the
/// guest may cost as much again as it did at best.
const RATE_BOUND: f64 = 0.001;

/// What the trial found.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Nanoseconds from the harness into the guest and back, around a request that does nothing.
    pub entry_nanos: u64,
}

/// Runs the trial.
///
/// # Errors
/// No guest, a guest that does not work, or one whose clock runs at another rate.
pub fn run(kvm: &Kvm, image: &Image, clock: TscClock) -> Result<Trial, RigError> {
    let ram = Ram::map(&RamConfig {
        address: RAM_BASE,
        len: MIN_MEMORY_BYTES,
        backing: Backing::Small,
        prefault: false,
        numa_node: None,
    })?;
    let config = VmConfig {
        page_size: PageSize::Size4K,
        topology: Topology {
            sockets: 1,
            cores: 1,
            threads: 1,
        },
        vcpus: 1,
        interrupts: false,
    };
    let devices = Devices::default();
    let vm = Vm::create(kvm, &ram, image, &devices, config)?;
    let mut guest = TrialGuest {
        vcpu: vm.vcpu(0)?,
        mailbox: Mailbox::new(&ram, layout::mailbox(0)),
    };
    let entry_nanos = guest.entry_nanos()?;
    guest.compare_clocks(entry_nanos, clock)?;
    Ok(Trial { entry_nanos })
}

struct TrialGuest<'a> {
    vcpu: EmbeddedVcpu<'a>,
    mailbox: Mailbox<'a>,
}

impl TrialGuest<'_> {
    /// The shortest of several requests that do nothing.
    fn entry_nanos(&mut self) -> Result<u64, RigError> {
        let mut best = u64::MAX;
        for _ in 0..EMPTY_REQUESTS {
            best = best.min(self.ask(Op::Touch, 0)?.1);
        }
        Ok(best)
    }

    /// Lets the guest time a long stretch of work, and times it from outside.
    fn compare_clocks(&mut self, entry_nanos: u64, clock: TscClock) -> Result<(), RigError> {
        const SAMPLE: u64 = 10_000;
        self.ask(Op::Setup, 0)?;
        let sample = clock.nanos(self.ask(Op::Run, SAMPLE)?.0.ticks).max(1.0);
        let iterations = SAMPLE.saturating_mul(whole((COMPARISON_NANOS / sample).ceil()));
        let (mut best, mut length) = (f64::INFINITY, 0);
        for _ in 0..COMPARISONS {
            let (answer, outer_nanos) = self.ask(Op::Run, iterations)?;
            let outer = outer_nanos.saturating_sub(entry_nanos) as f64;
            let gap = (outer - clock.nanos(answer.ticks)) / outer;
            if gap.abs() < best.abs() {
                (best, length) = (gap, outer_nanos);
            }
        }
        if best.abs() > RATE_BOUND + entry_nanos as f64 / length as f64 {
            return Err(RigError::GuestClock {
                gap: best,
                nanos: length,
            });
        }
        Ok(())
    }

    /// One request on a workload that lives in the core's caches, and the nanoseconds around it.
    fn ask(&mut self, op: Op, iterations: u64) -> Result<(Answer, u64), RigError> {
        let workload = vtax_workloads::find("cpu-hash").map_or(0, |(index, _)| index as u64);
        self.mailbox.put(&Request {
            op,
            workload,
            arena: RAM_BASE + layout::arena(MIN_MEMORY_BYTES, 1, 0),
            arena_len: if op == Op::Touch {
                0
            } else {
                arena_bytes(MIN_MEMORY_BYTES, 1)
            },
            iterations,
            planted: 0,
            params: [0; vtax_workloads::MAX_PARAMS],
            seed: 0,
        })?;
        let start = now_raw_nanos();
        self.vcpu.execute()?;
        let nanos = now_raw_nanos() - start;
        Ok((self.mailbox.take()?, nanos))
    }
}
