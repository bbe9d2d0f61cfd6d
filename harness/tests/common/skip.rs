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
