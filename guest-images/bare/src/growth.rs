//! Memory that comes and goes while the guest runs: the driver of virtio-mem on MMIO (virtio 1.2, 4.2 and 5.15), and the vCPU
//! that goes on meanwhile.
//!
//! ```text
//! Resize: negotiate ──► wait for another requested size ──► PLUG from the bottom, or UNPLUG from the top ──► write new pages
//! ```
//!
//! The guest's page tables reach the device's region from the start. It plugs without gaps, so the plugged blocks are the
//! region's first ones, and each request may negotiate anew: a reset changes no block (5.15.5.2).

use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::transport::{DeviceStatus, Transport};
use vtax_workloads::abi::{Mailbox, Status};
use vtax_workloads::machine::{MEMORY_TROUBLE, RAM_BASE, Signals, offset};

use crate::disk::dma::ArenaPages;
use crate::interrupt::halt_until_used;
use crate::vcpu::{Count, Vcpu, rdtsc};

/// Descriptors: two for the one request that is under way.
const QUEUE_SIZE: usize = 4;
const QUEUE: u16 = 0;
/// Bytes of the registers that this driver uses: up to the end of the configuration space.
const REGISTERS_BYTES: usize = 0x200;
/// VIRTIO_F_VERSION_1: all that this driver makes use of.
const FEATURES: u64 = 1 << 32;
/// VIRTIO_MEM_REQ_PLUG and VIRTIO_MEM_REQ_UNPLUG.
const PLUG: u16 = 0;
const UNPLUG: u16 = 1;
/// VIRTIO_MEM_RESP_ACK.
const ACK: u16 = 0;
/// Bytes that one request is about, at most: a memory block of Linux on x86-64, which is what its driver plugs at a time.
const STEP_BYTES: u64 = 128 << 20;
const PAGE_BYTES: u64 = 4096;

/// The device did not answer as its specification says.
struct Trouble;

/// Follows one request of the host.
pub fn resize(mailbox: &mut Mailbox) {
    match follow(mailbox) {
        Ok(plugged) => {
            mailbox.checksum = plugged;
            mailbox.status = Status::Done as u64;
        }
        Err(Trouble) => {
            mailbox.checksum = MEMORY_TROUBLE;
            mailbox.status = Status::Failed as u64;
        }
    }
}

fn follow(mailbox: &Mailbox) -> Result<u64, Trouble> {
    let vcpu = Vcpu::of(mailbox);
    let mut device = Device::new(mailbox.params[0], vcpu)?;
    signals(mailbox).begun.0.store(1, Ordering::Release);
    let (from, to) = loop {
        let seen = vcpu.counters().device;
        let sizes = device.sizes()?;
        if sizes.requested != sizes.plugged {
            break (sizes.plugged, sizes.requested);
        }
        vcpu.halt_until_moved(Count::Device, seen);
    };
    device.resize(from, to)?;
    for page in (from..to).step_by(PAGE_BYTES as usize) {
        let word = (RAM_BASE + offset(device.start) + page) as *mut u64;
        // SAFETY: the block is plugged, the guest's page tables map it, and nothing else uses it.
        unsafe { word.write_volatile(page) };
    }
    Ok(device.sizes()?.plugged)
}

fn signals(mailbox: &Mailbox) -> &'static Signals {
    // SAFETY: the harness puts them there, in an arena that is long enough for them; they are atomic words.
    unsafe { &*((mailbox.arena + Signals::OFFSET) as *const Signals) }
}

/// Two fields of the configuration space.
struct Sizes {
    plugged: u64,
    requested: u64,
}

struct Device {
    transport: MmioTransport<'static>,
    queue: VirtQueue<ArenaPages, QUEUE_SIZE>,
    vcpu: Vcpu,
    block_bytes: u64,
    /// Guest-physical address of the region.
    start: u64,
}

impl Device {
    fn new(registers: u64, vcpu: Vcpu) -> Result<Self, Trouble> {
        let registers = NonNull::new(registers as *mut VirtIOHeader).ok_or(Trouble)?;
        // SAFETY: the guest's page tables map the device's registers where the harness says that they are.
        let mut transport =
            unsafe { MmioTransport::new(registers, REGISTERS_BYTES) }.map_err(|_| Trouble)?;
        // The order of virtio 1.2, 3.1.1.
        let so_far = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
        transport.set_status(DeviceStatus::empty());
        transport.set_status(so_far);
        let offered = transport.read_device_features();
        transport.write_driver_features(offered & FEATURES);
        let so_far = so_far | DeviceStatus::FEATURES_OK;
        transport.set_status(so_far);
        if !transport.get_status().contains(DeviceStatus::FEATURES_OK) {
            return Err(Trouble);
        }
        let mut queue = VirtQueue::new(&mut transport, QUEUE, false, false).map_err(|_| Trouble)?;
        queue.set_dev_notify(false);
        transport.set_status(so_far | DeviceStatus::DRIVER_OK);
        Ok(Self {
            // struct virtio_mem_config (5.15.4).
            block_bytes: field(&transport, 0)?,
            start: field(&transport, 16)?,
            transport,
            queue,
            vcpu,
        })
    }

