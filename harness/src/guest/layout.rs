//! Where everything stands in guest RAM.
//!
//! ```text
//! 0         0x10000        2 MiB          4 MiB        reserved_bytes         arena_start
//! ├ unused, ┼ upper page ──┼ (the image  ──┼ vCPU areas ┼ lowest page tables ──┼ arenas, one per vCPU ─┤
//! │ IDT     │ tables       │ under QEMU)   │            │
//! ```
//!
//! Offsets count from the start of RAM. Virtual addresses, on both sides, are `RAM_BASE + offset`; guest-physical
//! ones equal the offset up to 3 GiB and lie 1 GiB higher beyond, clear of the APIC and of KVM's own pages. The image's
//! code is not here ([`super::code`]), nor are mailbox and stack of the native side ([`super::native`]).

use vtax_scenarios::memory;
pub use vtax_workloads::machine::physical;
use vtax_workloads::machine::{AREA_MAILBOX, AREA_PAYLOAD_STACK, HOLE_START, RAM_BASE, VCPU_AREA};

/// Offset of the interrupt descriptor table, which all vCPUs share.
pub const IDT: u64 = 0x1000;
/// Offset of the page directory for the devices' registers.
pub const DEVICE_DIRECTORY: u64 = 0x2000;
/// Offset of the page table for the image's code, where a guest has small pages.
pub const CODE_TABLE: u64 = 0x3000;
/// Offset of the top-level page table; the next two levels follow.
pub const PAGE_TABLES: u64 = 0x1_0000;
/// Offset of the first vCPU's area.
const VCPU_AREAS: u64 = memory::SHARED_BYTES;
/// Offset of a vCPU's own area.
#[must_use]
pub const fn vcpu_area(vcpu: u32) -> u64 {
    VCPU_AREAS + vcpu as u64 * VCPU_AREA
}

/// Offset of a vCPU's mailbox.
#[must_use]
pub const fn mailbox(vcpu: u32) -> u64 {
    vcpu_area(vcpu) + AREA_MAILBOX
}

/// Virtual address of the top of the stack on which a vCPU's payload runs in the guest.
#[must_use]
pub const fn payload_stack(vcpu: u32) -> u64 {
    RAM_BASE + vcpu_area(vcpu) + AREA_PAYLOAD_STACK
}

/// Offset of a vCPU's arena in a guest with `memory` bytes of RAM.
#[must_use]
pub fn arena(memory: u64, vcpus: u32, vcpu: u32) -> u64 {
    memory::arena_start(memory, vcpus) + u64::from(vcpu) * memory::arena_bytes(memory, vcpus)
}

/// RAM as pieces that are contiguous in guest-physical space: `(offset, length)`.
#[must_use]
pub fn pieces(memory: u64) -> Vec<(u64, u64)> {
    if memory <= HOLE_START {
        vec![(0, memory)]
    } else {
        vec![(0, HOLE_START), (HOLE_START, memory - HOLE_START)]
    }
}
