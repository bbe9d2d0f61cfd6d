//! The `vtax` binary.
fn main() {}
