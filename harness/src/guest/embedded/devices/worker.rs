//! An I/O thread: one queue served by a thread of its own, which polls for a while before it sleeps.
//!
//! ```text
//! start, stop (registers) ──► commands ─┐
//! kick (ioeventfd) ─────────────────────┼─► loop: turn; nothing to do? poll on; window over? ask for kicks, sleep
//! end of a request (descriptor) ────────┘
//! ```
//!
//! Before its first request the thread is left with the few system calls that it needs ([`super::filter`]). While it polls
//! the driver need not kick. The window is always the same: one about as long as a wake-up never costs more than twice
//! what knowing the future would (Karlin and others 1990, "Competitive randomized algorithms for non-uniform problems"),
//! while one that adapts, as QEMU's (util/aio-posix.c), stays closed where a wake-up takes longer than the window.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::filter::{self, FilterError};
use super::ring::Ring;
use super::server::{Condition, Counts, Lane, ServeError, Server, Service, Tally};
use crate::host::affinity::{AffinityError, Pinned};

/// Why a thread could not begin its work.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The system refused a thread or an event descriptor.
    #[error("an I/O thread could not be started: {0}")]
    Start(#[from] io::Error),
    /// The CPU is not to be had.
    #[error("an I/O thread could not be pinned: {0}")]
    Pin(#[from] AffinityError),
    /// What it serves with could not be made.
    #[error(
        "an I/O thread could not set up io_uring: {0}; it needs Linux 5.11 and /proc/sys/kernel/io_uring_disabled at 0"
    )]
    Service(io::Error),
    /// It could not give up its rights.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// It ended before it began.
    #[error("an I/O thread ended before its first request")]
    Lost,
}

/// How a thread works.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Its name, of at most 15 bytes.
    pub name: String,
    /// The only CPU that it runs on, if it is to be pinned.
    pub cpu: Option<u32>,
    /// The polling window; zero never polls.
    pub poll: Duration,
    /// Whether finished requests interrupt the guest.
    pub interrupts: bool,
}

enum Command {
    Start(Ring),
    Stop(SyncSender<()>),
}

/// A thread that serves a queue; dropping it ends the thread.
#[derive(Debug)]
pub struct Worker {
    kick: EventFd,
    interrupt: Option<EventFd>,
    tally: Arc<Tally>,
    commands: Option<Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread. `prepare` runs in it, and makes what serves the queue.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub fn spawn<S, P>(
        config: &WorkerConfig,
        condition: Arc<Condition>,
        prepare: P,
    ) -> Result<Self, WorkerError>
    where
        S: Service,
        P: FnOnce(Arc<Tally>) -> Result<S, WorkerError> + Send + 'static,
    {
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC);
        let kick = event()?;
        let interrupt = config.interrupts.then(event).transpose()?;
        let (commands, inbox) = channel();
        let (ready, is_ready) = sync_channel::<Result<(), WorkerError>>(1);
        let tally: Arc<Tally> = Arc::default();
        let (cpu, poll) = (config.cpu, config.poll);
        let (own_kick, own_tally) = (kick.try_clone()?, Arc::clone(&tally));
        let own_interrupt = interrupt.as_ref().map(EventFd::try_clone).transpose()?;
        let thread = thread::Builder::new()
            .name(config.name.clone())
            .spawn(move || {
                let begin = || -> Result<_, WorkerError> {
                    // The thread keeps its CPU to its end.
                    if let Some(cpu) = cpu {
                        std::mem::forget(Pinned::to(&[cpu])?);
                    }
                    let service = prepare(Arc::clone(&own_tally))?;
                    filter::confine(S::SYSTEM_CALLS)?;
                    Ok(service)
                };
                let service = match begin() {
                    Ok(prepared) => prepared,
                    Err(error) => {
                        // Who asked waits for it.
                        let _ = ready.send(Err(error));
                        return;
                    }
                };
                let _ = ready.send(Ok(()));
                Loop {
                    server: Server::new(service, condition, Arc::clone(&own_tally), own_interrupt),
                    kick: own_kick,
                    commands: inbox,
                    tally: own_tally,
                    window: poll,
                }
                .run();
            })?;
        let worker = Self {
            kick,
            interrupt,
            tally,
            commands: Some(commands),
            thread: Some(thread),
        };
        is_ready.recv().map_err(|_| WorkerError::Lost)??;
        Ok(worker)
    }

    /// What KVM signals when the driver kicks.
    #[must_use]
    pub fn kick_event(&self) -> &EventFd {
        &self.kick
    }

    /// What interrupts the guest, where anything does.
    #[must_use]
    pub fn interrupt_event(&self) -> Option<&EventFd> {
        self.interrupt.as_ref()
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.tally.read()
    }

    /// CPU time of the thread so far, in nanoseconds; 0 once it has ended.
    #[must_use]
    pub fn cpu_nanos(&self) -> u64 {
        let Some(thread) = &self.thread else {
            return 0;
        };
        let mut clock = 0;
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the thread is not joined, so its handle is valid; both calls write to locals.
        let failed = unsafe {
            libc::pthread_getcpuclockid(thread.as_pthread_t(), &raw mut clock) != 0
                || libc::clock_gettime(clock, &raw mut time) != 0
        };
        if failed {
            return 0;
        }
        let part = |value: i64| u64::try_from(value).unwrap_or(0);
        part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
    }

    /// A thread that has ended takes no more commands, and has let go of its ring.
    fn command(&self, command: Command) {
        if let Some(commands) = &self.commands {
            let _ = commands.send(command);
        }
        self.kick();
    }
}

