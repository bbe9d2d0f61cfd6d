//! The guest image on real KVM: same bytes at the same address, exceptions by name, timer and IPIs.
//!
//! Guest RAM has one fixed address per process, so these tests take turns.

// Helpers of tests are tests: what fails here fails the test.
#![allow(clippy::unwrap_used)]

#[path = "common/kvm.rs"]
mod kvm;
#[path = "common/skip.rs"]
mod skip;

use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kvm::has_kvm;
use kvm_bindings::KVM_MEM_READONLY;
use object::LittleEndian;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use procfs::process::{MMPermissions, Process};
use vtax::guest::embedded::devices::Devices;
use vtax::guest::embedded::vcpu::EmbeddedVcpu;
use vtax::guest::embedded::{self, Vm, VmConfig, slots, tables};
use vtax::guest::fault::GuestFault;
use vtax::guest::image::Image;
use vtax::guest::layout;
use vtax::guest::mailbox::{Answer, Mailbox, Request};
use vtax::guest::native::{NativeAreas, NativeCpu};
use vtax::guest::ram::{Ram, RamConfig};
use vtax::guest::{Completion, Executor, Failure};
use vtax::host::tsc::{TscClock, rdtsc_fenced};
use vtax::twin::partner::{Partner, Words};
use vtax::twin::{self, Around};
use vtax::watchdog::Slot;
use vtax_scenarios::memory::{arena_bytes, arena_start};
use vtax_scenarios::plan::{Backing, PageSize, Topology};
use vtax_workloads::Task;
use vtax_workloads::abi::Op;
use vtax_workloads::machine::{
    AREA_MAILBOX, CODE_BASE, CODE_BYTES, CODE_PHYSICAL, DEVICES_BYTES, DEVICES_VIRTUAL, RAM_BASE,
    VCPU_AREA,
};

const MIB: u64 = 1 << 20;

static TURN: Mutex<()> = Mutex::new(());

#[derive(Clone, Copy)]
struct Setup {
    memory: u64,
    vcpus: u32,
    page_size: PageSize,
    interrupts: bool,
}

const SMALL: Setup = Setup {
    memory: 16 * MIB,
    vcpus: 1,
    page_size: PageSize::Size4K,
    interrupts: false,
};

/// A guest, and what drives it.
struct Guest<'a> {
    ram: &'a Ram,
    vm: &'a Vm<'a>,
    image: &'a Image,
    areas: &'a NativeAreas,
    setup: Setup,
}

impl<'a> Guest<'a> {
    /// Runs `test` with a fresh guest; says so and returns where there is no KVM.
    fn with(setup: Setup, test: impl FnOnce(&Guest<'_>)) {
        Self::of(Image::embedded().unwrap(), setup, test);
    }

    /// The same with another image.
    fn of(image: Image, setup: Setup, test: impl FnOnce(&Guest<'_>)) {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // Within the turn to its end: one image can be mapped at a time.
        let image = image;
        if !has_kvm() {
            return;
        }
        let kvm = embedded::open().unwrap();
        let ram = Ram::map(&RamConfig {
            address: RAM_BASE,
            len: setup.memory,
            backing: Backing::Small,
            numa_node: None,
        })
        .unwrap();
        let config = VmConfig {
            page_size: setup.page_size,
            topology: Topology {
                sockets: 1,
                cores: setup.vcpus,
                threads: 1,
            },
            vcpus: setup.vcpus,
            interrupts: setup.interrupts,
            halt_poll_nanos: None,
        };
        let devices = Devices::default();
        let areas = NativeAreas::map(setup.vcpus, Backing::Small, None).unwrap();
        let vm = Vm::create(&kvm, &ram, &image, &devices, config).unwrap();
        test(&Guest {
            ram: &ram,
            vm: &vm,
            image: &image,
            areas: &areas,
            setup,
        });
    }

    fn vcpu(&self, index: u32) -> EmbeddedVcpu<'_> {
        let mut vcpu = self.vm.vcpu(index).unwrap();
        vcpu.watched(Slot::for_this_thread().unwrap());
        vcpu
    }

    fn mailbox(&self, index: u32) -> Mailbox<'_> {
        Mailbox::new(self.ram, layout::mailbox(index))
    }

