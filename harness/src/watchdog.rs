//! Brings vCPU threads back that stay in the guest too long.
//!
//! A thread arms its [`Slot`] before it enters the guest. One watching thread looks at all slots a few times a second
//! and sends a signal to every thread that is overdue; KVM_RUN then returns with EINTR. The signal is repeated until
//! the slot is disarmed, so that one that arrives just before KVM_RUN is not lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use crate::host::tsc::now_raw_nanos;

/// How often the slots are looked at. Rare enough to disturb no measurement.
const PERIOD: Duration = Duration::from_millis(250);

static SLOTS: Mutex<Vec<Weak<Slot>>> = Mutex::new(Vec::new());
static WATCHER: OnceLock<()> = OnceLock::new();

/// The watch over one thread.
#[derive(Debug)]
pub struct Slot {
    thread: i32,
    /// CLOCK_MONOTONIC_RAW in nanoseconds; 0 while disarmed.
    deadline: AtomicU64,
    fired: AtomicBool,
}

impl Slot {
    /// A slot for the calling thread.
    ///
    /// # Errors
    /// The signal handler or the watching thread cannot be set up.
    pub fn for_this_thread() -> std::io::Result<Arc<Self>> {
        start()?;
        let slot = Arc::new(Self {
            thread: rustix::thread::gettid().as_raw_nonzero().get(),
            deadline: AtomicU64::new(0),
            fired: AtomicBool::new(false),
        });
        let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|old| old.strong_count() > 0);
        slots.push(Arc::downgrade(&slot));
        Ok(slot)
    }

    /// Lets the thread be interrupted after `patience`.
    pub fn arm(&self, patience: Duration) {
        let nanos = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        self.fired.store(false, Ordering::Relaxed);
        self.deadline
            .store(now_raw_nanos().saturating_add(nanos), Ordering::Release);
    }

    /// Ends the watch.
    pub fn disarm(&self) {
        self.deadline.store(0, Ordering::Release);
    }

    /// Ends the patience of the present watch, if there is one: what the thread does is not wanted any more.
    pub fn cut_short(&self) {
        // Lost where the thread arms it anew or disarms it just now.
        let cut = |deadline| (deadline != 0).then_some(1);
        let _ = self
            .deadline
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, cut);
    }

    /// Whether the patience ran out.
    #[must_use]
    pub fn fired(&self) -> bool {
        self.fired.load(Ordering::Acquire)
    }
}

extern "C" fn wake(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// Installs the handler and starts the watching thread, once.
fn start() -> std::io::Result<()> {
    if WATCHER.get().is_some() {
        return Ok(());
    }
    register_signal_handler(SIGRTMIN(), wake)?;
    if WATCHER.set(()).is_ok() {
        std::thread::Builder::new()
            .name("watchdog".into())
            .spawn(watch)?;
    }
    Ok(())
}

fn watch() {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    loop {
        std::thread::sleep(PERIOD);
        let now = now_raw_nanos();
        let slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in slots.iter().filter_map(Weak::upgrade) {
            let deadline = slot.deadline.load(Ordering::Acquire);
            if deadline != 0 && now > deadline {
                slot.fired.store(true, Ordering::Release);
                // SAFETY: a system call on numbers alone. A thread that has ended is ESRCH, which is as well.
                unsafe { libc::syscall(libc::SYS_tgkill, process, slot.thread, SIGRTMIN()) };
            }
        }
    }
}
