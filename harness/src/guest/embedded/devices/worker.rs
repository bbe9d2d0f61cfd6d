//! An I/O thread: it serves a queue, or all queues of a device, and polls for a while before it sleeps.
//!
//! ```text
//! start, stop (registers) ──► commands ─┐
//! kick (ioeventfd) ─────────────────────┼─► loop: turn; nothing to do? poll on; window over? ask for kicks, sleep
//! end of a request (descriptor) ────────┘
//! ```
//!
//! Before its first request the thread is left with the few system calls that it needs ([`super::filter`]). While it is
//! awake the driver need not kick. The window is always the same: one about as long as a wake-up never costs more than twice
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
use super::server::{Attached, Condition, Counts, Lane, ServeError, Server, Service, Tally};
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
    Start(usize, Ring),
    Stop(usize, SyncSender<()>),
}

/// A queue that such a thread serves; dropping all queues of a thread ends it.
#[derive(Debug)]
pub struct Worker {
    index: usize,
    kick: EventFd,
    interrupt: Option<EventFd>,
    tally: Arc<Tally>,
    thread: Arc<Thread>,
}

/// The thread of some queues.
#[derive(Debug)]
struct Thread {
    commands: Option<Sender<Command>>,
    /// The kick of its first queue, which wakes it for commands too.
    bell: EventFd,
    handle: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread for one queue. `prepare` runs in it, and makes what serves the queue.
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
        let [only] = Self::spawn_for(config, condition, |[tally]| Ok([prepare(tally)?]))?;
        Ok(only)
    }

    /// Starts one thread for several queues. `prepare` runs in it, and makes what serves each.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub fn spawn_for<S, P, const N: usize>(
        config: &WorkerConfig,
        condition: Arc<Condition>,
        prepare: P,
    ) -> Result<[Self; N], WorkerError>
    where
        S: Service,
        P: FnOnce([Arc<Tally>; N]) -> Result<[S; N], WorkerError> + Send + 'static,
    {
        let seats: Vec<Seat> = (0..N)
            .map(|_| Seat::new(config.interrupts))
            .collect::<io::Result<_>>()?;
        let seats: [Seat; N] = seats.try_into().map_err(|_| WorkerError::Lost)?;
        let (commands, inbox) = channel();
        let (ready, is_ready) = sync_channel::<Result<(), WorkerError>>(1);
        let (cpu, window) = (config.cpu, config.poll);
        let own: Vec<Seat> = seats.iter().map(Seat::share).collect::<io::Result<_>>()?;
        let tallies = std::array::from_fn(|index| Arc::clone(&seats[index].tally));
        let bell = seats.first().ok_or(WorkerError::Lost)?.kick.try_clone()?;
        let handle = thread::Builder::new()
            .name(config.name.clone())
            .spawn(move || {
                let begin = || -> Result<_, WorkerError> {
                    // The thread keeps its CPU to its end.
                    if let Some(cpu) = cpu {
                        std::mem::forget(Pinned::to(&[cpu])?);
                    }
                    let services = prepare(tallies)?;
                    filter::confine(S::SYSTEM_CALLS)?;
                    Ok(services)
                };
                let services = match begin() {
                    Ok(prepared) => prepared,
                    Err(error) => {
                        // Who asked waits for it.
                        let _ = ready.send(Err(error));
                        return;
                    }
                };
                let _ = ready.send(Ok(()));
                let stations: Vec<Station<S>> = services
                    .into_iter()
                    .zip(own)
                    .map(|(service, seat)| Station::new(service, seat, &condition))
                    .collect();
                // There are as many seats as services.
                if let Ok(stations) = <[_; N]>::try_from(stations) {
                    Loop {
                        stations,
                        commands: inbox,
                        window,
                    }
                    .run();
                }
            })?;
        let thread = Arc::new(Thread {
            commands: Some(commands),
            bell,
            handle: Some(handle),
        });
        is_ready.recv().map_err(|_| WorkerError::Lost)??;
        let mut index = 0..;
        Ok(seats.map(|seat| Self {
            index: index.next().unwrap_or_default(),
            kick: seat.kick,
            interrupt: seat.interrupt,
            tally: seat.tally,
            thread: Arc::clone(&thread),
        }))
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.tally.read()
    }

    /// A thread that has ended takes no more commands, and has let go of its rings.
    fn command(&self, command: Command) {
        if let Some(commands) = &self.thread.commands {
            let _ = commands.send(command);
        }
        self.thread.ring();
    }
}

/// What a queue and its thread have in common.
struct Seat {
    kick: EventFd,
    interrupt: Option<EventFd>,
    tally: Arc<Tally>,
}

impl Seat {
    fn new(interrupts: bool) -> io::Result<Self> {
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC);
        Ok(Self {
            kick: event()?,
            interrupt: interrupts.then(event).transpose()?,
            tally: Arc::default(),
        })
    }

    fn share(&self) -> io::Result<Self> {
        Ok(Self {
            kick: self.kick.try_clone()?,
            interrupt: self
                .interrupt
                .as_ref()
                .map(EventFd::try_clone)
                .transpose()?,
            tally: Arc::clone(&self.tally),
        })
    }
}

impl Thread {
    fn ring(&self) {
        // Fails only when the counter is full, and then the thread has been woken often enough.
        let _ = self.bell.write(1);
    }
}

impl Attached for Worker {
    fn kick_event(&self) -> &EventFd {
        &self.kick
    }

