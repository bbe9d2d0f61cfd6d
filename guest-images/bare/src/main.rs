//! The freestanding guest of vtax.
//!
//! ```text
//! ring 3:  ring3_entry ──► serve ──► payload (the measured code) ──► port ──► the harness ──► again
//! ring 0:  vectors ──► gate (int3) · timer · IPI · every other exception: a fault frame and the fault port
//! ```
//!
//! A vCPU starts in ring 3 with its tables already laid out by the harness, so there is no boot code. Another VMM (QEMU)
//! boots the image by PVH (`pvh`).
#![no_std]
#![no_main]

mod disk;
mod growth;
mod interrupt;
mod memory;
mod net;
mod probes;
mod pvh;
mod ring0;
mod tasks;
mod vcpu;
mod waits;

use core::arch::{asm, global_asm};
use core::panic::PanicInfo;

use vtax_workloads::abi::{ABI_VERSION, HEADER_MAGIC, Header, Mailbox, Op};

unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
    static ring0_vectors: u8;
    fn ring3_entry();
}

/// [`Header`] with addresses in place of numbers: only the linker knows them.
#[repr(C)]
struct LinkedHeader {
    magic: u64,
    abi: u64,
    payload: extern "sysv64" fn(*mut Mailbox),
    ring3_entry: unsafe extern "C" fn(),
    ring0_vectors: &'static u8,
    ring0_vector_stride: u64,
    text_start: &'static u8,
    text_end: &'static u8,
}

const _: () = assert!(size_of::<LinkedHeader>() == size_of::<Header>());

#[unsafe(link_section = ".vtax.header")]
#[used]
static HEADER: LinkedHeader = LinkedHeader {
    magic: HEADER_MAGIC,
    abi: ABI_VERSION,
    payload,
    ring3_entry,
    // SAFETY: symbols of the linker script and of ring0.rs; only their addresses are used.
    ring0_vectors: unsafe { &ring0_vectors },
    ring0_vector_stride: ring0::VECTOR_STRIDE,
    // SAFETY: as above.
    text_start: unsafe { &__text_start },
    // SAFETY: as above.
    text_end: unsafe { &__text_end },
};

global_asm!(
    ".globl ring3_entry",
    "ring3_entry:",
    "mov rbx, rdi",
    "2:",
    "mov rdi, rbx",
    "call {serve}",
    "out {port}, al",
    "jmp 2b",
    serve = sym serve,
    port = const vtax_workloads::machine::PORT_DONE,
);

/// Answers one request in the guest: a probe of the guest's own machinery, a task, or the payload.
extern "sysv64" fn serve(mailbox: *mut Mailbox) {
    // SAFETY: the harness starts every vCPU with the address of a mailbox that is this vCPU's alone while it runs.
    let request = unsafe { &mut *mailbox };
    disk::dma::use_arena(request);
    if request.op == Op::TimerProbe as u64 {
        probes::timer(request);
    } else if request.op == Op::IpiSend as u64 {
        probes::ipi_send(request);
    } else if request.op == Op::IpiAwait as u64 {
        probes::ipi_await(request);
    } else if request.op == Op::RunAndExit as u64 {
        run_and_exit(request);
    } else if request.op == Op::Access as u64 {
        probes::access(request);
    } else if request.op == Op::Resize as u64 {
        growth::resize(request);
    } else if request.op == Op::Watch as u64 {
        growth::watch(request);
    } else if !tasks::serve(request) {
        payload(mailbox);
    }
}

/// The payload's work, then port exits, all within the time that it takes.
fn run_and_exit(mailbox: &mut Mailbox) {
    let exits = core::mem::take(&mut mailbox.planted);
    mailbox.op = Op::Run as u64;
    payload(mailbox);
    for _ in 0..exits {
        tasks::port_exit();
    }
    mailbox.tsc_end = vtax_workloads::tsc::fenced();
}

/// The payload: the harness calls it for the native side, `serve` for the guest side.
extern "sysv64" fn payload(mailbox: *mut Mailbox) {
    // SAFETY: as in `serve`; on the native side the caller holds the mailbox exclusively.
    let mailbox = unsafe { &mut *mailbox };
    let here: u64;
    // SAFETY: computes an address relative to the instruction pointer, nothing else.
    unsafe {
        asm!("lea {}, [rip + {}]", out(reg) here, sym payload, options(nomem, nostack, preserves_flags));
    }
    let (start, end) = (&raw const __text_start, &raw const __text_end);
    // SAFETY: the linker script places both symbols around the image's code, which is readable and never written.
    let text = unsafe { core::slice::from_raw_parts(start, end.offset_from_unsigned(start)) };
    // SAFETY: the harness names an arena that is mapped, and shared with nobody while the request runs.
    unsafe { vtax_workloads::payload::execute(mailbox, text, here) };
}

/// A panic is a bug in a workload: it becomes #UD, which the harness names with its RIP.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: ud2 never returns.
    unsafe { asm!("ud2", options(noreturn)) }
}
