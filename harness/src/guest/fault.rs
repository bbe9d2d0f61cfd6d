//! What a guest can do wrong, by name.

use std::fmt;

use vtax_workloads::machine::FaultFrame;

/// A guest that did not answer its request. It costs its cell, nothing else.
#[derive(Debug, thiserror::Error)]
pub enum GuestFault {
    /// An exception in ring 3 (or 0) reached the guest's handler.
    #[error("guest fault: {}", Exception(*.0))]
    Exception(FaultFrame),
    /// An exception while the CPU delivered another twice over.
    #[error("guest fault: triple fault (shutdown) at RIP {rip:#x}, CR2 {cr2:#x}")]
    TripleFault {
        /// Where.
        rip: u64,
        /// Last page-fault address.
        cr2: u64,
    },
    /// The same where the CPU's state is lost: on SVM it is undefined after a shutdown, and KVM resets the vCPU (AMD APM
    /// vol. 2, 15.14.3).
    #[error(
        "guest fault: triple fault (shutdown); RIP and CR2 are lost, since KVM on AMD resets the vCPU"
    )]
    TripleFaultReset,
    /// An access to guest-physical memory that is not there.
    #[error("guest fault: {} guest-physical address {address:#x}, which is outside guest memory, at RIP {rip:#x}, CR2 {cr2:#x}", if *.write { "write to" } else { "read of" })]
    OutsideMemory {
        /// Guest-physical address.
        address: u64,
        /// Direction.
        write: bool,
        /// Where.
        rip: u64,
        /// Last page-fault address.
        cr2: u64,
    },
    /// KVM gave up on the guest.
    #[error("guest fault: KVM could not go on ({what}) at RIP {rip:#x}, CR2 {cr2:#x}")]
    Internal {
        /// KVM's reason.
        what: String,
        /// Where.
        rip: u64,
        /// Last page-fault address.
        cr2: u64,
    },
    /// No answer in time.
    #[error(
        "guest fault: no answer within {seconds} s (hung at RIP {rip:#x}, CR2 {cr2:#x}{}); stopped",
        meanwhile(*.exits)
    )]
    Hang {
        /// The watchdog's time.
        seconds: u64,
        /// How often it left for the VMM meanwhile.
        exits: u64,
        /// Where it was.
        rip: u64,
        /// Last page-fault address.
        cr2: u64,
    },
    /// KVM_RUN itself failed.
    #[error("KVM_RUN failed: {0}")]
    Run(#[from] kvm_ioctls::Error),
}

/// A guest that leaves again and again is another thing than one that only spins or sleeps.
fn meanwhile(exits: u64) -> String {
    if exits == 0 {
        String::new()
    } else {
        format!(", after {exits} exits to the VMM")
    }
}

/// Mnemonic and name of an exception (Intel SDM vol. 3, table 7-1).
fn name(vector: u64) -> &'static str {
    match vector {
        0 => "#DE divide error",
        1 => "#DB debug",
        2 => "NMI",
        4 => "#OF overflow",
        5 => "#BR bound range exceeded",
        6 => "#UD invalid opcode",
        7 => "#NM device not available",
        8 => "#DF double fault",
        10 => "#TS invalid TSS",
        11 => "#NP segment not present",
        12 => "#SS stack fault",
        13 => "#GP general protection",
        14 => "#PF page fault",
        16 => "#MF x87 floating point",
        17 => "#AC alignment check",
        18 => "#MC machine check",
        19 => "#XM SIMD floating point",
        21 => "#CP control protection",
        _ => "unexpected interrupt",
    }
}

/// A frame in words.
struct Exception(FaultFrame);

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = self.0;
        write!(
            f,
            "{} in ring {} at RIP {:#x}, CR2 {:#x}, error code {:#x}",
            name(frame.vector),
            frame.cs & 3,
            frame.rip,
            frame.cr2,
            frame.error_code
        )
    }
}
