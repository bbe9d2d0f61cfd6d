//! The guest's way to its network link: the driver of virtio-net on MMIO (virtio 1.2, 4.2 and 5.1), one pair of queues.
//!
//! ```text
//! Setup: negotiate, fill the receive queue; the driver's state stays in the arena ──► Run: engine ──► Card
//! arena: │ driver's state │ rings … │ (DRIVER_BYTES) receive buffers │ transmit buffers │
//! ```

use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::transport::{DeviceStatus, Transport};
use vtax_workloads::abi::{Mailbox, Op};
use vtax_workloads::block::DRIVER_BYTES;
use vtax_workloads::machine::{AREA_MAILBOX, AREA_NET_SEAT, NET_INTERRUPT, NET_POLL, NetSeat};
use vtax_workloads::network::engine::{Link, work};
use vtax_workloads::network::frame::{Address, Frame};
use vtax_workloads::network::{BUFFER_BYTES, BUFFERS, Job, NetTrouble as Trouble};
use vtax_workloads::payload;

use crate::disk::dma::{ArenaPages, PAGES_OFFSET};
use crate::interrupt::halt_until_used;
use crate::vcpu::{Vcpu, rdtsc};

/// Descriptors of each queue, one for each buffer.
const QUEUE_SIZE: usize = BUFFERS as usize;
/// The queues' numbers (5.1.2).
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// Bytes of the registers that this driver uses: up to the configuration space, and its start.
const REGISTERS_BYTES: usize = 0x200;
/// VIRTIO_NET_F_MAC and VIRTIO_F_VERSION_1: all that this driver makes use of.
const FEATURES: u64 = 1 << 5 | 1 << 32;
/// Bytes in front of every frame (5.1.6); zeroes, without offloads.
const HEADER_BYTES: usize = 12;
/// A vCPU that polls gives a frame up after this many TSC ticks: most of a second on any machine.
const PATIENCE_TICKS: u64 = 2_000_000_000;

type Queue = VirtQueue<ArenaPages, QUEUE_SIZE>;

/// The state of the driver at the start of the arena; written once, by [`set_up`].
struct Driver {
    transport: MmioTransport<'static>,
    receive: Queue,
    transmit: Queue,
    address: Address,
    /// The buffer of each receive descriptor.
    buffer_of: [u8; QUEUE_SIZE],
    /// The buffer of each transmit descriptor under way.
    sent_from: [u8; QUEUE_SIZE],
    /// Transmit buffers at hand, the first `free_len` of these.
    free: [u8; QUEUE_SIZE],
    free_len: usize,
}

const _: () = assert!(size_of::<Driver>() as u64 <= PAGES_OFFSET);
const _: () = assert!(QUEUE_SIZE <= 256);

/// Carries out a request for a network task.
pub fn serve(mailbox: &mut Mailbox, job: Job) -> Result<(), Trouble> {
    if mailbox.op == Op::Setup as u64 {
        set_up(mailbox)
    } else {
        run(mailbox, job)
    }
}

fn run(mailbox: &mut Mailbox, job: Job) -> Result<(), Trouble> {
    let mut card = Card {
        // SAFETY: a set-up that went well has written it there, and the harness runs nothing after one that did not.
        driver: unsafe { &mut *(mailbox.arena as *mut Driver) },
        buffers: Buffers::of(mailbox),
        vcpu: Vcpu::of(mailbox),
        polls: seat(mailbox).completion == NET_POLL,
    };
    let iterations = mailbox.iterations;
    payload::timed(mailbox, |latencies| {
        work(job, iterations, &mut card, latencies)
    })
}

/// What the harness told this vCPU of its network card.
fn seat(mailbox: &Mailbox) -> NetSeat {
    let area = (&raw const *mailbox).addr() as u64 - AREA_MAILBOX;
    // SAFETY: the harness wrote it there before the request, and the guest never does.
    unsafe { ((area + AREA_NET_SEAT) as *const NetSeat).read() }
}