    fn interrupt_event(&self) -> Option<&EventFd> {
        self.interrupt.as_ref()
    }

    fn cpu_nanos(&self) -> Option<u64> {
        if self.index > 0 {
            return Some(0);
        }
        let thread = self.thread.handle.as_ref()?;
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
            return None;
        }
        let part = |value: i64| u64::try_from(value).unwrap_or(0);
        Some(part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec))
    }
}

impl Lane for Worker {
    fn start(&self, ring: Ring) {
        self.command(Command::Start(self.index, ring));
    }

    fn stop(&self) {
        let (done, is_done) = sync_channel(1);
        self.command(Command::Stop(self.index, done));
        // An error says that the thread is gone, and with it what it did to the ring.
        let _ = is_done.recv();
    }

    fn kick(&self) {
        // Fails only when the counter is full, and then the thread has been woken often enough.
        let _ = self.kick.write(1);
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.commands = None;
        self.ring();
        if let Some(thread) = self.handle.take()
            && thread.join().is_err()
        {
            // The panic's message is on stderr; the device's guest has noticed.
            debug_assert!(thread::panicking(), "an I/O thread panicked");
        }
    }
}

/// A queue from its thread's side.
struct Station<S> {
    server: Server<S>,
    kick: EventFd,
    tally: Arc<Tally>,
    /// Whether there may be something to do.
    due: bool,
}

impl<S: Service> Station<S> {
    fn new(service: S, seat: Seat, condition: &Arc<Condition>) -> Self {
        let tally = Arc::clone(&seat.tally);
        Self {
            server: Server::new(service, Arc::clone(condition), tally, seat.interrupt),
            kick: seat.kick,
            tally: seat.tally,
            due: false,
        }
    }

    /// Serves what is there; returns how much it was.
    fn turn(&mut self) -> usize {
        let progress = self.server.turn();
        self.due = progress > 0;
        progress
    }

    /// Tells the driver that it need not kick.
    fn suppress_kicks(&mut self) {
        if let Some(ring) = &mut self.server.ring
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
            Some(Ok(waiting)) => {
                self.due |= waiting;
                !waiting
            }
            Some(Err(error)) => {
                self.server.give_up(&error.into());
                false
            }
            None => true,
        }
    }
}

/// What the thread does until the commands end.
struct Loop<S, const N: usize> {
    stations: [Station<S>; N],
    commands: Receiver<Command>,
    window: Duration,
}

impl<S: Service, const N: usize> Loop<S, N> {
    fn run(mut self) {
        let polls = !self.window.is_zero();
        let mut idle_since: Option<Instant> = None;
        while self.obey() {
            // Who does not poll is told by the wait what there is: to look elsewhere costs system calls.
            let due = self.stations.iter_mut().filter(|it| polls || it.due);
            if due.map(Station::turn).sum::<usize>() > 0 {
                idle_since = None;
                continue;
            }
            if self.stations.iter().all(|it| it.server.ring.is_none()) {
                self.sleep();
                continue;
            }
            if polls && idle_since.get_or_insert_with(Instant::now).elapsed() < self.window {
                std::hint::spin_loop();
                continue;
            }
            let may_sleep = self.stations.iter_mut().map(Station::asks_for_kicks);
            if may_sleep.fold(true, |all, one| all & one) {
                self.sleep();
            }
            // Awake it looks itself, and each kick would cost the vCPU an exit.
            self.stations.iter_mut().for_each(Station::suppress_kicks);
            idle_since = None;
        }
        self.stations.iter_mut().for_each(|it| it.server.stop());
    }

    /// Carries out all commands that there are; false at the end of all. One that stayed behind would wait for the next
    /// kick: several of them, and kicks too, may share one wake-up.
    fn obey(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Start(index, ring)) => {
                    let station = &mut self.stations[index];
                    station.server.ring = Some(ring);
                    station.due = true;
                    station.suppress_kicks();
                }
                Ok(Command::Stop(index, done)) => {
                    self.stations[index].server.stop();
                    // Nobody waits any more when the receiver is gone.
                    let _ = done.send(());
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Sleeps until something is to be done.
    fn sleep(&mut self) {
        let signals = match self.wait() {
            Ok(signals) => signals,
            Err(source) => {
                for station in &mut self.stations {
                    station.server.give_up(&ServeError::Host {
                        what: "waiting for requests",
                        source: source.into(),
                    });
                }
                return;
            }
        };
        for (station, [kicked, woken]) in self.stations.iter_mut().zip(signals) {
            if kicked {
                // It has just been found readable, and nobody else reads it.
                let _ = station.kick.read();
            }
            if kicked || woken {
                station.due = true;
                station.tally.wakeups.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until a queue's kick, or what else wakes it, is readable; says which.
    fn wait(&self) -> Result<[[bool; 2]; N], Errno> {
        let mut all = self.stations.each_ref().map(|station| {
            let kick = borrow(&station.kick);
            let wake = station.server.service.wake().unwrap_or(kick);
            [kick, wake].map(|event| PollFd::from_borrowed_fd(event, PollFlags::IN))
        });
        loop {
            match poll(all.as_flattened_mut(), None) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
                Ok(_) => break,
            }
        }
        Ok(all.map(|both| both.map(|event| !event.revents().is_empty())))
    }
}

/// The descriptor of an event, of which vmm-sys-util only names the number.
pub(super) fn borrow(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open as long as the borrowed value lives.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}
