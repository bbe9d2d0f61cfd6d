//! Disks that are there, and paths that are none.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::super::testing::PROGRAMS;
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
    assert!(text.contains("truncate -s 4G"), "{text}");
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
fn a_mounted_or_opened_device_is_busy() {
    let _alone = PROGRAMS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let (_folder, path) = file(MIB);
    let made = Command::new("losetup")
        .args(["--find", "--show"])
        .arg(&path)
        .output();
    let device = match made {
        Ok(output) if output.status.success() => {
            PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
        }
        _ => {
            eprintln!("SKIPPED a_mounted_or_opened_device_is_busy: it needs losetup and root");
            return;
        }
    };
    let disk = Disk::open(&device, true, false);
    let second = Disk::open(&device, true, false);
    let status = Command::new("losetup")
        .arg("--detach")
        .arg(&device)
        .status();
    assert!(status.unwrap().success());
    assert_eq!(disk.unwrap().bytes(), MIB);
    assert!(matches!(
        second.unwrap_err(),
        DiskError::Open(OpenError::Busy { .. })
    ));
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
