//! Memory at a fixed virtual address with a chosen backing: guest RAM, and a baseline's own arena.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, munmap,
};
use vm_memory::bitmap::BitmapSlice;
use vm_memory::{ByteValued, VolatileMemory as _, VolatileMemoryError, VolatileSlice};
use vtax_scenarios::plan::Backing;
use vtax_workloads::machine::RAM_BASE;

/// Why memory could not be had.
#[derive(Debug, thiserror::Error)]
pub enum RamError {
    /// The mapping failed.
    #[error("mapping {len} bytes of {backing} memory at {address:#x}: {source}{}", hint(.backing))]
    Map {
        /// Where.
        address: u64,
        /// How much.
        len: u64,
        /// On what.
        backing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The kernel refused an advice or a policy.
    #[error("{what} for guest memory: {source}")]
    Advise {
        /// What was asked.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// An access outside the mapping.
    #[error("access outside guest memory: {0}")]
    Bounds(#[from] VolatileMemoryError),
}

fn hint(backing: &str) -> &'static str {
    if backing.contains("hugetlb") {
        "; reserve huge pages first (`vtax doctor` shows how)"
    } else {
        ""
    }
}

/// What a mapping is for.
#[derive(Clone, Copy, Debug)]
pub struct RamConfig {
    /// Virtual address, aligned to the backing's page size.
    pub address: u64,
    /// Bytes.
    pub len: u64,
    /// What backs it.
    pub backing: Backing,
    /// NUMA node to bind it to.
    pub numa_node: Option<u32>,
}

/// A mapping; unmapped when its last holder drops it. The threads that serve a guest's devices are such holders.
#[derive(Clone, Debug)]
pub struct Ram(Arc<Mapping>);

#[derive(Debug)]
struct Mapping {
    address: usize,
    len: usize,
}

impl Ram {
    /// Maps memory, readable and writable.
    ///
    /// # Errors
    /// [`RamError`], such as no huge pages, or something else mapped at the address.
    pub fn map(config: &RamConfig) -> Result<Self, RamError> {
        let (flags, name) = match config.backing {
            Backing::Small => (MapFlags::empty(), "4 KiB-page"),
            Backing::Thp => (MapFlags::empty(), "THP"),
            Backing::Huge2M => (MapFlags::HUGETLB | MapFlags::HUGE_2MB, "2 MiB hugetlb"),
            Backing::Huge1G => (MapFlags::HUGETLB | MapFlags::HUGE_1GB, "1 GiB hugetlb"),
        };
        let failed = |source: io::Error| RamError::Map {
            address: config.address,
            len: config.len,
            backing: name,
            source,
        };
        let len = usize::try_from(config.len)
            .map_err(|_| failed(io::Error::from(io::ErrorKind::OutOfMemory)))?;
        // SAFETY: FIXED_NOREPLACE maps only where nothing is mapped, so no memory of this process changes meaning;
        // the pointer is made from an address on purpose: payload and page tables need this very one.
        let mapped = unsafe {
            mmap_anonymous(
                std::ptr::with_exposed_provenance_mut(
                    usize::try_from(config.address).unwrap_or(usize::MAX),
                ),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE | flags,
            )
        }
        .map_err(|error| failed(error.into()))?;
        // Kernels before 4.17 take FIXED_NOREPLACE for a mere hint.
        let ram = Self(Arc::new(Mapping {
            address: mapped.expose_provenance(),
            len,
        }));
        if ram.address() != config.address {
            return Err(failed(io::Error::from(io::ErrorKind::AddrInUse)));
        }
        match config.backing {
            Backing::Small => {
                ram.advise(Advice::LinuxNoHugepage, "refusing THP (MADV_NOHUGEPAGE)")?
            }
            Backing::Thp => ram.advise(Advice::LinuxHugepage, "asking for THP (MADV_HUGEPAGE)")?,
            Backing::Huge2M | Backing::Huge1G => {}
        }
        if let Some(node) = config.numa_node {
            ram.bind(node)?;
        }
        Ok(ram)
    }

    /// Maps a file that another process maps too, as guest RAM.
    ///
    /// # Errors
    /// Something else is mapped there, or the file is no memory.
    pub fn shared(file: impl AsFd, len: u64) -> Result<Self, RamError> {
        let failed = |source: io::Error| RamError::Map {
            address: RAM_BASE,
            len,
            backing: "shared",
            source,
        };
        let (Ok(address), Ok(len)) = (usize::try_from(RAM_BASE), usize::try_from(len)) else {
            return Err(failed(io::Error::from(io::ErrorKind::OutOfMemory)));
        };
        // SAFETY: FIXED_NOREPLACE maps only where nothing is mapped, so no memory of this process changes meaning; what
        // the other process writes is seen through volatile slices and atomics alone.
        let mapped = unsafe {
            mmap(
                std::ptr::with_exposed_provenance_mut(address),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::FIXED_NOREPLACE,
                file,
                0,
            )
        }
        .map_err(|error| failed(error.into()))?;
        let ram = Self(Arc::new(Mapping {
            address: mapped.expose_provenance(),
            len,
        }));
        if ram.address() != RAM_BASE {
            return Err(failed(io::Error::from(io::ErrorKind::AddrInUse)));
        }
        Ok(ram)
    }

    /// A counter in memory that someone else counts too.
    ///
    /// # Errors
    /// Outside the mapping, or not aligned to four bytes.
    pub fn atomic_u32(&self, offset: u64) -> Result<&AtomicU32, RamError> {
        let word = self.slice(offset, size_of::<u32>() as u64)?;
        // SAFETY: `slice` checked the range, which lives as long as `self`; `get_atomic_ref` checks the alignment.
        let address: *const AtomicU32 = std::ptr::from_ref(word.get_atomic_ref::<AtomicU32>(0)?);
        // SAFETY: as above.
        Ok(unsafe { &*address })
    }

    /// Has the host provide all pages of a range now, so that nobody meets a fault for them later: measuring depends on
    /// it.
    ///
    /// # Errors
    /// No memory is left, or the range lies outside.
    pub fn prefault(&self, offset: u64, len: u64) -> Result<(), RamError> {
        let range = self.slice(offset, len)?;
        let start = range.ptr_guard_mut().as_ptr();
        // SAFETY: `slice` found the range within this mapping; the advice changes nothing that is in it.
        unsafe { madvise(start.cast(), range.len(), Advice::LinuxPopulateWrite) }.map_err(|error| {
            RamError::Advise {
                what: "populating memory (MADV_POPULATE_WRITE, Linux 5.14)",
                source: error.into(),
            }
        })
    }

    /// Lets KSM merge equal pages with those of others.
    ///
    /// # Errors
    /// The kernel has no KSM.
    pub fn mergeable(&self) -> Result<(), RamError> {
        self.advise(
            Advice::LinuxMergeable,
            "offering pages to KSM (MADV_MERGEABLE)",
        )
    }

    /// Makes it readable and executable, for ever: a write to it is a fault from now on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn seal(&self) -> Result<(), RamError> {
        let flags = MprotectFlags::READ | MprotectFlags::EXEC;
        // SAFETY: the range is this mapping's own, and nothing borrows it but through volatile slices. That nobody writes
        // any more is the caller's to see to; one who does is killed.
        unsafe { mprotect(self.pointer().cast(), self.0.len, flags) }.map_err(|error| {
            RamError::Advise {
                what: "making code executable (mprotect)",
                source: error.into(),
            }
        })
    }

    fn advise(&self, advice: Advice, what: &'static str) -> Result<(), RamError> {
        // SAFETY: the range is this mapping's own, and none of these advices changes what Rust has a reference to:
        // nothing borrows guest memory but through volatile slices.
        unsafe { madvise(self.pointer().cast(), self.0.len, advice) }.map_err(|error| {
            RamError::Advise {
                what,
                source: error.into(),
            }
        })
    }

    /// `mbind(MPOL_BIND)`, which rustix does not offer (set_mempolicy(2), mbind(2)).
    fn bind(&self, node: u32) -> Result<(), RamError> {
        const BITS: usize = 1024;
        let mut mask = [0_u64; BITS / 64];
        let refused = |source| RamError::Advise {
            what: "binding to a NUMA node (mbind)",
            source,
        };
        let word = mask
            .get_mut(node as usize / 64)
            .ok_or_else(|| refused(io::Error::from(io::ErrorKind::InvalidInput)))?;
        *word |= 1 << (node % 64);
        // SAFETY: the range is this mapping's own; the kernel reads BITS bits of `mask`, which outlives the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.pointer(),
                self.0.len,
                libc::MPOL_BIND,
                mask.as_ptr(),
                BITS,
                0,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(refused(io::Error::last_os_error()))
        }
    }

