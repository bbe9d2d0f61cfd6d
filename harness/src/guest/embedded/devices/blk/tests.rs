//! virtio-blk as a driver sees it.

use super::super::disk::Disk;
use super::super::filter;
use super::super::mmio_tests::inline_disk;
use super::super::server::{Attached, Inline, Lane};
use super::super::testing::{
    BUFFERS, Buffer, Driver, FileSystem, LoopDevice, MEMORY, PROGRAMS, write,
};
use super::*;

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

pub(super) fn header(kind: u32, sector: u64) -> [u8; 16] {
    let mut header = [0; 16];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&sector.to_le_bytes());
    header
}

fn range(sector: u64, sectors: u32, flags: u32) -> [u8; 16] {
    let mut range = [0; 16];
    range[..8].copy_from_slice(&sector.to_le_bytes());
    range[8..12].copy_from_slice(&sectors.to_le_bytes());
    range[12..].copy_from_slice(&flags.to_le_bytes());
    range
}

/// Puts a request through and returns its status, what was read, and how many bytes the device says it wrote.
pub(super) fn ask<L: Lane>(
    driver: &Driver<'_, L>,
    kind: u32,
    sector: u64,
    out: &[u8],
    room: usize,
) -> (u8, Vec<u8>, u32) {
    driver.recycle();
    let header = header(kind, sector);
    let mut buffers = vec![Buffer::Out(&header)];
    if !out.is_empty() {
        buffers.push(Buffer::Out(out));
    }
    if room > 0 {
        buffers.push(Buffer::In(room));
    }
    buffers.push(Buffer::In(1));
    let addresses = driver.submit(4, &buffers);
    driver.kick();
    let used = driver.await_used();
    assert_eq!(used.head, 4);
    let status = driver.bytes(*addresses.last().unwrap(), 1)[0];
    let read = driver.bytes(addresses[addresses.len() - 2], room);
    (status, read, used.len)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|index| u8::try_from((index * 7 + index / 256) % 251).unwrap())
        .collect()
}

#[test]
fn what_is_written_is_read() {
    let (device, memory) = inline_disk(Disk::memory(1 << 20).unwrap(), 1);
    let driver = Driver::new(&device, &memory);
    let data = pattern(4096);
    assert_eq!(ask(&driver, 1, 3, &data, 0).0, OK);
    assert_eq!(ask(&driver, 0, 3, &[], 4096), (OK, data.clone(), 4097));
    assert_eq!(ask(&driver, 0, 4, &[], 512).1, data[512..1024]);
    assert_eq!(ask(&driver, 0, 0, &[], 512).1, [0; 512]);
    assert_eq!(ask(&driver, 4, 0, &[], 0), (OK, vec![], 1));
}

#[test]
fn a_request_may_be_cut_into_buffers_anywhere() {
    let (device, memory) = inline_disk(Disk::memory(1 << 20).unwrap(), 1);
    let driver = Driver::new(&device, &memory);
    let data = pattern(1024);
    let write = [&header(1, 5)[..], &data].concat();
    let parts = [&write[..3], &[], &write[3..700], &write[700..]].map(Buffer::Out);
    driver.submit(0, &[&parts[..], &[Buffer::In(1)]].concat());
    driver.kick();
    assert_eq!(driver.await_used().len, 1);
    let read = header(0, 5);
    let buffers = [
        Buffer::Out(&read),
        Buffer::In(1),
        Buffer::In(1023),
        Buffer::In(1),
    ];
    let at = driver.submit(8, &buffers);
    driver.kick();
    assert_eq!(driver.await_used().len, 1025);
    assert_eq!(driver.bytes(at[1], 1), data[..1]);
    assert_eq!(driver.bytes(at[2], 1023), data[1..]);
    // The status may share a buffer with the data.
    let at = driver.submit(0, &[Buffer::Out(&read), Buffer::In(1025)]);
    driver.kick();
    assert_eq!(driver.await_used().len, 1025);
    assert_eq!(driver.bytes(at[1], 1025), [&data[..], &[OK]].concat());
}

