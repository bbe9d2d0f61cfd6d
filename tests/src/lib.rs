//! What the end-to-end tests in `tests/` are written with.
//!
//! ```text
//! Stage (an empty folder, a fresh user) ──vtax(args)──► Vtax ──run──► Outcome: exit code, stdout, stderr
//!                                                         └──start──► Running ──signal──► Outcome
//! RunDir (what a run left behind) ──► record, samples, events, results
//! ```
//!
//! Failures here are failures of a test, so everything panics with what was seen.

mod binary;
mod command;
mod loop_device;
pub mod machine;
mod mergeable;
mod outcome;
mod run_dir;
pub mod scenario;
mod skip;
mod stage;

pub use command::{Running, Vtax};
pub use loop_device::LoopDevice;
pub use mergeable::Mergeable;
pub use outcome::Outcome;
pub use run_dir::{Row, RunDir};
pub use skip::skip;
pub use stage::Stage;
