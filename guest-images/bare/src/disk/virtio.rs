//! The driver of virtio-blk on MMIO (virtio 1.2, 4.2 and 5.2): one queue for each vCPU, any number of requests under way.

use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::transport::{DeviceStatus, Transport};
use vtax_workloads::block::engine::{Drive, Request};
use vtax_workloads::block::{MAX_DEPTH, SECTOR_BYTES};
use vtax_workloads::machine::{DISK_VIRTIO_POLL, DiskSeat};

use super::dma::{ArenaPages, PAGES_OFFSET};
use super::{Buffers, Trouble};
use crate::interrupt::halt_until_used;
use crate::vcpu::Vcpu;

/// Descriptors: three for each request.
const QUEUE_SIZE: usize = 256;
/// Bytes of the registers that this driver uses: up to the configuration space, and its start.
const REGISTERS_BYTES: usize = 0x200;
/// VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ and VIRTIO_F_VERSION_1: all that this driver makes use of. VIRTIO_F_EVENT_IDX, which
/// the device offers, is not taken: virtio-drivers 0.13 compares the indices as if they never wrapped around
/// (`VirtQueue::should_notify`), so a batch of requests that crosses 65,536 would not be kicked, and waited for without end.
const FEATURES: u64 = 1 << 9 | 1 << 12 | 1 << 32;
/// VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT and VIRTIO_BLK_T_FLUSH.
const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;
const DONE: u8 = 0;

/// A vCPU that polls asks now and then, after this many looks, whether the device has given up.
const LOOKS: u32 = 1 << 20;

/// States of the device in [`DiskSeat::state`].
const READY: u32 = 1;
const BROKEN: u32 = 2;

/// The state of the driver at the start of the arena; written once, by [`set_up`].
struct Driver {
    transport: MmioTransport<'static>,
    queue: VirtQueue<ArenaPages, QUEUE_SIZE>,
    index: u16,
    bytes: u64,
    slots: [Slot; MAX_DEPTH as usize],
    /// The slot of each request under way, by its first descriptor.
    slot_of: [u8; QUEUE_SIZE],
}

const _: () = assert!(size_of::<Driver>() as u64 <= PAGES_OFFSET);

/// What a request needs besides its data.
#[derive(Clone, Copy)]
struct Slot {
    header: [u8; 16],
    status: u8,
    request: Request,
}

/// Negotiates with the device, or waits until the first vCPU has, and sets up this vCPU's queue.
pub fn set_up(arena: u64, seat: &DiskSeat) -> Result<(), Trouble> {
    // SAFETY: the harness names the first vCPU's seat, which is like this one.
    let first = unsafe { &*(seat.first as *const DiskSeat) };
    let leads = core::ptr::eq(first, seat);
    if !leads {
        loop {
            match first.state.load(Ordering::Acquire) {
                READY => break,
                BROKEN => return Err(Trouble::Device),
                _ => core::hint::spin_loop(),
            }
        }
        while first.lock.swap(1, Ordering::Acquire) != 0 {
            core::hint::spin_loop();
        }
    }
    let result = driver(seat, leads).map(|driver| {
        let place = arena as *mut Driver;
        // SAFETY: the arena is page-aligned, and its first half DRIVER_BYTES are this state's.
        unsafe { place.write(driver) };
    });
    if leads {
        let state = if result.is_ok() { READY } else { BROKEN };
        first.state.store(state, Ordering::Release);
    } else {
        first.lock.store(0, Ordering::Release);
    }
    result
}

fn driver(seat: &DiskSeat, leads: bool) -> Result<Driver, Trouble> {
    let registers = NonNull::new(seat.registers as *mut VirtIOHeader).ok_or(Trouble::Device)?;
    // SAFETY: the guest's page tables map the device's registers where the harness says that they are.
    let mut transport =
        unsafe { MmioTransport::new(registers, REGISTERS_BYTES) }.map_err(|_| Trouble::Device)?;
    let set_up = |transport: &mut MmioTransport<'static>| {
        VirtQueue::new(transport, seat.queue as u16, false, false).map_err(|_| Trouble::Device)
    };
    // The order of virtio 1.2, 3.1.1. The other vCPUs' queues come to a device that is already at work.
    let queue = if leads {
        let so_far = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
        transport.set_status(DeviceStatus::empty());
        transport.set_status(so_far);
        let offered = transport.read_device_features();
        transport.write_driver_features(offered & FEATURES);
        let so_far = so_far | DeviceStatus::FEATURES_OK;
        transport.set_status(so_far);
        if !transport.get_status().contains(DeviceStatus::FEATURES_OK) {
            return Err(Trouble::Device);
        }
        let queue = set_up(&mut transport)?;
        transport.set_status(so_far | DeviceStatus::DRIVER_OK);
        queue
    } else {
        set_up(&mut transport)?
    };
    let mut queue: VirtQueue<ArenaPages, QUEUE_SIZE> = queue;
    // Nobody waits for an interrupt until a request does.
    queue.set_dev_notify(false);
    // The capacity in two halves, as a 64-bit field is read on MMIO (virtio 1.2, 4.2.2.2).
    let half = |offset| -> Result<u64, Trouble> {
        let half: u32 = transport
            .read_config_space(offset)
            .map_err(|_| Trouble::Device)?;
        Ok(half.into())
    };
    let sectors = half(0)? | half(4)? << 32;
    Ok(Driver {
        transport,
        queue,
        index: seat.queue as u16,
        bytes: sectors.saturating_mul(SECTOR_BYTES),
        slots: [Slot {
            header: [0; 16],
            status: 0,
            request: Request::Flush,
        }; MAX_DEPTH as usize],
        slot_of: [0; QUEUE_SIZE],
    })
}

