//! A frame on the wire.
//!
//! ```text
//! 0       6       12     14     15      16     24       32                      len - 8   len
//! ├ to ───┼ from ─┼ type ┼ kind ┼ last ─┼ run ─┼ number ┼ count ─┼ sum ─┼ zeroes ─┼ mark ───┤
//! ```
//!
//! The mark follows from run and number, and stands at the very end: who sees it has got the whole frame.

use crate::mix::mix;

/// EtherType of local experiments.
///
/// Source: IEEE Std 802-2014, 9.2.4 (88-B5).
pub const ETHERTYPE: u16 = 0x88b5;

/// Bytes of the smallest frame.
pub const SMALLEST: usize = 64;

/// Bytes of the largest frame: an MTU of 1500 and the header.
pub const LARGEST: usize = 1514;

/// A hardware address.
pub type Address = [u8; 6];

/// The peer's address. This and the others are locally administered (IEEE Std 802-2014, 8.4).
pub const PEER: Address = [0x02, b'v', b't', b'a', b'x', 0];
/// The guest's.
pub const GUEST: Address = [0x02, b'v', b't', b'a', b'x', 1];
/// That of the native twin.
pub const NATIVE: Address = [0x02, b'v', b't', b'a', b'x', 2];

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// To the peer, which sends it back as an [`Purpose::Echo`].
    Ping = 1,
    /// From the peer: the same frame.
    Echo = 2,
    /// To the peer, which counts it.
    Data = 3,
    /// From the peer: what it has counted.
    Ack = 4,
    /// To the peer, from the harness: there is no more to do.
    End = 5,
}

/// A frame without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// To whom.
    pub to: Address,
    /// From whom.
    pub from: Address,
    /// What for.
    pub purpose: Purpose,
    /// Whether it is the last of its run.
    pub last: bool,
    /// The block that it belongs to, by a number that no other has.
    pub run: u64,
    /// Its number in the run.
    pub number: u64,
    /// Of an [`Purpose::Ack`]: frames that arrived so far.
    pub count: u64,
    /// And the sum of their marks.
    pub sum: u64,
}

impl Frame {
    /// Writes the frame over all of `bytes`, at least [`SMALLEST`].
    pub fn write(&self, bytes: &mut [u8]) {
        let body = bytes.len() - 8;
        bytes[..6].copy_from_slice(&self.to);
        bytes[6..12].copy_from_slice(&self.from);
        bytes[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
        bytes[14] = self.purpose as u8;
        bytes[15] = self.last.into();
        for (place, word) in (16..)
            .step_by(8)
            .zip([self.run, self.number, self.count, self.sum])
        {
            bytes[place..place + 8].copy_from_slice(&word.to_le_bytes());
        }
        bytes[48..body].fill(0);
        bytes[body..].copy_from_slice(&self.mark().to_le_bytes());
    }

    /// The frame that all of `bytes` are, if it is one of these, complete.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if !(SMALLEST..=LARGEST).contains(&bytes.len()) || bytes[12..14] != ETHERTYPE.to_be_bytes()
        {
            return None;
        }
        let purpose = [
            Purpose::Ping,
            Purpose::Echo,
            Purpose::Data,
            Purpose::Ack,
            Purpose::End,
        ]
        .into_iter()
        .find(|purpose| *purpose as u8 == bytes[14])?;
        let frame = Self {
            to: address(bytes, 0),
            from: address(bytes, 6),
            purpose,
            last: bytes[15] != 0,
            run: word(bytes, 16),
            number: word(bytes, 24),
            count: word(bytes, 32),
            sum: word(bytes, 40),
        };
        (word(bytes, bytes.len() - 8) == frame.mark()).then_some(frame)
    }

    /// What tells this frame from all others of all runs.
    #[must_use]
    pub fn mark(&self) -> u64 {
        mix(self.run ^ mix(self.number))
    }
}

fn address(bytes: &[u8], start: usize) -> Address {
    let mut address = [0; 6];
    address.copy_from_slice(&bytes[start..start + 6]);
    address
}

fn word(bytes: &[u8], start: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[start..start + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn frame() -> Frame {
        Frame {
            to: PEER,
            from: GUEST,
            purpose: Purpose::Data,
            last: true,
            run: 77,
            number: 5,
            count: 3,
            sum: u64::MAX,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for len in [SMALLEST, 65, LARGEST] {
            let mut bytes = vec![0xaa; len];
            frame().write(&mut bytes);
            assert_eq!(Frame::read(&bytes), Some(frame()));
        }
    }

    #[test]
    fn a_frame_that_was_cut_or_changed_is_none() {
        let mut bytes = vec![0; 200];
        frame().write(&mut bytes);
        assert_eq!(Frame::read(&bytes[..199]), None);
        assert_eq!(Frame::read(&bytes[..20]), None);
        for place in [12, 14, 16, 24, 199] {
            let mut changed = bytes.clone();
            changed[place] ^= 0x80;
            assert_eq!(Frame::read(&changed), None, "byte {place}");
        }
    }
}
