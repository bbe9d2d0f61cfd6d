//! An emulated ATA disk (ATA/ATAPI-7, volumes 1 and 2): drive 0 on the first channel, programmed I/O, no interrupts. The
//! contrast to virtio-blk: every register is an exit, and the data come through one of them.
//!
//! ```text
//! ports 0x1f0–0x1f7, 0x3f6 ──► registers ──► command ─┬─► in: the disk's data wait in the buffer for the data port
//!                                                     ├─► out: the buffer goes to the disk when it is full
//!                                                     └─► flush
//! ```
//!
//! Every command is carried out before the exit that asked for it returns, so the disk is never seen busy. An access of any
//! width, count and order has an answer; a command that the disk does not know is aborted.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vm_memory::VolatileSlice;
use vtax_workloads::machine::{ATA_COMMAND_BLOCK, ATA_CONTROL};

use super::disk::{Aligned, Disk, SECTOR};

/// Sectors that a command moves to or from the disk at once; the most that a 28-bit command can ask for.
const CHUNK_SECTORS: usize = 256;
const SECTOR_BYTES: usize = 512;

const READY: u8 = 0x40;
const SEEK_COMPLETE: u8 = 0x10;
const DATA_REQUEST: u8 = 0x08;
const ERROR: u8 = 0x01;
/// Bits of the error register: the command was aborted, no such sector, the data could not be read or written.
const ABORTED: u8 = 0x04;
const NOT_FOUND: u8 = 0x10;
const UNCORRECTABLE: u8 = 0x40;
/// Bits of the device register: logical block addresses, and the second drive, which is not there.
const LBA: u8 = 0x40;
const DRIVE_1: u8 = 0x10;
/// Bits of the device control register: reset, and read back what the double registers held before.
const RESET: u8 = 0x04;
const HIGH_ORDER: u8 = 0x80;

/// Registers of the command block, by their distance from its first port; two have another meaning when they are written.
const ERROR_REGISTER: u16 = 1;
const DEVICE: u16 = 6;
const STATUS: u16 = 7;
const COMMAND: u16 = 7;

const READ_SECTORS: u8 = 0x20;
const READ_SECTORS_EXT: u8 = 0x24;
const WRITE_SECTORS: u8 = 0x30;
const WRITE_SECTORS_EXT: u8 = 0x34;
const FLUSH_CACHE: u8 = 0xe7;
const FLUSH_CACHE_EXT: u8 = 0xea;
const IDENTIFY: u8 = 0xec;

/// Sectors that 28-bit commands reach.
const MOST_SMALL_SECTORS: u32 = 0x0fff_ffff;

/// The model's name, padded.
const MODEL: &[u8; 40] = b"vtax ATA disk                           ";

/// The disk, for all vCPUs.
#[derive(Debug)]
pub struct Ata(Mutex<Drive>);

impl Ata {
    /// A drive that holds this disk.
    ///
    /// # Errors
    /// No memory.
    pub fn new(disk: Arc<Disk>) -> io::Result<Self> {
        Ok(Self(Mutex::new(Drive {
            disk,
            doubles: [[0; 2]; 4],
            device: 0,
            control: 0,
            status: READY | SEEK_COMPLETE,
            error: 0,
            transfer: Transfer::None,
            buffer: Aligned::new(CHUNK_SECTORS * SECTOR_BYTES)?,
            position: 0,
            end: 0,
        })))
    }

    /// Answers a read of a port, once or as often as fits into `data`; false where the port is another device's.
    pub fn read(&self, port: u16, data: &mut [u8]) -> bool {
        let Some(place) = place(port) else {
            return false;
        };
        let mut drive = self.drive();
        match place {
            Place::Data => drive.take(data),
            Place::Register(number) => data.fill(drive.register(number)),
            Place::Control => data.fill(drive.status()),
        }
        true
    }

