//! The registers of a virtio device on MMIO (virtio 1.2, 4.2): what a driver sets up a device by.
//!
//! ```text
//! exit at DEVICES_PHYSICAL + page ──► read / write by offset ──► status, features, queues ──► Lane::start / stop
//! ```
//!
//! Only the modern interface (version 2). Registers are 32 bits wide: an access of another width or at an odd offset
//! reads 0 and writes nothing; the configuration space behind them takes any width. A driver that sets up a queue
//! outside its memory makes the device ask for a reset.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virtio_bindings::bindings::virtio_config::{
    VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
    VIRTIO_F_VERSION_1,
};
use virtio_bindings::bindings::virtio_mmio as register;
use virtio_bindings::bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::{Queue, QueueState};

use super::memory::GuestMemory;
use super::ring::Ring;
use super::server::{Condition, Lane};

/// "virt", little endian.
const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;
/// "vtax", little endian.
const VENDOR: u32 = 0x7861_7476;
/// Descriptors of a queue, at most.
pub const QUEUE_SIZE: u16 = 256;
/// Offset of the register that a driver kicks by: the queue's number is written there.
pub const QUEUE_NOTIFY: u64 = register::VIRTIO_MMIO_QUEUE_NOTIFY as u64;
/// What all devices here can do.
pub const COMMON_FEATURES: u64 = 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX;
/// The bits of the status that are a driver's to set (virtio 1.2, 2.1).
const DRIVERS_STATUS: u32 = 0xff & !VIRTIO_CONFIG_S_NEEDS_RESET;

/// What a device is, apart from what it does.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Device type (virtio 1.2, 5).
    pub id: u32,
    /// Features on offer, the common ones included.
    pub features: u64,
    /// The configuration space.
    pub config: Arc<dyn Configuration>,
}

/// What a driver reads behind the registers. It is the device's alone to write.
pub trait Configuration: Send + Sync + std::fmt::Debug {
    /// All of it, as it stands.
    fn bytes(&self) -> Vec<u8>;

    /// Another number whenever several reads may have met a change in between (virtio 1.2, 2.5.3).
    fn generation(&self) -> u32;
}

/// One that never changes.
impl Configuration for Vec<u8> {
    fn bytes(&self) -> Self {
        self.clone()
    }

    fn generation(&self) -> u32 {
        0
    }
}

/// A device's registers.
#[derive(Debug)]
pub struct Transport<L> {
    identity: Identity,
    memory: GuestMemory,
    lanes: Vec<L>,
    condition: Arc<Condition>,
    registers: Mutex<Registers>,
}

#[derive(Debug, Default)]
struct Registers {
    status: u32,
    device_features_page: u32,
    driver_features_page: u32,
    driver_features: u64,
    queue: u32,
    queues: Vec<Setup>,
}

/// A queue as the driver has described it so far.
#[derive(Clone, Copy, Debug, Default)]
struct Setup {
    size: u32,
    descriptors: u64,
    driver_area: u64,
    device_area: u64,
    ready: bool,
}

impl Registers {
    fn new(queues: usize) -> Self {
        Self {
            queues: vec![Setup::default(); queues],
            ..Self::default()
        }
    }

    fn has(&self, status: u32) -> bool {
        self.status & status != 0
    }

    fn selected(&self) -> Option<(usize, Setup)> {
        let index = usize::try_from(self.queue).ok()?;
        self.queues.get(index).map(|setup| (index, *setup))
    }

    /// The selected queue, while it may be changed: until it is ready.
    fn change(&mut self) -> Option<&mut Setup> {
        let index = usize::try_from(self.queue).ok()?;
        self.queues.get_mut(index).filter(|setup| !setup.ready)
    }
}

impl<L: Lane> Transport<L> {
    /// A device with a queue for each lane, none of them set up.
    pub fn new(
        identity: Identity,
        memory: GuestMemory,
        lanes: Vec<L>,
        condition: Arc<Condition>,
    ) -> Self {
        Self {
            registers: Mutex::new(Registers::new(lanes.len())),
            identity,
            memory,
            lanes,
            condition,
        }
    }