#[test]
fn discarded_and_zeroed_sectors_are_zero() {
    let (device, memory) = inline_disk(Disk::memory(1 << 20).unwrap(), 1);
    let driver = Driver::new(&device, &memory);
    for (kind, flags) in [(11, 0), (13, 0), (13, 1)] {
        assert_eq!(ask(&driver, 1, 0, &pattern(2048), 0).0, OK);
        assert_eq!(ask(&driver, kind, 0, &range(1, 2, flags), 0).0, OK);
        let after = ask(&driver, 0, 0, &[], 2048).1;
        assert_eq!(after[..512], pattern(2048)[..512]);
        assert!(after[512..1536].iter().all(|&byte| byte == 0));
        assert_eq!(after[1536..], pattern(2048)[1536..]);
    }
    for (kind, data) in [
        (11, range(0, 1, 1)),
        (11, range(0, 1, 2)),
        (13, range(0, 1, 2)),
    ] {
        assert_eq!(ask(&driver, kind, 0, &data, 0).0, UNSUPP);
    }
    for data in [
        range(0, 0, 0),
        range(2047, 2, 0),
        range(u64::MAX, 1, 0),
        range(0, u32::MAX, 0),
    ] {
        assert_eq!(ask(&driver, 11, 0, &data, 0).0, IOERR);
        assert_eq!(ask(&driver, 13, 0, &data, 0).0, IOERR);
    }
    assert_eq!(ask(&driver, 13, 0, &[0; 15], 0).0, IOERR);
    assert_eq!(
        ask(&driver, 13, 0, &[0; 32], 0).0,
        IOERR,
        "one range a request"
    );
}

#[test]
fn what_cannot_be_done_is_refused_and_the_disk_goes_on() {
    let (device, memory) = inline_disk(Disk::memory(1 << 20).unwrap(), 1);
    let driver = Driver::new(&device, &memory);
    for (kind, sector, out, room, expected) in [
        (0, 2048, 0, 512, IOERR),
        (0, 2047, 0, 1024, IOERR),
        (0, u64::MAX, 0, 512, IOERR),
        (0, 1 << 55, 0, 512, IOERR),
        (0, 0, 0, 511, IOERR),
        (0, 0, 0, 0, IOERR),
        (1, 0, 0, 0, IOERR),
        (1, 2048, 512, 0, IOERR),
        (1, 0, 100, 0, IOERR),
        (8, 0, 0, 19, IOERR),
        (2, 0, 0, 512, UNSUPP),
        (u32::MAX, 0, 512, 512, UNSUPP),
    ] {
        let (status, _, written) = ask(&driver, kind, sector, &vec![1; out], room);
        assert_eq!(status, expected, "{kind} {sector}");
        assert_eq!(written, u32::from(room == 0), "{kind} {sector}");
    }
    assert_eq!(ask(&driver, 8, 0, &[], 20), (OK, SERIAL.to_vec(), 21));
    assert_eq!(driver.status(), 0xf);
}

#[test]
fn a_read_only_disk_stays_as_it_is() {
    let (device, memory) = inline_disk(Disk::memory(1 << 20).unwrap().read_only(), 1);
    let driver = Driver::new(&device, &memory);
    assert_eq!(ask(&driver, 1, 0, &pattern(512), 0).0, IOERR);
    assert_eq!(ask(&driver, 11, 0, &range(0, 1, 0), 0).0, IOERR);
    assert_eq!(ask(&driver, 13, 0, &range(0, 1, 0), 0).0, IOERR);
    assert_eq!(ask(&driver, 0, 0, &[], 512), (OK, vec![0; 512], 513));
}