    /// Takes a write to a port, of one value or of many; false where the port is another device's.
    pub fn write(&self, port: u16, data: &[u8]) -> bool {
        let Some(place) = place(port) else {
            return false;
        };
        let mut drive = self.drive();
        match place {
            Place::Data => drive.put(data),
            Place::Register(number) => data.iter().for_each(|&byte| drive.set(number, byte)),
            Place::Control => data.iter().for_each(|&byte| drive.set_control(byte)),
        }
        true
    }

    fn drive(&self) -> MutexGuard<'_, Drive> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is at a port.
enum Place {
    Data,
    /// By its number in the command block, from 1 to 7.
    Register(u16),
    /// Device control, and the status without side effects.
    Control,
}

fn place(port: u16) -> Option<Place> {
    match port.checked_sub(ATA_COMMAND_BLOCK) {
        Some(0) => Some(Place::Data),
        Some(number @ 1..=7) => Some(Place::Register(number)),
        _ if port == ATA_CONTROL => Some(Place::Control),
        _ => None,
    }
}

/// What a command does with the data port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transfer {
    None,
    /// The host reads. This many sectors from this one on follow what is in the buffer.
    In {
        next: u64,
        left: u64,
    },
    /// The host writes. The buffer goes to this sector; this many, the buffer's included, are still to come.
    Out {
        next: u64,
        left: u64,
    },
}

#[derive(Debug)]
struct Drive {
    disk: Arc<Disk>,
    /// Count and the three address registers; each holds the byte written last, and the one before.
    doubles: [[u8; 2]; 4],
    device: u8,
    control: u8,
    status: u8,
    error: u8,
    transfer: Transfer,
    buffer: Aligned,
    /// How far the data port has come in the buffer, and where the buffer's data end.
    position: usize,
    end: usize,
}

impl Drive {
    fn absent(&self) -> bool {
        self.device & DRIVE_1 != 0
    }

    fn status(&self) -> u8 {
        if self.absent() { 0 } else { self.status }
    }

    fn register(&self, number: u16) -> u8 {
        match number {
            _ if self.absent() && number != DEVICE => 0,
            ERROR_REGISTER => self.error,
            DEVICE => self.device,
            STATUS => self.status,
            _ => {
                let older = usize::from(self.control & HIGH_ORDER != 0);
                self.double(number).map_or(0, |double| double[older])
            }
        }
    }

    fn double(&self, number: u16) -> Option<[u8; 2]> {
        let index = usize::from(number).checked_sub(2)?;
        self.doubles.get(index).copied()
    }

    fn set(&mut self, number: u16, value: u8) {
        match number {
            DEVICE => self.device = value,
            COMMAND if !self.absent() => self.command(value),
            _ => {
                let index = usize::from(number).wrapping_sub(2);
                if let Some(double) = self.doubles.get_mut(index) {
                    *double = [value, double[0]];
                }
            }
        }
    }

    fn set_control(&mut self, value: u8) {
        self.control = value;
        if value & RESET != 0 {
            self.finish(0);
            self.device = 0;
            // The signature of a disk (ATA/ATAPI-7, 9.12).
            self.doubles = [[1, 0], [1, 0], [0, 0], [0, 0]];
        }
    }

    /// Ends the command; `error` is 0 or says what went wrong.
    fn finish(&mut self, error: u8) {
        self.transfer = Transfer::None;
        (self.position, self.end) = (0, 0);
        self.error = error;
        self.status = READY | SEEK_COMPLETE | if error == 0 { 0 } else { ERROR };
    }

