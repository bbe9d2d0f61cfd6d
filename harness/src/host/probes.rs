//! What only the CPU or a system call can tell of this machine: plain data, so that tests can make up machines.

use std::{arch::x86_64, fs::File, io, os::fd::FromRawFd, os::fd::OwnedFd};

use io_uring::IoUring;
use rustix::{process::Resource, system::uname};
use vtax_workloads::Features;

use super::affinity;
use super::kvm::{Kvm, KvmTrouble};

/// The answers of the CPU and of system calls.
#[derive(Clone, Debug)]
pub struct Probes {
    /// Name of the hypervisor under this host, from CPUID; `None` on bare metal.
    pub hypervisor: Option<String>,
    /// CPU features that workloads may use, the operating system's support included.
    pub features: Features,
    /// CPUs that this process may run on, or why they are not known.
    pub affinity: Result<Vec<u32>, String>,
    /// Soft limit on locked memory in bytes; `None` is no limit.
    pub memory_lock: Option<u64>,
    /// The kernel's release, as in `uname -r`.
    pub kernel: String,
    /// What /dev/kvm answers.
    pub kvm: Result<Kvm, KvmTrouble>,
    /// Whether an io_uring can be had as block devices need it (Linux 5.11), or why not.
    pub io_uring: Result<(), io::ErrorKind>,
    /// Whether /dev/vhost-net can be opened, or why not.
    pub vhost_net: Result<(), io::ErrorKind>,
    /// Whether /dev/net/tun can be opened, or why not.
    pub tun: Result<(), io::ErrorKind>,
    /// Whether the hardware counter for instructions in user space can be had, or why not.
    pub instructions_counter: Result<(), CounterTrouble>,
}

/// Why a hardware counter cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CounterTrouble {
    /// The kernel knows no PMU on this machine.
    #[error("this machine offers no hardware PMU")]
    NoPmu,
    /// There is one, but not for this user.
    #[error("this user may not use the PMU")]
    Denied,
    /// Anything else.
    #[error("perf_event_open failed: {0}")]
    Other(String),
}

impl Probes {
    /// Asks the real machine.
    #[must_use]
    pub fn take() -> Self {
        Self {
            hypervisor: hypervisor(),
            features: features(),
            affinity: affinity::allowed_cpus().map_err(|error| error.to_string()),
            memory_lock: rustix::process::getrlimit(Resource::Memlock).current,
            kernel: uname().release().to_string_lossy().into_owned(),
            kvm: Kvm::probe(),
            io_uring: make_io_uring(),
            vhost_net: open_device("/dev/vhost-net"),
            tun: open_device("/dev/net/tun"),
            instructions_counter: open_instructions_counter().map(drop),
        }
    }
}

/// Opens a device file for reading and writing, and closes it again.
fn open_device(path: &str) -> Result<(), io::ErrorKind> {
    let opened = File::options().read(true).write(true).open(path);
    opened.map(drop).map_err(|error| error.kind())
}

/// Makes a small io_uring, restrictable as those of I/O threads are (Linux 5.10), and drops it. A wait with a time limit
/// came in Linux 5.11.
fn make_io_uring() -> Result<(), io::ErrorKind> {
    let made: io::Result<IoUring> = IoUring::builder().setup_r_disabled().build(2);
    match made.map_err(|error| error.kind())? {
        ring if ring.params().is_feature_ext_arg() => Ok(()),
        _ => Err(io::ErrorKind::Unsupported),
    }
}

/// CPU features that workloads may use. `is_x86_feature_detected` checks XCR0 too.
fn features() -> Features {
    use std::arch::is_x86_feature_detected as has;
    [
        (
            has!("popcnt") && has!("lzcnt") && has!("bmi1") && has!("bmi2"),
            Features::BITS,
        ),
        (has!("aes"), Features::AES),
        (has!("avx2") && has!("fma"), Features::AVX2),
        (has!("avx512f"), Features::AVX512),
    ]
    .into_iter()
    .filter(|&(has, _)| has)
    .fold(Features::NONE, |all, (_, feature)| all.union(feature))
}

/// First CPUID leaf of hypervisors.
const HYPERVISOR_LEAF: u32 = 0x4000_0000;

/// The hypervisor's name; `None` where CPUID.1:ECX bit 31 is clear.
///
/// KVM that imitates Hyper-V for Windows guests shows "Microsoft Hv" first and itself 0x100 leaves later.
fn hypervisor() -> Option<String> {
    if cpuid(1).ecx >> 31 == 0 {
        return None;
    }
    let first = signature(HYPERVISOR_LEAF);
    let second = signature(HYPERVISOR_LEAF + 0x100);
    Some(match (first.as_str(), second.as_str()) {
        ("Microsoft Hv", "KVMKVMKVM") => "KVM (with Hyper-V enlightenments)".to_owned(),
        _ => hypervisor_name(&first),
    })
}