    fn sizes(&self) -> Result<Sizes, Trouble> {
        loop {
            let before = self.transport.read_config_generation();
            let sizes = Sizes {
                plugged: field(&self.transport, 40)?,
                requested: field(&self.transport, 48)?,
            };
            if self.transport.read_config_generation() == before {
                return Ok(sizes);
            }
        }
    }

    fn resize(&mut self, mut from: u64, to: u64) -> Result<(), Trouble> {
        while from < to {
            let bytes = STEP_BYTES.min(to - from);
            self.ask(PLUG, from, bytes)?;
            from += bytes;
        }
        while from > to {
            let bytes = STEP_BYTES.min(from - to);
            from -= bytes;
            self.ask(UNPLUG, from, bytes)?;
        }
        Ok(())
    }

    /// One request about `bytes` from this place of the region on.
    fn ask(&mut self, kind: u16, place: u64, bytes: u64) -> Result<(), Trouble> {
        let blocks = u16::try_from(bytes / self.block_bytes).map_err(|_| Trouble)?;
        // struct virtio_mem_req (5.15.6).
        let mut request = [0; 24];
        request[..2].copy_from_slice(&kind.to_le_bytes());
        request[8..16].copy_from_slice(&(self.start + place).to_le_bytes());
        request[16..18].copy_from_slice(&blocks.to_le_bytes());
        let mut response = [u8::MAX; 10];
        // SAFETY: both stay where they are, and are left alone, until the token is popped.
        let token = unsafe { self.queue.add(&[&request], &mut [&mut response]) };
        let token = token.map_err(|_| Trouble)?;
        // The device looks at the ring after it has asked for kicks, and this looks whether it has after the ring moved.
        fence(Ordering::SeqCst);
        if self.queue.should_notify() {
            self.transport.notify(QUEUE);
        }
        while !self.queue.can_pop() {
            halt_until_used(&mut self.queue, self.vcpu);
            let status = self.transport.get_status();
            if status.contains(DeviceStatus::DEVICE_NEEDS_RESET) {
                return Err(Trouble);
            }
        }
        // SAFETY: the same buffers as when this token was added.
        unsafe {
            self.queue
                .pop_used(token, &[&request], &mut [&mut response])
        }
        .map_err(|_| Trouble)?;
        if u16::from_le_bytes([response[0], response[1]]) == ACK {
            Ok(())
        } else {
            Err(Trouble)
        }
    }
}

/// A field of 64 bits in two halves, as it is read on MMIO (virtio 1.2, 4.2.2.2).
fn field(transport: &MmioTransport<'static>, place: usize) -> Result<u64, Trouble> {
    let half = |place| -> Result<u64, Trouble> {
        let half: u32 = transport.read_config_space(place).map_err(|_| Trouble)?;
        Ok(half.into())
    };
    Ok(half(place)? | half(place + 4)? << 32)
}

/// Goes from page to page of the arena until it is told to stop, and finds the longest step.
pub fn watch(mailbox: &mut Mailbox) {
    let signals = signals(mailbox);
    let first = Signals::OFFSET + PAGE_BYTES;
    let touch = |place: u64| {
        let word = (mailbox.arena + place) as *mut u64;
        // SAFETY: the place lies in the arena, behind the signals, and the arena is this vCPU's.
        unsafe { word.write_volatile(place) };
    };
    let pages = || (first..mailbox.arena_len).step_by(PAGE_BYTES as usize);
    pages().for_each(touch);
    signals.begun.0.store(1, Ordering::Release);
    let (mut before, mut longest) = (rdtsc(), 0);
    while signals.stop.0.load(Ordering::Acquire) == 0 {
        for place in pages() {
            touch(place);
            let now = rdtsc();
            longest = longest.max(now.saturating_sub(before));
            before = now;
        }
    }
    mailbox.checksum = longest;
    mailbox.status = Status::Done as u64;
}
