//! Guest memory as devices see it: by guest-physical address, and never beyond its end.
//!
//! ```text
//! descriptor (address and length, the guest's words) ──► Segment ──► slice: inside guest memory, or an error
//! ```

use std::ops::Deref;

use vm_memory::mmap::MmapRegion;
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryMmap, GuestRegionMmap,
    VolatileSlice,
};

use crate::guest::layout;
use crate::guest::ram::Ram;

/// A stretch of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Guest-physical address.
    pub address: u64,
    /// Bytes.
    pub len: u32,
}

/// Why memory cannot be handed to devices.
#[derive(Debug, thiserror::Error)]
#[error("guest memory cannot be shared with its devices: {0}")]
pub struct MemoryError(String);

/// A guest's memory, which stays mapped as long as this does.
#[derive(Clone, Debug)]
pub struct GuestMemory {
    map: GuestMemoryMmap<()>,
    _ram: Option<Ram>,
}

impl GuestMemory {
    /// The memory of a guest with this RAM.
    ///
    /// # Errors
    /// RAM has no pages.
    pub fn of(ram: &Ram) -> Result<Self, MemoryError> {
        let refused = |reason: &dyn std::fmt::Display| MemoryError(reason.to_string());
        let mut regions = Vec::new();
        for (offset, len) in layout::pieces(ram.len()) {
            let (Ok(start), Ok(size)) = (usize::try_from(offset), usize::try_from(len)) else {
                return Err(refused(&"it is larger than an address space"));
            };
            let pointer = ram.pointer().wrapping_add(start);
            // SAFETY: the piece is part of the mapping of `ram`, which `_ram` keeps, and the pointer's provenance is
            // that of the mapping; all accesses to it are volatile.
            let region = unsafe {
                MmapRegion::build_raw(
                    pointer,
                    size,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_ANONYMOUS | libc::MAP_PRIVATE,
                )
            }
            .map_err(|error| refused(&error))?;
            regions.push(
                GuestRegionMmap::new(region, GuestAddress(layout::physical(offset)))
                    .ok_or_else(|| refused(&"it ends beyond the last address"))?,
            );
        }
        Ok(Self {
            map: GuestMemoryMmap::from_regions(regions).map_err(|error| refused(&error))?,
            _ram: Some(ram.clone()),
        })
    }

    /// Memory of its own from address 0, without a guest: for a driver in the same process.
    ///
    /// # Errors
    /// The host has no such memory.
    pub fn anonymous(bytes: usize) -> Result<Self, MemoryError> {
        let map = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), bytes)])
            .map_err(|error| MemoryError(error.to_string()))?;
        Ok(Self { map, _ram: None })
    }

    /// The segment, if all of it is memory.
    ///
    /// # Errors
    /// A part of it is not.
    pub fn segment(&self, segment: Segment) -> Result<VolatileSlice<'_>, GuestMemoryError> {
        self.map
            .get_slice(GuestAddress(segment.address), segment.len as usize)
    }

    /// Copies as many bytes out of the segments as fit, or as there are, and returns how many.
    ///
    /// # Errors
    /// A segment is not memory.
    pub fn gather(
        &self,
        segments: &[Segment],
        mut into: &mut [u8],
    ) -> Result<usize, GuestMemoryError> {
        let wanted = into.len();
        for segment in segments {
            let count = into.len().min(segment.len as usize);
            let (part, rest) = into.split_at_mut(count);
            self.map.read_slice(part, GuestAddress(segment.address))?;
            into = rest;
        }
        Ok(wanted - into.len())
    }

    /// Copies as many bytes into the segments as fit, or as there are, and returns how many.
    ///
    /// # Errors
    /// A segment is not memory.
    pub fn scatter(
        &self,
        segments: &[Segment],
        mut from: &[u8],
    ) -> Result<usize, GuestMemoryError> {
        let wanted = from.len();
        for segment in segments {
            let (part, rest) = from.split_at(from.len().min(segment.len as usize));
            self.map.write_slice(part, GuestAddress(segment.address))?;
            from = rest;
        }
        Ok(wanted - from.len())
    }
}

impl Deref for GuestMemory {
    type Target = GuestMemoryMmap<()>;

    fn deref(&self) -> &Self::Target {
        &self.map
    }
}