    fn request(&self, op: Op, workload: &str) -> Request {
        let (index, workload) = vtax_workloads::find(workload).unwrap();
        Request {
            op,
            workload: index as u64,
            arena: RAM_BASE + arena_start(self.setup.memory, self.setup.vcpus),
            arena_len: arena_bytes(self.setup.memory, self.setup.vcpus),
            iterations: 10,
            run_in: 0,
            planted: 0,
            params: vtax_workloads::default_params(workload),
            seed: 42,
        }
    }

    fn ask(
        &self,
        index: u32,
        cpu: &mut EmbeddedVcpu<'_>,
        request: &Request,
    ) -> Result<Answer, GuestFault> {
        ask(self.mailbox(index), cpu, request)
    }

    /// The same of the native side.
    fn ask_natively(&self, request: &Request) -> Answer {
        let mut cpu = NativeCpu::new(self.image, self.areas, 0).unwrap();
        ask(self.areas.mailbox(0), &mut cpu, request).unwrap()
    }
}

fn ask(
    mailbox: Mailbox<'_>,
    cpu: &mut dyn Executor,
    request: &Request,
) -> Result<Answer, GuestFault> {
    mailbox.put(request).unwrap();
    match cpu.execute() {
        Ok(completion) => assert_eq!(completion, Completion::Clean),
        Err(Failure::Guest(fault)) => return Err(fault),
        Err(Failure::Twin(refusal)) => panic!("{refusal}"),
    }
    Ok(mailbox.take().unwrap())
}

#[test]
fn native_and_guest_execute_the_same_bytes_at_the_same_address() {
    for page_size in [PageSize::Size4K, PageSize::Size2M] {
        Guest::with(Setup { page_size, ..SMALL }, |guest| {
            let request = guest.request(Op::Identity, "cpu-hash");
            let native = guest.ask_natively(&request);
            let virtual_ = guest.ask(0, &mut guest.vcpu(0), &request).unwrap();
            assert_eq!(native, virtual_);
            assert_eq!(native.checksum, guest.image.text_hash());
            assert_eq!(native.code_address, guest.image.header.payload);
        });
    }
}

/// The image with the last byte of its code changed.
fn changed_image() -> Image {
    let intact = Image::embedded().unwrap();
    let mut elf = vtax_guest_images::BARE_ELF.to_vec();
    let header = FileHeader64::<LittleEndian>::parse(&*elf).unwrap();
    let code = &header.program_headers(LittleEndian, &*elf).unwrap()[0];
    assert_eq!(code.p_vaddr(LittleEndian), CODE_BASE);
    let last = intact.header.text_end - 1 - CODE_BASE + code.p_offset(LittleEndian);
    let byte = &mut elf[usize::try_from(last).unwrap()];
    *byte = !*byte;
    Image::parse(elf.leak()).unwrap()
}

#[test]
fn one_changed_byte_of_code_is_noticed_by_both_sides() {
    Guest::of(changed_image(), SMALL, |guest| {
        let request = guest.request(Op::Identity, "cpu-hash");
        let native = guest.ask_natively(&request);
        let virtual_ = guest.ask(0, &mut guest.vcpu(0), &request).unwrap();
        let intact = Image::embedded().unwrap().text_hash();
        assert_ne!(native.checksum, intact);
        assert_eq!(virtual_.checksum, native.checksum);
    });
}

