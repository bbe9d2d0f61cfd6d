//! The native side: the guest's own code called in this process, on a stack and with a mailbox that no guest has.

use std::arch::asm;

use vtax_scenarios::memory::{MEMORY_STEP_BYTES, SHARED_BYTES};
use vtax_scenarios::plan::Backing;
use vtax_workloads::machine::{AREA_MAILBOX, AREA_PAYLOAD_STACK, RAM_BASE, VCPU_AREA};

use super::code::Code;
use super::image::Image;
use super::mailbox::Mailbox;
use super::ram::{Ram, RamConfig, RamError};
use super::{Completion, Executor, Failure};

/// Virtual address of the native side's areas, where nothing else is mapped.
const NATIVE_BASE: u64 = 0x2000_0000;

// Mailbox and stack have the same place in a large page as in guest RAM: neither side meets sets of a cache, or addresses
// that alias, that the other is spared.
const _: () = assert!(
    NATIVE_BASE.is_multiple_of(MEMORY_STEP_BYTES)
        && (RAM_BASE + SHARED_BYTES).is_multiple_of(MEMORY_STEP_BYTES)
);

/// An area for the native twin of each vCPU, like a guest's own, with its mailbox and its stack. It is no guest's memory:
/// what native code is asked to do, and where it returns to, no guest can change.
#[derive(Debug)]
pub struct NativeAreas(Ram);

impl NativeAreas {
    /// Areas for the twins of so many vCPUs, in pages as the guest's RAM has them, but that none is reserved for them.
    ///
    /// # Errors
    /// No memory is left, or another guest's areas are mapped.
    pub fn map(vcpus: u32, backing: Backing, numa_node: Option<u32>) -> Result<Self, RamError> {
        let ram = Ram::map(&RamConfig {
            address: NATIVE_BASE,
            len: (u64::from(vcpus) * VCPU_AREA).next_multiple_of(MEMORY_STEP_BYTES),
            backing: match backing {
                Backing::Small => Backing::Small,
                Backing::Thp | Backing::Huge2M | Backing::Huge1G => Backing::Thp,
            },
            numa_node,
        })?;
        ram.prefault(0, u64::from(vcpus) * VCPU_AREA)?;
        Ok(Self(ram))
    }

    /// The mailbox of a vCPU's twin.
    #[must_use]
    pub fn mailbox(&self, vcpu: u32) -> Mailbox<'_> {
        Mailbox::new(&self.0, u64::from(vcpu) * VCPU_AREA + AREA_MAILBOX)
    }
}

/// The calling thread in the place of a vCPU.
#[derive(Debug)]
pub struct NativeCpu<'a> {
    payload: u64,
    stack: u64,
    mailbox: Mailbox<'a>,
    _code: Code,
}

impl<'a> NativeCpu<'a> {
    /// The native twin of a vCPU.
    ///
    /// # Errors
    /// The image's code cannot be mapped.
    pub fn new(image: &Image, areas: &'a NativeAreas, vcpu: u32) -> Result<Self, RamError> {
        let area = NATIVE_BASE + u64::from(vcpu) * VCPU_AREA;
        Ok(Self {
            payload: image.header.payload,
            stack: area + AREA_PAYLOAD_STACK,
            mailbox: areas.mailbox(vcpu),
            _code: image.code()?,
        })
    }
}

impl Executor for NativeCpu<'_> {
    fn execute(&mut self) -> Result<Completion, Failure> {
        // SAFETY: `payload` is the image's `extern "sysv64" fn(*mut Mailbox)`, inside the code that `_code` keeps mapped
        // at its own address, and that nobody can write. It runs on this twin's stack, which nobody else uses (a vCPU has
        // one twin, on one thread) and which has room for a signal frame; the request is the harness's own, since no
        // guest reaches this mailbox. R12, callee-saved, keeps the old stack pointer.
        unsafe {
            asm!(
                "mov r12, rsp",
                "mov rsp, {stack}",
                "call {payload}",
                "mov rsp, r12",
                stack = in(reg) self.stack,
                payload = in(reg) self.payload,
                in("rdi") self.mailbox.address(),
                out("r12") _,
                clobber_abi("sysv64"),
            );
        }
        Ok(Completion::Clean)
    }
}