    /// Gives a range's pages back to the host: the next touch takes new, zeroed ones.
    ///
    /// # Errors
    /// The range is outside, or the kernel refuses (hugetlb before Linux 5.18).
    pub fn discard(&self, offset: u64, len: u64) -> Result<(), RamError> {
        let range = self.slice(offset, len)?;
        // SAFETY: `slice` checked the range; nothing borrows guest memory but through volatile slices.
        unsafe {
            madvise(
                range.ptr_guard_mut().as_ptr().cast(),
                range.len(),
                Advice::LinuxDontNeed,
            )
        }
        .map_err(|error| RamError::Advise {
            what: "discarding pages (MADV_DONTNEED)",
            source: error.into(),
        })
    }

    /// Has the kernel provide a range's pages in one go, which is quicker than a fault for each. Where it cannot (before
    /// Linux 5.14) they come as they are touched.
    ///
    /// # Errors
    /// The range is outside.
    pub fn populate(&self, offset: u64, len: u64) -> Result<(), RamError> {
        const PAGE: u64 = 4096;
        let start = offset / PAGE * PAGE;
        let range = self.slice(start, offset - start + len)?;
        // SAFETY: `slice` checked the range, and the advice changes no byte of it.
        let _ = unsafe {
            madvise(
                range.ptr_guard_mut().as_ptr().cast(),
                range.len(),
                Advice::LinuxPopulateWrite,
            )
        };
        Ok(())
    }

