//! The harness: all of vtax that touches the machine.
//!
//! ```text
//! arguments ─► scenario ─► plan ─► run loop ─► run directory ─► results
//!                 ▲                   ▲
//!            host::facts     host::{tsc, affinity, disturbance}
//! ```

pub mod campaign;
pub mod claims;
pub mod cli;
pub mod costs;
pub mod counters;
pub mod disks;
pub mod experiments;
pub mod guest;
pub mod host;
pub mod lack;
pub mod measure;
pub mod neighbours;
pub mod notebook;
pub mod progress;
pub mod resume;
pub mod rig;
pub mod run;
mod say;
pub mod selftest;
pub mod trial;
pub mod twin;
pub mod watchdog;
pub mod whole;
