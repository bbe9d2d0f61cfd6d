//! A vCPU at work: one request in, one answer out, and every other exit by its name.

use std::sync::Arc;
use std::time::Duration;

use kvm_ioctls::{VcpuExit, VcpuFd};
use vm_memory::ByteValued;
use vtax_workloads::machine::{FaultFrame, PORT_DONE, PORT_FAULT, PORT_NOTHING, RAM_BASE};

use super::devices::Devices;
use crate::counters::kvm::{KvmStatistics, StatisticsError};
use crate::guest::fault::GuestFault;
use crate::guest::ram::Ram;
use crate::guest::{Completion, Executor, Exits, Failure};
use crate::watchdog::Slot;

/// How long a request may take: far beyond any block, even on a crowded host.
const PATIENCE: Duration = Duration::from_secs(10);

/// A vCPU of an embedded guest.
#[derive(Debug)]
pub struct EmbeddedVcpu<'a> {
    fd: VcpuFd,
    ram: &'a Ram,
    devices: &'a Devices,
    watch: Option<Arc<Slot>>,
    patience: Duration,
    exits: Exits,
}

/// A copy of [`FaultFrame`] as plain memory.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct RawFrame(FaultFrame);

// SAFETY: FaultFrame is repr(C), made of u64 alone: no padding, every bit pattern valid.
unsafe impl ByteValued for RawFrame {}

/// What ended a stay in the guest.
enum Stop {
    Done,
    /// A device has answered: on with the guest.
    Answered,
    Signal,
    Fault,
    Memory {
        address: u64,
        write: bool,
    },
    Shutdown,
    Internal(String),
}

impl<'a> EmbeddedVcpu<'a> {
    pub(super) fn new(fd: VcpuFd, ram: &'a Ram, devices: &'a Devices) -> Self {
        Self {
            fd,
            ram,
            devices,
            watch: None,
            patience: PATIENCE,
            exits: Exits::default(),
        }
    }

    /// What KVM counts of this vCPU.
    ///
    /// # Errors
    /// This KVM does not tell.
    pub fn statistics(&self) -> Result<KvmStatistics, StatisticsError> {
        KvmStatistics::open(&self.fd)
    }

    /// Puts the vCPU under the watch of the thread that will run it.
    pub fn watched(&mut self, slot: Arc<Slot>) {
        self.watch = Some(slot);
    }

