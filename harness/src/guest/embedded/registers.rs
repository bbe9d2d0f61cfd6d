//! The state in which a vCPU starts: ring 3, long mode, its mailbox in RDI.

use kvm_bindings::{
    KVM_MP_STATE_RUNNABLE, kvm_mp_state, kvm_regs, kvm_segment, kvm_sregs, kvm_xcrs,
};
use kvm_ioctls::VcpuFd;
use vtax_scenarios::plan::Topology;
use vtax_workloads::machine::{
    AREA_COUNTERS, AREA_GDT, AREA_TSS, RAM_BASE, RING3_CS, RING3_SS, TSS_SELECTOR,
};

use super::tables::{GDT_LIMIT, IDT_LIMIT, TSS_LIMIT};
use super::{VmError, cpuid, kvm};
use crate::guest::layout::{IDT, mailbox, payload_stack, vcpu_area};

/// PE, MP, ET, NE, WP, AM, PG. Caches are on (CD and NW are clear); PAT and MTRRs stay as KVM resets them: guest RAM is
/// write-back then, since PAT's first entry is, SVM has no MTRRs for guests, and KVM on VT-x heeds them only for a guest
/// that has a device assigned.
const CR0: u64 = 0x8005_0033;
/// PAE, OSFXSR, OSXMMEXCPT.
const CR4: u64 = 0x620;
/// XSAVE for applications: AVX needs it, and not every KVM back end that can do AVX says so in CPUID.
const CR4_OSXSAVE: u64 = 1 << 18;
/// SCE, LME, LMA, NXE.
const EFER: u64 = 0xd01;
/// Reserved bit and IOPL 3, and interrupts on where there is a controller to send them.
///
/// Ring 3 hands over by a port. IOPL 3 lets it do so without a look into the task-state segment, and on emulated SVM
/// (QEMU's TCG) only so: that one takes the busy segment which a VM entry wants for an invalid one. Where IOPL does not
/// reach the CPU (KVM without VT-x or SVM) the segment's I/O bitmap has the port.
const RFLAGS: u64 = 0x3002;
const RFLAGS_IF: u64 = 0x200;
/// x87, SSE and AVX, in XCR0.
const XCR0_AVX: u64 = 0x7;
/// x2APIC mode and the global enable bit in IA32_APIC_BASE.
const APIC_BASE_X2APIC: u64 = 0xc00;
/// Offset of the spurious-interrupt register in the APIC page, and its software-enable bit with vector 255.
const APIC_SPURIOUS: usize = 0xf0;
const APIC_ENABLED: u32 = 0x1ff;
/// Offset of the timer's local vector, and TSC-deadline mode.
const APIC_LVT_TIMER: usize = 0x320;
const APIC_TSC_DEADLINE: u32 = 2 << 17;

/// Where and how a vCPU starts.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Its number, which is also its APIC id.
    pub vcpu: u32,
    /// Root of the page tables.
    pub cr3: u64,
    /// First instruction.
    pub entry: u64,
    /// Whether it takes interrupts.
    pub interrupts: bool,
    /// How the vCPUs appear to it.
    pub topology: Topology,
}

/// Puts a new vCPU into its start state.
///
/// # Errors
/// KVM refuses a part of it.
pub fn set_up(fd: &VcpuFd, start: &Start) -> Result<(), VmError> {
    let cpuid = cpuid::of_vcpu(start.vcpu, start.topology)?;
    kvm("KVM_SET_CPUID2", || fd.set_cpuid2(&cpuid))?;
    special_registers(fd, start)?;
    let area = vcpu_area(start.vcpu);
    let regs = kvm_regs {
        rip: start.entry,
        rsp: payload_stack(start.vcpu),
        rdi: RAM_BASE + mailbox(start.vcpu),
        rflags: if start.interrupts {
            RFLAGS | RFLAGS_IF
        } else {
            RFLAGS
        },
        ..kvm_regs::default()
    };
    kvm("KVM_SET_REGS", || fd.set_regs(&regs))?;
    debug_assert!(area.is_multiple_of(4096));
    extended_state(fd);
    if start.interrupts {
        interrupts(fd)?;
    }
    Ok(())
}

