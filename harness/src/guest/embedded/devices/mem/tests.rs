//! What a driver meets, one that behaves and one that does not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use vtax_scenarios::plan::Backing;
use vtax_workloads::machine::{CODE_PHYSICAL, RAM_BASE};

use super::blocks::{Blocks, PLUG, REQUEST_BYTES, Response, STATE, UNPLUG, UNPLUG_ALL};
use super::sizes::Sizes;
use super::{BLOCK_BYTES, Plugging, Region, identity};
use crate::guest::embedded::devices::memory::GuestMemory;
use crate::guest::embedded::devices::mmio::Transport;
use crate::guest::embedded::devices::server::{Condition, Inline};
use crate::guest::embedded::devices::testing::{BUFFERS, Buffer, Driver, MEMORY, read};
use crate::guest::ram::{Ram, RamConfig};

/// Blocks of the region, behind two of ordinary RAM.
const COUNT: u64 = 4;
const REGION: Region = Region {
    offset: 2 * BLOCK_BYTES,
    len: COUNT * BLOCK_BYTES,
};
const ADDRESS: u64 = REGION.offset;

/// Tests run at once, each on memory of its own.
fn ram() -> Ram {
    static PLACES: AtomicU64 = AtomicU64::new(0);
    let place = PLACES.fetch_add(1, Ordering::Relaxed);
    Ram::map(&RamConfig {
        address: RAM_BASE + (1 << 46) + place * (1 << 30),
        len: REGION.offset + REGION.len,
        backing: Backing::Small,
        numa_node: None,
    })
    .unwrap()
}

/// The device with a driver's memory, which is not the region.
struct Card {
    device: Transport<Inline<Plugging>>,
    memory: GuestMemory,
    sizes: Arc<Sizes>,
    ram: Ram,
}

fn card() -> Card {
    let (ram, memory) = (ram(), GuestMemory::anonymous(MEMORY).unwrap());
    let condition: Arc<Condition> = Arc::default();
    let sizes = Arc::new(Sizes::new(REGION));
    let service = Plugging::new(Arc::clone(&sizes), ram.clone(), Arc::default());
    let lanes = vec![Inline::new(service, Arc::clone(&condition))];
    let device = Transport::new(
        identity(Arc::clone(&sizes)),
        memory.clone(),
        lanes,
        condition,
    );
    Card {
        device,
        memory,
        sizes,
        ram,
    }
}

fn request(kind: u16, address: u64, count: u16) -> [u8; REQUEST_BYTES] {
    let mut bytes = [0xee; REQUEST_BYTES];
    bytes[..2].copy_from_slice(&kind.to_le_bytes());
    bytes[8..16].copy_from_slice(&address.to_le_bytes());
    bytes[16..18].copy_from_slice(&count.to_le_bytes());
    bytes
}

/// Address of a block.
fn block(index: u64) -> u64 {
    ADDRESS + index * BLOCK_BYTES
}

fn ask(driver: &Driver<'_, Inline<Plugging>>, request: &[u8]) -> Vec<u8> {
    let at = driver.submit(0, &[Buffer::Out(request), Buffer::In(10)]);
    driver.kick();
    let used = driver.used().unwrap();
    assert_eq!((used.head, used.len), (0, 10));
    driver.bytes(at[1], 10)
}

#[test]
fn a_driver_finds_the_region_and_is_told_what_the_host_wants() {
    let Card { device, sizes, .. } = card();
    assert_eq!(read(&device, 0x008), 24);
    let field = |index: u64| {
        let mut bytes = [0; 8];
        device.read(0x100 + 8 * index, &mut bytes);
        u64::from_le_bytes(bytes)
    };
    assert_eq!(
        [field(0), field(2), field(3)],
        [BLOCK_BYTES, ADDRESS, REGION.len]
    );
    assert_eq!([field(4), field(5), field(6), field(7)], [0; 4]);
    let before = read(&device, 0x0fc);
    sizes.request(3 * BLOCK_BYTES + 5);
    assert_ne!(read(&device, 0x0fc), before);
    assert_eq!(
        [field(4), field(5), field(6)],
        [3 * BLOCK_BYTES, 0, 3 * BLOCK_BYTES]
    );
    sizes.request(u64::MAX);
    assert_eq!(field(6), REGION.len, "never beyond the region");
    sizes.request(BLOCK_BYTES);
    assert_eq!(
        [field(4), field(6)],
        [REGION.len, BLOCK_BYTES],
        "the usable part does not shrink"
    );
}