/// What a process may execute, and what it may write and what is shared, of its mappings.
fn mappings(wanted: impl Fn(MMPermissions) -> bool) -> Vec<Range<u64>> {
    let maps = Process::myself().unwrap().maps().unwrap();
    maps.iter()
        .filter(|map| wanted(map.perms))
        .map(|map| map.address.0..map.address.1)
        .collect()
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

#[test]
fn what_a_guest_can_write_the_host_does_not_execute_or_return_through() {
    Guest::with(SMALL, |guest| {
        let slots = slots(guest.ram, &guest.image.code().unwrap());
        let writable: Vec<_> = (slots.iter())
            .filter(|slot| slot.flags & KVM_MEM_READONLY == 0)
            .map(|slot| slot.userspace_addr..slot.userspace_addr + slot.memory_size)
            .collect();
        let ram = guest.ram.address()..guest.ram.address() + guest.ram.len();
        assert_eq!(writable, [ram]);
        let native = guest.areas.mailbox(0).address();
        let native = native..native + VCPU_AREA - AREA_MAILBOX;
        for range in &writable {
            assert!(!overlap(range, &native), "{range:x?}: stack and mailbox");
            for code in mappings(|perms| perms.contains(MMPermissions::EXECUTE)) {
                assert!(!overlap(range, &code), "{range:x?}: {code:x?}");
            }
        }
        // And what runs is not writable by anyone.
        let both = MMPermissions::EXECUTE | MMPermissions::WRITE;
        assert_eq!(mappings(|perms| perms.contains(both)), []);
    });
}

#[test]
fn a_guest_that_writes_its_code_is_stopped_and_the_code_stays() {
    /// A virtual address that is free in the guest.
    const WINDOW: u64 = DEVICES_VIRTUAL + DEVICES_BYTES;
    for page_size in [PageSize::Size4K, PageSize::Size2M] {
        for through in [CODE_BASE, WINDOW] {
            Guest::with(Setup { page_size, ..SMALL }, |guest| {
                // Of its own tables a guest can make what it likes, here one that allows to write.
                tables::window(guest.ram, WINDOW, CODE_PHYSICAL).unwrap();
                let scribble = Request {
                    arena: through,
                    arena_len: CODE_BYTES,
                    params: [MIB, 0, 0, 0],
                    ..guest.request(Op::Setup, "mem-random-update")
                };
                let fault = guest.ask(0, &mut guest.vcpu(0), &scribble).unwrap_err();
                let text = fault.to_string();
                let expected = if through == CODE_BASE {
                    "#PF page fault in ring 3"
                } else {
                    "write to guest-physical address 0xd02"
                };
                assert!(text.contains(expected), "{text}");
                let identity = guest.ask_natively(&guest.request(Op::Identity, "cpu-hash"));
                assert_eq!(identity.checksum, guest.image.text_hash());
            });
        }
    }
}

#[test]
fn devices_answer_and_the_guest_goes_on() {
    Guest::with(SMALL, |guest| {
        let mut vcpu = guest.vcpu(0);
        for name in ["lat-cpuid", "lat-port", "lat-mmio"] {
            let request = guest.request(Op::Run, name);
            let answer = guest.ask(0, &mut vcpu, &request).unwrap();
            assert_eq!(
                (answer.checksum, answer.latencies.len()),
                (10, 10),
                "{name}"
            );
            let sum: u64 = answer.latencies.iter().map(|&ticks| u64::from(ticks)).sum();
            assert!(sum > 0 && sum <= answer.ticks, "{name}");
        }
    });
}

#[test]
fn every_workload_computes_the_same_on_both_sides() {
    let setup = Setup {
        memory: 512 * MIB,
        page_size: PageSize::Size2M,
        ..SMALL
    };
    Guest::with(setup, |guest| {
        let mut vcpu = guest.vcpu(0);
        for workload in vtax_workloads::CATALOGUE {
            if workload.family == vtax_workloads::Family::Diagnostic
                || matches!(workload.body, vtax_workloads::Body::PerSide(_))
            {
                continue;
            }
            let set_up = guest.request(Op::Setup, workload.name);
            let run = guest.request(Op::Run, workload.name);
            guest.ask_natively(&set_up);
            let native = guest.ask_natively(&run);
            let virtual_ = guest.ask(0, &mut vcpu, &run).unwrap();
            assert_eq!(native.checksum, virtual_.checksum, "{}", workload.name);
            assert!(virtual_.ticks > 0, "{}", workload.name);
        }
    });
}

#[test]
fn faults_have_names() {
    for (workload, expected) in [
        ("fault-page", "#PF page fault in ring 3"),
        ("fault-ud", "#UD invalid opcode in ring 3"),
        ("fault-gp", "#GP general protection in ring 3"),
    ] {
        Guest::with(SMALL, |guest| {
            let request = guest.request(Op::Run, workload);
            let fault = guest.ask(0, &mut guest.vcpu(0), &request).unwrap_err();
            let text = fault.to_string();
            assert!(text.contains(expected), "{workload}: {text}");
            assert!(text.contains("RIP 0x3fe"), "{workload}: {text}");
            assert!(text.contains("CR2"), "{workload}: {text}");
        });
    }
}

#[test]
fn a_triple_fault_says_where_or_why_not() {
    Guest::with(SMALL, |guest| {
        let request = guest.request(Op::Run, "fault-triple");
        match guest.ask(0, &mut guest.vcpu(0), &request) {
            Err(GuestFault::TripleFault { rip, .. }) => {
                let code = guest.image.header.text_start..guest.image.header.text_end;
                assert!(code.contains(&rip), "{rip:#x}");
            }
            Err(GuestFault::TripleFaultReset) => {}
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_page_fault_names_its_address() {
    Guest::with(SMALL, |guest| {
        let request = guest.request(Op::Run, "fault-page");
        match guest.ask(0, &mut guest.vcpu(0), &request) {
            Err(GuestFault::Exception(frame)) => {
                assert_eq!(frame.vector, 14);
                assert_eq!(frame.cr2, request.params[0]);
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_request_that_makes_no_sense_is_refused_and_the_guest_lives() {
    Guest::with(SMALL, |guest| {
        let mut vcpu = guest.vcpu(0);
        let mut request = guest.request(Op::Run, "cpu-hash");
        request.workload = u64::MAX;
        guest.mailbox(0).put(&request).unwrap();
        vcpu.execute().unwrap();
        assert!(guest.mailbox(0).take().is_err());
        let sane = guest.request(Op::Identity, "cpu-hash");
        guest.ask(0, &mut vcpu, &sane).unwrap();
    });
}

#[test]
fn the_tsc_deadline_timer_reaches_the_guest() {
    let setup = Setup {
        interrupts: true,
        ..SMALL
    };
    Guest::with(setup, |guest| {
        let request = Request {
            iterations: 20,
            params: [200_000, 0, 0, 0],
            ..guest.request(Op::TimerProbe, "cpu-hash")
        };
        let answer = guest.ask(0, &mut guest.vcpu(0), &request).unwrap();
        assert_eq!(answer.checksum, 20, "timer interrupts taken");
        assert_eq!(answer.latencies.len(), 20);
        assert!(answer.latencies.iter().all(|&late| late > 0));
    });
}

#[test]
fn ipis_reach_another_vcpu() {
    let setup = Setup {
        memory: 32 * MIB,
        vcpus: 2,
        interrupts: true,
        ..SMALL
    };
    Guest::with(setup, |guest| {
        let received = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let request = Request {
                    iterations: 5,
                    ..guest.request(Op::IpiAwait, "cpu-hash")
                };
                guest.ask(1, &mut guest.vcpu(1), &request).unwrap()
            });
            // APIC id 1; a few milliseconds apart at any clock rate, so that none merges with the next.
            let request = Request {
                iterations: 50,
                params: [1, 20_000_000, 0, 0],
                ..guest.request(Op::IpiSend, "cpu-hash")
            };
            guest.ask(0, &mut guest.vcpu(0), &request).unwrap();
            waiting.join().unwrap()
        });
        assert!(received.checksum >= 5, "{} arrived", received.checksum);
    });
}

#[test]
fn tasks_that_leave_the_guest_come_back() {
    let setup = Setup {
        interrupts: true,
        ..SMALL
    };
    Guest::with(setup, |guest| {
        let bell = guest.vm.doorbell().unwrap();
        let mut vcpu = guest.vcpu(0);
        for name in ["lat-msr", "lat-kick", "lat-timer"] {
            let request = guest.request(Op::Run, name);
            let answer = guest.ask(0, &mut vcpu, &request).unwrap();
            assert_eq!(
                (answer.checksum, answer.latencies.len()),
                (10, 10),
                "{name}"
            );
            assert!(answer.ticks > 0, "{name}");
        }
        assert_eq!(bell.read().unwrap(), 10, "kicks that became events");
    });
}

#[test]
fn a_partner_answers_guest_and_host() {
    let setup = Setup {
        interrupts: true,
        ..SMALL
    };
    for (name, task) in [
        ("lat-inject", Task::Inject),
        ("lat-wake", Task::Wake),
        ("lat-mailbox", Task::Mailbox),
    ] {
        Guest::with(setup, |guest| {
            let request = guest.request(Op::Run, name);
            let arena = arena_start(setup.memory, setup.vcpus);
            let words = Words::at(guest.ram, arena).unwrap();
            let line = guest.vm.partner_line(0).unwrap();
            let clock = TscClock::calibrate(Duration::from_millis(10)).unwrap();
            std::thread::scope(|scope| {
                let asked = (task, request.params);
                let partner =
                    Partner::start(scope, asked, words.clone(), Some(line), None).unwrap();
                let mut vcpu = guest.vcpu(0);
                partner.begin(true, request.iterations);
                let answer = guest.ask(0, &mut vcpu, &request).unwrap();
                assert_eq!(
                    (answer.checksum, answer.latencies.len()),
                    (10, 10),
                    "{name}"
                );
                let twin = twin::of(
                    task,
                    Around {
                        mailbox: guest.areas.mailbox(0),
                        clock,
                        words: Some(words),
                        disk: None,
                        network: None,
                    },
                )
                .unwrap();
                assert_eq!(twin.is_some(), task.has_native_twin(), "{name}");
                if let Some(mut twin) = twin {
                    partner.begin(false, request.iterations);
                    let native = ask(guest.areas.mailbox(0), &mut twin, &request).unwrap();
                    assert_eq!(native.checksum, answer.checksum, "{name}");
                    assert_eq!(native.latencies.len(), 10, "{name}");
                }
            });
        });
    }
}

#[test]
fn the_guest_s_clock_is_the_host_s_where_a_partner_needs_it() {
    let setup = Setup {
        interrupts: true,
        ..SMALL
    };
    Guest::with(setup, |guest| {
        let request = guest.request(Op::Setup, "lat-inject");
        let mut vcpu = guest.vcpu(0);
        let before = rdtsc_fenced();
        let inside = guest.ask(0, &mut vcpu, &request).unwrap().ticks;
        assert!((before..rdtsc_fenced()).contains(&inside));
    });
}

#[test]
fn vcpus_interrupt_each_other_whether_they_spin_or_halt() {
    let setup = Setup {
        memory: 32 * MIB,
        vcpus: 2,
        interrupts: true,
        ..SMALL
    };
    for to in [0, 1] {
        Guest::with(setup, |guest| {
            let request = Request {
                params: [to, 0, 0, 0],
                ..guest.request(Op::Run, "lat-ipi")
            };
            let ask = |index| guest.ask(index, &mut guest.vcpu(index), &request).unwrap();
            let (sender, receiver) = std::thread::scope(|scope| {
                let receiver = scope.spawn(|| ask(1));
                (ask(0), receiver.join().unwrap())
            });
            assert_eq!((sender.checksum, receiver.checksum), (10, 10));
            assert_eq!(sender.latencies.len(), 10);
            assert_eq!(receiver.latencies.len(), 0);
        });
    }
}

#[test]
fn a_guest_of_many_vcpus_and_some_gigabytes_works() {
    let setup = Setup {
        memory: 5 << 30,
        vcpus: 16,
        page_size: PageSize::Size2M,
        interrupts: false,
    };
    Guest::with(setup, |guest| {
        let request = guest.request(Op::Identity, "cpu-hash");
        let mut vcpus: Vec<_> = (0..setup.vcpus).map(|index| guest.vcpu(index)).collect();
        for (index, vcpu) in (0..).zip(&mut vcpus) {
            let answer = guest.ask(index, vcpu, &request).unwrap();
            assert_eq!(answer.checksum, guest.image.text_hash());
        }
        // The last arena lies above the hole below 4 GiB.
        let last = layout::arena(setup.memory, setup.vcpus, setup.vcpus - 1);
        assert!(last > 3 << 30);
        let touch = Request {
            arena: RAM_BASE + last,
            arena_len: 64 * 4096,
            ..guest.request(Op::Touch, "cpu-hash")
        };
        guest.ask(0, &mut vcpus[0], &touch).unwrap();
    });
}
