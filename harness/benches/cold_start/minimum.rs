//! The least that starts a KVM guest in ring 3 and has it hand over: raw ioctls, four pages, five instructions.
//!
//! ```text
//! 0x0000 top-level page table   0x1000 page-directory pointers   0x2000 page directory: one 2 MiB page at 0
//! 0x3000 code, its result, task-state segment (for the one port that ring 3 may use)
//! ```

use std::io::Error;
use std::mem::size_of;
use std::ptr::{from_mut, from_ref, null_mut};

use anyhow::{Context as _, ensure};
use kvm_bindings::{
    KVM_EXIT_IO, kvm_regs, kvm_run, kvm_segment, kvm_sregs, kvm_userspace_memory_region,
};
use vtax::host::tsc::rdtsc_fenced;

use crate::Start;

const PAGES: usize = 4;
const PAGE: usize = 4096;
const CODE: usize = 0x3000;
const RESULT: usize = 0x3100;
const TSS: usize = 0x3200;
const IO_BITMAP: u16 = 0x68;

/// rdtsc; shl rdx, 32; or rax, rdx; mov [rdi], rax; out 0xf5, al
const PROGRAM: [u8; 14] = [
    0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xd0, 0x48, 0x89, 0x07, 0xe6, 0xf5,
];
const PORT: u16 = 0xf5;

/// `_IO(KVMIO, number)` and its kin (Linux, include/uapi/linux/kvm.h and asm-generic/ioctl.h).
const fn request(direction: u64, number: u64, size: usize) -> u64 {
    direction << 30 | (size as u64) << 16 | 0xae << 8 | number
}
const NONE: u64 = 0;
const WRITE: u64 = 1;
const READ: u64 = 2;
const KVM_CREATE_VM: u64 = request(NONE, 0x01, 0);
const KVM_GET_VCPU_MMAP_SIZE: u64 = request(NONE, 0x04, 0);
const KVM_CREATE_VCPU: u64 = request(NONE, 0x41, 0);
const KVM_SET_USER_MEMORY_REGION: u64 =
    request(WRITE, 0x46, size_of::<kvm_userspace_memory_region>());
const KVM_RUN: u64 = request(NONE, 0x80, 0);
const KVM_SET_REGS: u64 = request(WRITE, 0x82, size_of::<kvm_regs>());
const KVM_GET_SREGS: u64 = request(READ, 0x83, size_of::<kvm_sregs>());
const KVM_SET_SREGS: u64 = request(WRITE, 0x84, size_of::<kvm_sregs>());

/// A file descriptor, closed when dropped.
struct Fd(i32);

impl Fd {
    fn new(result: i32, what: &'static str) -> anyhow::Result<Self> {
        if result < 0 {
            return Err(Error::last_os_error()).context(what);
        }
        Ok(Self(result))
    }

    /// # Safety
    /// `argument` is what the request asks for: a number, or the address of its structure.
    unsafe fn ioctl(&self, request: u64, argument: u64, what: &'static str) -> anyhow::Result<i32> {
        // SAFETY: the caller's promise.
        let result = unsafe { libc::ioctl(self.0, request, argument) };
        if result < 0 {
            return Err(Error::last_os_error()).context(what);
        }
        Ok(result)
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: the descriptor is this value's own.
        unsafe { libc::close(self.0) };
    }
}

/// A mapping, unmapped when dropped.
struct Map {
    start: *mut u8,
    len: usize,
}

impl Map {
    fn new(len: usize, flags: i32, fd: i32) -> anyhow::Result<Self> {
        // SAFETY: the kernel chooses a place where nothing is mapped.
        let start = unsafe {
            libc::mmap(
                null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                fd,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Error::last_os_error()).context("mmap");
        }
        Ok(Self {
            start: start.cast(),
            len,
        })
    }

    /// Stores `value` at `offset`.
    fn store<T: Copy>(&self, offset: usize, value: T) {
        assert!(offset + size_of::<T>() <= self.len);
        // SAFETY: inside the mapping, which nobody holds a reference to.
        unsafe { self.start.add(offset).cast::<T>().write_unaligned(value) };
    }