#[test]
fn requests_come_to_what_the_specification_says() {
    let sizes = Arc::new(Sizes::new(REGION));
    let mut blocks = Blocks::new(Arc::clone(&sizes));
    let mut answer =
        |kind, address, count| blocks.answer(&request(kind, address, count), |_, _| true);
    use Response::{Ack, Error, Mixed, Nack, Plugged, Unplugged};
    assert_eq!(answer(PLUG, block(0), 1), Error, "nothing is usable");
    sizes.request(3 * BLOCK_BYTES);
    for (kind, address, count) in [
        (PLUG, block(0) + 4096, 1),
        (PLUG, block(0) - BLOCK_BYTES, 1),
        (PLUG, block(0), 0),
        (PLUG, block(3), 1),
        (PLUG, block(0), u16::MAX),
        (PLUG, CODE_PHYSICAL, 1),
        (PLUG, u64::MAX - BLOCK_BYTES + 1, 1),
        (UNPLUG, block(0), 1),
        (STATE, block(2), 2),
        (4, block(0), 1),
        (u16::MAX, block(0), 1),
    ] {
        let found = answer(kind, address, count);
        assert_eq!(found, Error, "{kind} {address:#x} {count}");
    }
    assert_eq!(answer(PLUG, block(1), 2), Ack);
    assert_eq!(answer(PLUG, block(0), 2), Error, "one of them is plugged");
    assert_eq!(sizes.now().plugged, 2 * BLOCK_BYTES);
    assert_eq!(answer(STATE, block(0), 1), Unplugged);
    assert_eq!(answer(STATE, block(0), 3), Mixed);
    assert_eq!(answer(STATE, block(1), 2), Plugged);
    sizes.request(2 * BLOCK_BYTES);
    assert_eq!(answer(PLUG, block(0), 1), Nack, "more than was requested");
    assert_eq!(answer(UNPLUG, block(0), 2), Error, "one of them is not");
    assert_eq!(answer(UNPLUG, block(2), 1), Ack);
    assert_eq!(sizes.now().plugged, BLOCK_BYTES);
    assert_eq!(answer(UNPLUG_ALL, 77, 0), Ack);
    let now = sizes.now();
    assert_eq!((now.plugged, now.usable), (0, 2 * BLOCK_BYTES));
}

#[test]
fn blocks_that_the_host_does_not_take_back_stay_plugged() {
    let sizes = Arc::new(Sizes::new(REGION));
    let mut blocks = Blocks::new(Arc::clone(&sizes));
    sizes.request(BLOCK_BYTES);
    let refuses = |_, _| false;
    assert_eq!(
        blocks.answer(&request(PLUG, block(0), 1), refuses),
        Response::Ack
    );
    for kind in [UNPLUG, UNPLUG_ALL] {
        let found = blocks.answer(&request(kind, block(0), 1), refuses);
        assert_eq!(found, Response::Busy);
        assert_eq!(sizes.now().plugged, BLOCK_BYTES);
    }
}

#[test]
fn what_is_unplugged_goes_back_to_the_host_and_nothing_else_does() {
    let card = card();
    card.sizes.request(REGION.len);
    let driver = Driver::new(&card.device, &card.memory);
    let [ack, error] = [Response::Ack.bytes(), Response::Error.bytes()];
    assert_eq!(ask(&driver, &request(PLUG, block(0), 4)), ack);
    assert!(card.sizes.now().settled_nanos > 0);
    let mark = 0x0123_4567_89ab_cdef_u64;
    let places = [0, REGION.offset - 8, REGION.offset + BLOCK_BYTES - 8]
        .into_iter()
        .chain([1, 2].map(|index| REGION.offset + index * BLOCK_BYTES))
        .chain([REGION.offset + 3 * BLOCK_BYTES]);
    let places: Vec<u64> = places.collect();
    for &place in &places {
        card.ram.write(place, &mark).unwrap();
    }
    assert_eq!(ask(&driver, &request(UNPLUG, block(1), 2)), ack);
    let found: Vec<u64> = places
        .iter()
        .map(|&at| card.ram.read(at).unwrap())
        .collect();
    assert_eq!(found, [mark, mark, mark, 0, 0, mark]);
    // A reset leaves the blocks as they are (5.15.5.2).
    let driver = Driver::new(&card.device, &card.memory);
    assert_eq!(card.sizes.now().plugged, 2 * BLOCK_BYTES);
    assert_eq!(ask(&driver, &request(PLUG, block(0), 1)), error);
    assert_eq!(ask(&driver, &request(UNPLUG_ALL, 0, 0)), ack);
    let found: Vec<u64> = places
        .iter()
        .map(|&at| card.ram.read(at).unwrap())
        .collect();
    assert_eq!(found, [mark, mark, 0, 0, 0, 0]);
}

#[test]
fn a_request_without_all_of_its_parts_ends_in_a_reset() {
    let whole = request(STATE, block(0), 1);
    for buffers in [
        [Buffer::Out(&whole[1..]), Buffer::In(10)],
        [Buffer::Out(&whole), Buffer::In(9)],
    ] {
        let card = card();
        let driver = Driver::new(&card.device, &card.memory);
        driver.submit(0, &buffers);
        driver.kick();
        assert_eq!(driver.used(), None);
        assert_eq!(driver.status(), 0x4f);
        let driver = Driver::new(&card.device, &card.memory);
        assert_eq!(ask(&driver, &whole), Response::Error.bytes());
    }
}