#[test]
fn a_driver_that_breaks_the_rules_must_reset() {
    let (device, memory) = inline_disk(Disk::memory(1 << 20).unwrap(), 1);
    let (next, write) = (1, 2);
    let read = header(0, 0);
    type Breach<'a> = &'a dyn Fn(&Driver<'_, Inline<Copying>>);
    let breaches: [(&str, Breach<'_>); 9] = [
        ("a loop", &|driver| {
            driver.descriptor(0, 0x20_0000, 16, next, 1);
            driver.descriptor(1, 0x20_0000, 16, next, 0);
            driver.offer(0);
        }),
        ("a chain beyond the table", &|driver| {
            driver.descriptor(0, 0x20_0000, 16, next, 256);
            driver.offer(0);
        }),
        ("a head beyond the table", &|driver| driver.offer(256)),
        ("an index that jumps", &|driver| driver.set_available(300)),
        ("a buffer beyond memory", &|driver| {
            driver.descriptor(0, MEMORY as u64 - 1, 2, write, 0);
            driver.offer(0);
        }),
        ("a buffer that wraps", &|driver| {
            driver.descriptor(0, u64::MAX, 2, write, 0);
            driver.offer(0);
        }),
        ("a huge buffer", &|driver| {
            driver.descriptor(0, 0, u32::MAX, 0, 0);
            driver.offer(0);
        }),
        ("no status", &|driver| {
            driver.submit(0, &[Buffer::Out(&read)]);
        }),
        ("half a header", &|driver| {
            driver.submit(0, &[Buffer::Out(&read[..15]), Buffer::In(513)]);
        }),
    ];
    for (name, breach) in breaches {
        let driver = Driver::new(&device, &memory);
        breach(&driver);
        driver.kick();
        assert_eq!(driver.status(), 0x4f, "{name}");
        assert!(driver.used().is_none(), "{name}");
        let driver = Driver::new(&device, &memory);
        assert_eq!(driver.status(), 0xf, "{name}");
        assert_eq!(ask(&driver, 0, 0, &[], 512).0, OK, "{name}");
    }
}

#[test]
fn reading_behind_writing_is_against_the_rules() {
    let (device, memory) = inline_disk(Disk::memory(1 << 20).unwrap(), 1);
    let driver = Driver::new(&device, &memory);
    driver.submit(
        0,
        &[Buffer::In(512), Buffer::Out(&header(0, 0)), Buffer::In(1)],
    );
    driver.kick();
    assert_eq!(driver.status(), 0x4f);
}

fn threaded(
    queues: u16,
    completion: Completion,
    poll_nanos: u64,
) -> (Transport<Worker>, GuestMemory) {
    let memory = GuestMemory::anonymous(MEMORY).unwrap();
    let config = BlockConfig {
        disk: Arc::new(Disk::memory(1 << 20).unwrap()),
        queues,
        completion,
        poll_nanos,
        io_cpus: vec![],
    };
    (device(&config, memory.clone()).unwrap(), memory)
}

#[test]
fn threads_serve_their_queues_whether_they_poll_or_sleep() {
    for poll_nanos in [0, 50_000] {
        let (device, memory) = threaded(2, Completion::Poll, poll_nanos);
        for queue in [0, 1] {
            let driver = Driver::with(&device, &memory, COMMON_FEATURES, queue);
            let data = pattern(512);
            for sector in 0..100 {
                assert_eq!(ask(&driver, 1, sector, &data, 0).0, OK);
                assert_eq!(ask(&driver, 0, sector, &[], 512).1, data);
            }
        }
        assert!(device.lanes()[0].counts().wakeups > 0);
        assert!(device.lanes()[0].cpu_nanos() > Some(0));
        assert_eq!(device.lanes()[0].counts().interrupts, 0);
    }
}

#[test]
fn a_thread_that_polls_wants_no_kicks_and_one_that_sleeps_does() {
    let (device, memory) = threaded(1, Completion::Poll, u64::from(u32::MAX));
    let driver = Driver::new(&device, &memory);
    assert_eq!(ask(&driver, 4, 0, &[], 0).0, OK);
    while !driver.is_polled() {
        std::thread::yield_now();
    }
    // No kick.
    driver.submit(0, &[Buffer::Out(&header(4, 0)), Buffer::In(1)]);
    driver.await_used();
    let (device, memory) = threaded(1, Completion::Poll, 0);
    let driver = Driver::new(&device, &memory);
    assert_eq!(ask(&driver, 4, 0, &[], 0).0, OK);
    assert!(!driver.is_polled());
}

#[test]
fn interrupts_come_when_the_driver_wants_them() {
    let (device, memory) = threaded(1, Completion::Interrupt, 0);
    let driver = Driver::new(&device, &memory);
    let interrupt = device.lanes()[0].interrupt_event().unwrap();
    let wait = |sent| {
        while device.lanes()[0].counts().interrupts < sent {
            std::thread::yield_now();
        }
    };
    assert_eq!(ask(&driver, 4, 0, &[], 0).0, OK);
    wait(1);
    assert_eq!(interrupt.read().unwrap(), 1);
    assert_eq!(device.condition().interrupt_status(), 1);
    write(&device, 0x064, 1);
    assert_eq!(device.condition().interrupt_status(), 0);
    driver.set_flags(1);
    assert_eq!(ask(&driver, 4, 0, &[], 0).0, OK);
    driver.set_flags(0);
    assert_eq!(ask(&driver, 4, 0, &[], 0).0, OK);
    wait(2);
    assert_eq!(device.lanes()[0].counts().interrupts, 2);
}

#[test]
fn a_reset_stops_the_threads_at_once() {
    let (device, memory) = threaded(1, Completion::Poll, 1_000_000);
    for _ in 0..50 {
        let driver = Driver::new(&device, &memory);
        driver.submit(0, &[Buffer::Out(&header(4, 0)), Buffer::In(1)]);
        driver.kick();
        write(&device, 0x070, 0);
        // Nobody touches memory now: what is offered stays.
        let before = driver.bytes(driver.rings(), 0x1_0000);
        driver.kick();
        assert_eq!(driver.bytes(driver.rings(), 0x1_0000), before);
    }
}

/// A device with one queue on what is at this path, and memory for its driver.
fn on(path: &std::path::Path, direct: bool) -> (Transport<Worker>, GuestMemory) {
    let memory = GuestMemory::anonymous(MEMORY).unwrap();
    let config = BlockConfig {
        disk: Arc::new(Disk::open(path, direct, false).unwrap()),
        queues: 1,
        completion: Completion::Poll,
        poll_nanos: 0,
        io_cpus: vec![],
    };
    (device(&config, memory.clone()).unwrap(), memory)
}

fn on_file(
    direct: bool,
    bytes: u64,
) -> Option<(Transport<Worker>, GuestMemory, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    std::fs::File::create(&path)
        .unwrap()
        .set_len(bytes)
        .unwrap();
    let disk = match Disk::open(&path, direct, false) {
        Ok(disk) => disk,
        Err(error) => {
            eprintln!("SKIPPED a disk on a file with O_DIRECT: {error}");
            return None;
        }
    };
    let memory = GuestMemory::anonymous(MEMORY).unwrap();
    let config = BlockConfig {
        disk: Arc::new(disk),
        queues: 1,
        completion: Completion::Poll,
        poll_nanos: 20_000,
        io_cpus: vec![0],
    };
    Some((device(&config, memory.clone()).unwrap(), memory, folder))
}

#[test]
fn a_file_is_a_disk_like_any_other() {
    let _alone = PROGRAMS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    for direct in [false, true] {
        let Some((device, memory, folder)) = on_file(direct, 1 << 20) else {
            continue;
        };
        let driver = Driver::new(&device, &memory);
        let path = folder.path().join("disk.img");
        let data = pattern(8192);
        assert_eq!(ask(&driver, 1, 8, &data, 0).0, OK);
        assert_eq!(ask(&driver, 0, 8, &[], 8192), (OK, data.clone(), 8193));
        assert_eq!(ask(&driver, 4, 0, &[], 0), (OK, vec![], 1));
        assert_eq!(ask(&driver, 8, 0, &[], 20), (OK, SERIAL.to_vec(), 21));
        let kept = std::fs::read(&path).unwrap();
        assert_eq!(kept[4096..12_288], data);
        // The driver's buffers are not aligned: with O_DIRECT they take a detour, and it is counted.
        let bounced = device.lanes()[0].counts().bounced;
        assert_eq!(bounced, if direct { 2 } else { 0 });
        for (kind, flags) in [(11, 0), (13, 1), (13, 0)] {
            assert_eq!(ask(&driver, 1, 8, &data, 0).0, OK);
            let (status, _, _) = ask(&driver, kind, 0, &range(8, 8, flags), 0);
            if (kind, status) == (11, UNSUPP) {
                // This file system gives no space back.
                continue;
            }
            assert_eq!(status, OK, "{kind} {flags}");
            assert_eq!(ask(&driver, 0, 8, &[], 4096).1, [0; 4096]);
            assert_eq!(ask(&driver, 0, 16, &[], 4096).1, data[4096..]);
        }
        assert_eq!(ask(&driver, 0, 2047, &[], 1024).0, IOERR);
        assert_eq!(driver.status(), 0xf);
        assert_eq!(device.lanes()[0].counts().failed, 0);
        // The lock goes with the device.
        assert!(Disk::open(&path, direct, false).is_err());
        drop(device);
        Disk::open(&path, direct, false).unwrap();
        assert_eq!(
            filter::take_refused(),
            None,
            "a thread's whole life is allowed"
        );
    }
}

#[test]
fn aligned_buffers_take_no_detour_and_many_requests_run_at_once() {
    let Some((device, memory, _folder)) = on_file(true, 1 << 20) else {
        return;
    };
    let driver = Driver::new(&device, &memory);
    let head = |index: u16| 3 * index;
    for write in [true, false] {
        for index in 0..32_u16 {
            let data = BUFFERS + 4096 * u64::from(index);
            let small = BUFFERS + 0x10_0000 + 32 * u64::from(index);
            let place = GuestAddress(data);
            let bytes = [u8::try_from(index + 1).unwrap(); 4096];
            let kind = u32::from(write);
            memory
                .write_slice(&header(kind, 8 * u64::from(index)), GuestAddress(small))
                .unwrap();
            memory
                .write_slice(if write { &bytes } else { &[0; 4096] }, place)
                .unwrap();
            let first = head(index);
            driver.descriptor(first, small, 16, 1, first + 1);
            driver.descriptor(first + 1, data, 4096, if write { 1 } else { 3 }, first + 2);
            driver.descriptor(first + 2, small + 16, 1, 2, 0);
            driver.offer(first);
        }
        driver.kick();
        let mut heads: Vec<u32> = (0..32).map(|_| driver.await_used().head).collect();
        heads.sort_unstable();
        assert_eq!(heads, (0..32).map(|index| 3 * index).collect::<Vec<u32>>());
    }
    for index in 0..32_u64 {
        let data = driver.bytes(BUFFERS + 4096 * index, 4096);
        assert!(
            data.iter().all(|&byte| u64::from(byte) == index + 1),
            "{index}"
        );
    }
    assert_eq!(device.lanes()[0].counts().bounced, 0);
}

#[test]
fn a_file_that_shrinks_under_the_guest_is_an_error_of_the_disk() {
    let (device, memory, folder) = on_file(false, 1 << 20).unwrap();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(folder.path().join("disk.img"))
        .unwrap();
    file.set_len(4096).unwrap();
    let driver = Driver::new(&device, &memory);
    assert_eq!(ask(&driver, 0, 0, &[], 4096).0, OK);
    assert_eq!(
        ask(&driver, 0, 4, &[], 4096).0,
        IOERR,
        "half of it is there"
    );
    assert_eq!(ask(&driver, 0, 64, &[], 512).0, IOERR);
    assert_eq!(device.lanes()[0].counts().failed, 2);
    assert_eq!(ask(&driver, 0, 0, &[], 512).0, OK);
}

#[test]
fn a_full_file_system_is_an_error_of_the_disk() {
    let Some(full) = FileSystem::mount(&["tmpfs", "-o", "size=64k"]) else {
        return;
    };
    let (device, memory) = on(&full.file(1 << 20), false);
    let driver = Driver::new(&device, &memory);
    let statuses: Vec<u8> = (0..32)
        .map(|index| ask(&driver, 1, 8 * index, &pattern(4096), 0).0)
        .collect();
    assert_eq!((statuses[0], statuses[31]), (OK, IOERR));
    assert_eq!(driver.status(), 0xf);
    assert_eq!(ask(&driver, 0, 0, &[], 512).0, OK);
}

#[test]
fn a_block_device_is_a_disk_like_any_other() {
    for (options, block) in [(&[][..], 512_u32), (&["--sector-size", "4096"], 4096)] {
        let Some(loop_device) = LoopDevice::attach(1 << 20, options) else {
            return;
        };
        for direct in [true, false] {
            let (device, memory) = on(&loop_device.path, direct);
            let driver = Driver::new(&device, &memory);
            let mut block_bytes = [0; 4];
            device.read(0x100 + 20, &mut block_bytes);
            assert_eq!(u32::from_le_bytes(block_bytes), block);
            let data = pattern(3 * 4096);
            // Discarded data need not be zero, but nothing else may be lost.
            for (kind, flags, zero) in [(11, 0, false), (13, 1, true), (13, 0, true)] {
                assert_eq!(ask(&driver, 1, 8, &data, 0).0, OK);
                let cleared = ask(&driver, kind, 0, &range(16, 8, flags), 0).0;
                assert_eq!(cleared, OK, "{kind} {flags} {block} {direct}");
                let read = ask(&driver, 0, 8, &[], 3 * 4096).1;
                assert_eq!(read[..4096], data[..4096]);
                assert_eq!(read[8192..], data[8192..]);
                assert!(!zero || read[4096..8192] == [0; 4096]);
            }
            assert_eq!(ask(&driver, 4, 0, &[], 0), (OK, vec![], 1));
            let kept = std::fs::read(&loop_device.file).unwrap();
            assert_eq!(kept[4096..8192], data[..4096]);
            let expected = if block == 512 { OK } else { IOERR };
            for (kind, out, room) in [(0, &[][..], 512), (1, &data[..512], 0)] {
                assert_eq!(ask(&driver, kind, 1, out, room).0, expected, "{block}");
            }
            for kind in [11, 13] {
                assert_eq!(ask(&driver, kind, 0, &range(1, 1, 0), 0).0, expected);
            }
            assert_eq!(ask(&driver, 0, 2048, &[], 4096).0, IOERR);
            assert_eq!(device.lanes()[0].counts().failed, 0);
        }
    }
    assert_eq!(filter::take_refused(), None);
}

#[test]
fn zeroes_are_written_where_the_disk_cannot_make_them() {
    // It has no fallocate at all.
    let Some(plain) = FileSystem::mount(&["ramfs"]) else {
        return;
    };
    let bytes = 4 << 20;
    let path = plain.file(bytes);
    let (device, memory) = on(&path, false);
    let driver = Driver::new(&device, &memory);
    for flags in [0, 1] {
        std::fs::write(&path, pattern(4 << 20)).unwrap();
        // More than is written at once, and not a multiple of it.
        let sectors = 5 * 1024;
        assert_eq!(ask(&driver, 13, 0, &range(1, sectors, flags), 0).0, OK);
        let kept = std::fs::read(&path).unwrap();
        let (first, end) = (512, 512 + 512 * sectors as usize);
        assert_eq!(kept.len() as u64, bytes);
        assert_eq!(kept[..first], pattern(4 << 20)[..first]);
        assert!(kept[first..end].iter().all(|&byte| byte == 0));
        assert!(kept[end..] == pattern(4 << 20)[end..]);
    }
    assert_eq!(ask(&driver, 11, 0, &range(1, 8, 0), 0).0, UNSUPP);
    let mut expected = pattern(4096);
    expected[512..].fill(0);
    assert_eq!(ask(&driver, 0, 0, &[], 4096).1, expected);
    assert_eq!(filter::take_refused(), None);
}

#[test]
fn a_cpu_that_is_not_there_is_named() {
    let config = BlockConfig {
        disk: Arc::new(Disk::memory(512).unwrap()),
        queues: 1,
        completion: Completion::Poll,
        poll_nanos: 0,
        io_cpus: vec![1023],
    };
    let error = device(&config, GuestMemory::anonymous(MEMORY).unwrap()).unwrap_err();
    assert!(error.to_string().contains("1023"), "{error}");
}
