//! The binary under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Path of `vtax`, built from the present sources in the profile and the target directory of the tests themselves.
pub(crate) fn vtax() -> &'static Path {
    static BINARY: LazyLock<PathBuf> = LazyLock::new(build);
    &BINARY
}

/// A test of another package cannot ask cargo to build a binary for it, so this does. After `cargo test --workspace`,
/// which builds it too, there is nothing left to do.
fn build() -> PathBuf {
    // <target>/<triple>/<profile>/deps/<test>, and cargo marks <target> as a cache.
    let this = std::env::current_exe().expect("a test knows its own path");
    let profile = this.ancestors().nth(2).expect("tests are in deps/");
    let target = profile
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists())
        .expect("a profile is in a target directory");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--package", "vtax", "--bin", "vtax"])
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
        .arg("--target-dir")
        .arg(target);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().expect("cargo can be started");
    assert!(status.success(), "building vtax failed: {status}");
    profile.join("vtax")
}