/// The disk, as one vCPU drives it.
pub struct Disk {
    driver: &'static mut Driver,
    buffers: Buffers,
    vcpu: Vcpu,
    polls: bool,
}

impl Disk {
    /// The disk that [`set_up`] has left in the arena.
    pub fn new(arena: u64, buffers: Buffers, vcpu: Vcpu, driver: u64) -> Self {
        Self {
            // SAFETY: a set-up that went well has written it there, and the harness runs nothing after one that did not.
            driver: unsafe { &mut *(arena as *mut Driver) },
            buffers,
            vcpu,
            polls: driver == DISK_VIRTIO_POLL,
        }
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.driver.bytes
    }

    /// The slot of a request that is done, if there is one at present.
    fn ready(&mut self) -> Result<Option<usize>, Trouble> {
        let Driver {
            queue,
            slots,
            slot_of,
            ..
        } = &mut *self.driver;
        let Some(token) = queue.peek_used() else {
            return Ok(None);
        };
        let slot = usize::from(slot_of[usize::from(token) % QUEUE_SIZE]);
        let state = &mut slots[slot];
        let data = self.buffers.slot(slot);
        with_parts(state, data, |inputs, outputs| {
            // SAFETY: the same buffers as when this token was added: `slot_of` says whose it is.
            unsafe { queue.pop_used(token, inputs, outputs) }
        })
        .map_err(|_| Trouble::Device)?;
        // SAFETY: an initialised byte; volatile, because the device wrote it.
        if unsafe { (&raw const state.status).read_volatile() } == DONE {
            Ok(Some(slot))
        } else {
            Err(Trouble::Failed)
        }
    }

    fn has_given_up(&self) -> bool {
        let status = self.driver.transport.get_status();
        status.contains(DeviceStatus::DEVICE_NEEDS_RESET)
    }
}

impl Drive for Disk {
    type Error = Trouble;

    fn buffer(&mut self, slot: usize) -> &mut [u8] {
        self.buffers.slot(slot)
    }

    fn start(&mut self, slot: usize, request: Request) -> Result<(), Trouble> {
        let Driver {
            queue,
            slots,
            slot_of,
            ..
        } = &mut *self.driver;
        let state = &mut slots[slot];
        let (kind, sector) = match request {
            Request::Read(sector) => (READ, sector),
            Request::Write(sector) => (WRITE, sector),
            Request::Flush => (FLUSH, 0),
        };
        state.request = request;
        state.status = u8::MAX;
        state.header[..4].copy_from_slice(&kind.to_le_bytes());
        state.header[8..].copy_from_slice(&sector.to_le_bytes());
        let data = self.buffers.slot(slot);
        let token = with_parts(state, data, |inputs, outputs| {
            // SAFETY: header, data and status stay where they are, and are left alone, until the token is popped.
            unsafe { queue.add(inputs, outputs) }
        })
        .map_err(|_| Trouble::Device)?;
        slot_of[usize::from(token) % QUEUE_SIZE] = slot as u8;
        Ok(())
    }

    fn kick(&mut self) -> Result<(), Trouble> {
        // The device looks at the ring after it has asked for kicks, and this looks whether it has after the ring moved.
        fence(Ordering::SeqCst);
        if self.driver.queue.should_notify() {
            self.driver.transport.notify(self.driver.index);
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<usize, Trouble> {
        for turn in 1_u32.. {
            if let Some(slot) = self.ready()? {
                return Ok(slot);
            }
            if self.polls {
                core::hint::spin_loop();
                if !turn.is_multiple_of(LOOKS) {
                    continue;
                }
            } else {
                halt_until_used(&mut self.driver.queue, self.vcpu);
            }
            // A device that has given up says so in its status, and answers nothing any more.
            if !self.driver.queue.can_pop() && self.has_given_up() {
                return Err(Trouble::Device);
            }
        }
        Err(Trouble::Device)
    }
}

/// The parts of a request as the queue takes them: what the device reads, and what it writes.
fn with_parts<T>(
    slot: &mut Slot,
    data: &mut [u8],
    act: impl for<'a> FnOnce(&'a [&'a [u8]], &'a mut [&'a mut [u8]]) -> T,
) -> T {
    let status = core::slice::from_mut(&mut slot.status);
    match slot.request {
        Request::Read(_) => act(&[&slot.header], &mut [data, status]),
        Request::Write(_) => act(&[&slot.header, data], &mut [status]),
        Request::Flush => act(&[&slot.header], &mut [status]),
    }
}
