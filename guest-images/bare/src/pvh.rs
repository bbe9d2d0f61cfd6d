//! The way in where another VMM starts the image: the PVH entry, 32-bit and without paging (Xen, "x86/HVM direct boot
//! ABI").
//!
//! ```text
//! pvh_entry ──► waits for the harness to lay out its tables ──► long mode ──► ring 3 ──► polled requests
//! ```
//!
//! Guest memory is a file that the harness maps too. What it has to say stands in a [`Handover`].

use core::arch::global_asm;
use core::mem::offset_of;

use vtax_workloads::machine::{
    CODE_BASE, CODE_LOADED, HANDOVER_OFFSET, Handover, PORT_FIRST_INSTRUCTION, RAM_BASE, RING0_CS,
    RING0_SS, RING3_CS, RING3_SS, TSS_SELECTOR,
};

/// IA32_EFER and IA32_GS_BASE (Intel SDM vol. 4, table 2-2).
const MSR_EFER: u32 = 0xc000_0080;
const MSR_GS_BASE: u32 = 0xc000_0101;

/// Reserved bit and IOPL 3, as the harness's own vCPUs start with.
const RFLAGS: u32 = 0x3002;

// XEN_ELFNOTE_PHYS32_ENTRY (18): where a PVH loader starts.
global_asm!(
    ".pushsection .note.pvh, \"a\", @note",
    ".balign 4",
    ".long 4",
    ".long 8",
    ".long 18",
    ".asciz \"Xen\"",
    ".quad pvh_entry - {code_base} + {code_loaded}",
    ".popsection",

    ".code32",
    ".globl pvh_entry",
    "pvh_entry:",
    "mov al, 1",
    "out {port}, al",
    "mov ebx, {handover}",
    "mov dword ptr [ebx + {alive}], 1",
    "2:",
    "pause",
    "cmp dword ptr [ebx + {go}], 0",
    "je 2b",
    "lgdt [ebx + {gdt}]",
    "mov eax, [ebx + {cr4}]",
    "mov cr4, eax",
    "mov eax, [ebx + {cr3}]",
    "mov cr3, eax",
    "mov ecx, {msr_efer}",
    "mov eax, [ebx + {efer}]",
    "xor edx, edx",
    "wrmsr",
    "mov eax, [ebx + {cr0}]",
    "mov cr0, eax",
    // The upper half of the hand-over's page is free: a stack for one far return.
    "lea esp, [ebx + 4096]",
    "push {ring0_cs}",
    "mov eax, offset pvh_long",
    "push eax",
    "retf",

    ".code64",
    "pvh_long:",
    "mov ebx, {ram_base} + {handover}",
    "lgdt [rbx + {gdt}]",
    "lidt [rbx + {idt}]",
    "mov eax, {ring0_ss}",
    "mov ss, eax",
    "mov eax, {ring3_ss}",
    "mov ds, eax",
    "mov es, eax",
    "mov eax, {tss}",
    "ltr ax",
    "mov ecx, {msr_gs_base}",
    "mov eax, [rbx + {gs_base}]",
    "mov edx, [rbx + {gs_base} + 4]",
    "wrmsr",
    "mov rsp, [rbx + {ring0_stack}]",
    "mov rdi, [rbx + {mailbox}]",
    "push {ring3_ss}",
    "push qword ptr [rbx + {stack}]",
    "push {rflags}",
    "push {ring3_cs}",
    "lea rax, [rip + ring3_polled]",
    "push rax",
    "iretq",

    // Ring 3 answers a request whenever the harness has counted one up.
    "ring3_polled:",
    "mov rbp, rdi",
    "mov ebx, {ram_base} + {handover}",
    "3:",
    "pause",
    "mov eax, [rbx + {requests}]",
    "cmp eax, [rbx + {answers}]",
    "je 3b",
    "mov rdi, rbp",
    "call {serve}",
    "inc dword ptr [rbx + {answers}]",
    "jmp 3b",

    code_base = const CODE_BASE,
    code_loaded = const CODE_LOADED,
    ram_base = const RAM_BASE,
    handover = const HANDOVER_OFFSET,
    port = const PORT_FIRST_INSTRUCTION,
    msr_efer = const MSR_EFER,
    msr_gs_base = const MSR_GS_BASE,
    rflags = const RFLAGS,
    ring0_cs = const RING0_CS,
    ring0_ss = const RING0_SS,
    ring3_cs = const RING3_CS,
    ring3_ss = const RING3_SS,
    tss = const TSS_SELECTOR,
    alive = const offset_of!(Handover, alive),
    go = const offset_of!(Handover, go),
    requests = const offset_of!(Handover, requests),
    answers = const offset_of!(Handover, answers),
    gdt = const offset_of!(Handover, gdt),
    idt = const offset_of!(Handover, idt),
    cr0 = const offset_of!(Handover, cr0),
    cr3 = const offset_of!(Handover, cr3),
    cr4 = const offset_of!(Handover, cr4),
    efer = const offset_of!(Handover, efer),
    gs_base = const offset_of!(Handover, gs_base),
    ring0_stack = const offset_of!(Handover, ring0_stack),
    stack = const offset_of!(Handover, stack),
    mailbox = const offset_of!(Handover, mailbox),
    serve = sym crate::serve,
);
