//! Devices under a real guest, which behaves or does not: its accesses leave it through KVM, its kicks reach the I/O
//! threads without the VMM.
//!
//! Guest RAM has one fixed address per process, so these tests take turns.

// Helpers of tests are tests: what fails here fails the test.
#![allow(clippy::unwrap_used)]

#[path = "common/kvm.rs"]
mod kvm;
#[path = "common/skip.rs"]
mod skip;

use std::sync::{Arc, Mutex, PoisonError};

use kvm::has_kvm;
use vtax::guest::Executor;
use vtax::guest::embedded::devices::blk::{BlockConfig, Completion};
use vtax::guest::embedded::devices::disk::Disk;
use vtax::guest::embedded::devices::{Devices, DevicesConfig};
use vtax::guest::embedded::vcpu::EmbeddedVcpu;
use vtax::guest::embedded::{self, Vm, VmConfig};
use vtax::guest::image::Image;
use vtax::guest::layout;
use vtax::guest::mailbox::{Mailbox, Request};
use vtax::guest::ram::{Ram, RamConfig};
use vtax::watchdog::Slot;
use vtax_scenarios::memory::{arena_bytes, arena_start};
use vtax_scenarios::plan::{Backing, PageSize};
use vtax_workloads::abi::{Access, Op};
use vtax_workloads::machine::{DEVICE_BLOCK, RAM_BASE};

const MEMORY: u64 = 16 << 20;
const PAGE: u64 = 4096;

/// From the arena's start: accesses, rings, buffers.
const DESCRIPTORS: u64 = 0x1_0000;
const AVAILABLE: u64 = 0x1_4000;
const USED: u64 = 0x1_8000;
const BUFFERS: u64 = 0x2_0000;

static TURN: Mutex<()> = Mutex::new(());

/// A guest with a disk, and a script for its accesses.
struct Guest<'a> {
    ram: &'a Ram,
    vcpu: EmbeddedVcpu<'a>,
}

