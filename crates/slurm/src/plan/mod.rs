//! From what is wished and what is there to what is to be done. Pure: no clock, no disk, no process;
//! the same input gives the same steps.

pub mod accounts;
pub mod config;
mod drift;
pub mod roll;
mod stage;

pub(crate) use config::minutes;
pub use drift::drift;
pub use stage::{outdated, stage};
