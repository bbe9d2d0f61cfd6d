//! One queue of a device at work, whatever thread does it.
//!
//! ```text
//! Server::turn ──► Service::serve (requests in, answers out) ──► interrupt, if the driver wants one
//!                       └─ the driver broke the rules, or the host failed ──► DEVICE_NEEDS_RESET
//! ```

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use virtio_bindings::bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};
use vmm_sys_util::eventfd::EventFd;

use super::ring::{Ring, RingError};

/// Why a queue is served no longer.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// By the guest's fault.
    #[error(transparent)]
    Guest(#[from] RingError),
    /// By the host's.
    #[error("{what}: {source}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// What a device does with the requests of one queue.
pub trait Service {
    /// The system calls that it makes, apart from those that every I/O thread needs.
    const SYSTEM_CALLS: &'static [i64] = &[];

    /// Takes requests out of the ring and gives finished ones back; returns the number of either, which is 0 when there
    /// is nothing to do at present. One call takes no more requests than the ring holds.
    ///
    /// # Errors
    /// [`ServeError`]: the queue cannot be served any longer.
    fn serve(&mut self, ring: &mut Ring) -> Result<usize, ServeError>;

    /// What becomes readable when there is something to do that nobody kicks for.
    fn wake(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether the driver has to kick for what it adds, before the thread may sleep.
    fn wants_kicks(&self) -> bool {
        true
    }

    /// Waits until nothing touches guest memory any more. Requests under way are never answered.
    fn abandon(&mut self) {}
}

/// How often things happened on a queue since the device was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Times that the driver's kick, or the end of a request, woke the thread that serves the queue.
    pub wakeups: u64,
    /// Interrupts sent.
    pub interrupts: u64,
    /// Requests whose data took a detour, since their buffers were not aligned as the disk wants them.
    pub bounced: u64,
    /// Requests that the host could not carry out, such as a write to a full disk.
    pub failed: u64,
}

/// Counts of a queue as it is being served.
#[derive(Debug, Default)]
pub struct Tally {
    pub(super) wakeups: AtomicU64,
    pub(super) interrupts: AtomicU64,
    pub(super) bounced: AtomicU64,
    pub(super) failed: AtomicU64,
}

impl Tally {
    pub(super) fn read(&self) -> Counts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            wakeups: of(&self.wakeups),
            interrupts: of(&self.interrupts),
            bounced: of(&self.bounced),
            failed: of(&self.failed),
        }
    }
}

/// What the queues of a device and its registers have in common.
#[derive(Debug, Default)]
pub struct Condition {
    /// InterruptStatus (virtio 1.2, 4.2.2).
    interrupt: AtomicU32,
    /// What stands in it always.
    unseen: u32,
    needs_reset: AtomicBool,
    failure: OnceLock<String>,
}

impl Condition {
    /// That of a device whose queues the kernel serves. Nobody here sees it use a buffer, so InterruptStatus says always
    /// that it may have: a driver then looks at its queues once too often, but never misses one.
    #[must_use]
    pub fn of_kernel() -> Self {
        Self {
            unseen: VIRTIO_MMIO_INT_VRING,
            ..Self::default()
        }
    }

    /// InterruptStatus.
    #[must_use]
    pub fn interrupt_status(&self) -> u32 {
        self.interrupt.load(Ordering::Relaxed) | self.unseen
    }

    /// Clears what the driver has handled.
    pub fn acknowledge(&self, bits: u32) {
        self.interrupt.fetch_and(!bits, Ordering::Relaxed);
    }