impl Guest<'_> {
    /// Runs `test` with a fresh guest for each way of serving its disk; says so and returns where there is no KVM.
    fn with(test: impl Fn(&mut Guest<'_>, &Devices)) {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        if !has_kvm() {
            return;
        }
        let kvm = embedded::open().unwrap();
        let image = Image::embedded().unwrap();
        for (completion, poll_nanos) in [(Completion::Poll, 50_000), (Completion::Interrupt, 0)] {
            let ram = Ram::map(&RamConfig {
                address: RAM_BASE,
                len: MEMORY,
                backing: Backing::Small,
                numa_node: None,
            })
            .unwrap();
            let block = BlockConfig {
                disk: Arc::new(Disk::memory(1 << 20).unwrap()),
                queues: 2,
                completion,
                poll_nanos,
                io_cpus: vec![],
            };
            let devices = Devices::new(
                &ram,
                &DevicesConfig {
                    block: Some(block),
                    ..DevicesConfig::default()
                },
            )
            .unwrap();
            let config = VmConfig {
                interrupts: devices.interrupt(),
                ..VmConfig::single(PageSize::Size4K)
            };
            let vm = Vm::create(&kvm, &ram, &image, &devices, config).unwrap();
            let mut vcpu = vm.vcpu(0).unwrap();
            vcpu.watched(Slot::for_this_thread().unwrap());
            test(&mut Guest { ram: &ram, vcpu }, &devices);
        }
    }

    fn arena() -> u64 {
        arena_start(MEMORY, 1)
    }

    /// Lets the guest make these accesses, and returns what they brought.
    fn access(&mut self, accesses: &[Access]) -> Vec<u64> {
        let size = size_of::<Access>() as u64;
        let place = |index: u64| Self::arena() + index * size;
        for (index, access) in (0..).zip(accesses) {
            self.ram.write(place(index), &access.offset).unwrap();
            self.ram.write(place(index) + 8, &access.value).unwrap();
            let last = u64::from(access.width) | u64::from(access.kind) << 32;
            self.ram.write(place(index) + 16, &last).unwrap();
        }
        let mailbox = Mailbox::new(self.ram, layout::mailbox(0));
        mailbox
            .put(&Request {
                op: Op::Access,
                workload: 0,
                arena: RAM_BASE + Self::arena(),
                arena_len: arena_bytes(MEMORY, 1),
                iterations: accesses.len() as u64,
                run_in: 0,
                planted: 0,
                params: Default::default(),
                seed: 0,
            })
            .unwrap();
        self.vcpu.execute().unwrap();
        let answer = mailbox.take().unwrap();
        assert_eq!(answer.checksum, accesses.len() as u64);
        (0..)
            .zip(accesses)
            .map(|(index, _)| self.ram.read(place(index) + 8).unwrap())
            .collect()
    }

    fn register(&mut self, offset: u64) -> u64 {
        self.access(&[Access {
            width: 4,
            ..at(offset)
        }])[0]
    }

    /// Resets the disk and sets its first queue up; returns the status.
    fn set_up(&mut self) -> u64 {
        // Until it is reset, the device looks at the rings.
        self.access(&[write(0x070, 4, 0)]);
        let zeroes = vec![0; 0x1_0000];
        self.ram
            .write_bytes(Self::arena() + DESCRIPTORS, &zeroes)
            .unwrap();
        let address = |offset| layout::physical(Self::arena() + offset);
        let steps = [
            (0x070, 1),
            (0x070, 3),
            (0x024, 1),
            (0x020, 1),
            (0x070, 0xb),
            (0x030, 0),
            (0x038, 256),
            (0x080, address(DESCRIPTORS)),
            (0x090, address(AVAILABLE)),
            (0x0a0, address(USED)),
            (0x044, 1),
            (0x070, 0xf),
        ];
        self.access(&steps.map(|(offset, value)| write(offset, 4, value)));
        self.register(0x070)
    }

    fn descriptor(&self, index: u64, address: u64, len: u32, flags: u16, next: u16) {
        let place = Self::arena() + DESCRIPTORS + 16 * index;
        self.ram.write(place, &address).unwrap();
        self.ram.write(place + 8, &len).unwrap();
        self.ram.write(place + 12, &flags).unwrap();
        self.ram.write(place + 14, &next).unwrap();
    }

    /// Makes the first chain of the ring available, and kicks.
    fn offer(&mut self, head: u16, index: u16) {
        self.ram
            .write(Self::arena() + AVAILABLE + 4, &head)
            .unwrap();
        self.ram
            .write(Self::arena() + AVAILABLE + 2, &index)
            .unwrap();
        self.access(&[write(0x050, 4, 0)]);
    }

    /// Reads a sector as a driver should; the first byte of the status is what the disk answers.
    fn read_sector(&mut self) {
        let buffers = layout::physical(Self::arena() + BUFFERS);
        self.ram
            .write_bytes(Self::arena() + BUFFERS, &[0; 16])
            .unwrap();
        let status = Self::arena() + BUFFERS + 1024;
        self.ram.write(status, &0xff_u8).unwrap();
        self.descriptor(0, buffers, 16, 1, 1);
        self.descriptor(1, buffers + 512, 512, 3, 2);
        self.descriptor(2, buffers + 1024, 1, 2, 0);
        self.offer(0, 1);
        while self.ram.read::<u16>(Self::arena() + USED + 2).unwrap() == 0 {
            std::thread::yield_now();
        }
        assert_eq!(self.ram.read::<u8>(status).unwrap(), 0);
        assert_eq!(self.ram.read::<u32>(Self::arena() + USED + 8).unwrap(), 513);
    }
}

/// A read of one byte of the disk's registers.
fn at(offset: u64) -> Access {
    Access {
        offset: DEVICE_BLOCK * PAGE + offset,
        width: 1,
        ..Access::default()
    }
}

fn write(offset: u64, width: u32, value: u64) -> Access {
    Access {
        width,
        value,
        kind: Access::WRITE,
        ..at(offset)
    }
}

