//! What this vCPU knows of itself and of its neighbour, and its way into ring 0.

use core::arch::asm;
use core::mem::offset_of;

use vtax_workloads::abi::Mailbox;
use vtax_workloads::machine::{
    AREA_ABOUT, AREA_COUNTERS, AREA_MAILBOX, About, Counters, GATE_HALT_UNLESS_MOVED, VCPU_AREA,
};
pub use vtax_workloads::tsc::unordered as rdtsc;

/// A count of interrupts, by its offset in [`Counters`].
#[derive(Clone, Copy)]
#[repr(u64)]
pub enum Count {
    Timer = offset_of!(Counters, timer) as u64,
    Ipi = offset_of!(Counters, ipi) as u64,
    Partner = offset_of!(Counters, partner) as u64,
    Device = offset_of!(Counters, device) as u64,
}

/// A vCPU, named by its own area of memory.
#[derive(Clone, Copy)]
pub struct Vcpu {
    area: u64,
}

impl Vcpu {
    /// The vCPU whose mailbox this is.
    pub fn of(mailbox: &Mailbox) -> Self {
        Self {
            area: (&raw const *mailbox).addr() as u64 - AREA_MAILBOX,
        }
    }

    /// What the harness told it.
    pub fn about(self) -> About {
        // SAFETY: the harness wrote it there before the vCPU started, and nobody writes it again.
        unsafe { ((self.area + AREA_ABOUT) as *const About).read() }
    }

    /// Its counters as they stand. Its own ring 0 moves them.
    pub fn counters(self) -> Counters {
        // SAFETY: they lie in its area; volatile, because interrupt handlers change them.
        unsafe { ((self.area + AREA_COUNTERS) as *const Counters).read_volatile() }
    }

    /// Tells its neighbour that it awaits its IPI number `count`.
    pub fn await_ipi(self, count: u64) {
        let place = (self.area + AREA_COUNTERS) as *mut Counters;
        // SAFETY: they lie in its area, and ring 0 never writes this one.
        unsafe { (&raw mut (*place).awaited_ipi).write_volatile(count) };
    }

    /// A time in ticks of its TSC.
    pub fn ticks(self, nanos: u64) -> u64 {
        nanos.saturating_mul(self.about().ticks_per_milli) / 1_000_000
    }

    /// The other vCPU of a pair: the next of an even one, the one before of an odd one.
    pub fn neighbour(self) -> Self {
        let area = if self.about().vcpu.is_multiple_of(2) {
            self.area + VCPU_AREA
        } else {
            self.area - VCPU_AREA
        };
        Self { area }
    }

    /// Halts until `count` is no longer `seen`, whatever other interrupts come. Only for this very vCPU.
    pub fn halt_until_moved(self, count: Count, seen: u64) {
        let address = self.area + AREA_COUNTERS + count as u64;
        // SAFETY: a counter of its own area, as in `counters`.
        while unsafe { (address as *const u64).read_volatile() } == seen {
            gate(GATE_HALT_UNLESS_MOVED, address, seen);
        }
    }
}

/// Enters ring 0 through gate `number`.
pub fn gate(number: u64, first: u64, second: u64) {
    // SAFETY: ring 0 changes RAX, RCX and RDX alone, on a stack of its own.
    unsafe {
        asm!("int3", inout("rax") number => _, in("rdi") first, in("rsi") second, out("rcx") _, out("rdx") _);
    }
}
