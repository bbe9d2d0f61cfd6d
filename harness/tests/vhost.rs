//! A network card that the host's kernel serves, under a driver that behaves or does not. It needs no guest: the driver is
//! this process.
//!
//! Guest RAM has one fixed address per process, so these tests take turns.

// Helpers of tests are tests: what fails here fails the test.
#![allow(clippy::unwrap_used)]

#[path = "common/skip.rs"]
mod skip;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use skip::skip;
use vtax::guest::embedded::devices::blk::Completion;
use vtax::guest::embedded::devices::net::{Backend, NetConfig};
use vtax::guest::embedded::devices::{Devices, DevicesConfig};
use vtax::guest::layout;
use vtax::guest::ram::{Ram, RamConfig};
use vtax::host::net::Network;
use vtax_scenarios::plan::{Backing, NetLink};
use vtax_workloads::machine::{DEVICE_NET, DEVICES_PHYSICAL, RAM_BASE};
use vtax_workloads::network::frame::{Frame, GUEST, PEER, Purpose, SMALLEST};

const MEMORY: u64 = 16 << 20;
const RECEIVE: u32 = 0;
const TRANSMIT: u32 = 1;
const HEADER: usize = 12;
const NEEDS_RESET: u32 = 0x40;

/// By offset in RAM: the rings of a queue, and the buffers.
const RINGS: u64 = 0x40_0000;
const RINGS_BYTES: u64 = 0x1_0000;
const AVAILABLE: u64 = 0x4000;
const USED: u64 = 0x8000;
const BUFFERS: u64 = 0x80_0000;

const PATIENCE: Duration = Duration::from_secs(10);

static TURN: Mutex<()> = Mutex::new(());

/// A card at the end of a link.
struct Card {
    devices: Devices,
    ram: Ram,
    _network: Network,
    _turn: MutexGuard<'static, ()>,
}

