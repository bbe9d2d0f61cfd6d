//! The host's own way of doing what a workload asks of the machine: the native side where there is no code that both
//! sides could share.
//!
//! ```text
//! request in the mailbox ──► TwinCpu ──► Twin::set_up | Twin::run, timed ──► answer in the mailbox
//! ```
//!
//! A twin runs on its vCPU's thread, hence on the same CPU, and answers through the native side's mailbox.

pub mod block;
pub mod net;
pub mod partner;
mod waits;

use std::io;
use std::sync::Arc;

use vtax_reports::native_disk::Waiting;
use vtax_scenarios::plan;
use vtax_workloads::abi::{LATENCY_SLOTS, Op};
use vtax_workloads::tsc;
use vtax_workloads::{Latencies, Task};

use crate::guest::embedded::devices::disk::Disk;
use crate::guest::mailbox::{Mailbox, Request};
use crate::guest::ram::RamError;
use crate::guest::{Completion, Executor, Failure};
use crate::host::net::Network;
use crate::host::tsc::TscClock;
use partner::Words;

/// Why the host could not do its side of a task.
#[derive(Debug, thiserror::Error)]
pub enum TwinError {
    /// The mailbox lies outside its memory.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// The disk failed.
    #[error("the native side's disk: {0}")]
    Disk(#[source] io::Error),
    /// The link failed.
    #[error("the native side's network link: {0}")]
    Network(#[source] io::Error),
    /// The mailbox holds no request for a twin.
    #[error("the native side was asked for something other than to set up or to run its task")]
    Request,
}

/// What the host does in the place of a guest's task.
pub trait Twin {
    /// Brings about what every block must find. Not timed.
    ///
    /// # Errors
    /// The host refuses.
    fn set_up(&mut self, request: &Request) -> Result<(), TwinError>;

    /// Does `request.iterations` operations, records how long each took, and returns the checksum that the guest's side
    /// must come to as well.
    ///
    /// # Errors
    /// The host refuses.
    fn run(&mut self, request: &Request, latencies: &mut Latencies<'_>) -> Result<u64, TwinError>;

    /// How it waits for a disk from now on; nothing to those that have none.
    fn wait_by(&mut self, _waiting: Waiting) {}
}

/// The calling thread in the place of a vCPU, for a task.
pub struct TwinCpu<'a> {
    twin: Box<dyn Twin + 'a>,
    mailbox: Mailbox<'a>,
    slots: Box<[u32; LATENCY_SLOTS]>,
}

impl std::fmt::Debug for TwinCpu<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TwinCpu")
            .field("mailbox", &self.mailbox)
            .finish_non_exhaustive()
    }
}

/// What a twin finds around it.
#[derive(Debug)]
pub struct Around<'a> {
    /// The mailbox of its vCPU.
    pub mailbox: Mailbox<'a>,
    /// Rate of the TSC.
    pub clock: TscClock,
    /// The words of the vCPU's partner, where the task needs one.
    pub words: Option<Words<'a>>,
    /// The guest's disk, where it has one.
    pub disk: Option<Arc<Disk>>,
    /// Its network link, and how it learns of frames, where it has one.
    pub network: Option<(Arc<Network>, plan::Completion)>,
}

/// The twin of `task`; `None` where the host has nothing to compare with.
///
/// # Errors
/// The host cannot do its side.
pub fn of<'a>(task: Task, around: Around<'a>) -> Result<Option<TwinCpu<'a>>, TwinError> {
    let Around {
        mailbox,
        clock,
        words,
        disk,
        network,
    } = around;
    let twin: Option<Box<dyn Twin + 'a>> = match task {
        Task::BlockRandom | Task::BlockSequential | Task::BlockFlush => {
            disk.map(|disk| Box::new(block::Block::new(task, disk)) as Box<dyn Twin>)
        }
        Task::NetPing | Task::NetStream => network.map(|(network, completion)| {
            Box::new(net::Net {
                network,
                task,
                completion,
            }) as Box<dyn Twin>
        }),
        Task::Timer => Some(Box::new(waits::Timer { clock })),
        Task::Wake => words.map(|words| Box::new(waits::Wake { words }) as Box<dyn Twin>),
        Task::Mailbox => words.map(|words| Box::new(waits::Mailbox { words }) as Box<dyn Twin>),
        Task::Cpuid
        | Task::Port
        | Task::Mmio
        | Task::Hypercall
        | Task::Msr
        | Task::Kick
        | Task::Inject
        | Task::Ipi
        | Task::Sleep => None,
    };
    Ok(twin.map(|twin| TwinCpu {
        twin,
        mailbox,
        slots: Box::new([0; LATENCY_SLOTS]),
    }))
}

impl TwinCpu<'_> {
    /// How it waits for a disk from now on.
    pub fn wait_by(&mut self, waiting: Waiting) {
        self.twin.wait_by(waiting);
    }

    fn carry_out(&mut self) -> Result<(), TwinError> {
        let request = self.mailbox.request()?.ok_or(TwinError::Request)?;
        let (mut checksum, mut ticks) = (0, 0);
        let (mut len, mut dropped) = (0, 0);
        match request.op {
            Op::Setup => self.twin.set_up(&request)?,
            Op::Run => {
                let mut latencies = Latencies::new(&mut self.slots, &mut len, &mut dropped);
                let start = tsc::fenced();
                checksum = self.twin.run(&request, &mut latencies)?;
                ticks = tsc::fenced().wrapping_sub(start);
            }
            _ => return Err(TwinError::Request),
        }
        let len = usize::try_from(len)
            .unwrap_or(LATENCY_SLOTS)
            .min(LATENCY_SLOTS);
        self.mailbox.answer(checksum, ticks, &self.slots[..len])?;
        Ok(())
    }
}

impl Executor for TwinCpu<'_> {
    fn execute(&mut self) -> Result<Completion, Failure> {
        self.carry_out()?;
        Ok(Completion::Clean)
    }
}
