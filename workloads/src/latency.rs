//! What the machine does in between: exits, interrupts, wake-ups, timers and clocks. But for clock reads and gaps no code
//! here does it: the guest image and the harness each have their own (`Task`).

mod clock;
mod gaps;

pub(crate) use clock::ENTRY as CLOCK;
pub(crate) use gaps::ENTRY as GAPS;

use crate::abi::LATENCY_SLOTS;
use crate::catalogue::{at_once, baseline, unlimited};
use crate::{Body, Direction, Family, Metric, Param, ParamKind, Prepare, Task, Workload};

/// An exit that KVM handles itself, where CPUID exits at all.
pub(crate) const CPUID: Workload = entry(
    "lat-cpuid",
    "CPUID",
    "Executes CPUID leaf 0. VT-x and SVM always leave the guest for it, and KVM answers in the kernel.",
    "kvm-unit-tests, x86/vmexit.c (cpuid)",
    Task::Cpuid,
);

/// An exit to the VMM by port I/O.
pub(crate) const PORT: Workload = entry(
    "lat-port",
    "Port I/O",
    "Writes one byte to an I/O port that the VMM answers at once: the way to user space and back.",
    "kvm-unit-tests, x86/vmexit.c (outl to kernel, inl from qemu)",
    Task::Port,
);

/// An exit to the VMM by MMIO.
pub(crate) const MMIO: Workload = entry(
    "lat-mmio",
    "MMIO",
    "Reads a 32-bit register outside guest memory that the VMM answers at once: as port I/O, and KVM has to decode \
     the instruction.",
    "kvm-unit-tests, x86/vmexit.c (mmio-user)",
    Task::Mmio,
);

/// A call of the hypervisor.
pub(crate) const HYPERCALL: Workload = entry(
    "lat-hypercall",
    "Hypercall",
    "Executes VMCALL or VMMCALL in ring 3: KVM takes the exit and refuses the call (-EPERM), which is the shortest way \
     into KVM and back on purpose.",
    "kvm-unit-tests, x86/vmexit.c (vmcall); Linux, Documentation/virt/kvm/x86/hypercalls.rst",
    Task::Hypercall,
);

/// An MSR write that leaves the guest.
pub(crate) const MSR: Workload = entry(
    "lat-msr",
    "MSR write",
    "Writes 0 to IA32_TSC_DEADLINE, which disarms a timer that is not armed: KVM's local APIC handles it. Contains the \
     way from ring 3 to ring 0 and back, an INT3 and an IRETQ.",
    "kvm-unit-tests, x86/vmexit.c (wr_tsc_adjust_msr)",
    Task::Msr,
);

/// A kick that wakes nobody.
pub(crate) const KICK: Workload = entry(
    "lat-kick",
    "ioeventfd kick",
    "Writes a doorbell register that KVM turns into an event for a thread of the host (ioeventfd), and goes on: what \
     notifying a virtio device costs the vCPU. Nobody waits for the event, so no wake-up is in it.",
    "Linux, Documentation/virt/kvm/api.rst (KVM_IOEVENTFD)",
    Task::Kick,
);

/// An interrupt from the host to a running vCPU.
pub(crate) const INJECT: Workload = Workload {
    max_iterations: as_many_as_slots,
    settles_after: at_once,
    footprint: |_| PAGE,
    ..entry(
        "lat-inject",
        "irqfd injection",
        "A thread of the host on another CPU signals an irqfd while the vCPU spins in ring 3: from the TSC before the \
         write to the TSC at the start of the guest's handler.",
        "Linux, Documentation/virt/kvm/api.rst (KVM_IRQFD)",
        Task::Inject,
    )
};

/// An interrupt from one vCPU to another.
pub(crate) const IPI: Workload = Workload {
    max_iterations: as_many_as_slots,
    settles_after: at_once,
    params: &[Param {
        name: "to",
        kind: ParamKind::Choice(&["running", "halted"]),
        default: 0,
        min: 0,
        max: 1,
        help: "what the other vCPU does when the interrupt is sent: it spins in ring 3, or has halted",
    }],
    ..entry(
        "lat-ipi",
        "Inter-processor interrupt",
        "Each even vCPU interrupts the next through its x2APIC: from the TSC before the write of the command register to \
         the TSC at the start of the other's handler. Contains the sender's way from ring 3 to ring 0.",
        "kvm-unit-tests, x86/vmexit.c (ipi, ipi+halt)",
        Task::Ipi,
    )
};

/// Sleep until somebody else wakes the sleeper.
pub(crate) const WAKE: Workload = Workload {
    max_iterations: as_many_as_slots,
    settles_after: at_once,
    footprint: |_| PAGE,
    params: &[Param {
        name: "sleep",
        kind: ParamKind::Duration,
        default: 100_000,
        min: 1_000,
        max: 1_000_000_000,
        help: "how long the vCPU or thread sleeps before it is woken",
    }],
    ..entry(
        "lat-wake",
        "Wake-up",
        "Sleeps until a thread on another CPU of the host wakes it. Guest: HLT, woken by an irqfd, up to the start of the \
         handler. Native: a futex, up to the return from the wait.",
        "fio, cyclictest; Linux, Documentation/virt/kvm/halt-polling.rst",
        Task::Wake,
    )
};

/// How late a timer is.
pub(crate) const TIMER: Workload = Workload {
    max_iterations: as_many_as_slots,
    settles_after: at_once,
    params: &[Param {
        name: "period",
        kind: ParamKind::Duration,
        default: 200_000,
        min: 10_000,
        max: 1_000_000_000,
        help: "time from one expiry to the next",
    }],
    ..entry(
        "lat-timer",
        "Timer lateness",
        "Sleeps from one point in time to the next and records how late it wakes. Guest: TSC-deadline timer and HLT, up to \
         the start of the handler. Native: clock_nanosleep with an absolute time and no timer slack, up to its return.",
        "rt-tests, cyclictest",
        Task::Timer,
    )
};

/// A cache line back and forth.
pub(crate) const MAILBOX: Workload = Workload {
    footprint: |_| PAGE,
    ..entry(
        "lat-mailbox",
        "Mailbox round trip",
        "Writes a number into a cache line and spins until a thread on another CPU of the host, which spins too, has \
         written it back: shared memory without an exit.",
        "core-to-core-latency benchmarks; SPDK and DPDK polling",
        Task::Mailbox,
    )
};

const PAGE: u64 = 4096;

/// Every operation's latency is kept.
fn as_many_as_slots(_: &[u64; crate::MAX_PARAMS]) -> u64 {
    LATENCY_SLOTS as u64
}

const fn entry(
    name: &'static str,
    title: &'static str,
    stresses: &'static str,
    source: &'static str,
    task: Task,
) -> Workload {
    Workload {
        name,
        family: Family::Latency,
        title,
        stresses,
        source,
        metric: Metric {
            unit: "ns",
            direction: Direction::LowerIsBetter,
            amount_per_iteration: 1.0,
        },
        params: &[],
        requires: baseline,
        footprint: |_| 0,
        prepare: Prepare::Nothing,
        max_iterations: unlimited,
        settles_after: at_once,
        latencies: true,
        body: Body::PerSide(task),
    }
}
