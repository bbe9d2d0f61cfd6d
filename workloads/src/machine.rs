//! What the harness and the guest image's ring-0 part agree on: addresses, ports, gates, vectors and the
//! per-vCPU area.

use core::sync::atomic::{AtomicU32, AtomicU64};

/// Virtual address of guest RAM: in the harness, where it is mapped, and in the guest, through its page tables. A
/// multiple of 1 GiB, so that every page size can map it.
pub const RAM_BASE: u64 = 0x4000_0000;

/// Virtual address of the image's code and constants, in the harness and in the guest; `guest-images/bare/image.ld` says
/// the same. They are no part of guest RAM: neither a guest's stores nor its devices reach them.
pub const CODE_BASE: u64 = 0x3fe0_0000;

/// Bytes kept for them: one large page of a guest.
pub const CODE_BYTES: u64 = 0x20_0000;

/// Their guest-physical address, in a slot of memory that the guest can only read: behind the devices.
pub const CODE_PHYSICAL: u64 = DEVICES_PHYSICAL + DEVICES_BYTES;

/// Their guest-physical address where another VMM loads the image, into RAM; `image.ld` says the same.
pub const CODE_LOADED: u64 = 0x20_0000;

/// Port that ring 3 writes when the payload has answered. The TSS's I/O bitmap lets it use this one and
/// [`PORT_NOTHING`].
pub const PORT_DONE: u16 = 0xf5;

/// Port that ring 0 writes after an exception; its frame ([`FaultFrame`]) is then at RSP.
pub const PORT_FAULT: u16 = 0xf6;

/// Port that the VMM answers at once and does nothing about: what an exit to user space costs.
pub const PORT_NOTHING: u16 = 0xf7;

/// Guest-physical address of the devices' registers: between RAM below 3 GiB and the APIC.
pub const DEVICES_PHYSICAL: u64 = 0xd000_0000;

/// Where the guest's page tables map them; the harness maps nothing there.
pub const DEVICES_VIRTUAL: u64 = 0x3000_0000;

/// Bytes of all devices' registers, a page each.
pub const DEVICES_BYTES: u64 = 0x20_0000;

/// The page whose registers the VMM answers at once, all with zero: what an MMIO exit costs.
pub const DEVICE_NOTHING: u64 = 0;

/// Offset of a doorbell in that page: where the guest has one, KVM turns a write of it into an event (ioeventfd) and
/// goes on.
pub const DOORBELL: u64 = 0x800;
/// First port of the emulated ATA disk's command block, eight in all (ATA/ATAPI-7's first channel on a PC).
pub const ATA_COMMAND_BLOCK: u16 = 0x1f0;

/// Its control port.
pub const ATA_CONTROL: u16 = 0x3f6;

/// Guest-physical addresses of RAM skip from here …
pub const HOLE_START: u64 = 3 << 30;
/// … to here: clear of the devices, the APIC and KVM's own pages.
pub const HOLE_END: u64 = 4 << 30;

/// Guest-physical address of an offset in RAM.
#[must_use]
pub const fn physical(offset: u64) -> u64 {
    if offset < HOLE_START {
        offset
    } else {
        offset + (HOLE_END - HOLE_START)
    }
}

/// The offset in RAM of a guest-physical address: the inverse of [`physical`].
#[must_use]
pub const fn offset(physical: u64) -> u64 {
    if physical < HOLE_END {
        physical
    } else {
        physical - (HOLE_END - HOLE_START)
    }
}

/// The page of the virtio-blk device's registers, where there is one.
pub const DEVICE_BLOCK: u64 = 1;

/// The page of the virtio-net device's registers, where there is one.
pub const DEVICE_NET: u64 = 2;

/// The page of the virtio-mem device's registers, where there is one.
pub const DEVICE_MEMORY: u64 = 3;

/// Port that the PVH entry writes as its very first act: under QEMU an `isa-debug-exit` device ends the machine.
pub const PORT_FIRST_INSTRUCTION: u16 = 0xf4;

