//! A network card whose queues the host's kernel serves: vhost-net (Linux, drivers/vhost/net.c).
//!
//! ```text
//! registers ──► Queue::start: rings checked, then the kernel's ──► its thread ⇄ tap
//!               kick (ioeventfd) ──► that thread ──► interrupt (irqfd): the VMM has no part in a frame
//! a ring is broken ──► event ──► Watch ──► DEVICE_NEEDS_RESET
//! ```
//!
//! The kernel checks each buffer against the guest's memory, as the VMM's own threads do. What the guest writes into the
//! header of a frame reaches the tap here, which checks it (`virtio_net_hdr_to_skb`). Older kernels do not fill in the count of
//! buffers in the header of a frame that arrives: without VIRTIO_NET_F_MRG_RXBUF, which is not on offer, they take it that
//! no driver looks.

use std::fs::{File, read_dir};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::{CpuSet, Pid, gettid, sched_setaffinity};
use vhost::net::VhostNet;
use vhost::vhost_kern::net::Net;
use vhost::vhost_kern::vhost_binding::{VHOST_VIRTIO, vhost_vring_state};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use vmm_sys_util::ioctl::{_IOC_WRITE, ioctl_expr, ioctl_with_ref};

use super::super::blk::Completion;
use super::super::memory::GuestMemory;
use super::super::mmio::{COMMON_FEATURES, Identity, QUEUE_SIZE, Transport};
use super::super::ring::{Ring, RingError};
use super::super::server::{Attached, Condition, Lane};
use super::super::worker::borrow;
use super::{NetConfig, identity};

/// Queues of a card: receive and transmit.
const QUEUES: usize = 2;

/// `_IOW(VHOST_VIRTIO, 0x23, struct vhost_vring_state)`, which the vhost crate lacks: how long the kernel polls a queue, in
/// microseconds.
const VHOST_SET_VRING_BUSYLOOP_TIMEOUT: libc::c_ulong =
    ioctl_expr(_IOC_WRITE, VHOST_VIRTIO, 0x23, 8);
const _: () = assert!(size_of::<vhost_vring_state>() == 8);

/// Why the kernel does not serve the card.
#[derive(Debug, thiserror::Error)]
pub enum VhostError {
    /// It refuses.
    #[error(
        "vhost-net {what}: {source}; it takes the right to open /dev/vhost-net (as root: modprobe vhost_net), or write \
         net-backend = \"vmm\""
    )]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// What it answered.
        source: vhost::Error,
    },
    /// It is too old.
    #[error("this kernel's vhost-net lacks VIRTIO_F_VERSION_1; write net-backend = \"vmm\"")]
    Legacy,
    /// Its thread cannot be bound.
    #[error(
        "vhost-net's thread cannot be bound to CPU {cpu}: {reason}; leave net-io-cpu out, or write net-backend = \"vmm\""
    )]
    Pin {
        /// The CPU asked for.
        cpu: u32,
        /// Why not.
        reason: String,
    },
    /// The VMM's own part of it.
    #[error("no event descriptor or thread for a network card: {0}")]
    Events(#[from] io::Error),
}

fn kernel(what: &'static str) -> impl FnOnce(vhost::Error) -> VhostError {
    move |source| VhostError::Kernel { what, source }
}

/// Makes the device.
///
/// # Errors
/// [`VhostError`].
pub fn device(config: &NetConfig, memory: GuestMemory) -> Result<Transport<Queue>, VhostError> {
    let net =
        Net::new(Arc::new(GuestMemoryMmap::clone(&memory))).map_err(kernel("cannot be opened"))?;
    net.set_owner().map_err(kernel("takes no owner"))?;
    let offered = net.get_features().map_err(kernel("has no features"))?;
    if offered & 1 << VIRTIO_F_VERSION_1 == 0 {
        return Err(VhostError::Legacy);
    }
    net.set_mem_table(&regions(&memory))
        .map_err(kernel("does not take the guest's memory"))?;
    poll_for(&net, config.poll_nanos)?;
    let thread = KernelThread::of_caller();
    if let Some(cpu) = config.io_cpu {
        bind(thread.as_ref(), cpu)?;
    }
    let condition = Arc::new(Condition::of_kernel());
    let card = Arc::new(Card {
        net,
        tap: OwnedFd::try_clone(&config.wire)?.into(),
        thread,
        condition: Arc::clone(&condition),
        events: [Events::new()?, Events::new()?],
        running: Mutex::default(),
        _memory: memory.clone(),
    });
    let watch = Arc::new(Watch::start(Arc::clone(&card))?);
    let queues = (0..QUEUES).map(|index| Queue {
        index,
        card: Arc::clone(&card),
        interrupts: config.completion == Completion::Interrupt,
        _watch: Arc::clone(&watch),
    });
    let all = identity(config.address);
    let identity = Identity {
        features: all.features & (!COMMON_FEATURES | offered),
        ..all
    };
    Ok(Transport::new(
        identity,
        memory,
        queues.collect(),
        condition,
    ))
}

