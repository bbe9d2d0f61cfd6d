//! virtio-net as a driver sees it; the wire is a pair of sockets that keep frames apart.

use std::io::ErrorKind;
use std::time::Duration;

use proptest::prelude::*;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use vm_memory::{Bytes, GuestAddress};

use super::super::server::{Inline, Lane};
use super::super::testing::{BUFFERS, Buffer, Driver, MEMORY};
use super::*;
use crate::guest::embedded::devices::server::Tally;

const ADDRESS: Address = [2, 3, 4, 5, 6, 7];
const RECEIVE: u32 = 0;
const TRANSMIT: u32 = 1;
const FEATURES: u64 = COMMON_FEATURES & !(1 << 29);

/// Either queue of a card without threads.
#[derive(Debug)]
enum Half {
    Receive(Inline<Receiving>),
    Transmit(Inline<Transmitting>),
}

impl Half {
    fn lane(&self) -> &dyn Lane {
        match self {
            Self::Receive(lane) => lane,
            Self::Transmit(lane) => lane,
        }
    }
}

impl Lane for Half {
    fn start(&self, ring: super::super::ring::Ring) {
        self.lane().start(ring);
    }

    fn stop(&self) {
        self.lane().stop();
    }

    fn kick(&self) {
        self.lane().kick();
    }
}

struct Card<L> {
    device: Transport<L>,
    memory: GuestMemory,
    far_end: OwnedFd,
    tally: Arc<Tally>,
}

fn wire() -> (Arc<OwnedFd>, OwnedFd) {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    (Arc::new(near), far)
}

/// A card that is served by who kicks.
fn card() -> Card<Half> {
    let (near, far_end) = wire();
    let memory = GuestMemory::anonymous(MEMORY).unwrap();
    let condition: Arc<Condition> = Arc::default();
    let tally: Arc<Tally> = Arc::default();
    let receiving = Receiving::new(Arc::clone(&near));
    let transmitting = Transmitting::new(near, Arc::clone(&tally));
    let lanes = vec![
        Half::Receive(Inline::new(receiving, Arc::clone(&condition))),
        Half::Transmit(Inline::new(transmitting, Arc::clone(&condition))),
    ];
    Card {
        device: Transport::new(identity(ADDRESS), memory.clone(), lanes, condition),
        memory,
        far_end,
        tally,
    }
}