/// Gate 1: `wrmsr`, RDI = MSR, RSI = value.
///
/// A gate is `int3` in ring 3 with the gate's number in RAX, arguments in RDI and RSI. `int3` because software
/// interrupts with an operand and SYSCALL do not reach ring 0 on every KVM back end.
pub const GATE_WRITE_MSR: u64 = 1;
/// Gate 2: `wrmsr` as gate 1, then halt with interrupts on until one arrives, in one section: an interrupt cannot
/// slip in between and leave the vCPU asleep.
pub const GATE_WRITE_MSR_AND_HALT: u64 = 2;

/// Gate 4: RDI = address of a count that an interrupt handler moves, RSI = its value as last seen. Halts with interrupts
/// on until one arrives, but not where the count has moved already; look and halt are one section, as in gate 2.
pub const GATE_HALT_UNLESS_MOVED: u64 = 4;

pub use crate::abi::GATE_TRIPLE_FAULT;

/// Interrupt vector of the APIC timer.
pub const VECTOR_TIMER: u8 = 0x40;
/// Interrupt vector of inter-processor interrupts.
pub const VECTOR_IPI: u8 = 0x41;
/// Interrupt vector of devices.
pub const VECTOR_DEVICE: u8 = 0x42;
/// Interrupt vector of what a thread of the host sends by an irqfd, the vCPU's partner.
pub const VECTOR_PARTNER: u8 = 0x43;

/// Code segment of ring 3 (RPL 3).
pub const RING3_CS: u16 = 0x33;
/// Stack segment of ring 3 (RPL 3).
pub const RING3_SS: u16 = 0x2b;
/// Code segment of ring 0.
pub const RING0_CS: u16 = 0x10;
/// Stack segment of ring 0.
pub const RING0_SS: u16 = 0x18;
/// The task-state segment.
pub const TSS_SELECTOR: u16 = 0x40;

/// Bytes of a vCPU's own area: descriptor tables, counters, mailbox and stacks.
pub const VCPU_AREA: u64 = 0x2_0000;
/// Offset of the global descriptor table in a vCPU's area.
pub const AREA_GDT: u64 = 0x0;
/// Offset of the task-state segment.
pub const AREA_TSS: u64 = 0x1000;
/// Offset of [`Counters`], where GS points.
pub const AREA_COUNTERS: u64 = 0x2000;
/// Offset of [`About`].
pub const AREA_ABOUT: u64 = 0x2800;
/// Offset of the [`DiskSeat`].
pub const AREA_DISK_SEAT: u64 = 0x2c00;
/// Offset of the [`NetSeat`].
pub const AREA_NET_SEAT: u64 = 0x2d00;
/// Offset of the address of the arena that the request under way names: an atomic word, by which the guest's drivers find
/// their memory.
pub const AREA_ARENA: u64 = 0x2e00;
/// Top of the ring-0 stack.
pub const AREA_RING0_STACK: u64 = 0x5000;
/// Top of the stack for double faults (IST 1).
pub const AREA_IST_STACK: u64 = 0x6000;
/// Offset of the [`crate::abi::Mailbox`].
pub const AREA_MAILBOX: u64 = 0x6000;
/// Top of the stack on which the payload runs, on both sides.
pub const AREA_PAYLOAD_STACK: u64 = VCPU_AREA;

/// What interrupt handlers count, per vCPU; ring 3 reads it through GS or at its address.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Counters {
    /// Timer interrupts taken.
    pub timer: u64,
    /// Inter-processor interrupts taken.
    pub ipi: u64,
    /// Interrupts of the partner taken.
    pub partner: u64,
    /// Interrupts of devices taken.
    pub device: u64,
    /// TSC at the start of the last of these handlers.
    pub stamp: u64,
    /// The value of `ipi` that this vCPU waits for; ring 3 writes it, for its neighbour to see.
    pub awaited_ipi: u64,
}

/// What a vCPU is told of itself.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct About {
    /// Its number, which is also its APIC id.
    pub vcpu: u64,
    /// Rate of its TSC, in ticks per millisecond.
    pub ticks_per_milli: u64,
}

/// A word alone in its cache line, and in the line that a prefetcher takes along.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Line(pub AtomicU64);

/// What a vCPU (or its native twin) and its partner, a thread of the host, tell each other; at the start of the arena.
/// The harness zeroes it before each block.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Exchange {
    /// To the partner: the number of the operation that is awaited, from 1.
    pub call: Line,
    /// To the vCPU: the same number back, or the TSC of the moment before the partner's signal.
    pub reply: Line,
}

