//! KVM's binary statistics of a VM or a vCPU.
//!
//! ```text
//! KVM_GET_STATS_FD ──► header ──► descriptors (names, places) ──► one pread of the data for each reading
//! ```
//!
//! Source: Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD (Linux 5.14 and newer).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;

use kvm_bindings::KVMIO;
use vmm_sys_util::ioctl::{_IOC_NONE, ioctl, ioctl_expr};
use vtax_reports::counters::{Counter, Counts};

const KVM_GET_STATS_FD: libc::c_ulong = ioctl_expr(_IOC_NONE, KVMIO, 0xce, 0);

/// Bytes of `struct kvm_stats_header`.
const HEADER: usize = 24;
/// Bytes of `struct kvm_stats_desc` before its name.
const DESCRIPTOR: usize = 16;

/// Which of KVM's counters are kept for each block; several may add up to one.
const KEPT: [(&str, Counter); 13] = [
    ("exits", Counter::KvmExits),
    ("irq_exits", Counter::KvmIrqExits),
    ("halt_exits", Counter::KvmHaltExits),
    ("signal_exits", Counter::KvmSignalExits),
    ("pf_taken", Counter::KvmPageFaults),
    ("pf_fixed", Counter::KvmPageFaultsFixed),
    ("insn_emulation", Counter::KvmEmulations),
    ("hypercalls", Counter::KvmHypercalls),
    ("tlb_flush", Counter::KvmTlbFlushes),
    ("irq_injections", Counter::KvmInjections),
    ("halt_poll_success_ns", Counter::KvmHaltPoll),
    ("halt_poll_fail_ns", Counter::KvmHaltPoll),
    ("halt_wait_ns", Counter::KvmHaltWait),
];

