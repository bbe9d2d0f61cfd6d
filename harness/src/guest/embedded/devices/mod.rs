//! The devices of a guest: who answers an access that leaves the guest.
//!
//! ```text
//! MMIO at DEVICES_PHYSICAL + page ─┬─ 0: nothing (every read is 0, every write is dropped)
//!                                  └─ 1…: one device each
//! ```
//!
//! The guest is not trusted: an access of any length at any offset gets an answer, and one outside all devices is the
//! guest's fault, not the VMM's.

use std::marker::PhantomData;

use vtax_workloads::machine::{DEVICE_NOTHING, DEVICES_PHYSICAL};

const PAGE: u64 = 4096;

/// All devices of a guest.
#[derive(Debug, Default)]
pub struct Devices<'a> {
    memory: PhantomData<&'a ()>,
}

impl Devices<'_> {
    /// Answers a read of guest-physical memory; false where there is no device.
    pub fn read(&self, address: u64, data: &mut [u8]) -> bool {
        let found = page(address) == Some(DEVICE_NOTHING);
        if found {
            data.fill(0);
        }
        found
    }

    /// Takes a write to guest-physical memory; false where there is no device.
    pub fn write(&self, address: u64, _data: &[u8]) -> bool {
        page(address) == Some(DEVICE_NOTHING)
    }

    /// Answers a read of an I/O port; false where there is no device.
    pub fn read_port(&self, _port: u16, _data: &mut [u8]) -> bool {
        false
    }

    /// Takes a write to an I/O port; false where there is no device.
    pub fn write_port(&self, _port: u16, _data: &[u8]) -> bool {
        false
    }
}

/// The number of the device page that an address lies in.
fn page(address: u64) -> Option<u64> {
    Some(address.checked_sub(DEVICES_PHYSICAL)? / PAGE)
}
