//! A request of virtio-blk (virtio 1.2, 5.2.6), from its buffers to what is asked.
//!
//! ```text
//! Chain: header (16 bytes) │ data … │ status (1 byte) ──► Request { operation, data, status }
//! ```
//!
//! A chain without header or status is no request at all: the driver broke the rules. Anything else that cannot be done
//! is answered in the status.

use virtio_bindings::bindings::virtio_blk::{
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};

use super::super::disk::{Disk, SECTOR};
use super::super::memory::{GuestMemory, drop_front, take_last_byte, total};
use super::super::ring::{Chain, RingError};

const HEADER: usize = 16;
const RANGE: usize = 16;

/// What a request asks for. Every offset and length is within the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fill what is writable.
    Read {
        /// Where on the disk, in bytes.
        offset: u64,
    },
    /// Keep what is readable.
    Write {
        /// Where on the disk, in bytes.
        offset: u64,
    },
    /// Make finished writes durable.
    Flush,
    /// The disk's name.
    Identify,
    /// The contents do not matter any more.
    Discard {
        /// Where on the disk, in bytes.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Make it read as zeroes.
    WriteZeroes {
        /// Where on the disk, in bytes.
        offset: u64,
        /// Bytes.
        len: u64,
        /// Whether the disk may give the space back.
        unmap: bool,
    },
    /// It cannot be done; the status says so.
    Refuse {
        /// VIRTIO_BLK_S_IOERR or VIRTIO_BLK_S_UNSUPP.
        status: u8,
    },
}

/// A request as the device carries it out. The chain that it came from holds its data alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub operation: Operation,
    /// Guest-physical address of the status byte.
    pub status: u64,
}

impl Request {
    /// Takes header and status off the chain, which keeps the data.
    ///
    /// # Errors
    /// There is no header or no status.
    pub fn take(chain: &mut Chain, memory: &GuestMemory, disk: &Disk) -> Result<Self, RingError> {
        let status =
            take_last_byte(&mut chain.writable).ok_or(RingError::Incomplete("a status byte"))?;
        let mut header = [0; HEADER];
        if memory.gather(&chain.readable, &mut header)? < HEADER {
            return Err(RingError::Incomplete("a whole header"));
        }
        drop_front(&mut chain.readable, 16);
        let [a, b, c, d, _, _, _, _, sector @ ..] = header;
        let sector = u64::from_le_bytes(sector);
        let operation = match u32::from_le_bytes([a, b, c, d]) {
            VIRTIO_BLK_T_IN => {
                let len = total(&chain.writable);
                transfer(disk, sector, len).map(|offset| Operation::Read { offset })
            }
            VIRTIO_BLK_T_OUT => {
                let len = total(&chain.readable);
                writable(disk)
                    .and_then(|()| transfer(disk, sector, len))
                    .map(|offset| Operation::Write { offset })
            }
            VIRTIO_BLK_T_FLUSH => Ok(Operation::Flush),
            VIRTIO_BLK_T_GET_ID if total(&chain.writable) >= VIRTIO_BLK_ID_BYTES.into() => {
                Ok(Operation::Identify)
            }
            VIRTIO_BLK_T_GET_ID => Err(VIRTIO_BLK_S_IOERR),
            VIRTIO_BLK_T_DISCARD => range(chain, memory, disk)?.and_then(|range| match range {
                // No flag has a meaning here (5.2.6.2).
                (offset, len, 0) => Ok(Operation::Discard { offset, len }),
                _ => Err(VIRTIO_BLK_S_UNSUPP),
            }),
            VIRTIO_BLK_T_WRITE_ZEROES => range(chain, memory, disk)?.and_then(|range| {
                let (offset, len, flags) = range;
                let unmap = flags == VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
                if flags == 0 || unmap {
                    Ok(Operation::WriteZeroes { offset, len, unmap })
                } else {
                    Err(VIRTIO_BLK_S_UNSUPP)
                }
            }),
            _ => Err(VIRTIO_BLK_S_UNSUPP),
        };
        Ok(Self {
            operation: operation.unwrap_or_else(|status| Operation::Refuse {
                // The constants are small.
                status: u8::try_from(status).unwrap_or(u8::MAX),
            }),
            status,
        })
    }
}

/// Where a transfer begins, in bytes.
fn transfer(disk: &Disk, sector: u64, len: u64) -> Result<u64, u32> {
    let offset = sector.checked_mul(SECTOR).ok_or(VIRTIO_BLK_S_IOERR)?;
    let end = offset.checked_add(len).ok_or(VIRTIO_BLK_S_IOERR)?;
    if len == 0 || !len.is_multiple_of(SECTOR) || end > disk.bytes() {
        return Err(VIRTIO_BLK_S_IOERR);
    }
    Ok(offset)
}

fn writable(disk: &Disk) -> Result<(), u32> {
    if disk.is_read_only() {
        Err(VIRTIO_BLK_S_IOERR)
    } else {
        Ok(())
    }
}

/// The range of a discard or write-zeroes request: where it begins, its bytes, its flags. One a request is on offer.
fn range(
    chain: &Chain,
    memory: &GuestMemory,
    disk: &Disk,
) -> Result<Result<(u64, u64, u32), u32>, RingError> {
    let mut bytes = [0; RANGE];
    memory.gather(&chain.readable, &mut bytes)?;
    let [sector @ .., a, b, c, d, e, f, g, h] = bytes;
    let sectors = u32::from_le_bytes([a, b, c, d]);
    let flags = u32::from_le_bytes([e, f, g, h]);
    Ok(if total(&chain.readable) == RANGE as u64 {
        writable(disk)
            .and_then(|()| {
                transfer(
                    disk,
                    u64::from_le_bytes(sector),
                    u64::from(sectors) * SECTOR,
                )
            })
            .map(|offset| (offset, u64::from(sectors) * SECTOR, flags))
    } else {
        Err(VIRTIO_BLK_S_IOERR)
    })
}
