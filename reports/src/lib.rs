//! All that happens after a sample exists.
//!
//! ```text
//! run directory ──store──► Run {record, samples, counters} ──estimate──► CellResult… ──verdict──► Report ──► html, export
//! ```
//!
//! Pure: touches neither /dev nor /sys, needs no root, takes no sample. A run directory can be reported on any
//! machine, long after.
#![forbid(unsafe_code)]

pub mod claims;
mod compare;
pub mod counters;
pub mod devices;
pub mod estimate;
pub mod experiments;
pub mod export;
pub mod formats;
pub mod frequency;
pub mod html;
pub mod ledger;
pub mod native_disk;
mod placement;
pub mod record;
pub mod result;
pub mod selftest;
mod settings;
mod spans;
pub mod stats;
pub mod store;
pub mod suite;
pub mod trials;
pub mod verdict;
