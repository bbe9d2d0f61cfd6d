//! How a vCPU waits for a device: halted, until the device interrupts it.

use core::sync::atomic::{Ordering, fence};

use virtio_drivers::queue::VirtQueue;

use crate::disk::dma::ArenaPages;
use crate::vcpu::{Count, Vcpu};

/// Halts until the device has used a buffer of this queue, unless it has already.
pub fn halt_until_used<const SIZE: usize>(queue: &mut VirtQueue<ArenaPages, SIZE>, vcpu: Vcpu) {
    let seen = vcpu.counters().device;
    queue.set_dev_notify(true);
    // The device must see that an interrupt is wanted before this looks for the last time.
    fence(Ordering::SeqCst);
    if !queue.can_pop() {
        vcpu.halt_until_moved(Count::Device, seen);
    }
    queue.set_dev_notify(false);
}
