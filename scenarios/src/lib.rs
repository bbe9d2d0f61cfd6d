//! Scenario files: what a user may write, the errors that point at it, and the plan it becomes.
//!
//! ```text
//! text ──toml──► tree ──keys──► what is written ──check──► what is meant
//!                 │              (schema)                       │
//!                 └──matrix──► axes ──combine──► combinations ──load──► Plan: cells ──order──► boots and blocks
//!                                                                        └──testable──► what this host cannot run
//! ```
//!
//! Whatever is wrong on the way is a [`diagnostic::Diagnostic`] that points at its place in the file; all of them are
//! reported at once.
//!
//! Pure: nothing here reads the host, the clock or the environment.
#![forbid(unsafe_code)]

mod check;
mod claim;
mod combine;
pub mod diagnostic;
mod disk;
mod experiment;
mod explain;
mod filter;
pub mod host;
mod keys;
pub mod knobs;
pub mod ksm;
mod load;
mod matrix;
mod matrix_schema;
pub mod memory;
mod neighbour;
mod net;
pub mod order;
pub mod plan;
pub mod reference;
pub mod scheduling;
pub mod schema;
pub mod settings;
pub mod shipped;
pub mod spans;
mod suggest;
pub mod testable;
mod tree;
pub mod units;
mod values;
mod workload;

pub use claim::{explain_claim, given};
pub use diagnostic::ScenarioError;
pub use explain::{budget_warning, disk_text, explain, explain_here, net_text};
pub use knobs::settings_text;
pub use load::{Loaded, Overrides, parse};
pub use schema::json_schema;
pub use shipped::{Shipped, claims, list, shipped};
pub use suggest::nearest;
pub use testable::{NotTestable, Testability};
