//! What a vCPU's CPUID says.
//!
//! The payload never asks: its features are found on the host, and its number is in a register. KVM does: by CPUID it
//! decides what it opens to a vCPU (XCR0, CR4.OSXSAVE, NX, 1 GiB pages, the width of addresses, the APIC). So the
//! table holds those leaves, as the host has them, and the topology. Asking KVM for all that it supports
//! (KVM_GET_SUPPORTED_CPUID) would cost a third of a cold start where the host is itself a virtual machine: each leaf
//! that KVM then reads is an exit to the hypervisor below.

use std::arch::x86_64::{__cpuid_count, CpuidResult};
use std::sync::LazyLock;

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use vtax_scenarios::plan::Topology;

use super::{VmError, refused};

/// Leaves (Intel SDM vol. 2, CPUID; AMD64 APM vol. 3, appendix E).
const VENDOR: u32 = 0;
const FEATURES: u32 = 1;
const TOPOLOGY: u32 = 0xb;
const VECTOR_STATE: u32 = 0xd;
const EXTENDED: u32 = 0x8000_0000;
const EXTENDED_FEATURES: u32 = 0x8000_0001;
const ADDRESS_WIDTHS: u32 = 0x8000_0008;

/// Virtualization is not for this guest: VMX in leaf 1, ECX, and SVM in leaf 0x8000_0001, ECX.
const VMX: u32 = 1 << 5;
const SVM: u32 = 1 << 2;
/// Leaf 1, ECX: x2APIC and the TSC-deadline timer, which KVM emulates on every host.
const X2APIC_AND_TSC_DEADLINE: u32 = 1 << 21 | 1 << 24;

/// x87, SSE, AVX, and the three parts of AVX-512.
const XCR0_WANTED: u32 = 0xe7;

/// What all vCPUs of all guests have in common. Read once: each leaf may cost an exit.
static COMMON: LazyLock<Common> = LazyLock::new(Common::of_host);

struct Common {
    entries: Vec<kvm_cpuid_entry2>,
    xcr0: u64,
}

impl Common {
    fn of_host() -> Self {
        let vendor = host(VENDOR);
        let mut features = host(FEATURES);
        features.ecx = features.ecx & !VMX | X2APIC_AND_TSC_DEADLINE;
        let mut extended = host(EXTENDED_FEATURES);
        extended.ecx &= !SVM;
        let mut entries = vec![
            entry(VENDOR, with_highest(vendor, VECTOR_STATE)),
            entry(FEATURES, features),
            entry(EXTENDED, with_highest(vendor, ADDRESS_WIDTHS)),
            entry(EXTENDED_FEATURES, extended),
            entry(ADDRESS_WIDTHS, host(ADDRESS_WIDTHS)),
        ];
        let mut xcr0 = 0;
        if vendor.eax >= VECTOR_STATE {
            let mut state = host(VECTOR_STATE);
            (state.eax, state.edx) = (state.eax & XCR0_WANTED, 0);
            xcr0 = state.eax.into();
            entries.push(indexed(VECTOR_STATE, 0, state));
        }
        Self { entries, xcr0 }
    }
}

/// Vector state that a vCPU may have, as bits of XCR0.
#[must_use]
pub fn vector_state() -> u64 {
    COMMON.xcr0
}

/// The table of a vCPU: the host's leaves, its APIC id and the guest's topology.
///
/// # Errors
/// None in practice: the table is far below what KVM takes.
pub fn of_vcpu(vcpu: u32, topology: Topology) -> Result<CpuId, VmError> {
    let threads = topology.threads.max(1);
    let package = threads * topology.cores.max(1);
    let mut entries = COMMON.entries.clone();
    for features in entries
        .iter_mut()
        .filter(|entry| entry.function == FEATURES)
    {
        features.ebx = features.ebx & 0xffff | package.min(255) << 16 | vcpu.min(255) << 24;
    }
    // Thread, core, and the level that ends the list.
    let levels = [
        (bits(threads), threads, 1),
        (bits(package), package, 2),
        (0, 0, 0),
    ];
    for (level, (shift, count, kind)) in (0..).zip(levels) {
        let registers = CpuidResult {
            eax: shift,
            ebx: count,
            ecx: kind << 8 | level,
            edx: vcpu,
        };
        entries.push(indexed(TOPOLOGY, level, registers));
    }
    CpuId::from_entries(&entries).map_err(|_| refused("the CPUID table", libc::E2BIG))
}

/// A leaf of the host, at index 0.
#[allow(
    unused_unsafe,
    reason = "a safe function in newer compilers, an unsafe one in the oldest that we support"
)]
fn host(function: u32) -> CpuidResult {
    // SAFETY: every x86-64 CPU has CPUID; it touches no memory.
    unsafe { __cpuid_count(function, 0) }
}

/// The vendor's name, with another highest leaf.
fn with_highest(vendor: CpuidResult, highest: u32) -> CpuidResult {
    CpuidResult {
        eax: highest,
        ..vendor
    }
}

fn entry(function: u32, registers: CpuidResult) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function,
        eax: registers.eax,
        ebx: registers.ebx,
        ecx: registers.ecx,
        edx: registers.edx,
        ..kvm_cpuid_entry2::default()
    }
}

/// An entry of a leaf that has several.
fn indexed(function: u32, index: u32, registers: CpuidResult) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        ..entry(function, registers)
    }
}

/// Bits of an APIC id that tell `count` of something apart.
fn bits(count: u32) -> u32 {
    count.next_power_of_two().trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vcpu_has_its_number_and_the_topology() {
        let topology = Topology {
            sockets: 2,
            cores: 4,
            threads: 2,
        };
        let table = of_vcpu(11, topology).unwrap();
        let registers = |function, index| {
            let same =
                |entry: &&kvm_cpuid_entry2| (entry.function, entry.index) == (function, index);
            let mut found = table.as_slice().iter().filter(same);
            let entry = found.next().unwrap();
            assert!(found.next().is_none(), "leaf {function:#x} twice");
            (entry.eax, entry.ebx, entry.ecx, entry.edx)
        };
        let (_, ebx, ecx, _) = registers(FEATURES, 0);
        assert_eq!(ebx >> 16, 11 << 8 | 8);
        assert_eq!(ecx & VMX, 0);
        // One bit tells threads apart, three tell them apart within a package.
        assert_eq!(registers(TOPOLOGY, 0), (1, 2, 0x100, 11));
        assert_eq!(registers(TOPOLOGY, 1), (3, 8, 0x201, 11));
        assert_eq!(registers(TOPOLOGY, 2), (0, 0, 2, 11));
    }

    #[test]
    fn vector_state_is_the_host_s_and_nothing_that_asks_for_leave() {
        assert_eq!(vector_state() & !u64::from(XCR0_WANTED), 0);
        assert_eq!(vector_state() & 0x3, 0x3, "x87 and SSE");
        if std::arch::is_x86_feature_detected!("avx") {
            assert_eq!(vector_state() & 0x4, 0x4);
        }
    }
}
