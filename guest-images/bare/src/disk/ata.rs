//! The driver of an ATA disk by port I/O (ATA/ATAPI-7, volumes 1 and 2): every register is an exit, and the data go
//! through a port, a sector at a time. One request is under way at once, whatever the job's depth.

use core::arch::asm;

use vtax_workloads::block::MAX_DEPTH;
use vtax_workloads::block::SECTOR_BYTES;
use vtax_workloads::block::engine::{Drive, Request};
use vtax_workloads::machine::{ATA_COMMAND_BLOCK, ATA_CONTROL};

use super::{Buffers, Trouble};

const DATA: u16 = ATA_COMMAND_BLOCK;
const COUNT: u16 = ATA_COMMAND_BLOCK + 2;
const LBA_LOW: u16 = ATA_COMMAND_BLOCK + 3;
const LBA_MID: u16 = ATA_COMMAND_BLOCK + 4;
const LBA_HIGH: u16 = ATA_COMMAND_BLOCK + 5;
const DEVICE: u16 = ATA_COMMAND_BLOCK + 6;
const COMMAND: u16 = ATA_COMMAND_BLOCK + 7;

const READ_SECTORS: u8 = 0x20;
const READ_SECTORS_EXT: u8 = 0x24;
const WRITE_SECTORS: u8 = 0x30;
const WRITE_SECTORS_EXT: u8 = 0x34;
const FLUSH_CACHE_EXT: u8 = 0xea;
const IDENTIFY: u8 = 0xec;

/// Device register: addresses are logical blocks, drive 0.
const LBA: u8 = 0xe0;
/// Device control register: no interrupts.
const NO_INTERRUPTS: u8 = 0x02;
const BUSY: u8 = 0x80;
const DATA_REQUEST: u8 = 0x08;
const ERROR: u8 = 0x01;

/// What 28-bit commands reach, and how much each carries at most.
const SMALL_SECTORS: u64 = 1 << 28;
const SMALL_COUNT: u64 = 256;

/// Looks whether there is a disk, and keeps its size at the start of the arena.
pub fn set_up(arena: u64) -> Result<(), Trouble> {
    put(ATA_CONTROL, NO_INTERRUPTS);
    let sectors = identify()?;
    // SAFETY: the arena is page-aligned, and its first DRIVER_BYTES are the driver's.
    unsafe { (arena as *mut u64).write(sectors) };
    Ok(())
}

/// The number of sectors (words 100 to 103 of IDENTIFY DEVICE).
fn identify() -> Result<u64, Trouble> {
    put(DEVICE, LBA);
    put(COMMAND, IDENTIFY);
    await_data()?;
    let mut words = [0_u8; SECTOR_BYTES as usize];
    take_sector(&mut words);
    let mut sectors = [0; 8];
    sectors.copy_from_slice(&words[200..208]);
    Ok(u64::from_le_bytes(sectors))
}

/// The disk.
pub struct Disk {
    buffers: Buffers,
    sectors: u64,
    /// Slots whose requests are done, in the order in which they were started.
    done: [u8; MAX_DEPTH as usize],
    first: usize,
    count: usize,
}

impl Disk {
    /// The disk that [`set_up`] has found.
    pub fn new(arena: u64, buffers: Buffers) -> Self {
        Self {
            buffers,
            // SAFETY: a set-up that went well has written it there, and the harness runs nothing after one that did not.
            sectors: unsafe { (arena as *const u64).read() },
            done: [0; MAX_DEPTH as usize],
            first: 0,
            count: 0,
        }
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.sectors.saturating_mul(SECTOR_BYTES)
    }
}

impl Drive for Disk {
    type Error = Trouble;

    fn buffer(&mut self, slot: usize) -> &mut [u8] {
        self.buffers.slot(slot)
    }