    /// How long a request may take from now on, where ten seconds are too short.
    pub fn patient(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Enters the guest until something happens.
    fn stay(&mut self) -> Result<Stop, kvm_ioctls::Error> {
        let internal = |what: &str| Stop::Internal(what.to_owned());
        Ok(match self.fd.run() {
            Ok(VcpuExit::IoOut(PORT_DONE, _)) => Stop::Done,
            Ok(VcpuExit::IoOut(PORT_FAULT, _)) => Stop::Fault,
            Ok(VcpuExit::IoOut(PORT_NOTHING, _)) => {
                self.exits.port += 1;
                Stop::Answered
            }
            Ok(VcpuExit::IoOut(port, data)) => {
                self.exits.port += 1;
                port_answer(self.devices.write_port(port, data), port)
            }
            Ok(VcpuExit::IoIn(port, data)) => {
                self.exits.port += 1;
                port_answer(self.devices.read_port(port, data), port)
            }
            Ok(VcpuExit::MmioRead(address, data)) => {
                self.exits.mmio += 1;
                memory_answer(self.devices.read(address, data), address, false)
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                self.exits.mmio += 1;
                memory_answer(self.devices.write(address, data), address, true)
            }
            Ok(VcpuExit::Shutdown) => Stop::Shutdown,
            Ok(VcpuExit::Hlt) => internal("halted with nothing to wake it"),
            Ok(VcpuExit::InternalError) => internal("KVM_EXIT_INTERNAL_ERROR, emulation failure"),
            Ok(VcpuExit::FailEntry(reason, cpu)) => Stop::Internal(format!(
                "KVM_EXIT_FAIL_ENTRY, hardware reason {reason:#x}, CPU {cpu}"
            )),
            Ok(VcpuExit::Intr) => Stop::Signal,
            Ok(exit) => Stop::Internal(format!("unexpected exit {exit:?}")),
            Err(error) if error.errno() == libc::EINTR || error.errno() == libc::EAGAIN => {
                Stop::Signal
            }
            // A faulting access to memory that the host cannot provide, such as hugetlb run dry.
            Err(error) if error.errno() == libc::EFAULT => {
                internal("EFAULT: the host could not provide a page of guest memory")
            }
            Err(error) => return Err(error),
        })
    }

    /// RIP and CR2, for a fault's name.
    fn place(&self) -> (u64, u64) {
        let rip = self.fd.get_regs().map_or(0, |regs| regs.rip);
        let cr2 = self.fd.get_sregs().map_or(0, |sregs| sregs.cr2);
        (rip, cr2)
    }

    /// Whether the vCPU is back in real mode, where no guest of vtax ever is.
    fn was_reset(&self) -> bool {
        const PROTECTED_MODE: u64 = 1;
        self.fd
            .get_sregs()
            .is_ok_and(|sregs| sregs.cr0 & PROTECTED_MODE == 0)
    }

    /// The frame that ring 0 left at RSP. RSP is the guest's word: out of bounds it names nothing.
    fn frame(&self) -> Option<FaultFrame> {
        let rsp = self.fd.get_regs().ok()?.rsp;
        let raw: RawFrame = self.ram.read(rsp.checked_sub(RAM_BASE)?).ok()?;
        Some(raw.0)
    }

    /// What a stop that ends the request means; `exits` is how often it left for the VMM before.
    fn fault(&self, stop: Stop, exits: u64) -> GuestFault {
        let (rip, cr2) = self.place();
        match stop {
            Stop::Fault => match self.frame() {
                Some(frame) => GuestFault::Exception(frame),
                None => GuestFault::Internal {
                    what: "an exception whose frame lies outside guest memory".into(),
                    rip,
                    cr2,
                },
            },
            Stop::Memory { address, write } => GuestFault::OutsideMemory {
                address,
                write,
                rip,
                cr2,
            },
            Stop::Shutdown if self.was_reset() => GuestFault::TripleFaultReset,
            Stop::Shutdown => GuestFault::TripleFault { rip, cr2 },
            Stop::Internal(what) => GuestFault::Internal { what, rip, cr2 },
            Stop::Done | Stop::Answered | Stop::Signal => GuestFault::Hang {
                seconds: self.patience.as_secs(),
                exits,
                rip,
                cr2,
            },
        }
    }
}

/// On with the guest where a device answered its port I/O.
fn port_answer(answered: bool, port: u16) -> Stop {
    if answered {
        Stop::Answered
    } else {
        Stop::Internal(format!("unexpected I/O on port {port:#x}"))
    }
}

/// On with the guest where a device answered its access.
fn memory_answer(answered: bool, address: u64, write: bool) -> Stop {
    if answered {
        Stop::Answered
    } else {
        Stop::Memory { address, write }
    }
}

impl Executor for EmbeddedVcpu<'_> {
    fn execute(&mut self) -> Result<Completion, Failure> {
        if let Some(watch) = &self.watch {
            watch.arm(self.patience);
        }
        let mut completion = Completion::Clean;
        let start = self.exits;
        let fault = |vcpu: &Self, stop| {
            let exits = vcpu.exits.since(start);
            Failure::from(vcpu.fault(stop, exits.port + exits.mmio))
        };
        let result = loop {
            match self.stay() {
                Ok(Stop::Done) => break Ok(completion),
                // A guest that never does anything else is stopped by its time limit all the same.
                Ok(Stop::Answered) if self.watch.as_ref().is_some_and(|watch| watch.fired()) => {
                    break Err(fault(self, Stop::Signal));
                }
                Ok(Stop::Answered) => {}
                Ok(Stop::Signal) => {
                    completion = Completion::Interrupted;
                    if self.watch.as_ref().is_some_and(|watch| watch.fired()) {
                        break Err(fault(self, Stop::Signal));
                    }
                }
                Ok(stop) => break Err(fault(self, stop)),
                Err(error) => break Err(GuestFault::from(error).into()),
            }
        };
        if let Some(watch) = &self.watch {
            watch.disarm();
        }
        result
    }

    fn exits(&self) -> Exits {
        Exits {
            io_nanos: self.devices.cpu_nanos(),
            ..self.exits
        }
    }
}