/// Removes `count` bytes from the front of the segments. Fewer where there are not so many.
pub fn drop_front(segments: &mut Vec<Segment>, mut count: u32) {
    let whole = segments
        .iter()
        .take_while(|segment| {
            let fits = segment.len <= count;
            if fits {
                count -= segment.len;
            }
            fits
        })
        .count();
    segments.drain(..whole);
    if let Some(first) = segments.first_mut() {
        first.address += u64::from(count);
        first.len -= count;
    }
}

/// Removes the last byte of the segments and returns its address.
pub fn take_last_byte(segments: &mut Vec<Segment>) -> Option<u64> {
    while segments.last()?.len == 0 {
        segments.pop();
    }
    let last = segments.last_mut()?;
    last.len -= 1;
    let address = last.address + u64::from(last.len);
    if last.len == 0 {
        segments.pop();
    }
    Some(address)
}

/// Bytes of all segments together.
#[must_use]
pub fn total(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| u64::from(segment.len)).sum()
}

#[cfg(test)]
mod tests {
    use vm_memory::GuestMemoryRegion as _;
    use vtax_scenarios::plan::Backing;
    use vtax_workloads::machine::{CODE_BYTES, CODE_PHYSICAL, RAM_BASE};

    use super::*;
    use crate::guest::ram::RamConfig;

    fn segments() -> Vec<Segment> {
        vec![
            Segment {
                address: 0x1000,
                len: 10,
            },
            Segment { address: 0, len: 0 },
            Segment {
                address: 0x2000,
                len: 6,
            },
        ]
    }

    #[test]
    fn bytes_leave_at_either_end() {
        let mut all = segments();
        drop_front(&mut all, 12);
        assert_eq!(
            all,
            [Segment {
                address: 0x2002,
                len: 4
            }]
        );
        drop_front(&mut all, 12);
        assert!(all.is_empty());
        let mut all = segments();
        assert_eq!(take_last_byte(&mut all), Some(0x2005));
        assert_eq!(total(&all), 15);
        let mut one = vec![Segment { address: 7, len: 1 }];
        assert_eq!(take_last_byte(&mut one), Some(7));
        assert_eq!(take_last_byte(&mut one), None);
    }

    #[test]
    fn what_is_scattered_is_gathered() {
        let memory = GuestMemory::anonymous(0x3000).unwrap();
        let bytes: Vec<u8> = (0..20).collect();
        assert_eq!(memory.scatter(&segments(), &bytes).unwrap(), 16);
        let mut back = [0; 20];
        assert_eq!(memory.gather(&segments(), &mut back).unwrap(), 16);
        assert_eq!(back[..16], bytes[..16]);
    }

    #[test]
    fn nothing_reaches_beyond_memory() {
        let memory = GuestMemory::anonymous(0x3000).unwrap();
        for (address, len) in [(0x2fff, 2), (0x3000, 1), (u64::MAX, 2), (0, u32::MAX)] {
            let outside = Segment { address, len };
            assert!(memory.segment(outside).is_err(), "{outside:?}");
        }
        let last = Segment {
            address: 0x2fff,
            len: 1,
        };
        assert!(memory.segment(last).is_ok());
    }

    #[test]
    fn devices_reach_ram_and_never_the_code_that_native_runs() {
        // Across the hole below 4 GiB, in which the code lies.
        let len = 5 << 30;
        let ram = Ram::map(&RamConfig {
            address: RAM_BASE + (1 << 45),
            len,
            backing: Backing::Small,
            numa_node: None,
        })
        .unwrap();
        let memory = GuestMemory::of(&ram).unwrap();
        let host = ram.address()..ram.address() + ram.len();
        let mut sum = 0;
        for region in memory.iter() {
            let start = region.as_ptr().addr() as u64;
            assert!(host.contains(&start) && start + region.len() <= host.end);
            sum += region.len();
        }
        assert_eq!(sum, len);
        for address in (CODE_PHYSICAL - 4096..=CODE_PHYSICAL + CODE_BYTES).step_by(4096) {
            for len in [1, 512, 4096] {
                assert!(
                    memory.segment(Segment { address, len }).is_err(),
                    "{address:#x}"
                );
            }
        }
    }
}
