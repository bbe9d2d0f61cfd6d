//! Scenario files: what a user may write, the errors that point at it, and the plan it becomes.
//!
//! ```text
//! text (TOML) ──schema──► Scenario ──check──► errors with line and column
//!                             └────plan──► Plan: cells, boots in seeded order ──host──► what this host cannot do
//! ```
//!
//! Pure: nothing here reads the host, the clock or the environment.
#![forbid(unsafe_code)]

pub mod memory;
pub mod order;
pub mod plan;