    /// Virtual address of the first byte.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.0.address as u64
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len as u64
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// Outside the mapping.
    pub fn write_bytes(&self, offset: u64, bytes: &[u8]) -> Result<(), RamError> {
        self.slice(offset, bytes.len() as u64)?.copy_from(bytes);
        Ok(())
    }

    /// Copies a value in.
    ///
    /// # Errors
    /// Outside the mapping.
    pub fn write<T: ByteValued>(&self, offset: u64, value: &T) -> Result<(), RamError> {
        self.write_bytes(offset, value.as_slice())
    }

    /// Copies a value out. Guests write here: every bit pattern of `T` is valid, but none can be trusted.
    ///
    /// # Errors
    /// Outside the mapping.
    pub fn read<T: ByteValued>(&self, offset: u64) -> Result<T, RamError> {
        // SAFETY: ByteValued types are valid for all bit patterns, zeroes among them.
        let mut value: T = unsafe { std::mem::zeroed() };
        self.slice(offset, size_of::<T>() as u64)?
            .copy_to(value.as_mut_slice());
        Ok(value)
    }

    /// A word that host and guest both use as an atomic one.
    ///
    /// # Errors
    /// Outside the mapping, or not aligned to its size.
    pub fn atomic_u64(&self, offset: u64) -> Result<&AtomicU64, RamError> {
        let word = self.slice(offset, size_of::<u64>() as u64)?;
        let address: *const AtomicU64 = std::ptr::from_ref(word.get_atomic_ref::<AtomicU64>(0)?);
        // SAFETY: `slice` checked the range, which lives as long as `self`; `get_atomic_ref` checked the alignment.
        Ok(unsafe { &*address })
    }

    /// Copies bytes out.
    ///
    /// # Errors
    /// Outside the mapping.
    pub fn read_bytes(&self, offset: u64, into: &mut [u8]) -> Result<(), RamError> {
        self.slice(offset, into.len() as u64)?.copy_to(into);
        Ok(())
    }

    fn slice(
        &self,
        offset: u64,
        len: u64,
    ) -> Result<VolatileSlice<'_, impl BitmapSlice>, RamError> {
        let (offset, len) = match (usize::try_from(offset), usize::try_from(len)) {
            (Ok(offset), Ok(len)) => (offset, len),
            _ => return Err(VolatileMemoryError::OutOfBounds { addr: usize::MAX }.into()),
        };
        // SAFETY: the mapping lives as long as `self` and is accessed through volatile slices only.
        let all = unsafe { VolatileSlice::new(self.pointer(), self.0.len) };
        Ok(all.subslice(offset, len)?)
    }

    /// The first byte.
    pub(crate) fn pointer(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.0.address)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let start = std::ptr::with_exposed_provenance_mut(self.address);
        // SAFETY: the mapping is ours alone, and whoever runs in it or works on it (vCPUs, payload calls, devices) holds
        // or borrows a Ram.
        if let Err(error) = unsafe { munmap(start, self.len) } {
            // Only possible if the arguments were wrong; the process keeps the memory, nothing else is lost.
            debug_assert!(false, "munmap: {error}");
        }
    }
}
