//! `event`: what the log stores: the envelope, one type per event, versions and the hash chain.
//!
//! It never does I/O; how lines reach the disk is `journal`'s business.

pub mod body;
pub mod chain;
pub mod envelope;
pub mod line;
mod recorded;
pub mod spill;

pub use body::{DecodeError, Event};
pub use recorded::{ACTOR_MACHINE, ACTOR_SELF, Entry, OpenError, Recorded};
pub use spill::Spilled;