    fn start(&mut self, slot: usize, request: Request) -> Result<(), Trouble> {
        let data = self.buffers.slot(slot);
        match request {
            Request::Read(sector) => {
                command(sector, data.len(), READ_SECTORS, READ_SECTORS_EXT);
                for sector in data.chunks_exact_mut(SECTOR_BYTES as usize) {
                    await_data()?;
                    take_sector(sector);
                }
            }
            Request::Write(sector) => {
                command(sector, data.len(), WRITE_SECTORS, WRITE_SECTORS_EXT);
                for sector in data.chunks_exact(SECTOR_BYTES as usize) {
                    await_data()?;
                    put_sector(sector);
                }
                await_end()?;
            }
            Request::Flush => {
                put(COMMAND, FLUSH_CACHE_EXT);
                await_end()?;
            }
        }
        self.done[(self.first + self.count) % self.done.len()] = slot as u8;
        self.count += 1;
        Ok(())
    }

    fn kick(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    fn wait(&mut self) -> Result<usize, Trouble> {
        if self.count == 0 {
            return Err(Trouble::Device);
        }
        let slot = self.done[self.first];
        self.first = (self.first + 1) % self.done.len();
        self.count -= 1;
        Ok(usize::from(slot))
    }
}

/// Writes the registers of a transfer and starts it: by the 28-bit command where that does, which needs fewer registers.
fn command(sector: u64, bytes: usize, small: u8, large: u8) {
    let count = bytes as u64 / SECTOR_BYTES;
    let [low, mid, high, top, higher, highest, ..] = sector.to_le_bytes();
    let [count_low, count_high, ..] = count.to_le_bytes();
    if count <= SMALL_COUNT && sector + count <= SMALL_SECTORS {
        // 256 sectors are written as 0.
        put(COUNT, count_low);
        put(LBA_LOW, low);
        put(LBA_MID, mid);
        put(LBA_HIGH, high);
        put(DEVICE, LBA | top);
        put(COMMAND, small);
    } else {
        // Each register holds two bytes, the older one the more significant.
        put(COUNT, count_high);
        put(LBA_LOW, top);
        put(LBA_MID, higher);
        put(LBA_HIGH, highest);
        put(COUNT, count_low);
        put(LBA_LOW, low);
        put(LBA_MID, mid);
        put(LBA_HIGH, high);
        put(DEVICE, LBA);
        put(COMMAND, large);
    }
}

/// Waits until the disk has a sector to give or take.
fn await_data() -> Result<(), Trouble> {
    match await_status()? & DATA_REQUEST {
        0 => Err(Trouble::Device),
        _ => Ok(()),
    }
}

/// Waits until the command is over.
fn await_end() -> Result<(), Trouble> {
    match await_status()? & DATA_REQUEST {
        0 => Ok(()),
        _ => Err(Trouble::Device),
    }
}

fn await_status() -> Result<u8, Trouble> {
    loop {
        let status: u8;
        // SAFETY: the harness has told of the disk, and lets ring 3 use its ports.
        unsafe { asm!("in al, dx", out("al") status, in("dx") COMMAND, options(nomem, nostack)) }
        if status & BUSY == 0 {
            return if status & ERROR == 0 {
                Ok(status)
            } else {
                Err(Trouble::Failed)
            };
        }
        core::hint::spin_loop();
    }
}

fn put(port: u16, value: u8) {
    // SAFETY: as in `await_status`.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) }
}

fn take_sector(into: &mut [u8]) {
    // SAFETY: as in `await_status`; the string instruction fills the slice and no more.
    unsafe {
        asm!("rep insw", in("dx") DATA, inout("rdi") into.as_mut_ptr() => _, inout("rcx") into.len() / 2 => _,
            options(nostack, preserves_flags));
    }
}

fn put_sector(from: &[u8]) {
    // SAFETY: as in `await_status`; the string instruction reads the slice and no more.
    unsafe {
        asm!("rep outsw", in("dx") DATA, inout("rsi") from.as_ptr() => _, inout("rcx") from.len() / 2 => _,
            options(nostack, preserves_flags, readonly));
    }
}
