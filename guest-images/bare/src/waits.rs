//! Tasks in which the vCPU waits: for an interrupt from the host, from its neighbour or from its timer, or for an answer in
//! memory.
//!
//! Each function does `iterations` operations and records how long each took. What is timed ends at the start of the
//! interrupt handler, in the first TSC that the woken vCPU reads.

use core::sync::atomic::Ordering;

use vtax_workloads::machine::{Exchange, GATE_WRITE_MSR, GATE_WRITE_MSR_AND_HALT, VECTOR_IPI};
use vtax_workloads::{Latencies, PAUSE_NANOS};

use crate::probes::{MSR_TSC_DEADLINE, MSR_X2APIC_ICR};
use crate::tasks::Job;
use crate::vcpu::{Count, Vcpu, gate, rdtsc};

/// Waits for the partner's interrupt, spinning: from the TSC before its write to the handler.
pub fn inject(job: &Job, latencies: &mut Latencies<'_>) {
    partner(job, latencies, |vcpu, seen| {
        while vcpu.counters().partner == seen {
            core::hint::spin_loop();
        }
    });
}

/// The same, asleep.
pub fn wake(job: &Job, latencies: &mut Latencies<'_>) {
    partner(job, latencies, |vcpu, seen| {
        vcpu.halt_until_moved(Count::Partner, seen);
    });
}

fn partner(job: &Job, latencies: &mut Latencies<'_>, wait: impl Fn(Vcpu, u64)) {
    let vcpu = job.vcpu;
    let exchange = exchange(job);
    for number in 1..=job.iterations {
        let seen = vcpu.counters().partner;
        exchange.call.0.store(number, Ordering::Release);
        wait(vcpu, seen);
        let sent = exchange.reply.0.load(Ordering::Acquire);
        latencies.record(vcpu.counters().stamp.saturating_sub(sent));
    }
}

/// Writes a number and spins until the partner has written it back.
pub fn round_trip(job: &Job, number: u64) {
    let exchange = exchange(job);
    exchange.call.0.store(number, Ordering::Release);
    while exchange.reply.0.load(Ordering::Acquire) != number {
        core::hint::spin_loop();
    }
}

fn exchange(job: &Job) -> &'static Exchange {
    // SAFETY: the harness keeps one at the start of the arena for all tasks with a partner; it is made of atomics alone,
    // and every bit pattern is valid.
    unsafe { &*(job.arena as *const Exchange) }
}

/// An even vCPU interrupts the next, which spins or halts: from the TSC before the sender's way to ring 0 to the other's
/// handler. The odd one has nothing to record.
pub fn ipi(job: &Job, latencies: &mut Latencies<'_>) {
    let vcpu = job.vcpu;
    if vcpu.about().vcpu.is_multiple_of(2) {
        send(job.iterations, vcpu, latencies);
    } else {
        receive(job.iterations, vcpu, job.params[0] == HALTED);
    }
}

/// The choice of `lat-ipi`'s parameter that halts the receiver.
const HALTED: u64 = 1;

fn receive(iterations: u64, vcpu: Vcpu, halted: bool) {
    for _ in 0..iterations {
        let seen = vcpu.counters().ipi;
        vcpu.await_ipi(seen.wrapping_add(1));
        if halted {
            vcpu.halt_until_moved(Count::Ipi, seen);
        } else {
            while vcpu.counters().ipi == seen {
                core::hint::spin_loop();
            }
        }
    }
}

fn send(iterations: u64, vcpu: Vcpu, latencies: &mut Latencies<'_>) {
    let other = vcpu.neighbour();
    let command = ((vcpu.about().vcpu + 1) << 32) | u64::from(VECTOR_IPI);
    let pause = vcpu.ticks(PAUSE_NANOS);
    for _ in 0..iterations {
        let next = other.counters().ipi.wrapping_add(1);
        while other.counters().awaited_ipi != next {
            core::hint::spin_loop();
        }
        // It says so before it spins or halts; after the pause it does.
        let rest = rdtsc() + pause;
        while rdtsc() < rest {
            core::hint::spin_loop();
        }
        let sent = rdtsc();
        gate(GATE_WRITE_MSR, MSR_X2APIC_ICR, command);
        while other.counters().ipi != next {
            core::hint::spin_loop();
        }
        latencies.record(other.counters().stamp.saturating_sub(sent));
    }
}

/// Sleeps from one point in time to the next, a period apart: how late the handler starts. A period that has gone by
/// already is left out.
pub fn timer(job: &Job, latencies: &mut Latencies<'_>) {
    let vcpu = job.vcpu;
    let period = vcpu.ticks(job.params[0]).max(1);
    let mut deadline = rdtsc() + period;
    for _ in 0..job.iterations {
        let seen = vcpu.counters().timer;
        gate(GATE_WRITE_MSR_AND_HALT, MSR_TSC_DEADLINE, deadline);
        // Another interrupt may have ended the halt.
        vcpu.halt_until_moved(Count::Timer, seen);
        latencies.record(vcpu.counters().stamp.saturating_sub(deadline));
        let late = rdtsc().saturating_sub(deadline);
        deadline += period * (late / period + 1);
    }
}

/// Halts, and nothing wakes it.
pub fn sleep() -> ! {
    loop {
        // 0 disarms the timer.
        gate(GATE_WRITE_MSR_AND_HALT, MSR_TSC_DEADLINE, 0);
    }
}
