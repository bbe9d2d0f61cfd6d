//! Ring 0: one entry per vector, the gate, the timer and IPI handlers.
//!
//! General registers only: some KVM back ends emulate ring 0 instruction by instruction and know little else.

use core::arch::global_asm;

use vtax_workloads::machine::{
    GATE_TRIPLE_FAULT, GATE_WRITE_MSR, GATE_WRITE_MSR_AND_HALT, PORT_FAULT,
    VECTOR_IPI, VECTOR_TIMER,
};

/// Bytes between two entries.
pub const VECTOR_STRIDE: u64 = 16;

/// x2APIC end-of-interrupt register (Intel SDM vol. 3, 11.12.1.2).
const MSR_X2APIC_EOI: u32 = 0x80b;

global_asm!(
    ".balign 16",
    ".globl ring0_vectors",
    "ring0_vectors:",
    ".set vector, 0",
    ".rept 256",
    ".balign 16",
    ".if vector == 3",
    "jmp ring0_gate",
    ".elseif vector == {timer}",
    "jmp ring0_timer",
    ".elseif vector == {ipi}",
    "jmp ring0_ipi",
    ".else",
    // These vectors come with an error code; the others get a zero in its place (Intel SDM vol. 3, table 7-1).
    ".if (vector != 8) && (vector != 10) && (vector != 11) && (vector != 12) && (vector != 13) && (vector != 14) && (vector != 17) && (vector != 21) && (vector != 29) && (vector != 30)",
    "push 0",
    ".endif",
    ".if vector < 128",
    "push vector",
    ".else",
    "push 127",
    ".endif",
    "jmp ring0_fault",
    ".endif",
    ".set vector, vector + 1",
    ".endr",

    // vtax_workloads::machine::FaultFrame now lies at RSP, all but CR2. There is no way back.
    "ring0_fault:",
    "mov rax, cr2",
    "push rax",
    "2:",
    "out {port_fault}, al",
    "jmp 2b",

    "ring0_gate:",
    "cmp eax, {gate_msr}",
    "je 3f",
    "cmp eax, {gate_halt}",
    "je 4f",
    "cmp eax, {gate_triple}",
    "je 5f",
    "iretq",
    "3:",
    "mov ecx, edi",
    "mov eax, esi",
    "mov rdx, rsi",
    "shr rdx, 32",
    "wrmsr",
    "iretq",
    "4:",
    "mov ecx, edi",
    "mov eax, esi",
    "mov rdx, rsi",
    "shr rdx, 32",
    "wrmsr",
    "sti",
    "hlt",
    "iretq",
    "5:",
    "push 0",
    "push 0",
    "lidt [rsp]",
    "ud2",

    "ring0_timer:",
    "inc qword ptr gs:[0]",
    "jmp ring0_eoi",
    "ring0_ipi:",
    "inc qword ptr gs:[8]",
    "ring0_eoi:",
    "push rax",
    "push rcx",
    "push rdx",
    "mov ecx, {eoi}",
    "xor eax, eax",
    "xor edx, edx",
    "wrmsr",
    "pop rdx",
    "pop rcx",
    "pop rax",
    "iretq",

    timer = const VECTOR_TIMER,
    ipi = const VECTOR_IPI,
    port_fault = const PORT_FAULT,
    gate_msr = const GATE_WRITE_MSR,
    gate_halt = const GATE_WRITE_MSR_AND_HALT,
    gate_triple = const GATE_TRIPLE_FAULT,
    eoi = const MSR_X2APIC_EOI,
);
