//! The same image under QEMU: microvm, booted by PVH, driven through guest memory that both processes map.
//!
//! ```text
//! memfd ─┬─► QEMU (memory-backend-file, share=on) ──► pvh_entry ──► alive
//!        └─► Ram ──► tables, Handover ──► go ──► requests ⇄ answers
//! ```
//!
//! QEMU writes firmware and image into RAM while it starts, so the tables follow once the image says that it runs.
//! Requests are polled for on both sides: no exit is part of one.

use std::io;
use std::mem::offset_of;
use std::os::fd::AsRawFd as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vm_memory::ByteValued;
use vtax_scenarios::plan::PageSize;
use vtax_workloads::machine::{
    AREA_COUNTERS, AREA_GDT, AREA_RING0_STACK, CODE_LOADED, DEVICES_VIRTUAL, HANDOVER_OFFSET,
    Handover, RAM_BASE, TSS_SELECTOR,
};

use super::embedded::tables;
use super::fault::GuestFault;
use super::image::Image;
use super::layout::{self, DEVICE_DIRECTORY, IDT};
use super::mailbox::Mailbox;
use super::ram::{Ram, RamError};
use super::{Completion, Executor, Failure};

/// The program.
const QEMU: &str = "qemu-system-x86_64";

/// The 2 MiB that hold the registers of microvm's virtio-mmio devices (hw/i386/microvm.c: `VIRTIO_MMIO_BASE`).
const DEVICES_PHYSICAL: u64 = 0xfea0_0000;
/// Virtual address of the first of them.
pub const VIRTIO_MMIO: u64 = DEVICES_VIRTUAL + 0x10_0000;
/// Bytes from one to the next.
pub const VIRTIO_MMIO_STRIDE: u64 = 0x200;
/// How many there are.
pub const VIRTIO_MMIO_SLOTS: u64 = 24;

/// Present, writable, user, accessed, dirty, 2 MiB.
const LARGE_PAGE: u64 = 0b1110_0111;
const UNCACHED: u64 = 0b1_1000;
/// PE, MP, ET, NE, WP, AM, PG; PAE, OSFXSR, OSXMMEXCPT; SCE, LME, NXE.
const CR0: u64 = 0x8005_0033;
const CR4: u64 = 0x620;
const EFER: u64 = 0x901;

/// How long QEMU may take until the image runs, and how long a request may.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often to look for an answer: so seldom that QEMU's threads do not feel it.
const LOOK: Duration = Duration::from_millis(2);

/// Why there is no guest under QEMU.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// It cannot be started.
    #[error("{QEMU} cannot be run: {0}; install it (Debian: qemu-system-x86)")]
    Start(io::Error),
    /// It started, but the image never ran.
    #[error("{QEMU} did not start the image: {0}")]
    Boot(String),
    /// Shared memory.
    #[error("memory to share with {QEMU}: {0}")]
    Memory(io::Error),
    /// Guest memory.
    #[error(transparent)]
    Ram(#[from] RamError),
}

/// [`Handover`] as plain memory.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct RawHandover(Handover);

// SAFETY: Handover is repr(C), made of u16, u32 and u64 without padding between them.
unsafe impl ByteValued for RawHandover {}

/// A guest of one vCPU under QEMU; killed when dropped.
#[derive(Debug)]
pub struct QemuGuest {
    child: Child,
    ram: Ram,
}

