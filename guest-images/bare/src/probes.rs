//! Probes of the guest's own machinery: the timer, inter-processor interrupts and the registers of devices. They exist in the guest alone; the
//! native side never runs them.

use core::arch::asm;

use vtax_workloads::abi::{Access, Mailbox, Status};
use vtax_workloads::machine::{
    DEVICES_BYTES, DEVICES_VIRTUAL, GATE_WRITE_MSR, GATE_WRITE_MSR_AND_HALT, VECTOR_IPI,
};

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

/// Carries out the accesses in the arena. The checksum is their number.
pub fn access(mailbox: &mut Mailbox) {
    let count = mailbox
        .iterations
        .min(mailbox.arena_len / size_of::<Access>() as u64);
    // SAFETY: the arena is this request's alone, and large enough for so many.
    let accesses =
        unsafe { core::slice::from_raw_parts_mut(mailbox.arena as *mut Access, count as usize) };
    for access in accesses {
        let end = access.offset.saturating_add(access.width.into());
        if end > DEVICES_BYTES {
            continue;
        }
        let address = DEVICES_VIRTUAL + access.offset;
        let width = access.width;
        match access.kind {
            Access::READ => access.value = read(address, width),
            Access::WRITE => write(address, width, access.value),
            Access::AWAIT => {
                let end = rdtsc() + PATIENCE_TICKS;
                let wanted = access.value;
                while {
                    access.value = read(address, width);
                    access.value & wanted == 0 && rdtsc() < end
                } {}
            }
            _ => {}
        }
    }
    mailbox.checksum = count;
    mailbox.status = Status::Done as u64;
}

/// Reads a register with one instruction of this width, aligned or not, which a volatile access of Rust's must be.
fn read(address: u64, width: u32) -> u64 {
    let value: u64;
    // SAFETY: the guest's page tables map all of the devices, and reading them changes no memory.
    unsafe {
        match width {
            1 => asm!("movzx {v:e}, byte ptr [{a}]", v = out(reg) value, a = in(reg) address),
            2 => asm!("movzx {v:e}, word ptr [{a}]", v = out(reg) value, a = in(reg) address),
            4 => asm!("mov {v:e}, dword ptr [{a}]", v = out(reg) value, a = in(reg) address),
            8 => asm!("mov {v}, qword ptr [{a}]", v = out(reg) value, a = in(reg) address),
            _ => value = 0,
        }
    }
    value
}

/// Writes a register, likewise.
fn write(address: u64, width: u32, value: u64) {
    // SAFETY: as above; what a device does to memory by it, the harness has asked for.
    unsafe {
        match width {
            1 => asm!("mov byte ptr [{a}], {v:l}", v = in(reg) value, a = in(reg) address),
            2 => asm!("mov word ptr [{a}], {v:x}", v = in(reg) value, a = in(reg) address),
            4 => asm!("mov dword ptr [{a}], {v:e}", v = in(reg) value, a = in(reg) address),
            8 => asm!("mov qword ptr [{a}], {v}", v = in(reg) value, a = in(reg) address),
            _ => {}
        }
    }
}
