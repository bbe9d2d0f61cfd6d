//! What the tests stand on: an arena as the payload gets it, with canaries behind it, driven through the mailbox.

use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use crate::abi::{LATENCY_SLOTS, Mailbox, Op, Status};
use crate::payload::execute;
use crate::{CATALOGUE, Features, MAX_PARAMS, Workload};

const CANARY: u8 = 0xa5;

#[derive(Clone, Copy)]
#[repr(align(4096))]
struct Page {
    _bytes: [u8; 4096],
}

/// Zeroed memory of some length, and a page of canaries behind it.
pub(crate) struct Arena {
    pages: Vec<Page>,
    len: usize,
}

impl Arena {
    pub(crate) fn new(len: usize) -> Self {
        let mut arena = Self {
            pages: vec![Page { _bytes: [0; 4096] }; len.div_ceil(4096) + 1],
            len,
        };
        arena.all()[len..].fill(CANARY);
        arena
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        let len = self.len;
        &mut self.all()[..len]
    }

    pub(crate) fn canaries_live(&mut self) -> bool {
        let len = self.len;
        self.all()[len..].iter().all(|&byte| byte == CANARY)
    }

    fn all(&mut self) -> &mut [u8] {
        // SAFETY: pages are bytes without padding.
        unsafe { self.pages.align_to_mut().1 }
    }
}

/// A mailbox with nothing in it.
pub(crate) fn empty_mailbox() -> Box<Mailbox> {
    Box::new(Mailbox {
        op: 0,
        workload: 0,
        arena: 0,
        arena_len: 0,
        iterations: 0,
        run_in: 0,
        planted: 0,
        params: [0; MAX_PARAMS],
        seed: 0,
        status: 0,
        checksum: 0,
        tsc_begin: 0,
        tsc_start: 0,
        tsc_end: 0,
        code_address: 0,
        latencies_len: 0,
        latencies_dropped: 0,
        latencies: [0; LATENCY_SLOTS],
    })
}

/// One workload, set up.
pub(crate) struct Rig {
    arena: Arena,
    request: Box<Mailbox>,
}

impl Rig {
    pub(crate) fn new(workload: &Workload, params: [u64; MAX_PARAMS], seed: u64) -> Self {
        let mut rig = Self::bare(workload, params, seed);
        rig.set_up();
        rig
    }

    /// Not set up yet.
    pub(crate) fn bare(workload: &Workload, params: [u64; MAX_PARAMS], seed: u64) -> Self {
        let index = CATALOGUE
            .iter()
            .position(|entry| entry.name == workload.name);
        let mut request = empty_mailbox();
        request.workload = index.unwrap() as u64;
        request.params = params;
        request.seed = seed;
        Self {
            arena: Arena::new((workload.footprint)(&params) as usize),
            request,
        }
    }

    pub(crate) fn set_up(&mut self) {
        self.execute(Op::Setup, |_| {});
        assert_eq!(self.request.status, Status::Done as u64);
    }

    pub(crate) fn run(&mut self, iterations: u64) -> u64 {
        self.request(iterations).checksum
    }

    /// Runs and hands out the whole answer.
    pub(crate) fn request(&mut self, iterations: u64) -> &Mailbox {
        self.execute(Op::Run, |request| request.iterations = iterations);
        assert_eq!(self.request.status, Status::Done as u64);
        &self.request
    }

    /// Any request on this arena; `change` may spoil it.
    pub(crate) fn execute(&mut self, op: Op, change: impl FnOnce(&mut Mailbox)) -> &Mailbox {
        let arena = self.arena.bytes();
        self.request.arena = arena.as_mut_ptr() as u64;
        self.request.arena_len = arena.len() as u64;
        self.request.op = op as u64;
        self.request.status = Status::Pending as u64;
        change(&mut self.request);
        // SAFETY: the arena is ours; tests ask for nothing the host lacks and for no diagnostic workload.
        unsafe { execute(&mut self.request, b"code", 0x1234) };
        &self.request
    }

    pub(crate) fn arena(&mut self) -> &mut [u8] {
        self.arena.bytes()
    }

    pub(crate) fn words(&mut self) -> &mut [u64] {
        let arena = self.arena.bytes();
        let len = arena.len() / 8;
        crate::mix::words(arena, len)
    }

    pub(crate) fn canaries_live(&mut self) -> bool {
        self.arena.canaries_live()
    }
}

/// Whether the machine that runs the tests has these features.
pub(crate) fn host_has(features: Features) -> bool {
    use std::is_x86_feature_detected as has;
    let bits = has!("popcnt") && has!("lzcnt") && has!("bmi1") && has!("bmi2");
    [
        (Features::BITS, bits),
        (Features::AES, has!("aes")),
        (Features::AVX2, has!("avx2") && has!("fma")),
        (Features::AVX512, has!("avx512f")),
    ]
    .into_iter()
    .all(|(feature, present)| present || !features.contains(feature))
}
