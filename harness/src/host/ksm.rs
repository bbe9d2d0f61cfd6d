//! What KSM has done with memory that was offered to it (Linux, admin-guide/mm/ksm.rst).

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::root::HostRoot;

const RUN: &str = "sys/kernel/mm/ksm/run";
const FULL_SCANS: &str = "sys/kernel/mm/ksm/full_scans";

pub use vtax_scenarios::ksm::SCANS;

/// How long the passes may take: the kernel's own pace, 5,000 pages a second, gets through a few hundred MiB.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);

/// KSM runs, and does not get through the host's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "KSM has not looked through all memory {SCANS} times within {} s; let it look at more pages at a time (ksm-pages-to-scan \
     in [host]) or offer it less",
    PATIENCE.as_secs()
)]
pub struct TooSlow;

/// Pages of a process that are merged with others, itself included; `None` where the kernel does not tell (it does from
/// Linux 5.19 on), or the process is gone.
#[must_use]
pub fn merged_pages(root: &HostRoot, process: u32) -> Option<u64> {
    root.number(&format!("proc/{process}/ksm_merging_pages"))
        .ok()
}

/// Whether KSM merges pages now.
#[must_use]
pub fn is_on(root: &HostRoot) -> bool {
    root.number::<u64>(RUN).is_ok_and(|run| run == 1)
}

/// Waits until KSM has had time to merge what is offered to it now; at once where it does not run.
///
/// # Errors
/// [`TooSlow`].
pub fn await_merging(root: &HostRoot, stop: &AtomicBool) -> Result<(), TooSlow> {
    let passes = || root.number(FULL_SCANS).unwrap_or(0);
    // The pass that is under way may have left the memory behind it.
    let (start, wanted) = (Instant::now(), passes() + 1 + SCANS);
    while is_on(root) && passes() < wanted && !stop.load(Ordering::Relaxed) {
        if start.elapsed() > PATIENCE {
            return Err(TooSlow);
        }
        sleep(LOOK);
    }
    Ok(())
}