/// Segments as VT-x wants them on VM entry (Intel SDM vol. 3, 28.3.1.2), which is stricter than SVM: accessed, with DPL and
/// RPL 3 in CS and SS alike, a busy TR with a granularity that fits its limit, and an LDTR marked unusable.
fn special_registers(fd: &VcpuFd, start: &Start) -> Result<(), VmError> {
    let area = RAM_BASE + vcpu_area(start.vcpu);
    let mut sregs = kvm("KVM_GET_SREGS", || fd.get_sregs())?;
    let data = segment(RING3_SS, 0x3);
    sregs.cs = kvm_segment {
        l: 1,
        db: 0,
        ..segment(RING3_CS, 0xb)
    };
    sregs.ss = data;
    sregs.ds = data;
    sregs.es = data;
    sregs.fs = data;
    sregs.gs = kvm_segment {
        base: area + AREA_COUNTERS,
        ..data
    };
    sregs.tr = kvm_segment {
        base: area + AREA_TSS,
        limit: TSS_LIMIT,
        selector: TSS_SELECTOR,
        type_: 0xb,
        present: 1,
        ..kvm_segment::default()
    };
    sregs.ldt = kvm_segment {
        unusable: 1,
        ..kvm_segment::default()
    };
    sregs.gdt.base = area + AREA_GDT;
    sregs.gdt.limit = GDT_LIMIT;
    sregs.idt.base = RAM_BASE + IDT;
    sregs.idt.limit = IDT_LIMIT;
    sregs.cr0 = CR0;
    sregs.cr3 = start.cr3;
    sregs.efer = EFER;
    if start.interrupts {
        sregs.apic_base |= APIC_BASE_X2APIC;
    }
    // Where the guest has no XSAVE the bit is refused: then it has no AVX either, and needs none.
    sregs.cr4 = CR4 | CR4_OSXSAVE;
    kvm("KVM_SET_SREGS", || fd.set_sregs(&sregs)).or_else(|_| {
        kvm("KVM_SET_SREGS", || {
            fd.set_sregs(&kvm_sregs { cr4: CR4, ..sregs })
        })
    })
}

fn segment(selector: u16, type_: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_,
        present: 1,
        dpl: 3,
        db: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    }
}

/// Opens as much vector state as the guest may have. A back end that has no XCR0 to set runs ring 3 with the host's.
fn extended_state(fd: &VcpuFd) {
    let most = cpuid::vector_state();
    let mut xcrs = kvm_xcrs {
        nr_xcrs: 1,
        ..kvm_xcrs::default()
    };
    // From the widest down; x87 and SSE are the state after reset.
    for wanted in [most, most & XCR0_AVX] {
        xcrs.xcrs[0].value = wanted;
        if fd.set_xcrs(&xcrs).is_ok() {
            return;
        }
    }
}

/// Turns the APIC on: x2APIC mode, timer in TSC-deadline mode on its vector.
fn interrupts(fd: &VcpuFd) -> Result<(), VmError> {
    let mut apic = kvm("KVM_GET_LAPIC", || fd.get_lapic())?;
    for (register, value) in [
        (APIC_SPURIOUS, APIC_ENABLED),
        (
            APIC_LVT_TIMER,
            APIC_TSC_DEADLINE | u32::from(vtax_workloads::machine::VECTOR_TIMER),
        ),
    ] {
        for (place, byte) in apic.regs[register..].iter_mut().zip(value.to_le_bytes()) {
            *place = i8::from_le_bytes([byte]);
        }
    }
    kvm("KVM_SET_LAPIC", || fd.set_lapic(&apic))?;
    // Application processors wait for INIT by default; these start at once, in ring 3.
    kvm("KVM_SET_MP_STATE", || {
        fd.set_mp_state(kvm_mp_state {
            mp_state: KVM_MP_STATE_RUNNABLE,
        })
    })
}
