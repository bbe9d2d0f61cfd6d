//! How a test says that it cannot run here.

use std::io::Write as _;

/// Says that the calling test, or a part of it, is skipped: for scripts/test, past libtest, which keeps what a passing test
/// prints to itself.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let line = format!("SKIPPED {}: {reason}\n", thread.name().unwrap_or("a test"));
    let written = std::io::stderr().write_all(line.as_bytes());
    written.expect("stderr takes a line");
}

/// Whether this test may use KVM; says so where not.
///
/// # Panics
/// There is a /dev/kvm that cannot be used, or with `VTAX_REQUIRE_KVM=1` none.
#[allow(dead_code, reason = "not every test program has tests with guests")]
pub fn has_kvm() -> bool {
    let required = std::env::var_os("VTAX_REQUIRE_KVM").is_some_and(|value| value == "1");
    match vtax::guest::embedded::open() {
        Ok(_) => true,
        Err(error) if required || std::path::Path::new("/dev/kvm").exists() => {
            panic!("/dev/kvm cannot be used: {error}")
        }
        Err(error) => {
            skip(&format!("it needs /dev/kvm: {error}"));
            false
        }
    }
}
