//! The image's bytes do not depend on where it is built, so records of two checkouts of one commit name the same hash; and it
//! starts where others look.

// Helpers of tests are tests: what fails here fails the test.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            // Of a folder that somebody built in, the sources alone.
            if entry.file_name() != "target" {
                copy(&entry.path(), &to.join(entry.file_name()));
            }
        }
    } else {
        fs::copy(from, to).unwrap();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

#[test]
fn another_folder_builds_the_same_bytes() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let elsewhere = tempfile::tempdir().unwrap();
    let elsewhere = elsewhere.path().join("a folder by another name");
    let (images, out) = (elsewhere.join("guest-images"), elsewhere.join("out"));
    copy(here, &images);
    copy(&here.join("../workloads"), &elsewhere.join("workloads"));
    fs::create_dir(&out).unwrap();

    // The build script as cargo runs it.
    let script = elsewhere.join("build-script");
    run(Command::new("rustc")
        .args(["--edition", "2024", "-o"])
        .arg(&script)
        .arg(images.join("build.rs"))
        .env("CARGO_PKG_VERSION", env!("CARGO_PKG_VERSION")));
    run(Command::new(&script)
        .env("CARGO", env!("CARGO"))
        .env("CARGO_MANIFEST_DIR", &images)
        .env("OUT_DIR", &out)
        .env("SOURCE_DATE_EPOCH", "1"));

    let built = fs::read(out.join("bare/x86_64-unknown-linux-gnu/release/vtax-bare")).unwrap();
    assert!(
        built == vtax_guest_images::BARE_ELF,
        "two folders, two images"
    );
}

/// Loaders of ELF (Firecracker, Cloud Hypervisor) want an entry point in the image, and start at the note's.
#[test]
fn both_entry_points_are_the_same_physical_address() {
    let elf = vtax_guest_images::BARE_ELF;
    let word = |at: usize| u64::from_le_bytes(elf[at..at + 8].try_into().unwrap());
    let name = elf.windows(4).position(|it| it == b"Xen\0").unwrap();
    let (entry, noted) = (word(24), word(name + 4));
    assert_eq!(entry, noted);
    assert!((0x20_0000..0x40_0000).contains(&entry), "{entry:#x}");
}
