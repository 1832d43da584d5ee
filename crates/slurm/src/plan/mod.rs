//! From what is wished and what is there to what is to be done. Pure: no clock, no disk, no process;
//! the same input gives the same steps.

pub mod accounts;
pub mod config;
mod drift;
mod fields;
mod losses;
pub mod roll;
mod stage;

pub use drift::drift;
pub(crate) use fields::minutes;
pub use stage::{outdated, stage};
