//! What a Slurm cluster is like: one small model, filled from the JSON of each release that was
//! tried, and from `scontrol`'s text for what has no JSON.
//!
//! Nothing here takes a failure for an absence: 22.05 answers `"nodes": []` with exit code 0 when its
//! controller is dead, and only the `errors` beside it tell.

mod accounting;
mod command;
mod error;
mod json;
mod model;
mod observer;
mod rest;
mod text;

pub use accounting::{AccountRow, Accounts, AssociationRow, QosRow};
pub use command::Commands;
pub use error::ObserveError;
pub use json::{jobs, nodes};
pub use model::{Flag, Job, JobState, Node, NodeState, Observed, Partition, Reason, Reservation};
pub use observer::{Observer, Pass};
pub use rest::Rest;
pub use text::{config, partitions, reservations};

#[cfg(test)]
mod tests;
