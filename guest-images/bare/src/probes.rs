//! Probes of the guest's own machinery: the timer and inter-processor interrupts. They exist in the guest alone; the
//! native side never runs them.

use vtax_workloads::abi::{Mailbox, Status};
use vtax_workloads::machine::{GATE_WRITE_MSR, GATE_WRITE_MSR_AND_HALT, VECTOR_IPI};

use crate::vcpu::{Vcpu, gate, rdtsc};

/// IA32_TSC_DEADLINE (Intel SDM vol. 3, 11.5.4.1).
pub const MSR_TSC_DEADLINE: u64 = 0x6e0;
/// x2APIC interrupt command register (Intel SDM vol. 3, 11.12.9).
pub const MSR_X2APIC_ICR: u64 = 0x830;

/// A spinning wait gives up after this many TSC ticks: some seconds on any machine.
const PATIENCE_TICKS: u64 = 10_000_000_000;

/// `iterations` times: arm the TSC deadline `params[0]` ticks ahead, halt, and record how late the vCPU woke, in
/// ticks. The checksum is the number of timer interrupts taken.
pub fn timer(mailbox: &mut Mailbox) {
    let vcpu = Vcpu::of(mailbox);
    let before = vcpu.counters().timer;
    let mut recorded = 0;
    for slot in mailbox
        .latencies
        .iter_mut()
        .take(mailbox.iterations as usize)
    {
        let deadline = rdtsc() + mailbox.params[0];
        gate(GATE_WRITE_MSR_AND_HALT, MSR_TSC_DEADLINE, deadline);
        let late = rdtsc().saturating_sub(deadline);
        *slot = u32::try_from(late).unwrap_or(u32::MAX);
        recorded += 1;
    }
    mailbox.latencies_len = recorded;
    mailbox.checksum = vcpu.counters().timer.wrapping_sub(before);
    mailbox.status = Status::Done as u64;
}

/// Sends `iterations` IPIs to the APIC id in `params[0]`, a millisecond or so apart.
pub fn ipi_send(mailbox: &mut Mailbox) {
    for _ in 0..mailbox.iterations {
        let command = (mailbox.params[0] << 32) | u64::from(VECTOR_IPI);
        gate(GATE_WRITE_MSR, MSR_X2APIC_ICR, command);
        let pause = rdtsc() + mailbox.params[1];
        while rdtsc() < pause {
            core::hint::spin_loop();
        }
    }
    mailbox.checksum = mailbox.iterations;
    mailbox.status = Status::Done as u64;
}

/// Spins until `iterations` IPIs have arrived or patience ends. The checksum is the number that arrived.
pub fn ipi_await(mailbox: &mut Mailbox) {
    let vcpu = Vcpu::of(mailbox);
    let before = vcpu.counters().ipi;
    let end = rdtsc() + PATIENCE_TICKS;
    loop {
        let arrived = vcpu.counters().ipi.wrapping_sub(before);
        if arrived >= mailbox.iterations || rdtsc() > end {
            mailbox.checksum = arrived;
            mailbox.status = Status::Done as u64;
            return;
        }
        core::hint::spin_loop();
    }
}