fn set_up(mailbox: &Mailbox) -> Result<(), Trouble> {
    let seat = seat(mailbox);
    if ![NET_INTERRUPT, NET_POLL].contains(&seat.completion) {
        return Err(Trouble::NoLink);
    }
    let driver = driver(seat, Buffers::of(mailbox))?;
    let place = mailbox.arena as *mut Driver;
    // SAFETY: the arena is page-aligned, and its first half DRIVER_BYTES are this state's.
    unsafe { place.write(driver) };
    Ok(())
}

fn driver(seat: NetSeat, buffers: Buffers) -> Result<Driver, Trouble> {
    let registers = NonNull::new(seat.registers as *mut VirtIOHeader).ok_or(Trouble::Device)?;
    // SAFETY: the guest's page tables map the device's registers where the harness says that they are.
    let mut transport =
        unsafe { MmioTransport::new(registers, REGISTERS_BYTES) }.map_err(|_| Trouble::Device)?;
    // The order of virtio 1.2, 3.1.1.
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
    let queue = |transport: &mut MmioTransport<'static>, number| {
        VirtQueue::new(transport, number, false, false).map_err(|_| Trouble::Device)
    };
    let mut receive: Queue = queue(&mut transport, RECEIVE)?;
    let mut transmit: Queue = queue(&mut transport, TRANSMIT)?;
    // Nobody waits for an interrupt until a frame is awaited; for one that is sent, never.
    receive.set_dev_notify(false);
    transmit.set_dev_notify(false);
    transport.set_status(so_far | DeviceStatus::DRIVER_OK);

    let mut address: Address = [0; 6];
    for (offset, byte) in address.iter_mut().enumerate() {
        *byte = transport
            .read_config_space(offset)
            .map_err(|_| Trouble::Device)?;
    }
    let mut driver = Driver {
        transport,
        receive,
        transmit,
        address,
        buffer_of: [0; QUEUE_SIZE],
        sent_from: [0; QUEUE_SIZE],
        free: core::array::from_fn(|buffer| buffer as u8),
        free_len: QUEUE_SIZE,
    };
    for buffer in 0..QUEUE_SIZE {
        driver.post(buffers, buffer as u8)?;
    }
    driver.kick(RECEIVE);
    Ok(driver)
}

impl Driver {
    /// Gives the device a receive buffer.
    fn post(&mut self, buffers: Buffers, buffer: u8) -> Result<(), Trouble> {
        // SAFETY: the buffer stays where it is, and is left alone, until the token is popped.
        let token = unsafe { self.receive.add(&[], &mut [buffers.receive(buffer)]) };
        let token = token.map_err(|_| Trouble::Device)?;
        self.buffer_of[usize::from(token) % QUEUE_SIZE] = buffer;
        Ok(())
    }

    /// Takes back the buffers of frames that have been sent.
    fn reclaim(&mut self, buffers: Buffers) -> Result<(), Trouble> {
        while let Some(token) = self.transmit.peek_used() {
            let buffer = self.sent_from[usize::from(token) % QUEUE_SIZE];
            // The length does not matter to the queue: it frees the descriptor.
            // SAFETY: the buffer that was added under this token.
            unsafe {
                self.transmit
                    .pop_used(token, &[buffers.transmit(buffer)], &mut [])
            }
            .map_err(|_| Trouble::Device)?;
            if let Some(place) = self.free.get_mut(self.free_len) {
                *place = buffer;
                self.free_len += 1;
            }
        }
        Ok(())
    }

    /// Lets the device know of what is new in a queue, if it wants to be told.
    fn kick(&mut self, queue: u16) {
        // The device looks at the ring after it has asked for kicks, and this looks whether it has after the ring moved.
        fence(Ordering::SeqCst);
        let wanted = match queue {
            RECEIVE => self.receive.should_notify(),
            _ => self.transmit.should_notify(),
        };
        if wanted {
            self.transport.notify(queue);
        }
    }
}

