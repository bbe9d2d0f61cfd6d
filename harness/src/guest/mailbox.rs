//! The harness's end of a mailbox.

use std::mem::offset_of;

use vtax_workloads::abi::{self, LATENCY_SLOTS, Op, Status};
use vtax_workloads::block::DiskTrouble;
use vtax_workloads::machine::MEMORY_TROUBLE;
use vtax_workloads::network::NetTrouble;

use super::ram::{Ram, RamError};

/// Bytes before the latencies: all that a request is.
const HEAD: usize = offset_of!(abi::Mailbox, latencies);

/// How many latencies are copied at once.
const PIECE: usize = 1024;

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// What to do.
    pub op: Op,
    /// Which workload, as an index into the catalogue.
    pub workload: u64,
    /// Virtual address of the arena.
    pub arena: u64,
    /// Its bytes.
    pub arena_len: u64,
    /// Units of work.
    pub iterations: u64,
    /// Units of work right before those, not timed.
    pub run_in: u64,
    /// Units of work that are not accounted.
    pub planted: u64,
    /// The workload's parameters.
    pub params: [u64; vtax_workloads::MAX_PARAMS],
    /// The workload's seed.
    pub seed: u64,
}

/// What the payload answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The checksum, or the hash of the code.
    pub checksum: u64,
    /// TSC ticks between start and end of the work.
    pub ticks: u64,
    /// TSC ticks of the run-in before it.
    pub run_in_ticks: u64,
    /// Where the payload runs ([`Op::Identity`]).
    pub code_address: u64,
    /// Single latencies in ticks.
    pub latencies: Vec<u32>,
}

/// The payload said no: a request that the harness should not have made.
#[derive(Debug, thiserror::Error)]
pub enum MailboxError {
    /// Outside guest memory.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// Rejected, or no answer at all.
    #[error("the payload did not carry out the request (status {0})")]
    Refused(u64),
    /// Begun, and came to nothing.
    #[error("{}", failure(*.0))]
    Failed(u64),
}

/// What a guest's driver says went wrong, in words.
fn failure(code: u64) -> String {
    match code {
        code if code == DiskTrouble::NoDisk as u64 => "the guest was told of no disk".to_owned(),
        code if code == DiskTrouble::Device as u64 => {
            "the guest's disk does not answer as its specification says".to_owned()
        }
        code if code == DiskTrouble::Failed as u64 => {
            "a request of the guest failed at its disk (I/O error)".to_owned()
        }
        code if code == NetTrouble::NoLink as u64 => {
            "the guest was told of no network card".to_owned()
        }
        code if code == NetTrouble::Device as u64 => {
            "the guest's network card does not answer as its specification says".to_owned()
        }
        MEMORY_TROUBLE => {
            "the guest's memory device does not answer as its specification says".to_owned()
        }
        code => format!("the guest failed at its task (code {code})"),
    }
}

/// A mailbox: a guest's in its RAM, or one of the native side.
#[derive(Clone, Copy, Debug)]
pub struct Mailbox<'a> {
    ram: &'a Ram,
    offset: u64,
}

impl<'a> Mailbox<'a> {
    /// The mailbox at this offset.
    #[must_use]
    pub fn new(ram: &'a Ram, offset: u64) -> Self {
        Self { ram, offset }
    }

