//! A driver that does anything to the ATA disk.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use vtax::guest::embedded::devices::ata::Ata;
use vtax::guest::embedded::devices::disk::Disk;
use vtax_workloads::machine::{ATA_COMMAND_BLOCK, ATA_CONTROL};

/// More than the longest string that an exit brings: a page.
const LONGEST: usize = 8192;

/// An access to one of the disk's ports, as an exit brings it: of any width and count.
#[derive(Arbitrary, Debug)]
enum Access {
    Read { port: u8, len: u16 },
    Write { port: u8, data: Vec<u8> },
}

/// The ports of the command block, the control port, and the ports beside them.
fn port(number: u8) -> u16 {
    match u16::from(number % 12) {
        place @ 0..=8 => ATA_COMMAND_BLOCK + place,
        place => ATA_CONTROL + place - 10,
    }
}

fuzz_target!(|accesses: Vec<Access>| {
    let Ok(disk) = Disk::memory(64 << 10) else {
        return;
    };
    let Ok(device) = Ata::new(Arc::new(disk)) else {
        return;
    };
    let mut buffer = [0; LONGEST];
    for access in accesses {
        match access {
            Access::Read { port: at, len } => {
                let len = usize::from(len).min(LONGEST);
                device.read(port(at), &mut buffer[..len]);
            }
            Access::Write { port: at, data } => {
                device.write(port(at), &data);
            }
        }
    }
});
