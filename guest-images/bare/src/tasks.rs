//! The guest's own side of workloads that ask something of the machine: one function per `Task`.
//!
//! ```text
//! request ──► payload::accept ──► set_up | run (timed as a whole, each operation by itself) ──► outcome
//! ```

use core::arch::asm;
use core::arch::x86_64::__cpuid;
use core::convert::Infallible;

use vtax_workloads::abi::{Mailbox, Op, Status};
use vtax_workloads::machine::{
    DEVICE_NOTHING, DEVICES_VIRTUAL, DOORBELL, GATE_WRITE_MSR, PORT_NOTHING,
};
use vtax_workloads::payload::{self, accept};
use vtax_workloads::tsc;
use vtax_workloads::{Body, Latencies, MAX_PARAMS, Task};

use crate::probes::MSR_TSC_DEADLINE;
use crate::vcpu::{Vcpu, gate, rdtsc};
use crate::waits;
use crate::{disk, net};

/// Carries the request out, if it is for a task.
pub fn serve(mailbox: &mut Mailbox) -> bool {
    let is_work = [Op::Setup, Op::Run]
        .map(|op| op as u64)
        .contains(&mailbox.op);
    let task = match accept(mailbox) {
        Some((workload, _)) if is_work => match workload.body {
            Body::PerSide(task) => task,
            Body::Shared { .. } => return false,
        },
        _ => return false,
    };
    // The checksum of a request that failed says why.
    let trouble = if let Some(job) = task.disk_job(&mailbox.params) {
        disk::serve(mailbox, job)
            .err()
            .map(|trouble| trouble as u64)
    } else if let Some(job) = task.net_job(&mailbox.params) {
        net::serve(mailbox, job).err().map(|trouble| trouble as u64)
    } else {
        serve_alone(mailbox, task);
        None
    };
    mailbox.status = match trouble {
        None => Status::Done,
        Some(trouble) => {
            mailbox.checksum = trouble;
            Status::Failed
        }
    } as u64;
    true
}

/// A task that needs no device and cannot fail.
fn serve_alone(mailbox: &mut Mailbox, task: Task) {
    if mailbox.op == Op::Run as u64 {
        run(mailbox, task);
    } else {
        // For the harness to see whether this clock is the host's.
        (mailbox.tsc_start, mailbox.tsc_end) = (0, tsc::fenced());
    }
}

fn run(mailbox: &mut Mailbox, task: Task) {
    match task {
        Task::Cpuid => each(mailbox, |_, _| {
            core::hint::black_box(__cpuid(0));
        }),
        Task::Port => each(mailbox, |_, _| port_exit()),
        Task::Mmio => each(mailbox, |_, _| {
            let register = (DEVICES_VIRTUAL + DEVICE_NOTHING) as *const u32;
            // SAFETY: the guest's page tables map the devices, and this one answers every read.
            unsafe { register.read_volatile() };
        }),
        Task::Hypercall => hypercalls(mailbox),
        Task::Msr => each(mailbox, |_, _| gate(GATE_WRITE_MSR, MSR_TSC_DEADLINE, 0)),
        Task::Kick => each(mailbox, |_, _| {
            let doorbell = (DEVICES_VIRTUAL + DEVICE_NOTHING + DOORBELL) as *mut u32;
            // SAFETY: the guest's page tables map the devices, and this one takes every write.
            unsafe { doorbell.write_volatile(1) };
        }),
        Task::Mailbox => each(mailbox, waits::round_trip),
        Task::Inject => timed(mailbox, waits::inject),
        Task::Wake => timed(mailbox, waits::wake),
        Task::Ipi => timed(mailbox, waits::ipi),
        Task::Timer => timed(mailbox, waits::timer),
        Task::Sleep => waits::sleep(),
        // `serve` has handed them on.
        Task::BlockRandom
        | Task::BlockSequential
        | Task::BlockFlush
        | Task::NetPing
        | Task::NetStream => {}
    }
}

/// Calls the hypervisor by the CPU's own instruction; each kind of CPU takes the other's for an invalid opcode.
fn hypercalls(mailbox: &mut Mailbox) {
    // VAPIC_POLL_IRQ, which does nothing (Linux, include/uapi/linux/kvm_para.h).
    const POLL: u64 = 1;
    // "Auth" or "Hygo" (CPUID leaf 0, EBX).
    let is_amd = [0x6874_7541, 0x6f67_7948].contains(&__cpuid(0).ebx);
    if is_amd {
        each(mailbox, |_, _| {
            // SAFETY: KVM changes RAX alone.
            unsafe { asm!("vmmcall", inout("rax") POLL => _, options(nostack)) }
        });
    } else {
        each(mailbox, |_, _| {
            // SAFETY: as above.
            unsafe { asm!("vmcall", inout("rax") POLL => _, options(nostack)) }
        });
    }
}

/// Writes to the port that the VMM answers at once.
pub fn port_exit() {
    // SAFETY: the VMM answers this port and does nothing.
    unsafe { asm!("out {}, al", const PORT_NOTHING, in("al") 0_u8, options(nomem, nostack)) }
}

/// What a request asks of a task.
#[derive(Clone, Copy)]
pub struct Job {
    /// This vCPU.
    pub vcpu: Vcpu,
    /// How many operations.
    pub iterations: u64,
    /// The workload's parameters.
    pub params: [u64; MAX_PARAMS],
    /// Address of the arena.
    pub arena: u64,
}

/// Does `operation` as often as asked, numbered from 1, and times the whole and each.
fn each(mailbox: &mut Mailbox, operation: impl Fn(&Job, u64)) {
    timed(mailbox, |job, latencies| {
        let mut before = rdtsc();
        for number in 1..=job.iterations {
            operation(job, number);
            let now = rdtsc();
            latencies.record(now - before);
            before = now;
        }
    });
}

/// Times the whole; `work` does the operations and records how long each took. The checksum is their number.
fn timed(mailbox: &mut Mailbox, work: impl FnOnce(&Job, &mut Latencies<'_>)) {
    let job = Job {
        vcpu: Vcpu::of(mailbox),
        iterations: mailbox.iterations,
        params: mailbox.params,
        arena: mailbox.arena,
    };
    let Ok(()) = payload::timed::<Infallible>(mailbox, |latencies| {
        work(&job, latencies);
        Ok(job.iterations)
    });
}