fn regions(memory: &GuestMemory) -> Vec<VhostUserMemoryRegionInfo> {
    memory
        .iter()
        .map(|region| VhostUserMemoryRegionInfo {
            guest_phys_addr: region.start_addr().raw_value(),
            memory_size: region.len(),
            userspace_addr: region.as_ptr().addr() as u64,
            ..VhostUserMemoryRegionInfo::default()
        })
        .collect()
}

/// Lets the kernel's thread poll for so long before it sleeps.
fn poll_for(net: &impl AsRawFd, nanos: u64) -> Result<(), VhostError> {
    let micros = u32::try_from(nanos.div_ceil(1000)).unwrap_or(u32::MAX);
    for index in 0..2 {
        let state = vhost_vring_state { index, num: micros };
        // SAFETY: the request reads one `vhost_vring_state`.
        let result = unsafe { ioctl_with_ref(net, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &state) };
        if result < 0 && micros > 0 {
            let source = vhost::Error::IoctlError(io::Error::last_os_error());
            return Err(kernel("does not poll")(source));
        }
    }
    Ok(())
}

fn bind(thread: Option<&KernelThread>, cpu: u32) -> Result<(), VhostError> {
    let refused = |reason: &dyn std::fmt::Display| VhostError::Pin {
        cpu,
        reason: reason.to_string(),
    };
    let thread = thread.ok_or_else(|| refused(&"it is not to be seen in /proc"))?;
    let place = usize::try_from(cpu)
        .ok()
        .filter(|&place| place < CpuSet::MAX_CPU)
        .ok_or_else(|| refused(&"there is no such CPU"))?;
    let mut set = CpuSet::new();
    set.set(place);
    sched_setaffinity(Some(thread.id), &set).map_err(|error| refused(&error))
}

/// A card. The kernel lets go of the guest's memory when `net` is closed, which is before `_memory` does.
struct Card {
    net: Net<Arc<GuestMemoryMmap<()>>>,
    tap: File,
    thread: Option<KernelThread>,
    condition: Arc<Condition>,
    events: [Events; QUEUES],
    /// Which queues the kernel serves.
    running: Mutex<[bool; QUEUES]>,
    _memory: GuestMemory,
}

impl std::fmt::Debug for Card {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Card")
            .field("tap", &self.tap)
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

/// The events of one queue.
#[derive(Debug)]
struct Events {
    /// From the driver, through KVM.
    kick: EventFd,
    /// To the driver, through KVM.
    interrupt: EventFd,
    /// From the kernel, which has found the ring broken.
    broken: EventFd,
}

impl Events {
    fn new() -> io::Result<Self> {
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC);
        Ok(Self {
            kick: event()?,
            interrupt: event()?,
            broken: event()?,
        })
    }
}

impl Card {
    fn running(&self) -> MutexGuard<'_, [bool; QUEUES]> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a ring over. The driver described it, so first of all each part of it must be memory from end to end: the
    /// kernel is told host addresses, and looks no further than whether they are user space.
    fn serve(&self, index: usize, ring: &Ring) -> Result<(), ServeError> {
        let parts = ring.parts()?;
        let events = &self.events[index];
        // Of a ring that was there before.
        let _ = events.broken.read();
        let features = 1 << VIRTIO_F_VERSION_1
            | u64::from(ring.event_idx_enabled()) << VIRTIO_RING_F_EVENT_IDX;
        let net = &self.net;
        net.set_features(features)?;
        net.set_vring_num(index, ring.size())?;
        net.set_vring_base(index, 0)?;
        net.set_vring_addr(
            index,
            &VringConfigData {
                queue_max_size: QUEUE_SIZE,
                queue_size: ring.size(),
                flags: 0,
                desc_table_addr: parts.descriptors,
                avail_ring_addr: parts.driver_area,
                used_ring_addr: parts.device_area,
                log_addr: None,
            },
        )?;
        net.set_vring_call(index, &events.interrupt)?;
        net.set_vring_err(index, &events.broken)?;
        net.set_vring_kick(index, &events.kick)?;
        net.set_backend(index, Some(&self.tap))?;
        Ok(())
    }

    fn give_up(&self, index: usize, reason: String) {
        self.condition.ask_for_reset(reason);
        // Fails only when the counter is full; the guest then has interrupts enough.
        let _ = self.events[index].interrupt.write(1);
    }
}

