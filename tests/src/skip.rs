//! What a test needs of the machine, and how it says that it did not get it.
//!
//! A test that cannot run here writes one line, `SKIPPED <test>: <reason>`, to stderr and returns; `scripts/test`
//! collects these lines. Where there is a /dev/kvm, or with `VTAX_REQUIRE_KVM=1`, a test that needs KVM fails instead.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The device that guests need.
const KVM: &str = "/dev/kvm";

/// Whether this test may use KVM; says so where not.
pub(crate) fn has_kvm() -> bool {
    let required = std::env::var_os("VTAX_REQUIRE_KVM").is_some_and(|value| value == "1");
    match OpenOptions::new().read(true).write(true).open(KVM) {
        Ok(_) => true,
        Err(error) if required || Path::new(KVM).exists() => {
            panic!("this test needs {KVM}, and opening it failed: {error}")
        }
        Err(error) => skip(&format!("it needs {KVM}: {error}")),
    }
}

/// Whether this test may show vtax another /dev or another user; says so where not.
pub(crate) fn is_root() -> bool {
    let mounts = || {
        Command::new("unshare")
            .args(["--mount", "mount", "-t", "tmpfs", "none", "/dev"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    // Root of a container need not have the right to mount.
    rustix::process::geteuid().is_root() && mounts()
        || skip("it changes user and mounts, which takes root")
}

/// Whether the host has a file; says so where not.
pub(crate) fn has_file(file: &str) -> bool {
    Path::new(file).exists() || skip(&format!("this host has no {file}"))
}

/// Says that the calling test, or a part of it, is skipped, and returns false. Past libtest, which would keep what a passing test prints to itself.
///
/// # Panics
/// There is no stderr.
pub fn skip(reason: &str) -> bool {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    writeln!(std::io::stderr(), "SKIPPED {test}: {reason}").expect("stderr takes a line");
    false
}
