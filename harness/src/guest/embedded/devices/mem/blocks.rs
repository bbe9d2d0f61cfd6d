//! The blocks of the region, and what requests about them come to (virtio 1.2, 5.15.6). The guest's words are checked here.

use std::ops::Range;
use std::sync::Arc;

use super::BLOCK_BYTES;
use super::sizes::Sizes;

/// Bytes of a request and of a response; what follows in their buffers counts for nothing.
pub const REQUEST_BYTES: usize = 24;
/// Likewise.
pub const RESPONSE_BYTES: usize = 10;

/// VIRTIO_MEM_REQ_*.
pub const PLUG: u16 = 0;
/// Likewise.
pub const UNPLUG: u16 = 1;
/// Likewise.
pub const UNPLUG_ALL: u16 = 2;
/// Likewise.
pub const STATE: u16 = 3;

/// VIRTIO_MEM_RESP_* and, for STATE requests, VIRTIO_MEM_STATE_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// Done.
    Ack,
    /// More than was requested by the host.
    Nack,
    /// The host cannot do it now.
    Busy,
    /// The request makes no sense.
    Error,
    /// All of the blocks are plugged.
    Plugged,
    /// None of them is.
    Unplugged,
    /// Some are.
    Mixed,
}

impl Response {
    /// struct virtio_mem_resp.
    #[must_use]
    pub fn bytes(self) -> [u8; RESPONSE_BYTES] {
        let (kind, state) = match self {
            Self::Ack | Self::Plugged => (0, 0),
            Self::Unplugged => (0, 1),
            Self::Mixed => (0, 2),
            Self::Nack => (1, 0),
            Self::Busy => (2, 0),
            Self::Error => (3, 0),
        };
        [kind, 0, 0, 0, 0, 0, 0, 0, state, 0]
    }
}

/// Which blocks are plugged.
#[derive(Debug)]
pub struct Blocks {
    sizes: Arc<Sizes>,
    plugged: Vec<bool>,
}

impl Blocks {
    /// None is.
    #[must_use]
    pub fn new(sizes: Arc<Sizes>) -> Self {
        let count = usize::try_from(sizes.region().len / BLOCK_BYTES).unwrap_or(0);
        Self {
            sizes,
            plugged: vec![false; count],
        }
    }

    /// Carries a request out. `give_back` returns a part of the region to the host, by offset from its start and length;
    /// false where the host refuses.
    pub fn answer(
        &mut self,
        request: &[u8; REQUEST_BYTES],
        give_back: impl FnMut(u64, u64) -> bool,
    ) -> Response {
        // struct virtio_mem_req: type, padding, address of the first block, number of blocks.
        let [k0, k1, _, _, _, _, _, _, a @ .., n0, n1, _, _, _, _, _, _] = *request;
        let blocks = || self.blocks(u64::from_le_bytes(a), u16::from_le_bytes([n0, n1]));
        match u16::from_le_bytes([k0, k1]) {
            UNPLUG_ALL => self.unplug_all(give_back),
            PLUG => blocks().map_or(Response::Error, |blocks| self.plug(blocks)),
            UNPLUG => blocks().map_or(Response::Error, |blocks| self.unplug(blocks, give_back)),
            STATE => blocks().map_or(Response::Error, |blocks| self.state(blocks)),
            _ => Response::Error,
        }
    }

    /// The blocks of a request: at least one, aligned, all in the usable part of the region.
    fn blocks(&self, address: u64, count: u16) -> Option<Range<usize>> {
        let start = address.checked_sub(self.sizes.region().address())?;
        let end = start.checked_add(u64::from(count) * BLOCK_BYTES)?;
        let sound =
            count > 0 && start.is_multiple_of(BLOCK_BYTES) && end <= self.sizes.now().usable;
        let index = |place: u64| usize::try_from(place / BLOCK_BYTES).ok();
        let blocks = index(start)?..index(end)?;
        (sound && blocks.end <= self.plugged.len()).then_some(blocks)
    }

    fn plug(&mut self, blocks: Range<usize>) -> Response {
        let now = self.sizes.now();
        let after = now.plugged.saturating_add(bytes(blocks.len()));
        if self.state(blocks.clone()) != Response::Unplugged {
            return Response::Error;
        }
        if after > now.requested {
            return Response::Nack;
        }
        self.set(blocks, true);
        Response::Ack
    }

    fn unplug(
        &mut self,
        blocks: Range<usize>,
        mut give_back: impl FnMut(u64, u64) -> bool,
    ) -> Response {
        if self.state(blocks.clone()) != Response::Plugged {
            return Response::Error;
        }
        if !give_back(bytes(blocks.start), bytes(blocks.len())) {
            return Response::Busy;
        }
        self.set(blocks, false);
        Response::Ack
    }

    fn unplug_all(&mut self, mut give_back: impl FnMut(u64, u64) -> bool) -> Response {
        if !give_back(0, self.sizes.region().len) {
            return Response::Busy;
        }
        self.plugged.fill(false);
        self.sizes.unplugged_all();
        Response::Ack
    }

    fn state(&self, blocks: Range<usize>) -> Response {
        let all = self.plugged.get(blocks).unwrap_or_default();
        match (all.contains(&true), all.contains(&false)) {
            (true, false) => Response::Plugged,
            (true, true) => Response::Mixed,
            (false, _) => Response::Unplugged,
        }
    }

    fn set(&mut self, blocks: Range<usize>, plugged: bool) {
        for block in self.plugged.get_mut(blocks).unwrap_or_default() {
            *block = plugged;
        }
        let count = self.plugged.iter().filter(|&&it| it).count();
        self.sizes.plugged(bytes(count));
    }
}

/// Bytes of so many blocks.
fn bytes(blocks: usize) -> u64 {
    blocks as u64 * BLOCK_BYTES
}