/// The product behind a CPUID signature. Source: each product's own documentation; Linux arch/x86/kernel/cpu.
fn hypervisor_name(signature: &str) -> String {
    match signature {
        "KVMKVMKVM" => "KVM",
        "Microsoft Hv" => "Microsoft Hyper-V",
        "VMwareVMware" => "VMware",
        "XenVMMXenVMM" => "Xen",
        "TCGTCGTCGTCG" => "QEMU without KVM (TCG)",
        "bhyve bhyve" => "bhyve",
        "VBoxVBoxVBox" => "VirtualBox",
        "ACRNACRNACRN" => "ACRN",
        "" => "a hypervisor without a name",
        other => other,
    }
    .to_owned()
}

fn signature(leaf: u32) -> String {
    let answer = cpuid(leaf);
    let bytes: Vec<u8> = [answer.ebx, answer.ecx, answer.edx]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    let text = String::from_utf8_lossy(&bytes);
    text.trim_end_matches('\0').trim().to_owned()
}

#[allow(
    unused_unsafe,
    reason = "a safe function in newer compilers, an unsafe one in the oldest that we support"
)]
fn cpuid(leaf: u32) -> x86_64::CpuidResult {
    // SAFETY: every x86-64 CPU has CPUID; it touches no memory.
    unsafe { x86_64::__cpuid(leaf) }
}

/// Opens a counter of instructions in user space, for this thread.
fn open_instructions_counter() -> Result<OwnedFd, CounterTrouble> {
    /// Size of `struct perf_event_attr` in its first version, which every kernel takes.
    const SIZE: u64 = 64;
    const TYPE_HARDWARE: u64 = 0;
    const COUNT_INSTRUCTIONS: u64 = 1;
    const DISABLED: u64 = 1;
    const EXCLUDE_KERNEL: u64 = 1 << 5;
    const EXCLUDE_HYPERVISOR: u64 = 1 << 6;
    const CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;
    // type and size (u32 each), config, sample period, sample type, read format, flags, and two words of zeroes:
    // include/uapi/linux/perf_event.h.
    let attributes: [u64; 8] = [
        TYPE_HARDWARE | SIZE << 32,
        COUNT_INSTRUCTIONS,
        0,
        0,
        0,
        DISABLED | EXCLUDE_KERNEL | EXCLUDE_HYPERVISOR,
        0,
        0,
    ];
    let (this_thread, any_cpu, no_group) = (0, -1, -1);
    // SAFETY: the attributes are as long as they say and live through the call, which only reads them.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attributes.as_ptr(),
            this_thread,
            any_cpu,
            no_group,
            CLOSE_ON_EXEC,
        )
    };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just opened this descriptor, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(CounterTrouble::of(&io::Error::last_os_error())),
    }
}

impl CounterTrouble {
    fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::EOPNOTSUPP | libc::ENODEV | libc::ENOSYS) => Self::NoPmu,
            Some(libc::EACCES | libc::EPERM) => Self::Denied,
            _ => Self::Other(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_answers() {
        let probes = Probes::take();
        assert!(!probes.affinity.unwrap().is_empty());
        assert!(probes.kernel.starts_with(|c: char| c.is_ascii_digit()));
        let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let flag = |name| flags.split_whitespace().any(|word| word == name);
        assert_eq!(probes.hypervisor.is_some(), flag("hypervisor"));
        assert_eq!(probes.features.contains(Features::AES), flag("aes"));
        assert_eq!(
            probes.features.contains(Features::AVX2),
            flag("avx2") && flag("fma")
        );
    }

    #[test]
    fn names_of_hypervisors() {
        assert_eq!(hypervisor_name("KVMKVMKVM"), "KVM");
        assert_eq!(hypervisor_name("SRESRESRESRE"), "SRESRESRESRE");
    }

    #[test]
    fn counter_errors_tell_absence_from_refusal() {
        let of = |errno| CounterTrouble::of(&io::Error::from_raw_os_error(errno));
        assert_eq!(of(libc::ENOENT), CounterTrouble::NoPmu);
        assert_eq!(of(libc::EACCES), CounterTrouble::Denied);
        assert!(matches!(of(libc::EMFILE), CounterTrouble::Other(_)));
    }
}