/// Checksum of a failed [`Op::Resize`]: the memory device does not do what its specification says.
///
/// [`Op::Resize`]: crate::abi::Op::Resize
pub const MEMORY_TROUBLE: u64 = 32;

/// Of a request that the harness steps into while it is carried out; at [`Signals::OFFSET`] in the arena. The harness zeroes
/// it before.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Signals {
    /// By the vCPU: not 0 as soon as it is at work.
    pub begun: Line,
    /// By the harness: not 0 when it is to end.
    pub stop: Line,
}

impl Signals {
    /// Behind what a driver keeps in the arena.
    pub const OFFSET: u64 = crate::block::DRIVER_BYTES;
}

/// What a vCPU is told of its disk. The harness puts it there before the vCPU starts; zero: there is no disk.
#[derive(Debug, Default)]
#[repr(C)]
pub struct DiskSeat {
    /// Which driver: [`DISK_VIRTIO_INTERRUPT`], [`DISK_VIRTIO_POLL`] or [`DISK_ATA`].
    pub driver: u64,
    /// Virtual address of a virtio device's registers.
    pub registers: u64,
    /// The virtqueue that is this vCPU's own.
    pub queue: u64,
    /// Virtual address of the seat of the vCPU that negotiates with the device for all.
    pub first: u64,
    /// In that seat, for the guest: how far it has come.
    pub state: AtomicU32,
    /// In that seat, for the guest: who may use the registers now.
    pub lock: AtomicU32,
    /// Written by the guest at the end of each block, for the harness: [`crate::block::engine::Done::fewest_under_way`].
    pub fewest_under_way: AtomicU64,
}

/// virtio-blk on MMIO; the vCPU halts until the device interrupts it.
pub const DISK_VIRTIO_INTERRUPT: u64 = 1;
/// virtio-blk on MMIO; the vCPU looks at the used ring.
pub const DISK_VIRTIO_POLL: u64 = 2;
/// An ATA disk at [`ATA_COMMAND_BLOCK`].
pub const DISK_ATA: u64 = 3;

/// What a vCPU is told of its network card. The harness puts it there before the vCPU starts; zero: there is none.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct NetSeat {
    /// How it learns of frames: [`NET_INTERRUPT`] or [`NET_POLL`].
    pub completion: u64,
    /// Virtual address of the card's registers.
    pub registers: u64,
}

/// The vCPU halts until the network card interrupts it.
pub const NET_INTERRUPT: u64 = 1;
/// The vCPU looks at the network card's used rings.
pub const NET_POLL: u64 = 2;

/// What ring 0 leaves at RSP before it writes [`PORT_FAULT`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FaultFrame {
    /// CR2: for a page fault, the address.
    pub cr2: u64,
    /// The exception's vector.
    pub vector: u64,
    /// Its error code, 0 where it has none.
    pub error_code: u64,
    /// Where it happened.
    pub rip: u64,
    /// Code segment; its low two bits are the ring.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
}

/// Offset in RAM of the [`Handover`], a page of its own.
pub const HANDOVER_OFFSET: u64 = 0x1f_f000;

/// What the harness and an image that another VMM boots say to each other, in guest memory that both map.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Handover {
    /// The image: its first instructions ran, and nothing but the harness writes RAM from now on.
    pub alive: u32,
    /// The harness: the tables and all fields below are in place.
    pub go: u32,
    /// The harness counts the requests it has put into the mailbox.
    pub requests: u32,
    /// The image counts those it has answered.
    pub answers: u32,
    /// Global descriptor table as LGDT takes it: limit, then base.
    pub gdt: [u16; 8],
    /// Interrupt descriptor table, likewise.
    pub idt: [u16; 8],
    /// Control registers; paging on.
    pub cr0: u64,
    /// Root of the page tables. They map the PVH entry at its physical address too.
    pub cr3: u64,
    /// PAE on.
    pub cr4: u64,
    /// Long mode on.
    pub efer: u64,
    /// Where GS points: this vCPU's [`Counters`].
    pub gs_base: u64,
    /// Top of the ring-0 stack.
    pub ring0_stack: u64,
    /// Top of the payload's stack.
    pub stack: u64,
    /// Virtual address of the mailbox.
    pub mailbox: u64,
}
