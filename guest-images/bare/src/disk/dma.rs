//! Memory that a device shares with its driver: pages out of the arena, never given back.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};
use vtax_workloads::abi::Mailbox;
use vtax_workloads::block::DRIVER_BYTES;
use vtax_workloads::machine::{AREA_ARENA, RAM_BASE, VCPU_AREA, physical};

/// Where in the driver's part of the arena its pages begin: behind its state.
pub const PAGES_OFFSET: u64 = DRIVER_BYTES / 2;

/// The arena of the vCPU that runs this, as [`use_arena`] was told.
pub struct ArenaPages;

// SAFETY: `dma_alloc` hands out each page once, zeroed, and its physical address by the page tables' own rule; devices are
// at the addresses where the harness put them; guest memory needs no copying for a device to see it.
unsafe impl Hal for ArenaPages {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let start = own_arena() + PAGES_OFFSET;
        let bytes = (pages * PAGE_SIZE) as u64;
        // The first page keeps the count of bytes that are taken, itself included.
        let taken = start as *mut u64;
        // SAFETY: the page lies in this vCPU's arena, which nobody else uses while a request runs.
        let offset = unsafe { taken.read() }.max(PAGE_SIZE as u64);
        let refused = (0, NonNull::dangling());
        if offset + bytes > DRIVER_BYTES - PAGES_OFFSET {
            return refused;
        }
        let Some(address) = NonNull::new((start + offset) as *mut u8) else {
            return refused;
        };
        // SAFETY: as above, and the pages lie behind all that were handed out before.
        unsafe {
            taken.write(offset + bytes);
            address.write_bytes(0, pages * PAGE_SIZE);
        }
        (physical(start + offset - RAM_BASE), address)
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(_: PhysAddr, _: usize) -> NonNull<u8> {
        // Asked for by PCI alone.
        NonNull::dangling()
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        physical(buffer.addr().get() as u64 - RAM_BASE)
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// Lets drivers on this vCPU have memory from the arena that this request names.
pub fn use_arena(mailbox: &Mailbox) {
    arena_word().store(mailbox.arena, Ordering::Relaxed);
}

fn own_arena() -> u64 {
    arena_word().load(Ordering::Relaxed)
}

/// This vCPU's word for it. A vCPU's stack lies in its own area, and so does this.
fn arena_word() -> &'static AtomicU64 {
    let mark = 0_u8;
    let area = (&raw const mark).addr() as u64 & !(VCPU_AREA - 1);
    // SAFETY: it lies in this vCPU's area, is aligned, outside of everything else there, and only ever an atomic.
    unsafe { &*((area + AREA_ARENA) as *const AtomicU64) }
}
