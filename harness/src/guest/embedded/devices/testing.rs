//! A driver in the same process: it sets up a device through its registers and talks to it over memory.

use std::cell::Cell;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_bindings::bindings::virtio_mmio as register;
use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use vm_memory::{Bytes, GuestAddress};

use super::memory::GuestMemory;
use super::mmio::{COMMON_FEATURES, QUEUE_SIZE, Transport};
use super::server::Lane;

/// Held by tests that start programs, and by those that must find a file unlocked: a child shares the locks of its parent
/// from its birth until it becomes another program.
pub static PROGRAMS: Mutex<()> = Mutex::new(());

/// Says that the calling test is skipped. Past libtest, which would keep what a passing test prints to itself.
fn skip(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    writeln!(std::io::stderr(), "SKIPPED {test}: {reason}").unwrap();
}

/// What a program printed, if it went well.
fn output(program: &str, arguments: &[&str], path: &Path) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).arg(path).stderr(Stdio::null());
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// A loop device on a file of its own. Dropped, it is detached; whoever has it open keeps it until then.
pub struct LoopDevice {
    pub path: PathBuf,
    pub file: PathBuf,
    _folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl LoopDevice {
    /// A device of so many bytes, made by losetup with these options. Nothing, said on stderr, where that cannot be.
    pub fn attach(bytes: u64, options: &[&str]) -> Option<Self> {
        let alone = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk.img");
        let created = std::fs::File::create(&file).unwrap();
        created.set_len(bytes).unwrap();
        let options = [&["--find", "--show"], options].concat();
        let Some(path) = output("losetup", &options, &file) else {
            skip("it needs losetup, root and loop devices");
            return None;
        };
        Some(Self {
            path: path.into(),
            file,
            _folder: folder,
            _alone: alone,
        })
    }

    /// Takes the size of its file anew.
    pub fn resize(&self, bytes: u64) {
        let file = std::fs::OpenOptions::new().write(true).open(&self.file);
        file.unwrap().set_len(bytes).unwrap();
        output("losetup", &["--set-capacity"], &self.path).unwrap();
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let detached = output("losetup", &["--detach"], &self.path);
        assert!(detached.is_some() || std::thread::panicking());
    }
}

/// A fresh file system at a folder of its own. Dropped, it is unmounted.
pub struct FileSystem {
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl FileSystem {
    /// One of this type, without a device. Nothing, said on stderr, where it cannot be mounted.
    pub fn mount(arguments: &[&str]) -> Option<Self> {
        let alone = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let arguments = [&["-t"], arguments, &["none"]].concat();
        if output("mount", &arguments, folder.path()).is_none() {
            skip(&format!("it needs to mount: {}", arguments.join(" ")));
            return None;
        }
        Some(Self {
            folder,
            _alone: alone,
        })
    }

    /// A file in it, of so many bytes.
    pub fn file(&self, bytes: u64) -> PathBuf {
        let path = self.folder.path().join("disk.img");
        let created = std::fs::File::create(&path).unwrap();
        created.set_len(bytes).unwrap();
        path
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        let unmounted = output("umount", &[], self.folder.path());
        assert!(unmounted.is_some() || std::thread::panicking());
    }
}

/// Bytes of memory that a driver needs.
pub const MEMORY: usize = 0x40_0000;
/// Where buffers begin.
pub const BUFFERS: u64 = 0x20_0000;
/// Bytes of memory for each queue's rings.
const RINGS: u64 = 0x1_0000;
const AVAIL: u64 = 0x4000;
const USED: u64 = 0x8000;

/// A buffer of a request.
#[derive(Clone, Copy, Debug)]
pub enum Buffer<'a> {
    /// For the device to read.
    Out(&'a [u8]),
    /// For the device to write, so many bytes.
    In(usize),
}

/// A used chain: its head, and how many bytes the device says it wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    pub head: u32,
    pub len: u32,
}

/// Drives one queue of a device.
pub struct Driver<'a, L> {
    pub device: &'a Transport<L>,
    pub memory: GuestMemory,
    queue: u32,
    available: Cell<u16>,
    seen: Cell<u16>,
    next_buffer: Cell<u64>,
}

pub fn read<L: Lane>(device: &Transport<L>, offset: u32) -> u32 {
    let mut data = [0; 4];
    device.read(offset.into(), &mut data);
    u32::from_le_bytes(data)
}

pub fn write<L: Lane>(device: &Transport<L>, offset: u32, value: u32) {
    device.write(offset.into(), &value.to_le_bytes());
}

/// Resets the device and settles its features; returns the status.
pub fn negotiate<L: Lane>(device: &Transport<L>, features: u64) -> u32 {
    write(device, register::VIRTIO_MMIO_STATUS, 0);
    for status in [1, 3] {
        write(device, register::VIRTIO_MMIO_STATUS, status);
    }
    for page in [0, 1] {
        write(device, register::VIRTIO_MMIO_DRIVER_FEATURES_SEL, page);
        let half = features >> (32 * page) & 0xffff_ffff;
        write(
            device,
            register::VIRTIO_MMIO_DRIVER_FEATURES,
            half.try_into().unwrap(),
        );
    }
    write(device, register::VIRTIO_MMIO_STATUS, 0xb);
    read(device, register::VIRTIO_MMIO_STATUS)
}

impl<'a, L: Lane> Driver<'a, L> {
    /// Resets the device and sets up queue 0.
    pub fn new(device: &'a Transport<L>, memory: &GuestMemory) -> Self {
        Self::with(device, memory, COMMON_FEATURES & !(1 << 29), 0)
    }