impl Card {
    /// None where the kernel cannot serve one; says so.
    fn new() -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = std::fs::File::open("/dev/vhost-net") {
            skip(&format!("it needs /dev/vhost-net: {error}"));
            return None;
        }
        let network = match Network::build(NetLink::Namespace) {
            Ok(network) => network,
            Err(error) => {
                skip(&error.to_string());
                return None;
            }
        };
        let ram = Ram::map(&RamConfig {
            address: RAM_BASE,
            len: MEMORY,
            backing: Backing::Small,
            numa_node: None,
        })
        .unwrap();
        ram.prefault(0, MEMORY).unwrap();
        let devices = Devices::new(
            &ram,
            &DevicesConfig {
                net: Some(NetConfig {
                    wire: network.tap.wire(),
                    backend: Backend::Vhost,
                    address: GUEST,
                    completion: Completion::Interrupt,
                    poll_nanos: 20_000,
                    io_cpu: Some(0),
                }),
                ..DevicesConfig::default()
            },
        )
        .unwrap();
        Some(Self {
            devices,
            ram,
            _network: network,
            _turn: turn,
        })
    }

    fn read(&self, register: u64) -> u32 {
        let mut data = [0; 4];
        let address = DEVICES_PHYSICAL + DEVICE_NET * 4096 + register;
        assert!(self.devices.read(address, &mut data));
        u32::from_le_bytes(data)
    }

    fn write(&self, register: u64, value: u32) {
        let address = DEVICES_PHYSICAL + DEVICE_NET * 4096 + register;
        assert!(self.devices.write(address, &value.to_le_bytes()));
    }

    /// Resets the card and settles its features.
    fn negotiate(&self) {
        for (register, value) in [
            (0x070, 0),
            (0x070, 1),
            (0x070, 3),
            (0x024, 1),
            (0x020, 1),
            (0x070, 0xb),
        ] {
            self.write(register, value);
        }
        assert_eq!(self.read(0x070), 0xb);
    }

    /// Describes a queue that begins at these guest-physical addresses.
    fn describe(&self, queue: u32, [descriptors, available, used]: [u64; 3]) {
        self.write(0x030, queue);
        self.write(0x038, 256);
        for (register, address) in [(0x080, descriptors), (0x090, available), (0x0a0, used)] {
            let half = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap();
            self.write(register, half(address));
            self.write(register + 4, half(address >> 32));
        }
        self.write(0x044, 1);
    }

    fn rings(queue: u32) -> u64 {
        RINGS + u64::from(queue) * RINGS_BYTES
    }

    /// Resets the card and sets both queues up, empty.
    fn set_up(&self) {
        self.negotiate();
        for queue in [RECEIVE, TRANSMIT] {
            let rings = Self::rings(queue);
            let zeroes = vec![0; usize::try_from(RINGS_BYTES).unwrap()];
            self.ram.write_bytes(rings, &zeroes).unwrap();
            let at = |offset| layout::physical(rings + offset);
            self.describe(queue, [at(0), at(AVAILABLE), at(USED)]);
        }
        self.write(0x070, 0xf);
        assert_eq!(self.read(0x070), 0xf, "{:?}", self.devices.check());
    }

    fn descriptor(&self, queue: u32, index: u64, entry: (u64, u32, u16, u16)) {
        let place = Self::rings(queue) + 16 * index;
        self.ram.write(place, &entry.0).unwrap();
        self.ram.write(place + 8, &entry.1).unwrap();
        self.ram.write(place + 12, &entry.2).unwrap();
        self.ram.write(place + 14, &entry.3).unwrap();
    }

    /// Makes the chain that begins at `head` the ring's first, sets its index, and kicks.
    fn offer(&self, queue: u32, head: u16, index: u16) {
        let available = Self::rings(queue) + AVAILABLE;
        self.ram.write(available + 4, &head).unwrap();
        self.ram.write(available + 2, &index).unwrap();
        self.write(0x050, queue);
    }

    fn used(&self, queue: u32) -> u16 {
        self.ram.read(Self::rings(queue) + USED + 2).unwrap()
    }

    /// Sets the card up; a frame goes to the peer, and its echo comes back.
    fn works(&self, run: u64) {
        self.set_up();
        let [into, from] = [BUFFERS, BUFFERS + 0x1000];
        self.ram.write_bytes(into, &[0xff; 0x1000]).unwrap();
        self.descriptor(RECEIVE, 0, (layout::physical(into), 2048, 2, 0));
        self.offer(RECEIVE, 0, 1);
        let mut bytes = [0; HEADER + SMALLEST];
        let ping = Frame {
            to: PEER,
            from: GUEST,
            purpose: Purpose::Ping,
            last: true,
            run,
            number: 0,
            count: 0,
            sum: 0,
        };
        ping.write(&mut bytes[HEADER..]);
        self.ram.write_bytes(from, &bytes).unwrap();
        let len = u32::try_from(bytes.len()).unwrap();
        self.descriptor(TRANSMIT, 0, (layout::physical(from), len, 0, 0));
        self.offer(TRANSMIT, 0, 1);
        // What a former driver sent may be answered first.
        let start = Instant::now();
        let mut taken = 0;
        loop {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.devices.check());
            if self.used(RECEIVE) == taken {
                std::thread::yield_now();
                continue;
            }
            taken += 1;
            let mut back = [0; HEADER + SMALLEST];
            for (place, byte) in (into..).zip(&mut back) {
                *byte = self.ram.read(place).unwrap();
            }
            let echo = Frame::read(&back[HEADER..]);
            if echo.is_some_and(|echo| echo.run == run) {
                assert_eq!(echo.unwrap().purpose, Purpose::Echo);
                // Older kernels leave the last two bytes, the count of buffers, as they were.
                assert_eq!(back[..HEADER - 2], [0; HEADER - 2]);
                break;
            }
            self.offer(RECEIVE, 0, taken + 1);
        }
        assert_eq!(self.used(TRANSMIT), 1);
        assert_eq!(
            self.read(0x060) & 1,
            1,
            "a used buffer may have been announced"
        );
        assert_eq!(self.read(0x070), 0xf);
    }

    fn needs_reset(&self, wait: Duration) -> bool {
        let start = Instant::now();
        while self.read(0x070) & NEEDS_RESET == 0 {
            if start.elapsed() > wait {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

#[test]
fn the_kernel_carries_frames_and_its_time_is_counted() {
    let Some(card) = Card::new() else {
        return;
    };
    assert!(card.devices.interrupt());
    for run in 0..5 {
        card.works(run);
    }
    card.devices.check().unwrap();
    assert!(card.devices.cpu_nanos().unwrap() > 0);
}

#[test]
fn a_driver_that_breaks_its_ring_must_reset_the_card() {
    let Some(card) = Card::new() else {
        return;
    };
    let good = layout::physical(BUFFERS);
    /// A name, the table's first two descriptors, the head that is offered and the index of the ring.
    type Breach = (&'static str, [(u64, u32, u16, u16); 2], u16, u16);
    let breaches: [Breach; 7] = [
        ("a loop", [(good, 16, 1, 1), (good, 16, 1, 0)], 0, 1),
        ("beyond the table", [(good, 16, 1, 999), (0, 0, 0, 0)], 0, 1),
        ("no such head", [(good, 64, 0, 0), (0, 0, 0, 0)], 256, 1),
        ("a jump", [(good, 64, 0, 0), (0, 0, 0, 0)], 0, 20_000),
        (
            "outside memory",
            [(MEMORY - 8, 64, 0, 0), (0, 0, 0, 0)],
            0,
            1,
        ),
        ("huge", [(good, u32::MAX, 0, 0), (0, 0, 0, 0)], 0, 1),
        (
            "a device's page",
            [(DEVICES_PHYSICAL, 64, 0, 0), (0, 0, 0, 0)],
            0,
            1,
        ),
    ];
    card.works(0);
    card.devices.check().unwrap();
    for (run, (name, table, head, index)) in (1..).zip(breaches) {
        card.set_up();
        for (place, entry) in (0..).zip(table) {
            card.descriptor(TRANSMIT, place, entry);
        }
        card.offer(TRANSMIT, head, index);
        assert!(card.needs_reset(PATIENCE), "{name}");
        assert_eq!(card.read(0x060) & 2, 2, "{name}: it is announced");
        card.works(run);
    }
    let text = card.devices.check().unwrap_err().to_string();
    assert!(text.contains("virtio-net stopped"), "{text}");
    assert!(text.contains("virtqueue 1"), "{text}");
}

#[test]
fn rings_outside_memory_never_reach_the_kernel() {
    let Some(card) = Card::new() else {
        return;
    };
    let rings = layout::physical(RINGS);
    let good = [rings, rings + AVAILABLE, rings + USED];
    for part in 0..3 {
        for bad in [
            MEMORY - 16,
            MEMORY,
            DEVICES_PHYSICAL,
            RAM_BASE + RINGS,
            u64::MAX - 15,
        ] {
            card.negotiate();
            let mut addresses = good;
            addresses[part] = bad;
            card.describe(TRANSMIT, addresses);
            assert_eq!(card.read(0x044), 0, "{addresses:x?} is not ready");
            assert_ne!(card.read(0x070) & NEEDS_RESET, 0, "{addresses:x?}");
            card.write(0x070, 0xf);
            card.write(0x050, TRANSMIT);
        }
        card.works(part as u64);
    }
}

#[test]
fn a_card_survives_whatever_a_driver_writes() {
    let Some(card) = Card::new() else {
        return;
    };
    let address = prop_oneof![
        4 => BUFFERS..BUFFERS + 0x4000,
        1 => MEMORY - 600..MEMORY + 600,
        1 => any::<u64>(),
    ];
    let length = prop_oneof![4 => 0..3000_u32, 1 => any::<u32>()];
    let flags = prop_oneof![4 => 0..4_u16, 1 => any::<u16>()];
    let next = prop_oneof![4 => 0..8_u16, 1 => any::<u16>()];
    let table = proptest::collection::vec((address, length, flags, next), 8);
    let index = prop_oneof![4 => 1..8_u16, 1 => any::<u16>()];
    let queue = prop_oneof![1 => Just(RECEIVE), 3 => Just(TRANSMIT)];
    let header = any::<[u8; HEADER]>();
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(64)
    });
    let run = std::cell::Cell::new(0);
    runner
        .run(
            &(queue, table, 0..9_u16, index, header),
            |(queue, table, head, index, header)| {
                card.set_up();
                card.ram.write_bytes(BUFFERS, &header).unwrap();
                for (place, entry) in (0..).zip(table) {
                    card.descriptor(queue, place, entry);
                }
                card.offer(queue, head, index);
                card.needs_reset(Duration::from_millis(2));
                run.set(run.get() + 1);
                card.works(run.get());
                Ok(())
            },
        )
        .unwrap();
}
