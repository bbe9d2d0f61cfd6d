//! The measured bodies of vtax.
//!
//! ```text
//! harness ──writes──► Mailbox ──► payload (this crate, inside the guest image) ──► Mailbox ──► harness
//! ```
//!
//! Every workload is one [`Workload`] entry of [`CATALOGUE`]: what it stresses, its unit, its parameters, and its
//! [`Body`]. Most have two functions: `setup` lays out the arena, `run` does `iterations` units of work on it and returns a
//! checksum. The guest image links this crate once; the harness maps that image into itself for the native side,
//! so both sides execute the same bytes. The harness also links this crate for the catalogue's descriptions and
//! for the reference checksum, but never measures that second copy. Workloads that ask something of the machine itself
//! (an exit, a disk, a timer) have a [`Task`] in their place, which the guest image and the harness carry out.
//!
//! No std, no allocation, no system call: what a workload needs it finds in its arena.
#![no_std]
// Hashes, indices and bit tricks: truncation is the point of most casts here, and each body's checksum is tested.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

pub mod abi;
pub mod block;
mod catalogue;
mod cpu;
mod diagnostic;
mod latency;
pub mod machine;
mod memory;
mod mix;
pub mod network;
pub mod payload;
pub mod tsc;

#[cfg(test)]
extern crate std;
#[cfg(test)]
mod checks;
#[cfg(test)]
mod testing;

pub use catalogue::*;
