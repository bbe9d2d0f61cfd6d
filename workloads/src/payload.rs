//! The payload's dispatcher: one request in a [`Mailbox`] becomes one outcome in it.
//!
//! ```text
//! request ──► accept (index, ranges, arena) ──► setup | timed run | touch | identity ──► outcome
//! ```
//!
//! It runs inside the guest image, on both sides. What a request asks for is checked here once, so that the bodies
//! themselves need no checks.

use core::hint::black_box;

use crate::abi::{Mailbox, Op, Status, fnv1a};
use crate::tsc;
use crate::{Body, CATALOGUE, Latencies, MAX_PARAMS, RunFn, SetupFn, Workload};

const PAGE_BYTES: u64 = 4096;

/// Carries out the request in `mailbox` and stores its outcome there, the status last.
///
/// `text` is the image's code as this side sees it and `code_address` where the payload function runs: what
/// [`Op::Identity`] reports. A request that cannot be carried out ends as [`Status::Rejected`] and touches nothing.
///
/// # Safety
/// - The `arena_len` bytes at `arena` are mapped, readable and writable, and nothing else uses them during the call
///   (they may be mapped on demand).
/// - The CPU has the features that the workload's [`Workload::requires`] names for these parameters.
/// - A workload of [`crate::Family::Diagnostic`] is asked for only where a fault is caught.
pub unsafe fn execute(mailbox: &mut Mailbox, text: &[u8], code_address: u64) {
    // SAFETY: as this function's own contract.
    let outcome = unsafe {
        match mailbox.op {
            op if op == Op::Setup as u64 => setup(mailbox),
            op if op == Op::Run as u64 => run(mailbox),
            op if op == Op::Touch as u64 => touch(mailbox),
            op if op == Op::Identity as u64 => {
                mailbox.checksum = fnv1a(text);
                mailbox.code_address = code_address;
                Some(())
            }
            _ => None,
        }
    };
    mailbox.status = match outcome {
        Some(()) => Status::Done,
        None => Status::Rejected,
    } as u64;
}

/// Times `work` as a whole and leaves its checksum, its times and its single latencies in the mailbox.
///
/// # Errors
/// What `work` says; the mailbox then holds no times.
pub fn timed<E>(
    mailbox: &mut Mailbox,
    work: impl FnOnce(&mut Latencies<'_>) -> Result<u64, E>,
) -> Result<(), E> {
    let mut latencies = mailbox.recorder();
    let start = tsc::fenced();
    let checksum = work(&mut latencies)?;
    let end = tsc::fenced();
    mailbox.checksum = checksum;
    mailbox.tsc_begin = start;
    mailbox.tsc_start = start;
    mailbox.tsc_end = end;
    Ok(())
}

unsafe fn setup(mailbox: &mut Mailbox) -> Option<()> {
    let (workload, params) = accept(mailbox)?;
    let (setup, _) = shared(workload)?;
    // SAFETY: the caller vouches for the arena, and `accept` found it long enough.
    let arena = unsafe { arena(mailbox, (workload.footprint)(&params)) };
    setup(arena, &params, mailbox.seed);
    Some(())
}

unsafe fn run(mailbox: &mut Mailbox) -> Option<()> {
    let (workload, params) = accept(mailbox)?;
    let (_, run) = shared(workload)?;
    let (iterations, planted, seed) = (mailbox.iterations, mailbox.planted, mailbox.seed);
    let run_in = mailbox.run_in;
    if iterations.max(planted).max(run_in) > (workload.max_iterations)(&params) {
        return None;
    }
    // SAFETY: the caller vouches for the arena, and `accept` found it long enough.
    let arena = unsafe { arena(mailbox, (workload.footprint)(&params)) };

    let mut latencies = mailbox.recorder();
    let begin = tsc::fenced();
    let mut start = begin;
    if run_in > 0 {
        black_box(run(arena, &params, run_in, seed, &mut latencies));
        latencies.rewind(Default::default());
        start = tsc::fenced();
    }
    let checksum = run(arena, &params, iterations, seed, &mut latencies);
    let accounted = latencies.mark();
    if planted > 0 {
        black_box(run(arena, &params, planted, seed, &mut latencies));
    }
    let end = tsc::fenced();
    latencies.rewind(accounted);

    mailbox.checksum = checksum;
    mailbox.tsc_begin = begin;
    mailbox.tsc_start = start;
    mailbox.tsc_end = end;
    Some(())
}

unsafe fn touch(mailbox: &Mailbox) -> Option<()> {
    accept_arena(mailbox)?;
    for offset in (0..mailbox.arena_len).step_by(PAGE_BYTES as usize) {
        // SAFETY: the offset lies inside the arena, which the caller vouches for.
        unsafe { ((mailbox.arena + offset) as *const u8).read_volatile() };
    }
    Some(())
}

/// The workload and parameters of a request, if they are in range and the arena can hold what they need.
#[must_use]
pub fn accept(mailbox: &Mailbox) -> Option<(&'static Workload, [u64; MAX_PARAMS])> {
    let workload = CATALOGUE.get(usize::try_from(mailbox.workload).ok()?)?;
    let in_range = workload
        .params
        .iter()
        .zip(mailbox.params)
        .all(|(param, value)| (param.min..=param.max).contains(&value));
    accept_arena(mailbox)?;
    let fits = in_range && (workload.footprint)(&mailbox.params) <= mailbox.arena_len;
    fits.then_some((workload, mailbox.params))
}

/// The two functions of a workload whose code both sides share.
fn shared(workload: &Workload) -> Option<(SetupFn, RunFn)> {
    match workload.body {
        Body::Shared { setup, run } => Some((setup, run)),
        Body::PerSide(_) => None,
    }
}

/// Whether the arena starts on a page boundary and stays inside the address space.
fn accept_arena(mailbox: &Mailbox) -> Option<()> {
    let end = mailbox.arena.checked_add(mailbox.arena_len)?;
    let sound = mailbox.arena != 0
        && mailbox.arena.is_multiple_of(PAGE_BYTES)
        && isize::try_from(end).is_ok();
    sound.then_some(())
}

/// The first `len` bytes of the arena: a body sees its footprint and no more.
///
/// # Safety
/// `len` is at most `arena_len`, and the arena is as [`execute`] requires.
unsafe fn arena<'a>(mailbox: &Mailbox, len: u64) -> &'a mut [u8] {
    // SAFETY: as this function's own contract; `accept_arena` found the address sound.
    unsafe { core::slice::from_raw_parts_mut(mailbox.arena as *mut u8, len as usize) }
}
