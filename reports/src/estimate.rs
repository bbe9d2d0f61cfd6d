//! From the samples of a run to its results.

pub use crate::stats::{
    boot::{BootValue, boot_value},
    series::Series,
};