    /// The integer that the guest left at `offset`.
    fn load(&self, offset: usize) -> u64 {
        assert!(offset + size_of::<u64>() <= self.len);
        // SAFETY: inside the mapping; every bit pattern is an integer.
        unsafe { self.start.add(offset).cast::<u64>().read_volatile() }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it is left.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}

/// What keeps the guest there.
pub struct Guest {
    // Dropped in this order.
    _run: Map,
    _vcpu: Fd,
    _vm: Fd,
    _memory: Map,
    _kvm: Fd,
}

/// Starts the guest once.
pub fn start() -> anyhow::Result<(Start, Guest)> {
    let begin = rdtsc_fenced();
    // SAFETY: a constant path.
    let opened = unsafe { libc::open(c"/dev/kvm".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    let kvm = Fd::new(opened, "opening /dev/kvm")?;
    let memory = Map::new(PAGES * PAGE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
    // Present, writable, user; accessed and dirty where it counts; large.
    memory.store(0x0000, 0x1007_u64);
    memory.store(0x1000, 0x2007_u64);
    memory.store(0x2000, 0x00e7_u64);
    memory.store(CODE, PROGRAM);
    memory.store(TSS + 102, IO_BITMAP);
    memory.store(TSS + usize::from(IO_BITMAP) + 32, 0xff_u8);

    // SAFETY: every argument below is a number, or points to the structure that its request asks for, which lives
    // until the call returns; guest memory outlives the VM, which is dropped first.
    let (vm, vcpu, size) = unsafe {
        let vm = Fd::new(
            kvm.ioctl(KVM_CREATE_VM, 0, "KVM_CREATE_VM")?,
            "KVM_CREATE_VM",
        )?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: (PAGES * PAGE) as u64,
            userspace_addr: memory.start as u64,
        };
        vm.ioctl(
            KVM_SET_USER_MEMORY_REGION,
            from_ref(&region) as u64,
            "KVM_SET_USER_MEMORY_REGION",
        )?;
        let vcpu = Fd::new(
            vm.ioctl(KVM_CREATE_VCPU, 0, "KVM_CREATE_VCPU")?,
            "KVM_CREATE_VCPU",
        )?;
        let size = kvm.ioctl(KVM_GET_VCPU_MMAP_SIZE, 0, "KVM_GET_VCPU_MMAP_SIZE")?;
        let mut sregs = kvm_sregs::default();
        vcpu.ioctl(KVM_GET_SREGS, from_mut(&mut sregs) as u64, "KVM_GET_SREGS")?;
        in_ring_3(&mut sregs);
        vcpu.ioctl(KVM_SET_SREGS, from_ref(&sregs) as u64, "KVM_SET_SREGS")?;
        let regs = kvm_regs {
            rip: CODE as u64,
            rdi: RESULT as u64,
            rflags: 0x2,
            ..kvm_regs::default()
        };
        vcpu.ioctl(KVM_SET_REGS, from_ref(&regs) as u64, "KVM_SET_REGS")?;
        (vm, vcpu, size)
    };
    let run = Map::new(usize::try_from(size)?, libc::MAP_SHARED, vcpu.0)?;
    // SAFETY: takes no argument.
    unsafe { vcpu.ioctl(KVM_RUN, 0, "KVM_RUN") }?;
    let end = rdtsc_fenced();

    // SAFETY: the kernel keeps a kvm_run at the start of this mapping.
    let exit = unsafe { run.start.cast::<kvm_run>().read() };
    // SAFETY: every bit pattern of the union's part for port I/O is valid.
    let port = unsafe { exit.__bindgen_anon_1.io.port };
    ensure!(
        exit.exit_reason == KVM_EXIT_IO && port == PORT,
        "the minimal guest ended with exit {} instead of its hand-over",
        exit.exit_reason
    );
    let start = Start {
        begin,
        reading: memory.load(RESULT),
        end,
    };
    let guest = Guest {
        _run: run,
        _vcpu: vcpu,
        _vm: vm,
        _memory: memory,
        _kvm: kvm,
    };
    Ok((start, guest))
}

/// Long mode, ring 3, flat segments.
fn in_ring_3(sregs: &mut kvm_sregs) {
    let data = kvm_segment {
        limit: 0xffff_ffff,
        selector: 0x2b,
        type_: 0x3,
        present: 1,
        dpl: 3,
        db: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    };
    sregs.cs = kvm_segment {
        selector: 0x33,
        type_: 0xb,
        l: 1,
        db: 0,
        ..data
    };
    (sregs.ss, sregs.ds, sregs.es, sregs.fs, sregs.gs) = (data, data, data, data, data);
    sregs.tr = kvm_segment {
        base: TSS as u64,
        limit: u32::from(IO_BITMAP) + 32,
        selector: 0x40,
        type_: 0xb,
        present: 1,
        ..kvm_segment::default()
    };
    sregs.cr0 = 0x8005_0033;
    sregs.cr3 = 0;
    sregs.cr4 = 0x20;
    sregs.efer = 0x500;
}