#[test]
fn a_guest_sets_up_its_disk_and_reads_from_it() {
    Guest::with(|guest, devices| {
        assert_eq!(guest.register(0x000), 0x7472_6976);
        assert_eq!(guest.register(0x008), 2);
        for _ in 0..3 {
            assert_eq!(guest.set_up(), 0xf);
            guest.read_sector();
        }
        devices.check().unwrap();
        let counts = devices.block_counts();
        assert_eq!(counts.len(), 2);
        assert_eq!(counts[0].interrupts > 0, devices.interrupt());
        assert_eq!(counts[1].interrupts, 0);
    });
}

#[test]
fn registers_take_any_width_at_any_offset() {
    Guest::with(|guest, devices| {
        guest.set_up();
        let mut accesses = Vec::new();
        for offset in (0..0x150).chain(PAGE - 8..PAGE) {
            for width in [1, 2, 4, 8_u64] {
                if offset + width > PAGE {
                    continue;
                }
                for value in [0x5a5a_5a5a_5a5a_5a5a, u64::MAX, 0] {
                    let width = u32::try_from(width).unwrap();
                    accesses.push(write(offset, width, value));
                    accesses.push(Access {
                        width,
                        ..at(offset)
                    });
                }
            }
        }
        for part in accesses.chunks(1000) {
            guest.access(part);
        }
        assert_eq!(guest.set_up(), 0xf);
        guest.read_sector();
        // Whatever came first: the device is well now, and says what was wrong.
        if let Err(error) = devices.check() {
            assert!(error.to_string().contains("virtio-blk stopped"), "{error}");
        }
    });
}

#[test]
fn a_guest_that_breaks_the_rules_must_reset_its_disk() {
    const NEEDS_RESET: u64 = 0x40;
    /// A name, the table's first two descriptors, the head that is offered and the index of the ring.
    type Breach = (&'static str, [(u64, u32, u16, u16); 2], u16, u16);
    let good = 0x40_0000;
    let breaches: [Breach; 7] = [
        ("a loop", [(good, 16, 1, 1), (good, 16, 1, 0)], 0, 1),
        ("beyond the table", [(good, 16, 1, 999), (0, 0, 0, 0)], 0, 1),
        ("no such head", [(good, 16, 1, 1), (good, 1, 2, 0)], 256, 1),
        ("a jump", [(good, 16, 1, 1), (good, 1, 2, 0)], 0, 20_000),
        (
            "outside memory",
            [(MEMORY - 8, 16, 1, 1), (good, 1, 2, 0)],
            0,
            1,
        ),
        ("huge", [(good, 16, 1, 1), (0, u32::MAX, 2, 0)], 0, 1),
        (
            "the device's own page",
            [(0xd000_1000, 16, 1, 1), (good, 1, 2, 0)],
            0,
            1,
        ),
    ];
    Guest::with(|guest, devices| {
        assert!(devices.check().is_ok());
        for (name, table, head, index) in &breaches {
            assert_eq!(guest.set_up(), 0xf, "{name}");
            for (place, &(address, len, flags, next)) in (0..).zip(table) {
                guest.descriptor(place, address, len, flags, next);
            }
            guest.offer(*head, *index);
            let status = guest.access(&[Access {
                width: 4,
                kind: Access::AWAIT,
                value: NEEDS_RESET,
                ..at(0x070)
            }])[0];
            assert_eq!(status, 0xf | NEEDS_RESET, "{name}");
            assert_eq!(guest.register(0x060) & 2, 2, "{name}: it is announced");
            // Kicks are nothing to it now.
            guest.access(&[write(0x050, 4, 0), write(0x050, 4, u64::MAX)]);
            assert_eq!(guest.set_up(), 0xf, "{name}");
            guest.read_sector();
        }
        let text = devices.check().unwrap_err().to_string();
        assert!(text.contains("virtio-blk stopped"), "{text}");
        assert!(text.contains("no end"), "the first breach: {text}");
    });
}