/// Why KVM's statistics cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StatisticsError {
    /// A kernel without them.
    #[error("KVM_GET_STATS_FD: {0} (Linux 5.14 and newer have KVM's binary statistics)")]
    Refused(io::Error),
    /// The descriptor was given, but reading failed.
    #[error("reading KVM's statistics: {0}")]
    Read(#[from] io::Error),
    /// What was read is not what the kernel's documentation says.
    #[error("KVM's statistics do not have the documented form: {0}")]
    Malformed(&'static str),
}

/// The statistics of one VM or vCPU. The descriptor stays valid for as long as the VM or vCPU exists.
#[derive(Debug)]
pub struct KvmStatistics {
    file: File,
    /// Where the values begin in the file.
    start: u64,
    /// What is kept for each block, with its place in `data`.
    kept: Vec<(Counter, usize)>,
    data: Vec<u8>,
}

impl KvmStatistics {
    /// Opens the statistics of a VM or a vCPU.
    ///
    /// # Errors
    /// [`StatisticsError`].
    pub fn open(owner: &impl AsRawFd) -> Result<Self, StatisticsError> {
        // SAFETY: the ioctl takes no argument and gives a new descriptor or an error.
        let fd = unsafe { ioctl(owner, KVM_GET_STATS_FD) };
        if fd < 0 {
            return Err(StatisticsError::Refused(io::Error::last_os_error()));
        }
        // SAFETY: the kernel has just opened this descriptor, and nobody else knows it.
        Self::of(unsafe { File::from_raw_fd(fd) })
    }

    fn of(file: File) -> Result<Self, StatisticsError> {
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0)?;
        let field = |index: usize| word(&header, 4 * index);
        let (name_size, count) = (field(1)? as usize, field(2)? as usize);
        let (descriptors, start) = (field(4)?, field(5)?);
        let each = DESCRIPTOR + name_size;
        let mut block = vec![0; each.saturating_mul(count)];
        file.read_exact_at(&mut block, descriptors.into())?;
        let mut places = Vec::new();
        let mut end = 0;
        for descriptor in block.chunks_exact(each) {
            // flags, exponent and size (16 bits each), offset, bucket size, name.
            let values = word(descriptor, 4)? >> 16;
            let offset = word(descriptor, 8)? as usize;
            let name = descriptor[DESCRIPTOR..].split(|&byte| byte == 0).next();
            if values == 1 {
                let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
                places.push((name, offset));
                end = end.max(offset + size_of::<u64>());
            }
        }
        let kept = KEPT
            .iter()
            .flat_map(|&(name, counter)| {
                places
                    .iter()
                    .filter(move |(found, _)| found == name)
                    .map(move |&(_, place)| (counter, place))
            })
            .collect();
        Ok(Self {
            file,
            start: start.into(),
            kept,
            data: vec![0; end],
        })
    }

    /// Puts the present values of what is kept for each block into `counts`.
    pub fn read(&mut self, counts: &mut Counts) {
        let read = self.file.read_exact_at(&mut self.data, self.start);
        for &(counter, _) in &self.kept {
            counts.set(counter, None);
        }
        for &(counter, place) in &self.kept {
            let value = read.is_ok().then(|| long(&self.data, place)).flatten();
            let sum = value.map(|value| value + counts.get(counter).unwrap_or(0));
            counts.set(counter, sum);
        }
    }

    /// The counters that this kernel does not have.
    pub fn missing(&self) -> impl Iterator<Item = Counter> {
        let has = |counter| self.kept.iter().any(|&(kept, _)| kept == counter);
        KEPT.iter()
            .map(|&(_, counter)| counter)
            .filter(move |&counter| !has(counter))
    }

    /// The counters that come from here.
    pub fn counters() -> impl Iterator<Item = Counter> {
        KEPT.iter().map(|&(_, counter)| counter)
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u32, StatisticsError> {
    bytes
        .get(at..at + 4)
        .and_then(|bytes| Some(u32::from_ne_bytes(bytes.try_into().ok()?)))
        .ok_or(StatisticsError::Malformed("a field beyond its end"))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A file as the kernel's documentation lays it out: `exits`, a histogram of two values, `halt_wait_ns`.
    fn file(values: [u64; 4]) -> File {
        const NAME: u32 = 48;
        let statistics: [(&str, u16, u32); 3] = [
            ("exits", 1, 0),
            ("histogram", 2, 8),
            ("halt_wait_ns", 1, 24),
        ];
        let descriptors = 24 + NAME;
        let data = descriptors + 3 * (16 + NAME);
        let mut bytes = Vec::new();
        for field in [0, NAME, 3, 24, descriptors, data] {
            bytes.extend(field.to_ne_bytes());
        }
        let name = |bytes: &mut Vec<u8>, text: &str| {
            let mut padded = [0; NAME as usize];
            padded[..text.len()].copy_from_slice(text.as_bytes());
            bytes.extend(padded);
        };
        name(&mut bytes, "kvm-1/vcpu-0");
        for (text, size, offset) in statistics {
            bytes.extend(0_u32.to_ne_bytes());
            bytes.extend(0_i16.to_ne_bytes());
            bytes.extend(size.to_ne_bytes());
            bytes.extend(offset.to_ne_bytes());
            bytes.extend(0_u32.to_ne_bytes());
            name(&mut bytes, text);
        }
        bytes.extend(values.into_iter().flat_map(u64::to_ne_bytes));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file
    }

    #[test]
    fn values_are_found_by_their_names_and_histograms_passed_over() {
        let mut statistics = KvmStatistics::of(file([41, 7, 8, 900])).unwrap();
        let mut counts = Counts::NONE;
        statistics.read(&mut counts);
        assert_eq!(counts.get(Counter::KvmExits), Some(41));
        assert_eq!(counts.get(Counter::KvmHaltWait), Some(900));
        assert_eq!(counts.get(Counter::KvmIrqExits), None);
        assert!(statistics.missing().any(|it| it == Counter::KvmIrqExits));
    }

    #[test]
    fn a_file_that_ends_early_is_an_error() {
        let short = file([0; 4]);
        short.set_len(100).unwrap();
        assert!(matches!(
            KvmStatistics::of(short),
            Err(StatisticsError::Read(_))
        ));
    }
}