    /// Whether the device can only be reset.
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.needs_reset.load(Ordering::Acquire)
    }

    /// Why the device first needed a reset; kept when it gets one.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// The device asks for a reset (virtio 1.2, 2.1.2).
    pub fn ask_for_reset(&self, reason: String) {
        // The first reason counts: what follows may follow from it.
        let _ = self.failure.set(reason);
        self.needs_reset.store(true, Ordering::Release);
        self.interrupt
            .fetch_or(VIRTIO_MMIO_INT_CONFIG, Ordering::Relaxed);
    }

    /// The configuration space has changed (virtio 1.2, 2.3).
    pub fn changed_configuration(&self) {
        self.interrupt
            .fetch_or(VIRTIO_MMIO_INT_CONFIG, Ordering::Relaxed);
    }

    /// The driver has reset the device.
    pub fn reset(&self) {
        self.needs_reset.store(false, Ordering::Release);
        self.interrupt.store(0, Ordering::Relaxed);
    }

    fn used_buffers(&self) {
        // Every completion gets here: write only what changes.
        if self.interrupt_status() & VIRTIO_MMIO_INT_VRING == 0 {
            self.interrupt
                .fetch_or(VIRTIO_MMIO_INT_VRING, Ordering::Relaxed);
        }
    }
}

/// A queue, who serves it, and how the guest learns of it.
#[derive(Debug)]
pub(super) struct Server<S> {
    pub(super) service: S,
    pub(super) ring: Option<Ring>,
    condition: Arc<Condition>,
    tally: Arc<Tally>,
    interrupt: Option<EventFd>,
}

impl<S: Service> Server<S> {
    pub(super) fn new(
        service: S,
        condition: Arc<Condition>,
        tally: Arc<Tally>,
        interrupt: Option<EventFd>,
    ) -> Self {
        Self {
            service,
            ring: None,
            condition,
            tally,
            interrupt,
        }
    }

    /// Serves what is there; returns how much it was.
    pub(super) fn turn(&mut self) -> usize {
        let Some(ring) = &mut self.ring else {
            return 0;
        };
        let result = self
            .service
            .serve(ring)
            .and_then(|progress| Ok((progress, progress > 0 && ring.wants_interrupt()?)));
        match result {
            Ok((progress, wanted)) => {
                if wanted {
                    self.condition.used_buffers();
                    self.send_interrupt();
                }
                progress
            }
            Err(error) => {
                self.give_up(&error);
                0
            }
        }
    }

    /// Serves the queue no more until the device is reset.
    pub(super) fn give_up(&mut self, error: &ServeError) {
        self.stop();
        self.condition.ask_for_reset(error.to_string());
        self.send_interrupt();
    }

    /// Lets go of the ring: nothing touches it or its buffers any more.
    pub(super) fn stop(&mut self) {
        self.service.abandon();
        self.ring = None;
    }

    fn send_interrupt(&self) {
        if let Some(interrupt) = &self.interrupt {
            // Fails only when the counter is full; the guest then has 2^64 interrupts pending.
            let _ = interrupt.write(1);
            self.tally.interrupts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Where a queue is served: its registers know no more of it.
pub trait Lane: Send + Sync + std::fmt::Debug {
    /// Begins to serve a queue.
    fn start(&self, ring: Ring);
    /// Serves it no longer: once this returns nobody touches the ring or its buffers.
    fn stop(&self);
    /// The driver says that there is something new.
    fn kick(&self);
}

/// A queue that a guest is attached to: who kicks it, and who is interrupted.
pub trait Attached: Lane {
    /// What KVM signals when the driver kicks.
    fn kick_event(&self) -> &EventFd;
    /// What interrupts the guest, where anything does.
    fn interrupt_event(&self) -> Option<&EventFd>;
    /// CPU time so far of the thread that serves it, in nanoseconds; that of a thread with several queues counts for one of
    /// them. `None`: it is not known, or the thread has ended.
    fn cpu_nanos(&self) -> Option<u64>;
}

/// A queue served by the thread that kicks: for a driver in the same process.
#[derive(Debug)]
pub struct Inline<S>(Mutex<Server<S>>);

impl<S: Service> Inline<S> {
    /// Serves by `service`, without interrupts.
    pub fn new(service: S, condition: Arc<Condition>) -> Self {
        Self(Mutex::new(Server::new(
            service,
            condition,
            Arc::default(),
            None,
        )))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Server<S>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S: Service + Send + std::fmt::Debug> Lane for Inline<S> {
    fn start(&self, ring: Ring) {
        self.with(|server| server.ring = Some(ring));
    }

    fn stop(&self) {
        self.with(Server::stop);
    }

    fn kick(&self) {
        self.with(|server| while server.turn() > 0 {});
    }
}
