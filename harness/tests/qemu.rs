//! The guest image under QEMU, which boots it by PVH: same bytes, same answers.

// Helpers of tests are tests: what fails here fails the test.
#![allow(clippy::unwrap_used)]

#[path = "common/skip.rs"]
mod skip;

use std::path::Path;
use std::process::{Command, Stdio};

use skip::skip;
use vtax::guest::image::Image;
use vtax::guest::layout;
use vtax::guest::mailbox::Request;
use vtax::guest::qemu::QemuGuest;
use vtax::guest::{Completion, Executor as _};
use vtax_scenarios::memory::{MIN_MEMORY_BYTES, arena_bytes};
use vtax_workloads::abi::Op;
use vtax_workloads::machine::RAM_BASE;

/// Why this machine cannot run it.
fn missing() -> Option<&'static str> {
    let version = Command::new("qemu-system-x86_64")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if !Path::new("/dev/kvm").exists() {
        Some("it needs /dev/kvm")
    } else if version.is_err() {
        Some("it needs qemu-system-x86_64 (Debian: qemu-system-x86)")
    } else {
        None
    }
}

#[test]
fn the_image_answers_requests_under_qemu() {
    if let Some(reason) = missing() {
        let required = std::env::var_os("VTAX_REQUIRE_QEMU").is_some_and(|value| value == "1");
        assert!(!required, "{reason}");
        skip(reason);
        return;
    }
    let image = Image::embedded().unwrap();
    let mut guest = QemuGuest::start(&image, MIN_MEMORY_BYTES, &[]).unwrap();
    let (workload, entry) = vtax_workloads::find("cpu-divide").unwrap();
    let request = |op, iterations| Request {
        op,
        workload: workload as u64,
        arena: RAM_BASE + layout::arena(MIN_MEMORY_BYTES, 1, 0),
        arena_len: arena_bytes(MIN_MEMORY_BYTES, 1),
        iterations,
        run_in: 0,
        planted: 0,
        params: vtax_workloads::default_params(entry),
        seed: 42,
    };
    let mut ask = |request: &Request| {
        guest.mailbox().put(request).unwrap();
        assert_eq!(guest.execute().unwrap(), Completion::Clean);
        guest.mailbox().take().unwrap()
    };
    let identity = ask(&request(Op::Identity, 0));
    assert_eq!(identity.checksum, image.text_hash());
    assert_eq!(identity.code_address, image.header.payload);
    ask(&request(Op::Setup, 0));
    let first = ask(&request(Op::Run, 1000));
    let again = ask(&request(Op::Run, 1000));
    assert_eq!(first.checksum, again.checksum);
    assert!(first.ticks > 0);
}
