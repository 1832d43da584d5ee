//! `view`: read models over the log: status, history, drift, GPUs and the reasons behind them.
//!
//! It never appends, decides, or looks at a clock: it is handed the state or the events, and the
//! same input gives the same answer.

pub mod access;
pub mod backup;
pub mod cluster;
mod describe;
mod drift;
pub mod gpu;
mod health;
pub mod release;
mod status;
mod way_back;
mod why;

pub use describe::{change, describe, more_changes};
pub use drift::{DriftRow, drifts};
pub use health::{GpuHealthRow, HealthWord, gpu_health};
pub use status::{ForgeTrouble, Status, StatusRow, Summary, row_of, rows, summary};
pub use way_back::ways_back;
pub use why::{STORY_MAX, Story};

#[cfg(test)]
mod tests;
