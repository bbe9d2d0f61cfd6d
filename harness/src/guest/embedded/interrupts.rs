//! How the host interrupts a guest: one message-signalled line for each vCPU, and the guest's clock set to the host's so
//! that both ends of such a message can be timed.
//!
//! ```text
//! eventfd ──irqfd──► GSI ──route──► MSI: APIC id, vector ──► the vCPU's handler
//! ```

use std::os::fd::AsRawFd as _;

use kvm_bindings::{
    KVM_CAP_HALT_POLL, KVM_IRQ_ROUTING_MSI, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, KvmIrqRouting,
    kvm_device_attr, kvm_enable_cap, kvm_irq_routing_entry,
};
use kvm_ioctls::{VcpuFd, VmFd};
use vtax_workloads::machine::VECTOR_PARTNER;

use super::{VmError, kvm, refused};

/// Address of the APICs' message window; the destination's APIC id stands in bits 12 to 19 (Intel SDM vol. 3, 12.11.1).
const MSI_WINDOW: u32 = 0xfee0_0000;
/// APIC ids that such an address can name.
const MOST_DESTINATIONS: u32 = 255;
/// `KVM_SET_DEVICE_ATTR`: _IOW(0xae, 0xe1, struct kvm_device_attr).
const KVM_SET_DEVICE_ATTR: libc::c_ulong = 0x4018_aee1;

/// First line of partners, one a vCPU; devices have those below.
const PARTNER_LINES: u32 = 1024;

/// The line on which the partner of a vCPU interrupts it.
#[must_use]
pub const fn partner_line(vcpu: u32) -> u32 {
    PARTNER_LINES + vcpu
}

/// The routes of all partners' lines.
pub fn partner_routes(vcpus: u32) -> impl Iterator<Item = kvm_irq_routing_entry> {
    (0..vcpus.min(MOST_DESTINATIONS)).map(|vcpu| message(partner_line(vcpu), vcpu, VECTOR_PARTNER))
}

/// Sets all of a guest's interrupt routes. What KVM had routed before, to its PIC and I/O APIC, is gone: no guest of vtax
/// uses them.
///
/// # Errors
/// There are more than KVM takes.
pub fn route(fd: &VmFd, routes: &[kvm_irq_routing_entry]) -> Result<(), VmError> {
    if routes.is_empty() {
        return Ok(());
    }
    let routing = KvmIrqRouting::from_entries(routes)
        .map_err(|_| refused("the table of interrupt routes", libc::E2BIG))?;
    kvm("KVM_SET_GSI_ROUTING", || fd.set_gsi_routing(&routing))
}

/// The route from a GSI to a vector of a vCPU: fixed delivery, edge-triggered, physical destination.
#[must_use]
pub fn message(gsi: u32, vcpu: u32, vector: u8) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_MSI,
        ..kvm_irq_routing_entry::default()
    };
    entry.u.msi.address_lo = MSI_WINDOW | vcpu << 12;
    entry.u.msi.data = vector.into();
    entry
}

/// Lets KVM poll this long for a wake-up before a halted vCPU's thread sleeps (Linux,
/// Documentation/virt/kvm/halt-polling.rst).
///
/// # Errors
/// KVM has no such setting for a guest of its own (KVM_CAP_HALT_POLL, Linux 5.8).
pub fn poll_when_halted(fd: &VmFd, nanos: u64) -> Result<(), VmError> {
    let capability = kvm_enable_cap {
        cap: KVM_CAP_HALT_POLL,
        args: [nanos, 0, 0, 0],
        ..kvm_enable_cap::default()
    };
    kvm("KVM_ENABLE_CAP (KVM_CAP_HALT_POLL)", || {
        fd.enable_cap(&capability)
    })
}

/// Lets the vCPU's TSC count with the host's, from the same origin. A KVM that gives guests the host's own has nothing to
/// set (Linux 5.16 and later have, on VT-x and SVM): whoever relies on it looks at the guest's clock first.
pub fn share_tsc(fd: &VcpuFd) {
    let offset = 0_u64;
    let attribute = kvm_device_attr {
        flags: 0,
        group: KVM_VCPU_TSC_CTRL,
        attr: KVM_VCPU_TSC_OFFSET.into(),
        addr: (&raw const offset).addr() as u64,
    };
    // SAFETY: the request reads the structure and, through it, eight bytes; both live until the call returns.
    unsafe { libc::ioctl(fd.as_raw_fd(), KVM_SET_DEVICE_ATTR, &raw const attribute) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_vcpu_and_vector() {
        let entry = message(7, 3, 0x42);
        assert_eq!((entry.gsi, entry.type_), (7, KVM_IRQ_ROUTING_MSI));
        // SAFETY: the entry is of this type, and every bit pattern is valid.
        let message = unsafe { entry.u.msi };
        assert_eq!(message.address_lo, 0xfee0_3000);
        assert_eq!((message.address_hi, message.data), (0, 0x42));
    }
}
