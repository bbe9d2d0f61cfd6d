//! What a driver meets in the registers.

use std::sync::Arc;

use super::blk;
use super::blk::copying::Copying;
use super::disk::Disk;
use super::memory::GuestMemory;
use super::mmio::{COMMON_FEATURES, Transport};
use super::server::{Condition, Inline};
use super::testing::{Driver, MEMORY, negotiate, read, write};

const VERSION_1: u64 = 1 << 32;

pub(super) type InlineDisk = Transport<Inline<Copying>>;

/// A disk in memory that is served by whoever kicks.
pub(super) fn inline_disk(disk: Disk, queues: u16) -> (InlineDisk, GuestMemory) {
    let memory = GuestMemory::anonymous(MEMORY).unwrap();
    let disk = Arc::new(disk);
    let condition: Arc<Condition> = Arc::default();
    let lanes = (0..queues)
        .map(|_| Inline::new(Copying::new(Arc::clone(&disk)), Arc::clone(&condition)))
        .collect();
    let identity = blk::identity(&disk, queues);
    (
        Transport::new(identity, memory.clone(), lanes, condition),
        memory,
    )
}

fn small() -> (InlineDisk, GuestMemory) {
    inline_disk(Disk::memory(1 << 20).unwrap(), 2)
}

#[test]
fn a_driver_finds_a_modern_disk() {
    let (device, _memory) = small();
    assert_eq!(read(&device, 0x000), u32::from_le_bytes(*b"virt"));
    assert_eq!((read(&device, 0x004), read(&device, 0x008)), (2, 2));
    let mut features = 0;
    for page in [0, 1, 2, u32::MAX] {
        write(&device, 0x014, page);
        features |= u64::from(read(&device, 0x010)) << (32 * (page % 2));
    }
    assert_eq!(features & COMMON_FEATURES, COMMON_FEATURES);
    assert_eq!(
        (read(&device, 0x0b0), read(&device, 0x0b4)),
        (u32::MAX, u32::MAX)
    );
    // Number of queues, in the queue selector's way and in the configuration space.
    for (queue, most) in [(0, 256), (1, 256), (2, 0), (u32::MAX, 0)] {
        write(&device, 0x030, queue);
        assert_eq!(read(&device, 0x034), most, "queue {queue}");
    }
    let mut queues = [0; 2];
    device.read(0x100 + 34, &mut queues);
    assert_eq!(queues, 2_u16.to_le_bytes());
}

#[test]
fn the_configuration_space_answers_any_width_at_any_offset() {
    let (device, _memory) = small();
    let mut whole = [0; 60];
    device.read(0x100, &mut whole);
    assert_eq!(whole[..8], 2048_u64.to_le_bytes(), "capacity");
    assert_eq!(whole[20..24], 512_u32.to_le_bytes(), "block size");
    for start in 0..70_usize {
        for width in 1..=9_usize {
            let mut part = vec![0xaa; width];
            device.read(0x100 + start as u64, &mut part);
            for (index, byte) in part.iter().enumerate() {
                let expected = whole.get(start + index).copied().unwrap_or(0);
                assert_eq!(*byte, expected, "{start}+{index}");
            }
            device.write(0x100 + start as u64, &part);
        }
    }
    let mut again = [0; 60];
    device.read(0x100, &mut again);
    assert_eq!(whole, again);
}

#[test]
fn registers_are_32_bits_wide_and_aligned() {
    let (device, _memory) = small();
    for (offset, width) in [(0, 1), (0, 2), (0, 8), (1, 4), (2, 4), (3, 4)] {
        let mut data = vec![0xaa; width];
        device.read(offset, &mut data);
        assert!(data.iter().all(|&byte| byte == 0), "{offset}, {width}");
        device.write(0x070 + offset, &vec![0xff; width]);
    }
    assert_eq!(read(&device, 0x070), 0);
}

#[test]
fn only_features_on_offer_are_settled() {
    let (device, _memory) = small();
    assert_eq!(negotiate(&device, COMMON_FEATURES), 0xb);
    assert_eq!(negotiate(&device, 0), 0x3, "a legacy driver");
    assert_eq!(
        negotiate(&device, VERSION_1 | 1 << 34),
        0x3,
        "a packed ring"
    );
    // Without features there is no DRIVER_OK.
    write(&device, 0x070, 0x7);
    assert_eq!(read(&device, 0x070), 0x3);
    // Settled features stay.
    negotiate(&device, VERSION_1);
    write(&device, 0x024, 1);
    write(&device, 0x020, u32::MAX);
    write(&device, 0x070, 0xf);
    assert_eq!(read(&device, 0x070), 0xf);
}

#[test]
fn a_queue_outside_memory_asks_for_a_reset_and_gets_one() {
    let (device, memory) = small();
    let driver = Driver::new(&device, &memory);
    let end = MEMORY as u64;
    for (descriptors, avail, used, size) in [
        (end, 0x4000, 0x8000, 256),
        (0x1_0000, end - 2, 0x8000, 256),
        (0x1_0000, 0x4000, u64::MAX - 3, 256),
        (0x1_0001, 0x4000, 0x8000, 256),
        (0x1_0000, 0x4000, 0x8000, 0),
        (0x1_0000, 0x4000, 0x8000, 255),
        (0x1_0000, 0x4000, 0x8000, 512),
        (0x1_0000, 0x4000, 0x8000, u32::MAX),
    ] {
        negotiate(&device, VERSION_1);
        driver.describe(descriptors, avail, used, size);
        assert_eq!(read(&device, 0x060), 0);
        write(&device, 0x044, 1);
        assert_eq!(read(&device, 0x044), 0, "{descriptors:#x} {size}");
        assert_eq!(read(&device, 0x070), 0x4b, "{descriptors:#x} {size}");
        assert_eq!(read(&device, 0x060), 2, "a configuration interrupt");
    }
    assert!(device.condition().failure().unwrap().contains("queue 0"));
    Driver::new(&device, &memory);
    assert_eq!(read(&device, 0x070), 0xf);
    assert_eq!(read(&device, 0x060), 0);
}

#[test]
fn a_ready_queue_is_not_changed_until_it_is_given_back() {
    let (device, memory) = small();
    let driver = Driver::new(&device, &memory);
    driver.describe(u64::MAX, u64::MAX, u64::MAX, 0);
    driver.kick();
    assert_eq!(driver.status(), 0xf);
    write(&device, 0x044, 0);
    assert_eq!(read(&device, 0x044), 0);
    driver.kick();
    assert_eq!(driver.status(), 0xf);
}