    /// Resets the device, settles these features and sets up a queue.
    pub fn with(device: &'a Transport<L>, memory: &GuestMemory, features: u64, queue: u32) -> Self {
        assert_eq!(negotiate(device, features), 0xb);
        let driver = Self {
            device,
            memory: memory.clone(),
            queue,
            available: Cell::new(0),
            seen: Cell::new(0),
            next_buffer: Cell::new(BUFFERS),
        };
        let rings = driver.rings();
        memory
            .write_slice(
                &vec![0; usize::try_from(RINGS).unwrap()],
                GuestAddress(rings),
            )
            .unwrap();
        driver.describe(rings, rings + AVAIL, rings + USED, QUEUE_SIZE.into());
        write(device, register::VIRTIO_MMIO_QUEUE_READY, 1);
        write(device, register::VIRTIO_MMIO_STATUS, 0xf);
        driver
    }

    pub fn rings(&self) -> u64 {
        RINGS * (u64::from(self.queue) + 1)
    }

    pub fn describe(&self, descriptors: u64, avail: u64, used: u64, size: u32) {
        let device = self.device;
        write(device, register::VIRTIO_MMIO_QUEUE_SEL, self.queue);
        write(device, register::VIRTIO_MMIO_QUEUE_NUM, size);
        for (low, address) in [
            (register::VIRTIO_MMIO_QUEUE_DESC_LOW, descriptors),
            (register::VIRTIO_MMIO_QUEUE_AVAIL_LOW, avail),
            (register::VIRTIO_MMIO_QUEUE_USED_LOW, used),
        ] {
            write(device, low, (address & 0xffff_ffff).try_into().unwrap());
            write(device, low + 4, (address >> 32).try_into().unwrap());
        }
    }

    pub fn status(&self) -> u32 {
        read(self.device, register::VIRTIO_MMIO_STATUS)
    }

    pub fn kick(&self) {
        write(self.device, register::VIRTIO_MMIO_QUEUE_NOTIFY, self.queue);
    }

    /// Puts a descriptor into the table.
    pub fn descriptor(&self, index: u16, address: u64, len: u32, flags: u16, next: u16) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        let place = self.rings() + 16 * u64::from(index);
        self.memory
            .write_slice(&bytes, GuestAddress(place))
            .unwrap();
    }

    /// Makes a chain available that begins at `head`.
    pub fn offer(&self, head: u16) {
        let place = self.rings() + AVAIL + 4 + 2 * u64::from(self.available.get() % QUEUE_SIZE);
        self.memory.write_obj(head, GuestAddress(place)).unwrap();
        self.set_available(self.available.get().wrapping_add(1));
    }

    pub fn set_available(&self, index: u16) {
        self.available.set(index);
        let place = GuestAddress(self.rings() + AVAIL + 2);
        self.memory
            .store(index, place, std::sync::atomic::Ordering::Release)
            .unwrap();
    }

    /// Sets the flags of the available ring: 1 wants no interrupt.
    pub fn set_flags(&self, flags: u16) {
        self.memory
            .write_obj(flags, GuestAddress(self.rings() + AVAIL))
            .unwrap();
    }

    /// Whether the device wants no kicks.
    pub fn is_polled(&self) -> bool {
        let flags: u16 = self
            .memory
            .read_obj(GuestAddress(self.rings() + USED))
            .unwrap();
        flags == 1
    }

    /// Offers a request made of these buffers from descriptor `head` on; returns the addresses of the buffers.
    pub fn submit(&self, head: u16, buffers: &[Buffer<'_>]) -> Vec<u64> {
        let mut addresses = Vec::new();
        for (index, buffer) in (head..).zip(buffers) {
            let address = self.next_buffer.get();
            let (len, flags) = match buffer {
                Buffer::Out(bytes) => {
                    self.memory
                        .write_slice(bytes, GuestAddress(address))
                        .unwrap();
                    (bytes.len(), 0)
                }
                Buffer::In(len) => (*len, VRING_DESC_F_WRITE),
            };
            let last = usize::from(index - head) + 1 == buffers.len();
            let flags = if last {
                flags
            } else {
                flags | VRING_DESC_F_NEXT
            };
            self.descriptor(
                index,
                address,
                len.try_into().unwrap(),
                flags.try_into().unwrap(),
                index + 1,
            );
            addresses.push(address);
            // Not aligned on purpose.
            self.next_buffer.set(address + len as u64 + 3);
        }
        self.offer(head);
        addresses
    }

    /// The next used chain, if there is one.
    pub fn used(&self) -> Option<Used> {
        let base = self.rings() + USED;
        let index: u16 = self
            .memory
            .load(GuestAddress(base + 2), std::sync::atomic::Ordering::Acquire)
            .unwrap();
        if index == self.seen.get() {
            return None;
        }
        let place = base + 4 + 8 * u64::from(self.seen.get() % QUEUE_SIZE);
        self.seen.set(self.seen.get().wrapping_add(1));
        let word = |place| self.memory.read_obj(GuestAddress(place)).unwrap();
        Some(Used {
            head: word(place),
            len: word(place + 4),
        })
    }

    /// The next used chain; waits for it.
    pub fn await_used(&self) -> Used {
        loop {
            if let Some(used) = self.used() {
                return used;
            }
            std::thread::yield_now();
        }
    }

    pub fn bytes(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory
            .read_slice(&mut bytes, GuestAddress(address))
            .unwrap();
        bytes
    }

    /// Forgets which buffers are in use.
    pub fn recycle(&self) {
        self.next_buffer.set(BUFFERS);
    }
}