impl QemuGuest {
    /// Starts QEMU with `memory` bytes of RAM and these further arguments (devices and their back ends), and waits until
    /// the image answers requests.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn start(image: &Image, memory: u64, arguments: &[String]) -> Result<Self, QemuError> {
        let file = memfd_create("vtax-guest-ram", MemfdFlags::CLOEXEC)
            .map_err(|error| QemuError::Memory(error.into()))?;
        ftruncate(&file, memory).map_err(|error| QemuError::Memory(error.into()))?;
        let elf = image_file().map_err(QemuError::Memory)?;
        let path = |fd: i32| format!("/proc/{}/fd/{fd}", std::process::id());
        let backend = format!(
            "memory-backend-file,id=ram,size={memory},mem-path={},share=on",
            path(file.as_raw_fd())
        );
        let ram = Ram::shared(&file, memory)?;
        let child = Command::new(QEMU)
            .args([
                "-M",
                "microvm,pit=off,pic=off,rtc=off,isa-serial=off,memory-backend=ram",
            ])
            .args(["-accel", "kvm", "-cpu", "host,-arch-capabilities"])
            .args(["-smp", "1", "-m", &format!("{}M", memory >> 20)])
            .args(["-no-user-config", "-nodefaults", "-display", "none"])
            .args(["-global", "virtio-mmio.force-legacy=false"])
            .args(["-object", &backend, "-kernel", &path(elf.as_raw_fd())])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(QemuError::Start)?;
        let mut guest = Self { child, ram };
        guest.await_image()?;
        guest.lay_out(image)?;
        Ok(guest)
    }

    /// Guest RAM, mapped here at [`RAM_BASE`].
    #[must_use]
    pub fn ram(&self) -> &Ram {
        &self.ram
    }

    /// Process id of QEMU, to pin its threads.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The vCPU's mailbox.
    #[must_use]
    pub fn mailbox(&self) -> Mailbox<'_> {
        Mailbox::new(&self.ram, layout::mailbox(0))
    }

    fn await_image(&mut self) -> Result<(), QemuError> {
        let start = Instant::now();
        while self.counter(offset_of!(Handover, alive))? == 0 {
            if let Some(status) = self.child.try_wait().map_err(QemuError::Start)? {
                let said = self.said();
                return Err(QemuError::Boot(format!("it ended with {status}: {said}")));
            }
            if start.elapsed() > PATIENCE {
                return Err(QemuError::Boot(format!(
                    "no sign of life within {} s",
                    PATIENCE.as_secs()
                )));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// What QEMU wrote to stderr until it ended.
    fn said(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            // Without its words the exit status has to do.
            let _ = io::Read::read_to_string(&mut stderr, &mut text);
        }
        text.trim().to_owned()
    }

    /// The tables of the embedded VMM, with what only this way in needs: the code at its physical address, devices where
    /// microvm has them, and a task-state segment that LTR takes.
    fn lay_out(&self, image: &Image) -> Result<(), QemuError> {
        const IDENTITY: u64 = HANDOVER_OFFSET.next_multiple_of(2 << 20);
        const AVAILABLE_TSS: u8 = 0x89;
        let ram = &self.ram;
        tables::interrupt_table(ram, image)?;
        let cr3 = tables::page_tables(ram, PageSize::Size2M, 1, CODE_LOADED)?;
        ram.write(
            DEVICE_DIRECTORY + (IDENTITY >> 21) * 8,
            &(IDENTITY | LARGE_PAGE),
        )?;
        ram.write(DEVICE_DIRECTORY, &LARGE_PAGE)?;
        ram.write(
            DEVICE_DIRECTORY + (DEVICES_VIRTUAL >> 21) * 8,
            &(DEVICES_PHYSICAL | LARGE_PAGE | UNCACHED),
        )?;
        tables::descriptors(ram, 0)?;
        let area = layout::vcpu_area(0);
        let access_byte = area + AREA_GDT + u64::from(TSS_SELECTOR) + 5;
        ram.write(access_byte, &AVAILABLE_TSS)?;
        let handover = Handover {
            alive: 1,
            gdt: table_register(tables::GDT_LIMIT, RAM_BASE + area + AREA_GDT),
            idt: table_register(tables::IDT_LIMIT, RAM_BASE + IDT),
            cr0: CR0,
            cr3,
            cr4: CR4,
            efer: EFER,
            gs_base: RAM_BASE + area + AREA_COUNTERS,
            ring0_stack: RAM_BASE + area + AREA_RING0_STACK,
            stack: layout::payload_stack(0),
            mailbox: self.mailbox().address(),
            ..Handover::default()
        };
        ram.write(HANDOVER_OFFSET, &RawHandover(handover))?;
        // `go` last: the image reads nothing else before.
        ram.atomic_u32(HANDOVER_OFFSET + offset_of!(Handover, go) as u64)?
            .store(1, Ordering::Release);
        Ok(())
    }

    fn counter(&self, field: usize) -> Result<u32, RamError> {
        Ok(self
            .ram
            .atomic_u32(HANDOVER_OFFSET + field as u64)?
            .load(Ordering::Acquire))
    }

    fn ask(&mut self) -> Result<Completion, RamError> {
        let asked = self
            .counter(offset_of!(Handover, requests))?
            .wrapping_add(1);
        self.ram
            .atomic_u32(HANDOVER_OFFSET + offset_of!(Handover, requests) as u64)?
            .store(asked, Ordering::Release);
        let start = Instant::now();
        while self.counter(offset_of!(Handover, answers))? != asked {
            if start.elapsed() > PATIENCE {
                return Ok(Completion::Interrupted);
            }
            // The image times itself: a CPU for looking would be taken from QEMU.
            std::thread::sleep(LOOK);
        }
        Ok(Completion::Clean)
    }
}

impl Executor for QemuGuest {
    fn execute(&mut self) -> Result<Completion, Failure> {
        match self.ask() {
            Ok(Completion::Clean) => Ok(Completion::Clean),
            Ok(Completion::Interrupted) => Err(Failure::Guest(GuestFault::Hang {
                seconds: PATIENCE.as_secs(),
                exits: 0,
                rip: 0,
                cr2: 0,
            })),
            Err(error) => Err(Failure::Guest(GuestFault::Internal {
                what: error.to_string(),
                rip: 0,
                cr2: 0,
            })),
        }
    }
}

impl Drop for QemuGuest {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The image as a file that QEMU can open.
fn image_file() -> io::Result<std::fs::File> {
    let mut file: std::fs::File = memfd_create("vtax-image", MemfdFlags::CLOEXEC)?.into();
    io::Write::write_all(&mut file, vtax_guest_images::BARE_ELF)?;
    Ok(file)
}

/// Limit and base as LGDT and LIDT take them.
fn table_register(limit: u16, base: u64) -> [u16; 8] {
    let mut words = [limit, 0, 0, 0, 0, 0, 0, 0];
    for (word, bytes) in words[1..]
        .iter_mut()
        .zip(base.to_le_bytes().chunks_exact(2))
    {
        *word = u16::from_le_bytes([bytes[0], bytes[1]]);
    }
    words
}