/// What a driver or its host may do.
#[derive(Clone, Debug)]
enum Step {
    Host(u64),
    Driver(u16, u64, u16),
}

fn step() -> impl Strategy<Value = Step> {
    let address = prop_oneof![
        8 => (0..COUNT + 2).prop_map(|index| block(index) - BLOCK_BYTES),
        1 => any::<u64>(),
        1 => 0..2 * (REGION.offset + REGION.len),
    ];
    let count = prop_oneof![8 => 0..=5_u16, 1 => any::<u16>()];
    let kind = prop_oneof![12 => 0..4_u16, 1 => any::<u16>()];
    prop_oneof![
        1 => (0..REGION.len + BLOCK_BYTES).prop_map(Step::Host),
        4 => (kind, address, count).prop_map(|(kind, address, count)| Step::Driver(kind, address, count)),
    ]
}

proptest! {
    /// Against a set of addresses: what was acknowledged is what is there, and never more than was requested.
    #[test]
    fn blocks_are_what_was_acknowledged(steps in proptest::collection::vec(step(), 1..60)) {
        let sizes = Arc::new(Sizes::new(REGION));
        let mut blocks = Blocks::new(Arc::clone(&sizes));
        let mut model = BTreeSet::new();
        for step in steps {
            let (kind, address, count) = match step {
                Step::Host(bytes) => {
                    sizes.request(bytes);
                    continue;
                }
                Step::Driver(kind, address, count) => (kind, address, count),
            };
            let mut returned = Vec::new();
            let response = blocks.answer(&request(kind, address, count), |place, len| {
                returned.push((place, len));
                true
            });
            let named = (0..count.into()).map(|index: u64| address.wrapping_add(index * BLOCK_BYTES));
            match (kind, response) {
                (PLUG, Response::Ack) => {
                    for address in named {
                        prop_assert!(model.insert(address));
                    }
                    prop_assert!(model.len() as u64 * BLOCK_BYTES <= sizes.now().requested);
                }
                (UNPLUG, Response::Ack) => {
                    for address in named {
                        prop_assert!(model.remove(&address));
                    }
                    prop_assert_eq!(returned, [(address - ADDRESS, u64::from(count) * BLOCK_BYTES)]);
                }
                (UNPLUG_ALL, Response::Ack) => model.clear(),
                (STATE, Response::Plugged) => prop_assert!(named.into_iter().all(|it| model.contains(&it))),
                (STATE, Response::Unplugged) => prop_assert!(!named.into_iter().any(|it| model.contains(&it))),
                (STATE, Response::Mixed) => {}
                (_, refused) => {
                    prop_assert!(matches!(refused, Response::Error | Response::Nack));
                    prop_assert!(returned.is_empty());
                }
            }
            let now = sizes.now();
            prop_assert_eq!(now.plugged, model.len() as u64 * BLOCK_BYTES);
            prop_assert!(now.requested <= now.usable && now.usable <= REGION.len);
            prop_assert!(model.iter().all(|&it| it >= ADDRESS && it + BLOCK_BYTES <= ADDRESS + REGION.len));
        }
    }

    #[test]
    fn rings_hold_anything(
        table in proptest::collection::vec(descriptor(), 8),
        heads in proptest::collection::vec(prop_oneof![6 => 0..8_u16, 1 => any::<u16>()], 1..20),
        jump in proptest::option::weighted(0.1, any::<u16>()),
    ) {
        let card = card();
        card.sizes.request(REGION.len);
        let driver = Driver::new(&card.device, &card.memory);
        for (index, (address, len, flags, next)) in (0..).zip(table) {
            driver.descriptor(index, address, len, flags, next);
        }
        for head in heads {
            driver.offer(head);
        }
        if let Some(index) = jump {
            driver.set_available(index);
        }
        driver.kick();
        let status = driver.status();
        prop_assert!(status == 0xf || status == 0x4f, "{status:#x}");
        let after = Driver::new(&card.device, &card.memory);
        prop_assert_eq!(ask(&after, &request(UNPLUG_ALL, 0, 0)), Response::Ack.bytes());
        prop_assert_eq!(ask(&after, &request(PLUG, block(0), 4)), Response::Ack.bytes());
    }
}

/// A descriptor: mostly one that could be right.
fn descriptor() -> impl Strategy<Value = (u64, u32, u16, u16)> {
    let end = MEMORY as u64;
    let address =
        prop_oneof![4 => BUFFERS..BUFFERS + 0x4000, 1 => end - 600..end + 600, 1 => any::<u64>()];
    let len = prop_oneof![4 => prop_oneof![Just(24), Just(10), Just(1), Just(0)], 1 => 0..5000_u32, 1 => any::<u32>()];
    let flags = prop_oneof![4 => 0..4_u16, 1 => any::<u16>()];
    let next = prop_oneof![4 => 0..8_u16, 1 => any::<u16>()];
    (address, len, flags, next)
}