    fn command(&mut self, command: u8) {
        self.finish(0);
        match command {
            READ_SECTORS | READ_SECTORS_EXT => match self.range(command == READ_SECTORS_EXT) {
                Ok((next, left)) => self.fetch(next, left),
                Err(error) => self.finish(error),
            },
            WRITE_SECTORS | WRITE_SECTORS_EXT => match self.range(command == WRITE_SECTORS_EXT) {
                Ok(_) if self.disk.is_read_only() => self.finish(ABORTED),
                Ok((next, left)) => self.collect(next, left),
                Err(error) => self.finish(error),
            },
            FLUSH_CACHE | FLUSH_CACHE_EXT => {
                if self.disk.flush().is_err() {
                    self.finish(UNCORRECTABLE);
                }
            }
            IDENTIFY => self.identify(),
            _ => self.finish(ABORTED),
        }
    }

    /// The first sector and the number of sectors that the registers name.
    fn range(&self, extended: bool) -> Result<(u64, u64), u8> {
        if self.device & LBA == 0 {
            return Err(ABORTED);
        }
        let [count, low, mid, high] = self.doubles;
        let sector = if extended {
            u64::from_le_bytes([low[0], mid[0], high[0], low[1], mid[1], high[1], 0, 0])
        } else {
            u64::from_le_bytes([low[0], mid[0], high[0], self.device & 0x0f, 0, 0, 0, 0])
        };
        // 0 stands for one more than the register can hold.
        let count = match (extended, u16::from_le_bytes(count)) {
            (true, 0) => 0x1_0000,
            (true, count) => count.into(),
            (false, _) if count[0] == 0 => 0x100,
            (false, _) => count[0].into(),
        };
        if sector + count > self.disk.bytes() / SECTOR {
            return Err(NOT_FOUND);
        }
        Ok((sector, count))
    }

    /// Fills the buffer from the disk, for the host to read.
    fn fetch(&mut self, next: u64, left: u64) {
        let now = chunk(left);
        (self.position, self.end) = (0, now * SECTOR_BYTES);
        let data = &mut self.buffer.bytes()[..self.end];
        let result = self.disk.read(next * SECTOR, &VolatileSlice::from(data));
        if result.is_err() {
            return self.finish(UNCORRECTABLE);
        }
        self.status |= DATA_REQUEST;
        self.transfer = Transfer::In {
            next: next + now as u64,
            left: left - now as u64,
        };
    }

    /// Empties the buffer, for the host to fill.
    fn collect(&mut self, next: u64, left: u64) {
        self.status |= DATA_REQUEST;
        (self.position, self.end) = (0, chunk(left) * SECTOR_BYTES);
        self.transfer = Transfer::Out { next, left };
    }

    fn identify(&mut self) {
        let sectors = self.disk.bytes() / SECTOR;
        let small = u32::try_from(sectors)
            .unwrap_or(u32::MAX)
            .min(MOST_SMALL_SECTORS);
        let words = [
            // Capabilities: LBA. Fields 54 to 58 and 64 to 70 are not valid.
            (49, vec![1 << 9]),
            (60, halves(small.into(), 2)),
            // Major version: ATA/ATAPI-7. Commands: 48-bit addresses, FLUSH CACHE and FLUSH CACHE EXT; supported, then on.
            (80, vec![1 << 7]),
            (83, vec![1 << 14 | 1 << 13 | 1 << 12 | 1 << 10]),
            (86, vec![1 << 13 | 1 << 12 | 1 << 10]),
            (100, halves(sectors, 4)),
            // Sectors in a block of the disk's own, as a power of two.
            (106, vec![1 << 14 | block_words(self.disk.block_bytes())]),
        ];
        let sector = &mut self.buffer.bytes()[..SECTOR_BYTES];
        sector.fill(0);
        for (first, values) in words {
            for (word, value) in sector.chunks_exact_mut(2).skip(first).zip(values) {
                word.copy_from_slice(&value.to_le_bytes());
            }
        }
        // The model's characters come in pairs, the second first (ATA/ATAPI-7, 6.17.9).
        for (pair, name) in sector[54..94]
            .chunks_exact_mut(2)
            .zip(MODEL.chunks_exact(2))
        {
            pair.copy_from_slice(&[name[1], name[0]]);
        }
        (self.position, self.end) = (0, sector.len());
        self.status |= DATA_REQUEST;
        self.transfer = Transfer::In { next: 0, left: 0 };
    }

