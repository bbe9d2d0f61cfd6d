//! A vCPU's partner: a thread on another CPU of the host that answers the vCPU, or its native twin.
//!
//! ```text
//! worker ──Order──► partner: await call n ──► pause ──► reply = TSC ──► eventfd (guest) | futex (native)
//!                                         └─► reply = n                                 (mailbox)
//! ```
//!
//! What the two tell each other stands in an [`Exchange`] at the start of the vCPU's arena, where the guest sees it too. The
//! guest is not trusted: a call that never comes ends with the partner's stop, and no number in the exchange is used for
//! more than to be compared.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;
use std::time::Duration;

use rustix::thread::futex;
use vmm_sys_util::eventfd::EventFd;
use vtax_workloads::machine::Exchange;
use vtax_workloads::{MAX_PARAMS, PAUSE_NANOS, Task};

use crate::guest::ram::{Ram, RamError};
use crate::host::affinity::Pinned;
use crate::host::tsc::rdtsc_fenced;

/// Turns of a spinning wait before the thread lets another one run, should they share a CPU.
const TURNS: u32 = 100_000;

/// What a partner shall do in one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    answer: Answer,
    times: u64,
}

/// How it answers a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// By the call's number, at once.
    Echo,
    /// By an interrupt of the guest, after a pause.
    Interrupt(Pause),
    /// By waking the native twin, after a pause.
    Futex(Pause),
}

/// How it lets time pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// Asleep: this many nanoseconds.
    Sleep(u64),
    /// Awake, for pauses so short that waking would blur them.
    Spin(u64),
}

/// The words of an [`Exchange`] in guest memory, and the one on which a native twin sleeps.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    /// [`Exchange::call`].
    pub call: &'a AtomicU64,
    /// [`Exchange::reply`].
    pub reply: &'a AtomicU64,
    /// The number of the last call that was answered; it stands in host memory, where no guest can write it.
    pub answered: Arc<AtomicU32>,
}

impl<'a> Words<'a> {
    /// Those of the arena at `offset`.
    ///
    /// # Errors
    /// It lies outside guest memory.
    pub fn at(ram: &'a Ram, offset: u64) -> Result<Self, RamError> {
        let word = |place: usize| ram.atomic_u64(offset + place as u64);
        Ok(Self {
            call: word(std::mem::offset_of!(Exchange, call))?,
            reply: word(std::mem::offset_of!(Exchange, reply))?,
            answered: Arc::default(),
        })
    }
}

/// A partner; its thread ends with it.
#[derive(Debug)]
pub struct Partner<'a> {
    task: Task,
    params: [u64; MAX_PARAMS],
    words: Words<'a>,
    orders: Option<Sender<Order>>,
    stop: Arc<AtomicBool>,
}

/// The partner's own end.
struct Thread<'a> {
    words: Words<'a>,
    line: Option<EventFd>,
    stop: Arc<AtomicBool>,
}

impl<'a> Partner<'a> {
    /// Starts the partner of a vCPU: on `cpu`, or wherever the scheduler puts it. `line` interrupts the guest.
    ///
    /// # Errors
    /// The thread cannot be started. One that cannot be bound to its CPU runs elsewhere: the plan was checked against the
    /// CPUs of this process.
    pub fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        (task, params): (Task, [u64; MAX_PARAMS]),
        words: Words<'a>,
        line: Option<EventFd>,
        cpu: Option<u32>,
    ) -> std::io::Result<Self>
    where
        'a: 'scope,
    {
        let (orders, inbox) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = Thread {
            words: words.clone(),
            line,
            stop: Arc::clone(&stop),
        };
        std::thread::Builder::new()
            .name("partner".into())
            .spawn_scoped(scope, move || {
                let _pinned = cpu.map(|cpu| Pinned::to(&[cpu]));
                thread.work(&inbox);
            })?;
        Ok(Self {
            task,
            params,
            words,
            orders: Some(orders),
            stop,
        })
    }

    /// What the native twin needs of it.
    #[must_use]
    pub fn words(&self) -> &Words<'a> {
        &self.words
    }

    /// Lets it answer the `iterations` calls that the guest or its native twin is about to make.
    pub fn begin(&self, in_guest: bool, iterations: u64) {
        self.words.call.store(0, Ordering::Relaxed);
        self.words.reply.store(0, Ordering::Relaxed);
        self.words.answered.store(0, Ordering::Release);
        let pause = match self.task {
            Task::Wake => Pause::Sleep(self.params[0]),
            _ => Pause::Spin(PAUSE_NANOS),
        };
        let answer = match self.task {
            Task::Mailbox => Answer::Echo,
            _ if in_guest => Answer::Interrupt(pause),
            _ => Answer::Futex(pause),
        };
        if let Some(orders) = &self.orders {
            // It fails where the thread is gone, which it never is before this value; a vCPU without a partner is stopped
            // by its time limit.
            let _ = orders.send(Order {
                answer,
                times: iterations,
            });
        }
    }
}

