//! Disks that are there, and paths that are none.

use std::fs;
use std::path::PathBuf;

use super::super::testing::{LoopDevice, PROGRAMS};
use super::*;

const MIB: u64 = 1 << 20;

fn file(bytes: u64) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    File::create(&path).unwrap().set_len(bytes).unwrap();
    (folder, path)
}

fn refusal(path: &Path) -> String {
    Disk::open(path, false, false).unwrap_err().to_string()
}

#[test]
fn a_path_that_is_no_disk_is_named_with_a_remedy() {
    let (folder, path) = file(1000);
    let text = refusal(&path);
    assert!(text.contains("disk.img has 1000 bytes"), "{text}");
    assert!(text.contains("truncate -s '%512'"), "{text}");
    assert_eq!(fs::metadata(&path).unwrap().len(), 1000, "and left alone");
    File::create(&path).unwrap();
    assert!(refusal(&path).contains("has 0 bytes"));
    fs::remove_file(&path).unwrap();
    let text = refusal(&path);
    assert!(text.contains("there is no disk at"), "{text}");
    assert!(text.contains("fallocate -l 4G FILE"), "{text}");
    for path in [folder.path(), Path::new("/dev/null")] {
        let text = refusal(path);
        assert!(text.contains("neither a file nor a block device"), "{text}");
    }
}

#[test]
fn a_disk_in_use_is_busy_unless_all_only_read() {
    let _alone = PROGRAMS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let (_folder, path) = file(MIB);
    let disk = Disk::open(&path, false, false).unwrap();
    let text = refusal(&path);
    assert!(text.contains("disk.img is in use"), "{text}");
    drop(disk);
    let first = Disk::open(&path, false, true).unwrap();
    let second = Disk::open(&path, false, true).unwrap();
    assert!(first.is_read_only() && second.is_read_only());
    assert!(refusal(&path).contains("is in use"));
}

#[test]
fn a_device_has_its_own_blocks_and_one_user() {
    for (options, block_bytes) in [(&[][..], 512), (&["--sector-size", "4096"], 4096)] {
        let Some(device) = LoopDevice::attach(MIB, options) else {
            return;
        };
        for direct in [true, false] {
            let disk = Disk::open(&device.path, direct, false).unwrap();
            assert_eq!((disk.bytes(), disk.block_bytes()), (MIB, block_bytes));
            // Not even to read.
            for read_only in [false, true] {
                let text = Disk::open(&device.path, direct, read_only).unwrap_err();
                assert!(text.to_string().contains("is in use"), "{text}");
            }
            drop(disk);
        }
        device.resize(0);
        let text = refusal(&device.path);
        assert!(text.contains("has nothing behind it"), "{text}");
    }
}

#[test]
fn a_read_only_device_is_read_and_not_opened_for_writing() {
    let Some(device) = LoopDevice::attach(MIB, &["--read-only"]) else {
        return;
    };
    let text = refusal(&device.path);
    assert!(text.contains("is a read-only device"), "{text}");
    assert!(text.contains("blockdev --setrw"), "{text}");
    let disk = Disk::open(&device.path, true, true).unwrap();
    let mut back = vec![1; 4096];
    disk.read(0, &slice_of(&mut back)).unwrap();
    assert_eq!(back, [0; 4096]);
}

#[test]
fn memory_and_files_keep_what_is_written() {
    let (_folder, path) = file(MIB);
    for disk in [
        Disk::memory(MIB).unwrap(),
        Disk::open(&path, false, false).unwrap(),
    ] {
        let mut bytes: Vec<u8> = (0..=255).cycle().take(1024).collect();
        let slice = VolatileSlice::from(&mut bytes[..]);
        disk.write(512, &slice).unwrap();
        disk.flush().unwrap();
        assert!(disk.write(MIB - 512, &slice).is_err(), "beyond its end");
        let mut back = vec![1; 2048];
        disk.read(0, &VolatileSlice::from(&mut back[..])).unwrap();
        assert_eq!(back[512..1536], bytes);
        assert!(back[..512].iter().all(|&byte| byte == 0));
        assert!(disk.read(MIB, &VolatileSlice::from(&mut back[..])).is_err());
        assert!(disk.read_only().write(0, &slice_of(&mut bytes)).is_err());
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), MIB);
}

fn slice_of(bytes: &mut [u8]) -> VolatileSlice<'_> {
    VolatileSlice::from(bytes)
}

#[test]
fn a_disk_has_whole_sectors() {
    for bytes in [0, 1, 511, 513] {
        assert!(matches!(Disk::memory(bytes), Err(DiskError::Size { .. })));
    }
}
