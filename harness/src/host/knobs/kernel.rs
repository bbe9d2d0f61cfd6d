//! What the kernel does of its own accord, and what disturbs a measurement by it.

use super::simple::{SWITCH, Simple};

/// Automatic NUMA balancing (Documentation/admin-guide/sysctl/kernel.rst).
pub(super) const NUMA_BALANCING: Simple = Simple {
    what: "NUMA balancing",
    file: "proc/sys/kernel/numa_balancing",
    form: SWITCH,
    elsewise: "run a kernel with CONFIG_NUMA_BALANCING, as root",
};

/// The hard-lockup detector, which takes one performance counter of each CPU.
pub(super) const NMI_WATCHDOG: Simple = Simple {
    what: "NMI watchdog",
    file: "proc/sys/kernel/nmi_watchdog",
    form: SWITCH,
    elsewise: "boot with nmi_watchdog=1, on a machine that has a PMU",
};