    /// Its virtual address in this process; that of a guest whose RAM is mapped at its own address is the same there.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.ram.address() + self.offset
    }

    /// Puts a request in and clears the last answer.
    ///
    /// # Errors
    /// Outside guest memory.
    pub fn put(&self, request: &Request) -> Result<(), RamError> {
        let mut head = [0; HEAD];
        let mut set = |at: usize, value: u64| {
            if let Some(word) = head.get_mut(at..at + 8) {
                word.copy_from_slice(&value.to_ne_bytes());
            }
        };
        set(offset_of!(abi::Mailbox, op), request.op as u64);
        set(offset_of!(abi::Mailbox, workload), request.workload);
        set(offset_of!(abi::Mailbox, arena), request.arena);
        set(offset_of!(abi::Mailbox, arena_len), request.arena_len);
        set(offset_of!(abi::Mailbox, iterations), request.iterations);
        set(offset_of!(abi::Mailbox, run_in), request.run_in);
        set(offset_of!(abi::Mailbox, planted), request.planted);
        set(offset_of!(abi::Mailbox, seed), request.seed);
        set(offset_of!(abi::Mailbox, status), Status::Pending as u64);
        for (index, &param) in request.params.iter().enumerate() {
            set(offset_of!(abi::Mailbox, params) + 8 * index, param);
        }
        // The latencies stay as they are: their pages may not have been touched yet, and that costs.
        self.ram.write_bytes(self.offset, &head)
    }

    /// The request that stands here; `None` where it names no operation. The guest can write here: nothing in it is
    /// trusted.
    ///
    /// # Errors
    /// Outside guest memory.
    pub fn request(&self) -> Result<Option<Request>, RamError> {
        let mut head = [0; HEAD];
        self.ram.read_bytes(self.offset, &mut head)?;
        let word = |at: usize| {
            let bytes = head.get(at..at + 8).and_then(|word| word.try_into().ok());
            u64::from_ne_bytes(bytes.unwrap_or_default())
        };
        let mut params = [0; vtax_workloads::MAX_PARAMS];
        for (index, param) in params.iter_mut().enumerate() {
            *param = word(offset_of!(abi::Mailbox, params) + 8 * index);
        }
        Ok(
            Op::of(word(offset_of!(abi::Mailbox, op))).map(|op| Request {
                op,
                workload: word(offset_of!(abi::Mailbox, workload)),
                arena: word(offset_of!(abi::Mailbox, arena)),
                arena_len: word(offset_of!(abi::Mailbox, arena_len)),
                iterations: word(offset_of!(abi::Mailbox, iterations)),
                run_in: word(offset_of!(abi::Mailbox, run_in)),
                planted: word(offset_of!(abi::Mailbox, planted)),
                params,
                seed: word(offset_of!(abi::Mailbox, seed)),
            }),
        )
    }

    /// Puts an answer in, in the payload's place: its checksum, its length in ticks and its single latencies. Within the
    /// block's outer time, so nothing is allocated, whose pages would be faulted in.
    ///
    /// # Errors
    /// Outside guest memory.
    pub fn answer(&self, checksum: u64, ticks: u64, latencies: &[u32]) -> Result<(), RamError> {
        let latencies = &latencies[..latencies.len().min(LATENCY_SLOTS)];
        let mut bytes = [0; size_of::<u32>() * PIECE];
        let mut at = self.offset + HEAD as u64;
        for piece in latencies.chunks(PIECE) {
            for (bytes, latency) in bytes.chunks_exact_mut(size_of::<u32>()).zip(piece) {
                bytes.copy_from_slice(&latency.to_ne_bytes());
            }
            let bytes = &bytes[..size_of_val(piece)];
            self.ram.write_bytes(at, bytes)?;
            at += bytes.len() as u64;
        }
        for (at, value) in [
            (offset_of!(abi::Mailbox, checksum), checksum),
            (offset_of!(abi::Mailbox, tsc_begin), 0),
            (offset_of!(abi::Mailbox, tsc_start), 0),
            (offset_of!(abi::Mailbox, tsc_end), ticks),
            (
                offset_of!(abi::Mailbox, latencies_len),
                latencies.len() as u64,
            ),
            (offset_of!(abi::Mailbox, status), Status::Done as u64),
        ] {
            self.ram.write(self.offset + at as u64, &value)?;
        }
        Ok(())
    }

    /// Takes the answer out. Nothing in it is trusted: lengths are bounded, times wrap.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub fn take(&self) -> Result<Answer, MailboxError> {
        let word = |at: usize| self.ram.read::<u64>(self.offset + at as u64);
        let (status, checksum) = (
            word(offset_of!(abi::Mailbox, status))?,
            word(offset_of!(abi::Mailbox, checksum))?,
        );
        if status == Status::Failed as u64 {
            return Err(MailboxError::Failed(checksum));
        }
        if status != Status::Done as u64 {
            return Err(MailboxError::Refused(status));
        }
        // No more than there are: most requests bring none, and then no page of them need be there.
        let len = usize::try_from(word(offset_of!(abi::Mailbox, latencies_len))?)
            .unwrap_or(LATENCY_SLOTS)
            .min(LATENCY_SLOTS);
        let mut bytes = vec![0; len * size_of::<u32>()];
        self.ram.read_bytes(self.offset + HEAD as u64, &mut bytes)?;
        let (begin, start, end) = (
            word(offset_of!(abi::Mailbox, tsc_begin))?,
            word(offset_of!(abi::Mailbox, tsc_start))?,
            word(offset_of!(abi::Mailbox, tsc_end))?,
        );
        Ok(Answer {
            checksum,
            ticks: end.wrapping_sub(start),
            run_in_ticks: start.wrapping_sub(begin),
            code_address: word(offset_of!(abi::Mailbox, code_address))?,
            latencies: bytes
                .as_chunks()
                .0
                .iter()
                .map(|bytes| u32::from_ne_bytes(*bytes))
                .collect(),
        })
    }
}
