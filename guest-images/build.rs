//! Builds `bare/`, the freestanding guest image, with a nested cargo in a target directory of its own.
//!
//! The image is its own workspace because it needs another profile (no unwinding, one codegen unit) and other flags
//! (fixed address, no position independence) than the rest.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    let cargo = std::env::var_os("CARGO").expect("cargo sets it");
    for input in [
        "bare/src",
        "bare/build.rs",
        "bare/image.ld",
        "bare/Cargo.toml",
        "bare/Cargo.lock",
        "../workloads/src",
        "../workloads/Cargo.toml",
    ] {
        println!("cargo:rerun-if-changed={}", here.join(input).display());
    }

    let target_dir = out.join("bare");
    let mut nested = Command::new(cargo);
    nested
        .args(["build", "--release", "--locked"])
        .args(["--target", "x86_64-unknown-linux-gnu"])
        .arg("--manifest-path")
        .arg(here.join("bare/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target_dir)
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