impl Drop for Partner<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.orders = None;
    }
}

impl Thread<'_> {
    fn work(&self, inbox: &Receiver<Order>) {
        exact_sleep();
        for order in inbox {
            for number in 1..=order.times {
                if !self.await_call(number) {
                    return;
                }
                self.answer(number, order.answer);
            }
        }
    }

    /// Spins until the call of this number is made; false when all is over.
    fn await_call(&self, number: u64) -> bool {
        let mut turns = 0;
        while self.words.call.load(Ordering::Acquire) != number {
            std::hint::spin_loop();
            turns += 1;
            if turns == TURNS {
                if self.stop.load(Ordering::Relaxed) {
                    return false;
                }
                std::thread::yield_now();
                turns = 0;
            }
        }
        true
    }

    fn answer(&self, number: u64, answer: Answer) {
        match answer {
            Answer::Echo => self.words.reply.store(number, Ordering::Release),
            Answer::Interrupt(time) => {
                pause(time);
                self.words.reply.store(rdtsc_fenced(), Ordering::Release);
                if let Some(line) = &self.line {
                    // It fails only where the count would overflow, and KVM takes each event off it.
                    let _ = line.write(1);
                }
            }
            Answer::Futex(time) => {
                pause(time);
                self.words.reply.store(rdtsc_fenced(), Ordering::Release);
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                self.words.answered.store(number, Ordering::Release);
                // It fails on a bad address alone.
                let _ = futex::wake(&self.words.answered, futex::Flags::PRIVATE, 1);
            }
        }
    }
}

/// Lets the calling thread's sleeps end when they are due: the kernel may otherwise let ordinary threads sleep 50 µs longer,
/// to save power (prctl(2), PR_SET_TIMERSLACK). vCPU timers have no such slack, nor do threads of real-time classes.
pub fn exact_sleep() {
    // No kernel since 2.6.28 refuses it, and one that did would only be late.
    let _ = rustix::thread::set_current_timer_slack(Some(NonZeroU64::MIN));
}

fn pause(time: Pause) {
    match time {
        Pause::Sleep(nanos) => std::thread::sleep(Duration::from_nanos(nanos)),
        Pause::Spin(nanos) => {
            let start = std::time::Instant::now();
            while start.elapsed() < Duration::from_nanos(nanos) {
                std::hint::spin_loop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_partner(task: Task, in_guest: bool, calls: u64, test: impl FnOnce(&Words<'_>)) {
        let (call, reply) = (AtomicU64::new(0), AtomicU64::new(0));
        let words = Words {
            call: &call,
            reply: &reply,
            answered: Arc::default(),
        };
        std::thread::scope(|scope| {
            let asked = (task, [1_000; MAX_PARAMS]);
            let partner = Partner::start(scope, asked, words, None, None).unwrap();
            partner.begin(in_guest, calls);
            test(partner.words());
        });
    }

    #[test]
    fn a_mailbox_partner_echoes_each_number() {
        for in_guest in [true, false] {
            with_partner(Task::Mailbox, in_guest, 100, |words| {
                for number in 1..=100 {
                    words.call.store(number, Ordering::Release);
                    while words.reply.load(Ordering::Acquire) != number {
                        std::thread::yield_now();
                    }
                }
            });
        }
    }

    #[test]
    fn a_sleeper_is_woken_after_the_partner_s_time() {
        with_partner(Task::Wake, false, 3, |words| {
            for number in 1..=3 {
                let called = rdtsc_fenced();
                words.call.store(number, Ordering::Release);
                while u64::from(words.answered.load(Ordering::Acquire)) != number {
                    std::thread::yield_now();
                }
                let sent = words.reply.load(Ordering::Acquire);
                assert!(called < sent && sent < rdtsc_fenced());
            }
        });
    }

    #[test]
    fn a_partner_that_waits_for_a_call_ends_all_the_same() {
        with_partner(Task::Mailbox, true, 100, |_| {});
    }
}
