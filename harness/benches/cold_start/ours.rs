//! A start of the embedded VMM, as a run makes it for each boot, from /dev/kvm on.

use std::mem::offset_of;

use anyhow::Context as _;
use vtax::guest::Executor as _;
use vtax::guest::embedded::devices::Devices;
use vtax::guest::embedded::{self, Vm, VmConfig};
use vtax::guest::image::Image;
use vtax::guest::layout;
use vtax::guest::mailbox::{Mailbox, Request};
use vtax::guest::ram::{Ram, RamConfig};
use vtax::host::tsc::rdtsc_fenced;
use vtax_scenarios::plan::{Backing, MIN_MEMORY_BYTES, PageSize, arena_bytes};
use vtax_workloads::abi::{self, Op};
use vtax_workloads::machine::RAM_BASE;

use crate::Start;

/// Where the payload keeps the TSC from before its first unit of work.
const READING: usize = offset_of!(abi::Mailbox, tsc_start);

/// rdtsc; shl rdx, 32; or rax, rdx; mov [rdi + READING], rax; out 0xf5, al
const PROGRAM: [u8; 15] = [
    0x0f,
    0x31,
    0x48,
    0xc1,
    0xe2,
    0x20,
    0x48,
    0x09,
    0xd0,
    0x48,
    0x89,
    0x47,
    READING.to_le_bytes()[0],
    0xe6,
    0xf5,
];
const _: () = assert!(READING < 0x80);

/// What the guest does first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// In place of the image's entry it starts with one that reads the TSC.
    Instruction,
    /// The payload is as it is, and reads the TSC before its first unit of work.
    Work,
}

/// Starts a guest and has one unit of `cpu-hash` done.
pub fn start(image: &Image, first: First) -> anyhow::Result<Start> {
    let (workload, entry) = vtax_workloads::find("cpu-hash").context("no workload cpu-hash")?;
    let mailbox = layout::mailbox(0);
    let request = Request {
        op: Op::Run,
        workload: workload as u64,
        arena: RAM_BASE + layout::arena(MIN_MEMORY_BYTES, 1, 0),
        arena_len: arena_bytes(MIN_MEMORY_BYTES, 1),
        iterations: 1,
        run_in: 0,
        planted: 0,
        params: vtax_workloads::default_params(entry),
        seed: 1,
    };

    let begin = rdtsc_fenced();
    let kvm = embedded::open()?;
    let ram = Ram::map(&RamConfig {
        address: RAM_BASE,
        len: MIN_MEMORY_BYTES,
        backing: Backing::Small,
        numa_node: None,
    })?;
    let config = VmConfig::single(PageSize::Size2M);
    let devices = Devices::default();
    let mut image = image.clone();
    if first == First::Instruction {
        ram.write_bytes(request.arena - RAM_BASE, &PROGRAM)?;
        image.header.ring3_entry = request.arena;
    }
    let vm = Vm::create(&kvm, &ram, &image, &devices, config)?;
    let mut vcpu = vm.vcpu(0)?;
    Mailbox::new(&ram, mailbox).put(&request)?;
    vcpu.execute()?;
    let end = rdtsc_fenced();

    if first == First::Work {
        Mailbox::new(&ram, mailbox).take()?;
    }
    Ok(Start {
        begin,
        reading: ram.read(mailbox + READING as u64)?,
        end,
    })
}