/// Why a ring could not be handed over.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    /// By the guest's fault.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The kernel refuses it.
    #[error("vhost-net does not take the driver's queue: {0}")]
    Kernel(#[from] vhost::Error),
}

/// One queue.
#[derive(Debug)]
pub struct Queue {
    index: usize,
    card: Arc<Card>,
    interrupts: bool,
    _watch: Arc<Watch>,
}

impl Lane for Queue {
    fn start(&self, ring: Ring) {
        let mut running = self.card.running();
        match self.card.serve(self.index, &ring) {
            Ok(()) => running[self.index] = true,
            Err(error) => self.card.give_up(self.index, error.to_string()),
        }
    }

    fn stop(&self) {
        let mut running = self.card.running();
        // The kernel waits for what is under way before it answers (`vhost_net_flush_vq`).
        if running[self.index]
            && let Err(error) = self.card.net.set_backend(self.index, None)
        {
            let reason = format!("vhost-net does not let go of a queue: {error}");
            self.card.give_up(self.index, reason);
            return;
        }
        running[self.index] = false;
    }

    fn kick(&self) {
        // Fails only when the counter is full, and then there are kicks enough.
        let _ = self.card.events[self.index].kick.write(1);
    }
}

impl Attached for Queue {
    fn kick_event(&self) -> &EventFd {
        &self.card.events[self.index].kick
    }

    fn interrupt_event(&self) -> Option<&EventFd> {
        self.interrupts
            .then_some(&self.card.events[self.index].interrupt)
    }

    fn cpu_nanos(&self) -> Option<u64> {
        // Both queues have one thread.
        match self.index {
            0 => self.card.thread.as_ref()?.cpu_nanos(),
            _ => Some(0),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The kernel's thread for a card.
#[derive(Debug)]
struct KernelThread {
    id: Pid,
    /// CPU time in nanoseconds is its first word (Linux, Documentation/scheduler/sched-stats.rst).
    schedstat: File,
}

impl KernelThread {
    /// The one that serves what the calling thread has just come to own; `None` where it cannot be seen.
    ///
    /// It is called after its owner; a thread of the owner's process since Linux 6.4, one of the kernel's before.
    fn of_caller() -> Option<Self> {
        let name = format!("vhost-{}", gettid().as_raw_nonzero());
        ["/proc/self/task", "/proc"].iter().find_map(|folder| {
            let threads = read_dir(folder).ok()?.filter_map(Result::ok);
            threads
                .map(|thread| thread.path())
                .find(|path| {
                    std::fs::read_to_string(path.join("comm"))
                        .is_ok_and(|comm| comm.trim_end() == name)
                })
                .and_then(|path| Self::at(&path))
        })
    }

    fn at(path: &Path) -> Option<Self> {
        let id: i32 = path.file_name()?.to_str()?.parse().ok()?;
        Some(Self {
            id: Pid::from_raw(id)?,
            schedstat: File::open(path.join("schedstat")).ok()?,
        })
    }

    fn cpu_nanos(&self) -> Option<u64> {
        let mut bytes = [0; 64];
        let len = self.schedstat.read_at(&mut bytes, 0).ok()?;
        let text = std::str::from_utf8(bytes.get(..len)?).ok()?;
        text.split_ascii_whitespace().next()?.parse().ok()
    }
}

/// A thread that waits for the kernel to find a ring broken. It sees nothing of the guest's.
#[derive(Debug)]
struct Watch {
    quit: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn start(card: Arc<Card>) -> io::Result<Self> {
        let quit = EventFd::new(EFD_CLOEXEC)?;
        let ends = quit.try_clone()?;
        let thread = Builder::new()
            .name("net-watch".into())
            .spawn(move || watch(&card, &ends))?;
        Ok(Self {
            quit,
            thread: Some(thread),
        })
    }
}

fn watch(card: &Card, ends: &EventFd) {
    let [receive, transmit] = &card.events;
    let mut all = [&receive.broken, &transmit.broken, ends]
        .map(|event| PollFd::from_borrowed_fd(borrow(event), PollFlags::IN));
    loop {
        // An interrupted wait shows nothing.
        let _ = poll(&mut all, None);
        let [.., ended] = &all;
        if !ended.revents().is_empty() {
            return;
        }
        for (index, events) in card.events.iter().enumerate() {
            // Held, so that the device is not reset between the event and what follows from it.
            let running = card.running();
            if events.broken.read().is_ok() && running[index] {
                card.give_up(
                    index,
                    format!("the driver broke virtqueue {index}: so says the kernel (vhost-net)"),
                );
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It cannot be full: this is the only write.
        let _ = self.quit.write(1);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            debug_assert!(std::thread::panicking(), "the watch over a card panicked");
        }
    }
}