    /// Reads from the data port; beyond the data there are zeroes.
    fn take(&mut self, mut into: &mut [u8]) {
        while !into.is_empty() {
            let Transfer::In { next, left } = self.transfer else {
                into.fill(0);
                return;
            };
            let count = into.len().min(self.end - self.position);
            let (part, rest) = into.split_at_mut(count);
            part.copy_from_slice(&self.buffer.bytes()[self.position..self.position + count]);
            into = rest;
            self.position += count;
            if self.position == self.end {
                match left {
                    0 => self.finish(0),
                    left => self.fetch(next, left),
                }
            }
        }
    }

    /// Writes to the data port; what nobody asked for is dropped.
    fn put(&mut self, mut from: &[u8]) {
        while let Transfer::Out { next, left } = self.transfer
            && !from.is_empty()
        {
            let count = from.len().min(self.end - self.position);
            let (part, rest) = from.split_at(count);
            self.buffer.bytes()[self.position..self.position + count].copy_from_slice(part);
            from = rest;
            self.position += count;
            if self.position < self.end {
                return;
            }
            let now = chunk(left) as u64;
            let data = &mut self.buffer.bytes()[..self.end];
            let result = self.disk.write(next * SECTOR, &VolatileSlice::from(data));
            match left - now {
                _ if result.is_err() => self.finish(UNCORRECTABLE),
                0 => self.finish(0),
                left => self.collect(next + now, left),
            }
        }
    }
}

/// How many of the sectors that are left move at once.
fn chunk(left: u64) -> usize {
    usize::try_from(left).map_or(CHUNK_SECTORS, |left| left.min(CHUNK_SECTORS))
}

/// The bits of word 106 that say how many sectors one block has: none where it is a sector (ATA/ATAPI-7, 6.17.53).
fn block_words(block_bytes: u32) -> u16 {
    // There are fewer than 32 bits, and a block has at least a sector.
    match u16::try_from((block_bytes / 512).max(1).trailing_zeros()) {
        Ok(power @ 1..16) => 1 << 13 | power,
        _ => 0,
    }
}