/// The network card at work.
struct Card {
    driver: &'static mut Driver,
    buffers: Buffers,
    vcpu: Vcpu,
    polls: bool,
}

impl Link for Card {
    type Error = Trouble;

    fn address(&self) -> Address {
        self.driver.address
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, Trouble> {
        let driver = &mut *self.driver;
        if driver.free_len == 0 {
            driver.reclaim(self.buffers)?;
        }
        let Some(&buffer) = driver.free[..driver.free_len].last() else {
            return Ok(false);
        };
        let whole = self.buffers.transmit(buffer);
        let (header, rest) = whole.split_at_mut(HEADER_BYTES);
        let Some(body) = rest.get_mut(..frame.len()) else {
            return Err(Trouble::Device);
        };
        header.fill(0);
        body.copy_from_slice(frame);
        let used = HEADER_BYTES + frame.len();
        // SAFETY: the buffer stays where it is, and is left alone, until the token is popped.
        let token = unsafe { driver.transmit.add(&[&whole[..used]], &mut []) };
        let token = token.map_err(|_| Trouble::Device)?;
        driver.sent_from[usize::from(token) % QUEUE_SIZE] = buffer;
        driver.free_len -= 1;
        Ok(true)
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        self.driver.kick(TRANSMIT);
        Ok(())
    }

    fn receive(&mut self) -> Result<Option<Frame>, Trouble> {
        let driver = &mut *self.driver;
        while let Some(token) = driver.receive.peek_used() {
            let buffer = driver.buffer_of[usize::from(token) % QUEUE_SIZE];
            let bytes = self.buffers.receive(buffer);
            // SAFETY: the buffer that was added under this token.
            let len = unsafe { driver.receive.pop_used(token, &[], &mut [bytes]) };
            let len = len.map_err(|_| Trouble::Device)? as usize;
            let frame = self
                .buffers
                .receive(buffer)
                .get(HEADER_BYTES..len)
                .and_then(Frame::read)
                .filter(|frame| frame.to == driver.address);
            driver.post(self.buffers, buffer)?;
            driver.kick(RECEIVE);
            if frame.is_some() {
                return Ok(frame);
            }
        }
        Ok(None)
    }

    fn wait(&mut self) -> Result<bool, Trouble> {
        let start = rdtsc();
        loop {
            let has_room = self.driver.free_len > 0;
            if self.driver.receive.can_pop() || (!has_room && self.driver.transmit.can_pop()) {
                return Ok(true);
            }
            if rdtsc() - start > PATIENCE_TICKS {
                let status = self.driver.transport.get_status();
                return if status.contains(DeviceStatus::DEVICE_NEEDS_RESET) {
                    Err(Trouble::Device)
                } else {
                    Ok(false)
                };
            }
            // Room comes without an interrupt, and soon.
            if self.polls || !has_room {
                core::hint::spin_loop();
            } else {
                halt_until_used(&mut self.driver.receive, self.vcpu);
            }
        }
    }
}

/// The buffers: the arena behind the driver's part.
#[derive(Clone, Copy)]
struct Buffers {
    start: u64,
}

impl Buffers {
    fn of(mailbox: &Mailbox) -> Self {
        Self {
            start: mailbox.arena + DRIVER_BYTES,
        }
    }

    fn receive(&self, buffer: u8) -> &'static mut [u8] {
        self.at(u64::from(buffer))
    }

    fn transmit(&self, buffer: u8) -> &'static mut [u8] {
        self.at(BUFFERS + u64::from(buffer))
    }

    fn at(&self, place: u64) -> &'static mut [u8] {
        let address = self.start + place * BUFFER_BYTES;
        // SAFETY: `payload::accept` found the arena long enough for the workload's footprint, which all buffers lie in;
        // each is looked at in one place at a time, and the device uses it only between `add` and `pop_used`.
        unsafe { core::slice::from_raw_parts_mut(address as *mut u8, BUFFER_BYTES as usize) }
    }
}
