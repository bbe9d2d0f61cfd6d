//! A driver that does anything, on a device that it has set up correctly first where the input wants that: a random
//! sequence of registers alone would hardly ever get so far.

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use vm_memory::{Bytes, GuestAddress};
use vtax::guest::embedded::devices::memory::GuestMemory;
use vtax::guest::embedded::devices::mmio::Transport;
use vtax::guest::embedded::devices::server::Lane;

/// Bytes of guest memory.
pub const MEMORY: usize = 0x1_0000;
const RINGS: u32 = 0x1000;
const AVAILABLE: u32 = 0x2000;
const USED: u32 = 0x3000;
const QUEUE_SIZE: u32 = 16;

/// What a driver may do.
#[derive(Arbitrary, Debug)]
pub enum Step {
    /// Read a register.
    Read { offset: u64, len: u8 },
    /// Write one, of 32 bits and aligned.
    Register { offset: u16, value: u32 },
    /// Write anything anywhere in the registers.
    Write { offset: u64, data: Vec<u8> },
    /// Write to memory.
    Poke { address: u16, data: Vec<u8> },
    /// Fill in a descriptor.
    Descriptor {
        index: u8,
        address: u32,
        len: u32,
        flags: u8,
        next: u8,
    },
    /// Make a chain available.
    Offer { queue: u8, head: u8 },
    /// Kick.
    Kick { queue: u8 },
    /// Set the device up, with some of the features that it offers.
    SetUp { without: u32 },
}

/// Does all steps, and ends with a reset.
pub fn drive<L: Lane>(device: &Transport<L>, memory: &GuestMemory, steps: &[Step]) {
    let mut available = 0_u16;
    for step in steps {
        match step {
            Step::Read { offset, len } => device.read(*offset, &mut vec![0; (*len).into()]),
            Step::Register { offset, value } => set(device, u64::from(*offset & 0x1fc), *value),
            Step::Write { offset, data } => device.write(*offset, data),
            Step::Poke { address, data } => poke(memory, (*address).into(), data),
            Step::Descriptor {
                index,
                address,
                len,
                flags,
                next,
            } => {
                let mut bytes = [0; 16];
                bytes[..4].copy_from_slice(&address.to_le_bytes());
                bytes[8..12].copy_from_slice(&len.to_le_bytes());
                bytes[12] = *flags;
                bytes[14] = *next;
                poke(
                    memory,
                    u64::from(RINGS) + 16 * u64::from(index % 16),
                    &bytes,
                );
            }
            Step::Offer { queue, head } => {
                let ring = u64::from(AVAILABLE) + 0x100 * u64::from(queue % 2);
                let place = ring + 4 + 2 * u64::from(available % 16);
                poke(memory, place, &u16::from(*head).to_le_bytes());
                available = available.wrapping_add(1);
                poke(memory, ring + 2, &available.to_le_bytes());
            }
            Step::Kick { queue } => set(device, 0x50, (queue % 3).into()),
            Step::SetUp { without } => {
                set_up(device, *without);
                available = 0;
            }
        }
    }
    set(device, 0x70, 0);
    let mut status = [0xff; 4];
    device.read(0x70, &mut status);
    assert_eq!(status, [0; 4], "a reset is over when it returns");
}

fn set<L: Lane>(device: &Transport<L>, offset: u64, value: u32) {
    device.write(offset, &value.to_le_bytes());
}

fn poke(memory: &GuestMemory, address: u64, data: &[u8]) {
    // Beyond the end there is nothing to write to.
    let _ = memory.write(data, GuestAddress(address));
}

fn set_up<L: Lane>(device: &Transport<L>, without: u32) {
    set(device, 0x70, 0);
    set(device, 0x70, 3);
    set(device, 0x14, 0);
    let mut offered = [0; 4];
    device.read(0x10, &mut offered);
    set(device, 0x24, 0);
    set(device, 0x20, u32::from_le_bytes(offered) & !without);
    set(device, 0x24, 1);
    set(device, 0x20, 1);
    set(device, 0x70, 0xb);
    for queue in 0..2 {
        set(device, 0x30, queue);
        set(device, 0x38, QUEUE_SIZE);
        set(device, 0x80, RINGS);
        set(device, 0x90, AVAILABLE + 0x100 * queue);
        set(device, 0xa0, USED + 0x100 * queue);
        set(device, 0x44, 1);
    }
    set(device, 0x70, 0xf);
}