/// The lowest `count` 16-bit parts of a number, the lowest first.
fn halves(number: u64, count: usize) -> Vec<u16> {
    let bytes = number.to_le_bytes();
    let pairs = bytes.chunks_exact(2).take(count);
    pairs
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: usize = 1 << 20;

    fn disk() -> Arc<Disk> {
        let disk = Disk::memory(MIB as u64).unwrap();
        let mut data = vec![0; MIB];
        vtax_workloads::block::fill(&mut data, 0);
        disk.write(0, &VolatileSlice::from(data.as_mut_slice()))
            .unwrap();
        Arc::new(disk)
    }

    fn port(number: u16) -> u16 {
        ATA_COMMAND_BLOCK + number
    }

    fn command(ata: &Ata, sector: u32, count: u8, command: u8) -> u8 {
        let [low, mid, high, top] = sector.to_le_bytes();
        for (number, value) in (2..).zip([count, low, mid, high, LBA | top, command]) {
            assert!(ata.write(port(number), &[value]));
        }
        status(ata)
    }

    fn status(ata: &Ata) -> u8 {
        let mut status = [0];
        assert!(ata.read(port(STATUS), &mut status));
        status[0]
    }

    #[test]
    fn sectors_come_and_go() {
        let disk = disk();
        let ata = Ata::new(Arc::clone(&disk)).unwrap();
        assert_eq!(
            command(&ata, 5, 2, READ_SECTORS) & DATA_REQUEST,
            DATA_REQUEST
        );
        let mut data = vec![0; 1024];
        for part in data.chunks_mut(64) {
            assert!(ata.read(port(0), part));
        }
        let mut expected = vec![0; 1024];
        vtax_workloads::block::fill(&mut expected, 5);
        assert_eq!(data, expected);
        assert_eq!(status(&ata), READY | SEEK_COMPLETE);

        assert_eq!(
            command(&ata, 9, 2, WRITE_SECTORS) & DATA_REQUEST,
            DATA_REQUEST
        );
        assert!(ata.write(port(0), &expected));
        assert_eq!(status(&ata), READY | SEEK_COMPLETE);
        assert_eq!(command(&ata, 0, 0, FLUSH_CACHE_EXT), READY | SEEK_COMPLETE);
        let mut back = vec![0; 1024];
        disk.read(9 * 512, &VolatileSlice::from(back.as_mut_slice()))
            .unwrap();
        assert_eq!(back, expected);
    }

    #[test]
    fn it_says_how_large_it_is() {
        let ata = Ata::new(disk()).unwrap();
        command(&ata, 0, 0, IDENTIFY);
        let mut words = [0; 512];
        assert!(ata.read(port(0), &mut words));
        assert_eq!(words[120..124], 2048_u32.to_le_bytes());
        assert_eq!(words[200..208], 2048_u64.to_le_bytes());
        assert_eq!(&words[54..58], b"tvxa");
        // A block is a sector; eight of them in one of 4 KiB.
        assert_eq!(words[212..214], [0, 0x40]);
        assert_eq!((block_words(512), block_words(4096)), (0, 0x2003));
    }

    #[test]
    fn nothing_beyond_the_end_and_nothing_on_a_read_only_disk() {
        let ata = Ata::new(disk()).unwrap();
        assert_eq!(command(&ata, 2047, 2, READ_SECTORS) & ERROR, ERROR);
        assert_eq!(command(&ata, 2047, 1, READ_SECTORS) & ERROR, 0);
        assert_eq!(command(&ata, 0, 1, 0x77) & ERROR, ERROR);
        let ata = Ata::new(Arc::new(Disk::memory(MIB as u64).unwrap().read_only())).unwrap();
        assert_eq!(command(&ata, 0, 1, WRITE_SECTORS) & ERROR, ERROR);
    }

    #[test]
    fn other_ports_are_others() {
        let ata = Ata::new(disk()).unwrap();
        for port in [0x1ef, 0x1f8, 0x3f5, 0x3f7, 0xf5] {
            assert!(!ata.read(port, &mut [0]) && !ata.write(port, &[0]));
        }
    }

    proptest! {
        #[test]
        fn any_access_has_an_answer(
            accesses in prop::collection::vec((0_u16..9, any::<bool>(), prop::collection::vec(any::<u8>(), 0..700)), 0..60)
        ) {
            let ata = Ata::new(disk()).unwrap();
            for (number, write, mut data) in accesses {
                let port = if number == 8 { ATA_CONTROL } else { port(number) };
                let answered = if write {
                    ata.write(port, &data)
                } else {
                    ata.read(port, &mut data)
                };
                prop_assert!(answered);
            }
        }

        #[test]
        fn any_command_with_any_registers_ends(
            registers in prop::collection::vec(any::<u8>(), 10),
            chosen in prop::sample::select(vec![
                READ_SECTORS, READ_SECTORS_EXT, WRITE_SECTORS, WRITE_SECTORS_EXT, FLUSH_CACHE, FLUSH_CACHE_EXT, IDENTIFY,
            ]),
        ) {
            let ata = Ata::new(disk()).unwrap();
            for (number, value) in [2, 3, 4, 5, 2, 3, 4, 5, 6].into_iter().zip(&registers) {
                ata.write(port(number), &[*value]);
            }
            ata.write(port(COMMAND), &[chosen]);
            // No transfer moves more than the disk holds.
            let mut data = vec![0; MIB];
            ata.read(port(0), &mut data);
            ata.write(port(0), &data);
            prop_assert_eq!(status(&ata) & DATA_REQUEST, 0);
        }
    }
}
