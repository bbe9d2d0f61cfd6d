//! Deliberate faults: what a user sees when a guest dies is tried out with these. Only ever run in a guest.

use core::arch::asm;

use crate::abi::GATE_TRIPLE_FAULT;
use crate::catalogue::{at_once, baseline, unlimited};
use crate::machine::PORT_NOTHING;
use crate::{
    Body, Direction, Family, MAX_PARAMS, Metric, Param, ParamKind, Prepare, RunFn, Task, Workload,
};

/// Reads an address that no guest page table maps.
pub(crate) const PAGE: Workload = Workload {
    params: &[Param {
        name: "address",
        kind: ParamKind::Count,
        default: 0x7000_0000_0000,
        min: 0x1000,
        max: 0x7fff_ffff_f000,
        help: "the address to read, outside all that the guest maps; CR2 will hold it",
    }],
    ..entry(
        "fault-page",
        "Page fault",
        "Reads an unmapped address: vector 14, CR2 tells the address.",
        |_, params, _, _, _| {
            // SAFETY: faults instead of reading, which is what it is for.
            let byte = unsafe { (params[0] as *const u8).read_volatile() };
            u64::from(byte)
        },
    )
};

/// Executes UD2.
pub(crate) const UD: Workload = entry(
    "fault-ud",
    "Invalid opcode",
    "Executes UD2: vector 6.",
    |_, _, _, _, _| {
        // SAFETY: UD2 always faults.
        unsafe { asm!("ud2", options(noreturn, nomem, nostack)) }
    },
);

/// Reads a non-canonical address.
pub(crate) const GP: Workload = entry(
    "fault-gp",
    "General protection",
    "Reads a non-canonical address: vector 13.",
    |_, _, _, _, _| {
        let address = 1u64 << 63;
        let value: u64;
        // SAFETY: bit 63 alone is canonical with neither 48 nor 57 address bits, so this always faults.
        unsafe { asm!("mov {0}, [{1}]", out(reg) value, in(reg) address, options(nostack)) };
        value
    },
);

/// Asks ring 0 for a triple fault.
pub(crate) const TRIPLE: Workload = entry(
    "fault-triple",
    "Triple fault",
    "Passes the gate for a triple fault: the vCPU shuts down without a vector.",
    |_, _, _, _, _| {
        // SAFETY: the gate does not return; UD2 reports a guest image that lets it.
        unsafe {
            asm!("int3", "ud2", in("rax") GATE_TRIPLE_FAULT, options(noreturn, nostack));
        }
    },
);

/// Never comes back.
pub(crate) const HANG: Workload = entry(
    "fault-hang",
    "Hang",
    "Spins for ever: only the harness's time limit ends it.",
    |_, _, _, _, _| {
        // Without PAUSE, which makes an emulator leave the loop at each turn.
        // SAFETY: touches neither memory nor registers.
        unsafe { asm!("2:", "jmp 2b", options(noreturn, nomem, nostack)) }
    },
);

/// Leaves the guest again and again.
pub(crate) const STORM: Workload = entry(
    "fault-storm",
    "Exit storm",
    "Writes an I/O port for ever: each write is an exit, and only the harness's time limit ends it.",
    |_, _, _, _, _| loop {
        // SAFETY: the VMM answers this port and does nothing.
        unsafe { asm!("out {}, al", const PORT_NOTHING, in("al") 0_u8, options(nomem, nostack)) }
    },
);

/// Halts, and nothing wakes it.
pub(crate) const HALT: Workload = Workload {
    body: Body::PerSide(Task::Sleep),
    ..entry(
        "fault-halt",
        "Eternal halt",
        "Halts with interrupts on and none to come: KVM puts the vCPU to sleep in the kernel, and only the harness's time \
         limit ends it.",
        |_, _, _, _, _| 0,
    )
};

const fn entry(
    name: &'static str,
    title: &'static str,
    stresses: &'static str,
    run: RunFn,
) -> Workload {
    Workload {
        name,
        family: Family::Diagnostic,
        title,
        stresses,
        source: "Intel SDM volume 3, chapter 7 (interrupt and exception handling)",
        metric: Metric {
            unit: "ns/fault",
            direction: Direction::LowerIsBetter,
            amount_per_iteration: 1.0,
        },
        params: &[],
        requires: baseline,
        footprint: |_| 0,
        prepare: Prepare::Nothing,
        max_iterations: unlimited,
        settles_after: at_once,
        latencies: false,
        body: Body::Shared {
            setup: |_: &mut [u8], _: &[u64; MAX_PARAMS], _| {},
            run,
        },
    }
}
