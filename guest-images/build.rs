//! Builds `bare/`, the freestanding guest image, with a nested cargo in a target directory of its own.
//!
//! The image is its own workspace because it needs another profile (no unwinding, one codegen unit) and other flags
//! (fixed address, no position independence) than the rest.
//!
//! Two checkouts of one commit build the same bytes. Cargo and rustc let the paths of a package's sources into its symbols,
//! but of those below the workspace's root only what comes behind it: so a copy of the image's sources is built, with the
//! workloads inside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where `bare/Cargo.toml` has the workloads.
const WORKLOADS: &str = "../../workloads";

fn main() {
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    let cargo = std::env::var_os("CARGO").expect("cargo sets it");
    let bare = here.join("bare");
    let workloads = here.join("../workloads");
    let tree = out.join("tree");

    // What is not there any more shall not be built.
    if tree.exists() {
        fs::remove_dir_all(&tree).expect("the last build's copy can be removed");
    }
    copy(&bare.join("src"), &tree.join("src"));
    copy(&workloads.join("src"), &tree.join("workloads/src"));
    for name in ["build.rs", "image.ld", "Cargo.lock"] {
        copy(&bare.join(name), &tree.join(name));
    }
    let manifest = bare.join("Cargo.toml");
    println!("cargo:rerun-if-changed={}", manifest.display());
    let manifest = fs::read_to_string(manifest).expect("the image has a manifest");
    assert!(manifest.contains(WORKLOADS), "the workloads are elsewhere");
    write(
        &tree.join("Cargo.toml"),
        &manifest.replace(WORKLOADS, "workloads"),
    );
    // Theirs inherits from another workspace, and has dependencies for tests.
    let version = env!("CARGO_PKG_VERSION");
    write(
        &tree.join("workloads/Cargo.toml"),
        &format!(
            "[package]\nname = \"vtax-workloads\"\nversion = \"{version}\"\nedition = \"2024\"\n"
        ),
    );

    let target_dir = out.join("bare");
    let mut nested = Command::new(cargo);
    nested
        .args(["build", "--release", "--locked"])
        .args(["--target", "x86_64-unknown-linux-gnu"])
        .arg("--target-dir")
        .arg(&target_dir)
        .current_dir(&tree)
        // The baseline x86-64 instruction set, whatever flags the outer build was given: the measured code must
        // not depend on who built it. Wider units are chosen per function.
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            ["-Crelocation-model=static", "-Ctarget-cpu=x86-64"].join("\u{1f}"),
        );
    // What an outer clippy, sccache or test coverage run sets must not reach the image.
    for name in [
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET",
        "LLVM_PROFILE_FILE",
    ] {
        nested.env_remove(name);
    }
    let status = nested.status().expect("cargo can be started");
    assert!(
        status.success(),
        "building the guest image failed: {status}"
    );

    let image = target_dir.join("x86_64-unknown-linux-gnu/release/vtax-bare");
    println!("cargo:rustc-env=VTAX_BARE_ELF={}", image.display());
}

/// Copies a file, or a folder with all that is in it, as an input of the build.
fn copy(from: &Path, to: &Path) {
    println!("cargo:rerun-if-changed={}", from.display());
    if from.is_dir() {
        for entry in fs::read_dir(from).expect("a source folder can be read") {
            let entry = entry.expect("a source folder can be read");
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        let text = fs::read_to_string(from).expect("a source file is text");
        write(to, &text);
    }
}

fn write(to: &Path, text: &str) {
    let folder = to.parent().expect("a file is in a folder");
    fs::create_dir_all(folder).expect("a folder can be made for a copy");
    fs::write(to, text).expect("a copy can be written");
}
