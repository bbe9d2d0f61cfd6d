//! Scenario files: what a user may write, the errors that point at it, and the plan it becomes.
//!
//! ```text
//! text (TOML) ──schema──► Scenario ──check──► errors with line and column
//!                             └────plan──► Plan: cells, boots in seeded order ──host──► what this host cannot do
//! ```
//!
//! Pure: nothing here reads the host, the clock or the environment.
#![forbid(unsafe_code)]

mod check;
mod combine;
pub mod diagnostic;
mod explain;
mod filter;
mod keys;
mod load;
mod matrix;
pub mod memory;
pub mod order;
pub mod plan;
pub mod schema;
pub mod spans;
mod suggest;
mod tree;
pub mod units;
mod workload;

pub use diagnostic::ScenarioError;
pub use explain::explain;
pub use load::{Loaded, Overrides, parse};
pub use schema::json_schema;