/// What comes out at the wire's far end.
fn sent(far_end: &OwnedFd) -> Option<Vec<u8>> {
    let mut bytes = [0; 4096];
    match recv(far_end, &mut bytes, RecvFlags::empty()) {
        Ok((0, _)) => None,
        Ok((len, _)) => Some(bytes[..len].to_vec()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

fn arrive(far_end: &OwnedFd, frame: &[u8]) {
    let bytes = [&[9; HEADER_BYTES], frame].concat();
    send(far_end, &bytes, SendFlags::empty()).unwrap();
}

#[test]
fn the_configuration_names_address_link_and_mtu() {
    let card = card();
    let mut config = [0xff; 16];
    card.device.read(0x100, &mut config);
    assert_eq!(config[..6], ADDRESS);
    assert_eq!(config[6..], [1, 0, 1, 0, 0xdc, 5, 0, 0, 0, 0]);
}

#[test]
fn a_frame_is_sent_behind_a_header_of_the_device() {
    let card = card();
    let driver = Driver::with(&card.device, &card.memory, FEATURES, TRANSMIT);
    let frame: Vec<u8> = (0..100).collect();
    // What the guest writes into the header is not passed on.
    let whole = [&[0xff; HEADER_BYTES][..], &frame].concat();
    for cuts in [vec![112], vec![12, 100], vec![5, 60, 47]] {
        let mut rest = &whole[..];
        let parts: Vec<Buffer<'_>> = cuts
            .iter()
            .map(|&len| {
                let (part, others) = rest.split_at(len);
                rest = others;
                Buffer::Out(part)
            })
            .collect();
        driver.submit(3, &parts);
        driver.kick();
        let used = driver.used().unwrap();
        assert_eq!((used.head, used.len), (3, 0));
        let arrived = sent(&card.far_end).unwrap();
        assert_eq!(arrived, [&[0; HEADER_BYTES][..], &frame].concat());
    }
}

#[test]
fn a_frame_fills_the_next_buffer() {
    let card = card();
    let driver = Driver::with(&card.device, &card.memory, FEATURES, RECEIVE);
    let first = driver.submit(0, &[Buffer::In(1600)]);
    let second = driver.submit(4, &[Buffer::In(12), Buffer::In(1588)]);
    driver.kick();
    assert_eq!(driver.used(), None);
    let frame: Vec<u8> = (0..=255).collect();
    for (head, at) in [(0, first[0]), (4, second[1] - 12)] {
        arrive(&card.far_end, &frame);
        driver.kick();
        let used = driver.used().unwrap();
        assert_eq!((used.head, used.len), (head, 12 + 256));
        let header = if head == 0 { at } else { second[0] };
        assert_eq!(driver.bytes(header, 12), RECEIVED);
        assert_eq!(driver.bytes(at + 12, 256), frame);
    }
    // No buffer: the frame waits in the wire.
    arrive(&card.far_end, &frame);
    driver.kick();
    assert_eq!(driver.used(), None);
    driver.submit(1, &[Buffer::In(100)]);
    driver.kick();
    assert_eq!(driver.used().unwrap().len, 100, "cut to the buffer's size");
}

#[test]
fn frames_that_are_none_are_dropped_and_counted() {
    let card = card();
    let driver = Driver::with(&card.device, &card.memory, FEATURES, TRANSMIT);
    let long = vec![7; HEADER_BYTES + LARGEST + 1];
    driver.submit(0, &[Buffer::Out(&long)]);
    driver.submit(1, &[Buffer::Out(&long[1..])]);
    driver.kick();
    assert!(driver.used().is_some() && driver.used().is_some());
    assert_eq!(
        sent(&card.far_end).map(|frame| frame.len()),
        Some(long.len() - 1)
    );
    assert_eq!(sent(&card.far_end), None);
    assert_eq!(card.tally.read().failed, 1);
    assert_eq!(driver.status(), 0xf);
}

#[test]
fn a_chain_without_room_for_a_header_ends_in_a_reset() {
    for (queue, buffer) in [(TRANSMIT, Buffer::Out(&[0; 11])), (RECEIVE, Buffer::In(11))] {
        let card = card();
        let driver = Driver::with(&card.device, &card.memory, FEATURES, queue);
        driver.submit(0, &[buffer]);
        driver.kick();
        assert_eq!(driver.used(), None);
        assert_eq!(driver.status(), 0x4f);
        works(&card);
    }
}

#[test]
fn threads_carry_frames_both_ways_and_sleep_in_between() {
    for poll_nanos in [0, 200_000] {
        let (near, far_end) = wire();
        let memory = GuestMemory::anonymous(MEMORY).unwrap();
        let config = NetConfig {
            wire: near,
            backend: Backend::Vmm,
            address: ADDRESS,
            completion: Completion::Poll,
            poll_nanos,
            io_cpu: None,
        };
        let device = device(&config, memory.clone()).unwrap();
        let receive = Driver::with(&device, &memory, FEATURES, RECEIVE);
        for round in 0..5_u8 {
            let at = receive.submit(0, &[Buffer::In(200)]);
            receive.kick();
            // Time for the thread to fall asleep: the wire has to wake it.
            std::thread::sleep(Duration::from_millis(2));
            arrive(&far_end, &[round; 64]);
            assert_eq!(receive.await_used().len, 76);
            assert_eq!(receive.bytes(at[0] + 12, 64), [round; 64]);
        }
        let transmit = Driver::with(&device, &memory, FEATURES, TRANSMIT);
        for round in 0..5_u8 {
            transmit.submit(0, &[Buffer::Out(&[0; 12]), Buffer::Out(&[round; 64])]);
            transmit.kick();
            transmit.await_used();
            assert_eq!(sent(&far_end).unwrap()[12..], [round; 64]);
        }
        assert!(device.condition().failure().is_none());
    }
}

/// The card serves a driver that behaves.
fn works<L: Lane>(card: &Card<L>) {
    while sent(&card.far_end).is_some() {}
    let driver = Driver::with(&card.device, &card.memory, FEATURES, TRANSMIT);
    driver.submit(0, &[Buffer::Out(&[1; 76])]);
    driver.kick();
    assert_eq!(driver.used().map(|used| used.len), Some(0));
    assert_eq!(sent(&card.far_end).map(|frame| frame.len()), Some(76));
    let driver = Driver::with(&card.device, &card.memory, FEATURES, RECEIVE);
    driver.submit(0, &[Buffer::In(100)]);
    arrive(&card.far_end, &[5; 64]);
    driver.kick();
    assert_eq!(driver.used().map(|used| used.len), Some(76));
    assert_eq!(driver.status(), 0xf);
}

/// A descriptor: mostly one that could be right.
fn descriptor() -> impl Strategy<Value = (u64, u32, u16, u16)> {
    let end = MEMORY as u64;
    let address =
        prop_oneof![4 => BUFFERS..BUFFERS + 0x4000, 1 => end - 600..end + 600, 1 => any::<u64>()];
    let len = prop_oneof![4 => prop_oneof![Just(12), Just(64), Just(1), Just(0)], 1 => 0..5000_u32, 1 => any::<u32>()];
    let flags = prop_oneof![4 => 0..4_u16, 1 => any::<u16>()];
    let next = prop_oneof![4 => 0..8_u16, 1 => any::<u16>()];
    (address, len, flags, next)
}

proptest! {
    #[test]
    fn rings_hold_anything(
        queue in RECEIVE..=TRANSMIT,
        table in proptest::collection::vec(descriptor(), 8),
        heads in proptest::collection::vec(prop_oneof![6 => 0..8_u16, 1 => any::<u16>()], 1..20),
        jump in proptest::option::weighted(0.1, any::<u16>()),
    ) {
        let card = card();
        let driver = Driver::with(&card.device, &card.memory, FEATURES, queue);
        for (index, (address, len, flags, next)) in (0..).zip(table) {
            driver.descriptor(index, address, len, flags, next);
        }
        for head in heads {
            driver.offer(head);
            if queue == RECEIVE {
                arrive(&card.far_end, &[3; 64]);
            }
        }
        if let Some(index) = jump {
            driver.set_available(index);
        }
        driver.kick();
        let status = driver.status();
        prop_assert!(status == 0xf || status == 0x4f, "{status:#x}");
        // A fresh wire: what still waits in the old one is no frame of the next driver.
        while driver.used().is_some() {}
        let after = Driver::with(&card.device, &card.memory, FEATURES, TRANSMIT);
        after.submit(0, &[Buffer::Out(&[1; 76])]);
        after.kick();
        prop_assert_eq!(after.used().map(|used| used.len), Some(0));
        prop_assert_eq!(after.status(), 0xf);
        let beyond = card.memory.read_obj::<u8>(GuestAddress(MEMORY as u64 - 1));
        prop_assert!(beyond.is_ok());
    }
}
