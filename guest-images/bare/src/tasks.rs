//! The guest's own side of workloads that ask something of the machine: one function per `Task`.
//!
//! ```text
//! request ──► payload::accept ──► set_up | run (timed as a whole, each operation by itself) ──► outcome
//! ```

use core::arch::asm;
use core::arch::x86_64::{__cpuid, _rdtsc};

use vtax_workloads::abi::{Mailbox, Op, Status};
use vtax_workloads::machine::{DEVICE_NOTHING, DEVICES_VIRTUAL, PORT_NOTHING};
use vtax_workloads::payload::{accept, tsc};
use vtax_workloads::{Body, Latencies, Task};

/// Carries the request out, if it is for a task.
pub fn serve(mailbox: &mut Mailbox) -> bool {
    let is_work = [Op::Setup, Op::Run].map(|op| op as u64).contains(&mailbox.op);
    let task = match accept(mailbox) {
        Some((workload, _)) if is_work => match workload.body {
            Body::PerSide(task) => task,
            Body::Shared { .. } => return false,
        },
        _ => return false,
    };
    if mailbox.op == Op::Run as u64 {
        run(mailbox, task);
    }
    mailbox.status = Status::Done as u64;
    true
}

fn run(mailbox: &mut Mailbox, task: Task) {
    match task {
        Task::Cpuid => each(mailbox, || {
            core::hint::black_box(__cpuid(0));
        }),
        Task::Port => each(mailbox, || {
            // SAFETY: the VMM answers this port and does nothing.
            unsafe { asm!("out {}, al", const PORT_NOTHING, in("al") 0_u8, options(nomem, nostack)) }
        }),
        Task::Mmio => each(mailbox, || {
            let register = (DEVICES_VIRTUAL + DEVICE_NOTHING) as *const u32;
            // SAFETY: the guest's page tables map the devices, and this one answers every read.
            unsafe { register.read_volatile() };
        }),
    }
}

/// Does `operation` as often as asked, and times the whole and each. The checksum is the number of operations.
fn each(mailbox: &mut Mailbox, mut operation: impl FnMut()) {
    let iterations = mailbox.iterations;
    mailbox.latencies_len = 0;
    mailbox.latencies_dropped = 0;
    let mut latencies = Latencies::new(
        &mut mailbox.latencies,
        &mut mailbox.latencies_len,
        &mut mailbox.latencies_dropped,
    );
    let start = tsc();
    let mut before = start;
    for _ in 0..iterations {
        operation();
        // SAFETY: ring 3 may read the TSC.
        let now = unsafe { _rdtsc() };
        latencies.record(now - before);
        before = now;
    }
    mailbox.tsc_start = start;
    mailbox.tsc_end = tsc();
    mailbox.checksum = iterations;
}
