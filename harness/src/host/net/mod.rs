//! Network links of vtax's own.

mod tap;

pub use tap::{HEADER_BYTES, Tap};