    /// Who serves its queues.
    pub fn lanes(&self) -> &[L] {
        &self.lanes
    }

    /// Its condition.
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Answers a read, whatever its offset and width.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(start) = offset.checked_sub(register::VIRTIO_MMIO_CONFIG.into()) {
            let all = self.identity.config.bytes();
            let config = usize::try_from(start)
                .ok()
                .and_then(|start| all.get(start..))
                .unwrap_or_default();
            for (byte, value) in data.iter_mut().zip(config) {
                *byte = *value;
            }
        } else if let (Ok(data), Some(offset)) = (<&mut [u8; 4]>::try_from(data), aligned(offset)) {
            *data = self.register(offset).to_le_bytes();
        }
    }

    /// Takes a write, whatever its offset and width.
    pub fn write(&self, offset: u64, data: &[u8]) {
        // Nothing in the configuration space of these devices is a driver's to write.
        if let (Ok(data), Some(offset)) = (<[u8; 4]>::try_from(data), aligned(offset)) {
            self.set_register(offset, u32::from_le_bytes(data));
        }
    }

    fn registers(&self) -> MutexGuard<'_, Registers> {
        self.registers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, offset: u32) -> u32 {
        let registers = self.registers();
        match offset {
            register::VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            register::VIRTIO_MMIO_VERSION => VERSION,
            register::VIRTIO_MMIO_DEVICE_ID => self.identity.id,
            register::VIRTIO_MMIO_VENDOR_ID => VENDOR,
            register::VIRTIO_MMIO_DEVICE_FEATURES => {
                half(self.identity.features, registers.device_features_page)
            }
            register::VIRTIO_MMIO_QUEUE_NUM_MAX => {
                registers.selected().map_or(0, |_| QUEUE_SIZE.into())
            }
            register::VIRTIO_MMIO_QUEUE_READY => registers
                .selected()
                .map_or(0, |(_, setup)| setup.ready.into()),
            register::VIRTIO_MMIO_INTERRUPT_STATUS => self.condition.interrupt_status(),
            register::VIRTIO_MMIO_STATUS if self.condition.needs_reset() => {
                registers.status | VIRTIO_CONFIG_S_NEEDS_RESET
            }
            register::VIRTIO_MMIO_STATUS => registers.status,
            register::VIRTIO_MMIO_CONFIG_GENERATION => self.identity.config.generation(),
            // No shared memory: its length and base are all ones (4.2.2).
            register::VIRTIO_MMIO_SHM_LEN_LOW..=register::VIRTIO_MMIO_SHM_BASE_HIGH => u32::MAX,
            _ => 0,
        }
    }

    fn set_register(&self, offset: u32, value: u32) {
        let mut registers = self.registers();
        let low = |address: &mut u64| *address = *address & !0xffff_ffff | u64::from(value);
        let high = |address: &mut u64| *address = *address & 0xffff_ffff | u64::from(value) << 32;
        match offset {
            register::VIRTIO_MMIO_DEVICE_FEATURES_SEL => registers.device_features_page = value,
            register::VIRTIO_MMIO_DRIVER_FEATURES_SEL => registers.driver_features_page = value,
            // Settled once the driver has said so.
            register::VIRTIO_MMIO_DRIVER_FEATURES
                if !registers.has(VIRTIO_CONFIG_S_FEATURES_OK) =>
            {
                match registers.driver_features_page {
                    0 => low(&mut registers.driver_features),
                    1 => high(&mut registers.driver_features),
                    _ => {}
                }
            }
            register::VIRTIO_MMIO_QUEUE_SEL => registers.queue = value,
            register::VIRTIO_MMIO_QUEUE_READY => self.set_ready(&mut registers, value),
            register::VIRTIO_MMIO_QUEUE_NOTIFY => {
                // Where KVM does not signal it: before a guest is attached, and for a driver in this process.
                if let Ok(index) = usize::try_from(value)
                    && let Some(lane) = self.lanes.get(index)
                {
                    lane.kick();
                }
            }
            register::VIRTIO_MMIO_INTERRUPT_ACK => self.condition.acknowledge(value),
            register::VIRTIO_MMIO_STATUS => self.set_status(&mut registers, value),
            _ => {
                let Some(setup) = registers.change() else {
                    return;
                };
                match offset {
                    register::VIRTIO_MMIO_QUEUE_NUM => setup.size = value,
                    register::VIRTIO_MMIO_QUEUE_DESC_LOW => low(&mut setup.descriptors),
                    register::VIRTIO_MMIO_QUEUE_DESC_HIGH => high(&mut setup.descriptors),
                    register::VIRTIO_MMIO_QUEUE_AVAIL_LOW => low(&mut setup.driver_area),
                    register::VIRTIO_MMIO_QUEUE_AVAIL_HIGH => high(&mut setup.driver_area),
                    register::VIRTIO_MMIO_QUEUE_USED_LOW => low(&mut setup.device_area),
                    register::VIRTIO_MMIO_QUEUE_USED_HIGH => high(&mut setup.device_area),
                    _ => {}
                }
            }
        }
    }

    /// Zero resets; otherwise bits are added, and FEATURES_OK sticks only when the features are on offer.
    fn set_status(&self, registers: &mut Registers, value: u32) {
        if value == 0 {
            self.lanes.iter().for_each(Lane::stop);
            *registers = Registers::new(self.lanes.len());
            self.condition.reset();
            return;
        }
        let mut added = value & DRIVERS_STATUS & !registers.status;
        let unknown = registers.driver_features & !self.identity.features;
        let modern = registers.driver_features & 1 << VIRTIO_F_VERSION_1 != 0;
        if unknown != 0 || !modern {
            added &= !VIRTIO_CONFIG_S_FEATURES_OK;
        }
        if (registers.status | added) & VIRTIO_CONFIG_S_FEATURES_OK == 0 {
            added &= !VIRTIO_CONFIG_S_DRIVER_OK;
        }
        registers.status |= added;
        if added & VIRTIO_CONFIG_S_DRIVER_OK != 0 {
            for index in 0..self.lanes.len() {
                if registers.queues[index].ready {
                    self.start(registers, index);
                }
            }
        }
    }

    fn set_ready(&self, registers: &mut Registers, value: u32) {
        let Some((index, setup)) = registers.selected() else {
            return;
        };
        if value & 1 == 0 {
            self.lanes[index].stop();
            registers.queues[index] = Setup::default();
        } else if !setup.ready {
            if self.ring(registers, setup).is_none() {
                self.condition.ask_for_reset(format!(
                    "the driver set up queue {index} outside its memory: {setup:?}"
                ));
                return;
            }
            registers.queues[index].ready = true;
            if registers.has(VIRTIO_CONFIG_S_DRIVER_OK) {
                self.start(registers, index);
            }
        }
    }

    fn start(&self, registers: &Registers, index: usize) {
        // Checked when it became ready, and fixed since.
        if let Some(ring) = self.ring(registers, registers.queues[index]) {
            self.lanes[index].start(ring);
        }
    }

    /// The queue, if the driver has described one.
    fn ring(&self, registers: &Registers, setup: Setup) -> Option<Ring> {
        let state = QueueState {
            max_size: QUEUE_SIZE,
            size: u16::try_from(setup.size).ok()?,
            event_idx_enabled: registers.driver_features & 1 << VIRTIO_RING_F_EVENT_IDX != 0,
            ready: true,
            desc_table: setup.descriptors,
            avail_ring: setup.driver_area,
            used_ring: setup.device_area,
            ..QueueState::default()
        };
        Ring::new(Queue::try_from(state).ok()?, self.memory.clone())
    }
}

/// The offset of a register, which are 32 bits wide and aligned.
fn aligned(offset: u64) -> Option<u32> {
    u32::try_from(offset)
        .ok()
        .filter(|offset| offset.is_multiple_of(4))
}

/// 32 of the feature bits; there are none beyond the first two times 32.
fn half(features: u64, page: u32) -> u32 {
    let [a, b, c, d, e, f, g, h] = features.to_le_bytes();
    match page {
        0 => u32::from_le_bytes([a, b, c, d]),
        1 => u32::from_le_bytes([e, f, g, h]),
        _ => 0,
    }
}
