//! The guest image on real KVM: same bytes at the same address, exceptions by name, timer and IPIs.
//!
//! Guest RAM has one fixed address per process, so these tests take turns.

// Helpers of tests are tests: what fails here fails the test.
#![allow(clippy::unwrap_used)]

#[path = "common/kvm.rs"]
mod kvm;
#[path = "common/skip.rs"]
mod skip;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kvm::has_kvm;
use vtax::guest::embedded::devices::Devices;
use vtax::guest::embedded::vcpu::EmbeddedVcpu;
use vtax::guest::embedded::{self, Vm, VmConfig};
use vtax::guest::fault::GuestFault;
use vtax::guest::image::Image;
use vtax::guest::layout;
use vtax::guest::mailbox::{Answer, Mailbox, Request};
use vtax::guest::native::NativeCpu;
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
use vtax_workloads::machine::{IMAGE_OFFSET, RAM_BASE};

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
    setup: Setup,
}

impl<'a> Guest<'a> {
    /// Runs `test` with a fresh guest; says so and returns where there is no KVM.
    fn with(setup: Setup, test: impl FnOnce(&Guest<'_>)) {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        if !has_kvm() {
            return;
        }
        let kvm = embedded::open().unwrap();
        let image = Image::embedded().unwrap();
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
        let vm = Vm::create(&kvm, &ram, &image, &devices, config).unwrap();
        test(&Guest {
            ram: &ram,
            vm: &vm,
            image: &image,
            setup,
        });
    }

    fn vcpu(&self, index: u32) -> EmbeddedVcpu<'_> {
        let mut vcpu = self.vm.vcpu(index).unwrap();
        vcpu.watched(Slot::for_this_thread().unwrap());
        vcpu
    }

    fn native(&self, index: u32) -> NativeCpu<'_> {
        NativeCpu::new(self.image, self.mailbox(index), index)
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
        cpu: &mut dyn Executor,
        request: &Request,
    ) -> Result<Answer, GuestFault> {
        let mailbox = self.mailbox(index);
        mailbox.put(request).unwrap();
        match cpu.execute() {
            Ok(completion) => assert_eq!(completion, Completion::Clean),
            Err(Failure::Guest(fault)) => return Err(fault),
            Err(Failure::Twin(refusal)) => panic!("{refusal}"),
        }
        Ok(mailbox.take().unwrap())
    }
}

#[test]
fn native_and_guest_execute_the_same_bytes_at_the_same_address() {
    for page_size in [PageSize::Size4K, PageSize::Size2M] {
        Guest::with(Setup { page_size, ..SMALL }, |guest| {
            let request = guest.request(Op::Identity, "cpu-hash");
            let native = guest.ask(0, &mut guest.native(0), &request).unwrap();
            let virtual_ = guest.ask(0, &mut guest.vcpu(0), &request).unwrap();
            assert_eq!(native, virtual_);
            assert_eq!(native.checksum, guest.image.text_hash());
            assert_eq!(native.code_address, guest.image.header.payload);
        });
    }
}

#[test]
fn one_changed_byte_of_code_is_noticed_by_both_sides() {
    Guest::with(SMALL, |guest| {
        let last = guest.image.header.text_end - 1 - (RAM_BASE + IMAGE_OFFSET);
        let mut byte = [0];
        guest
            .ram
            .read_bytes(IMAGE_OFFSET + last, &mut byte)
            .unwrap();
        guest
            .ram
            .write_bytes(IMAGE_OFFSET + last, &[!byte[0]])
            .unwrap();
        let request = guest.request(Op::Identity, "cpu-hash");
        let native = guest.ask(0, &mut guest.native(0), &request).unwrap();
        let virtual_ = guest.ask(0, &mut guest.vcpu(0), &request).unwrap();
        assert_ne!(native.checksum, guest.image.text_hash());
        assert_eq!(virtual_.checksum, native.checksum);
    });
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
            guest.ask(0, &mut guest.native(0), &set_up).unwrap();
            let native = guest.ask(0, &mut guest.native(0), &run).unwrap();
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
            assert!(text.contains("RIP 0x402"), "{workload}: {text}");
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
                        mailbox: guest.mailbox(0),
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
                    let native = guest.ask(0, &mut twin, &request).unwrap();
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
