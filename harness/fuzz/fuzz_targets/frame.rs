//! What arrives on a network link.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vtax_workloads::network::frame::{Frame, LARGEST, SMALLEST};

fuzz_target!(|bytes: &[u8]| {
    let Some(frame) = Frame::read(bytes) else {
        return;
    };
    let _ = frame.mark();
    // What was understood can be said again.
    for len in [SMALLEST, LARGEST] {
        let mut again = vec![0; len];
        frame.write(&mut again);
        assert_eq!(Frame::read(&again).map(|it| it.number), Some(frame.number));
    }
});
