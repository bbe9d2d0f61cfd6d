//! Devices that meet a driver that does anything at all: they do not panic, and a reset makes them as good as new.

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};
use vtax_workloads::machine::{CODE_BYTES, CODE_PHYSICAL};

use super::disk::Disk;
use super::mmio_tests::inline_disk;
use super::testing::{BUFFERS, Buffer, Driver, MEMORY};

/// An access to the registers.
#[derive(Clone, Debug)]
enum Access {
    Read(u64, usize),
    Write(u64, Vec<u8>),
}

fn access() -> impl Strategy<Value = Access> {
    let offset = || prop_oneof![6 => 0_u64..0x140, 1 => 0_u64..0x1000, 1 => any::<u64>()];
    let word = prop_oneof![
        (0_u32..4).prop_map(u32::to_le_bytes),
        any::<u32>().prop_map(u32::to_le_bytes),
    ];
    prop_oneof![
        1 => (offset(), 0_usize..20).prop_map(|(offset, len)| Access::Read(offset, len)),
        4 => (offset().prop_map(|offset| offset & !3), word)
            .prop_map(|(offset, word)| Access::Write(offset, word.to_vec())),
        1 => (offset(), proptest::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(offset, data)| Access::Write(offset, data)),
    ]
}

/// Addresses and lengths in memory, about its end, and far outside.
fn address() -> impl Strategy<Value = u64> {
    let end = MEMORY as u64;
    prop_oneof![4 => BUFFERS..BUFFERS + 0x4000, 1 => 0..end, 1 => end - 600..end + 600, 1 => any::<u64>()]
}

fn length() -> impl Strategy<Value = u32> {
    prop_oneof![4 => prop_oneof![Just(16), Just(512), Just(1), Just(0)], 1 => 0..5000_u32, 1 => any::<u32>()]
}

/// A descriptor: mostly one that could be right.
fn descriptor() -> impl Strategy<Value = (u64, u32, u16, u16)> {
    let flags = prop_oneof![4 => 0..4_u16, 1 => any::<u16>()];
    let next = prop_oneof![4 => 0..8_u16, 1 => any::<u16>()];
    (address(), length(), flags, next)
}

/// The first words of a buffer: mostly a request's header.
fn buffer() -> impl Strategy<Value = [u8; 16]> {
    let kind = prop_oneof![4 => 0..16_u32, 1 => any::<u32>()];
    let sector = prop_oneof![4 => 0..2100_u64, 1 => any::<u64>()];
    (kind, sector).prop_map(|(kind, sector)| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&kind.to_le_bytes());
        bytes[8..].copy_from_slice(&sector.to_le_bytes());
        bytes
    })
}

/// The device serves a driver that behaves.
fn works(device: &super::mmio_tests::InlineDisk, memory: &super::memory::GuestMemory) {
    let driver = Driver::new(device, memory);
    let at = driver.submit(0, &[Buffer::Out(&[0; 16]), Buffer::In(512), Buffer::In(1)]);
    memory.write_obj(0xff_u8, GuestAddress(at[2])).unwrap();
    driver.kick();
    assert_eq!(driver.used().map(|used| used.len), Some(513));
    assert_eq!(driver.bytes(at[2], 1), [0]);
    assert_eq!(driver.status(), 0xf);
}

#[test]
fn a_buffer_in_the_code_ends_in_a_reset() {
    for address in [CODE_PHYSICAL, CODE_PHYSICAL + CODE_BYTES - 512] {
        let (device, memory) = inline_disk(Disk::memory(1 << 20).unwrap(), 1);
        let driver = Driver::new(&device, &memory);
        // A read of sector 0 into the code.
        memory.write_slice(&[0; 16], GuestAddress(BUFFERS)).unwrap();
        driver.descriptor(0, BUFFERS, 16, 1, 1);
        driver.descriptor(1, address, 512, 3, 2);
        driver.descriptor(2, BUFFERS + 512, 1, 2, 0);
        driver.offer(0);
        driver.kick();
        assert_eq!((driver.used(), driver.status()), (None, 0x4f));
        works(&device, &memory);
    }
}

proptest! {
    #[test]
    fn registers_take_anything(accesses in proptest::collection::vec(access(), 0..200)) {
        let (device, memory) = inline_disk(Disk::memory(1 << 20).unwrap(), 2);
        for access in accesses {
            match access {
                Access::Read(offset, len) => device.read(offset, &mut vec![0; len]),
                Access::Write(offset, data) => device.write(offset, &data),
            }
        }
        works(&device, &memory);
    }

    #[test]
    fn rings_hold_anything(
        table in proptest::collection::vec(descriptor(), 8),
        buffers in proptest::collection::vec((0..0x4000_u64, buffer()), 1..8),
        heads in proptest::collection::vec(prop_oneof![6 => 0..8_u16, 1 => any::<u16>()], 1..20),
        jump in proptest::option::weighted(0.1, any::<u16>()),
    ) {
        let (device, memory) = inline_disk(Disk::memory(1 << 20).unwrap(), 1);
        let driver = Driver::new(&device, &memory);
        for (index, (address, len, flags, next)) in (0..).zip(table) {
            driver.descriptor(index, address, len, flags, next);
        }
        for (offset, bytes) in buffers {
            memory.write_slice(&bytes, GuestAddress(BUFFERS + offset)).unwrap();
        }
        for head in &heads {
            driver.offer(*head);
        }
        if let Some(index) = jump {
            driver.set_available(index);
        }
        driver.kick();
        let mut answered = 0;
        while driver.used().is_some() {
            answered += 1;
        }
        let status = driver.status();
        prop_assert!(status == 0xf || status == 0x4f, "{status:#x}");
        // What is not answered was against the rules.
        prop_assert!(status == 0x4f || jump.is_some() || answered == heads.len());
        works(&device, &memory);
    }
}
