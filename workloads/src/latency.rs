//! What the machine does in between: exits, interrupts, wake-ups, timers and gaps. No code here does it: the guest
//! image and the harness each have their own (`Task`).

use crate::catalogue::{baseline, unlimited};
use crate::{Body, Direction, Family, Metric, Prepare, Task, Workload};

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
        latencies: true,
        body: Body::PerSide(task),
    }
}