impl Lane for Worker {
    fn start(&self, ring: Ring) {
        self.command(Command::Start(ring));
    }

    fn stop(&self) {
        let (done, is_done) = sync_channel(1);
        self.command(Command::Stop(done));
        // An error says that the thread is gone, and with it what it did to the ring.
        let _ = is_done.recv();
    }

    fn kick(&self) {
        // Fails only when the counter is full, and then the thread has been woken often enough.
        let _ = self.kick.write(1);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.commands = None;
        self.kick();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            // The panic's message is on stderr; the device's guest has noticed.
            debug_assert!(thread::panicking(), "an I/O thread panicked");
        }
    }
}

/// What the thread does until the commands end.
struct Loop<S> {
    server: Server<S>,
    kick: EventFd,
    commands: Receiver<Command>,
    tally: Arc<Tally>,
    window: Duration,
}

impl<S: Service> Loop<S> {
    fn run(mut self) {
        let mut idle_since: Option<Instant> = None;
        while self.obey() {
            if self.server.turn() > 0 {
                idle_since = None;
                continue;
            }
            if self.server.ring.is_none() {
                self.sleep();
                continue;
            }
            let since = *idle_since.get_or_insert_with(Instant::now);
            if since.elapsed() < self.window {
                std::hint::spin_loop();
                continue;
            }
            if self.asks_for_kicks() {
                self.sleep();
            }
            self.polls_again();
            idle_since = None;
        }
        self.server.stop();
    }

    /// Carries out the next command, if there is one; false at the end of all.
    fn obey(&mut self) -> bool {
        match self.commands.try_recv() {
            Ok(Command::Start(ring)) => {
                self.server.ring = Some(ring);
                self.polls_again();
            }
            Ok(Command::Stop(done)) => {
                self.server.stop();
                // Nobody waits any more when the receiver is gone.
                let _ = done.send(());
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return false,
        }
        true
    }

    /// Tells the driver that it need not kick, where the thread will poll.
    fn polls_again(&mut self) {
        if let Some(ring) = &mut self.server.ring
            && !self.window.is_zero()
            && let Err(error) = ring.suppress_kicks()
        {
            self.server.give_up(&error.into());
        }
    }

    /// Whether the thread may sleep now: the driver kicks from now on, and has nothing waiting; or something else wakes it.
    fn asks_for_kicks(&mut self) -> bool {
        if !self.server.service.wants_kicks() {
            return true;
        }
        match self.server.ring.as_mut().map(Ring::ask_for_kicks) {
            Some(Ok(waiting)) => !waiting,
            Some(Err(error)) => {
                self.server.give_up(&error.into());
                false
            }
            None => true,
        }
    }

    /// Sleeps until something is to be done.
    fn sleep(&mut self) {
        let result = wait(self.kick.as_fd_(), self.server.service.wake());
        self.tally.wakeups.fetch_add(1, Ordering::Relaxed);
        // Empty when something else woke the thread.
        let _ = self.kick.read();
        if let Err(source) = result {
            self.server.give_up(&ServeError::Host {
                what: "waiting for requests",
                source: source.into(),
            });
        }
    }
}

/// Waits until one of the two is readable.
fn wait(kick: BorrowedFd<'_>, wake: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let mut both = [
        PollFd::from_borrowed_fd(kick, PollFlags::IN),
        PollFd::from_borrowed_fd(wake.unwrap_or(kick), PollFlags::IN),
    ];
    loop {
        match poll(&mut both, None) {
            Err(Errno::INTR) => {}
            result => return result.map(drop),
        }
    }
}

/// [`AsFd`] for the event descriptor of vmm-sys-util, which only names its number.
trait Borrow {
    fn as_fd_(&self) -> BorrowedFd<'_>;
}

impl Borrow for EventFd {
    fn as_fd_(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the borrowed value lives.
        unsafe { BorrowedFd::borrow_raw(self.as_raw_fd()) }
    }
}
