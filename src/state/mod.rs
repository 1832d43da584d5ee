//! `state`: the fold of the log into what trueup knows, and the decisions on commands.
//!
//! It never observes: it only knows what an event told it. [`State::apply`] may not refuse;
//! [`decide()`] may.

mod apply;
mod backup;
mod begun;
mod cluster;
mod decide;
mod granted;
mod health;
mod landed;
mod pulls;
mod release;
mod resource;
mod types;
mod way_back;

#[cfg(test)]
mod tests;

pub use backup::{BackupState, CameBack, GoodSnapshot, LastSnapshot, Noticed};
pub use cluster::{ClusterLook, ClusterState, GivenAccess, KubernetesLook, OperatorDrain};
pub use decide::{APPROVE_DIGITS_MIN, Command, Refusal, decide};
pub use granted::{Given, TakenBack};
pub use landed::{LANDED_KEPT_MAX, Landed};
pub use pulls::{
    Approved, Carried, Merged, OLDER_KEPT_MAX, OlderPlan, POSTS_KEPT_MAX, PROMISES_KEPT_MAX,
    Planned, Post, PullState, PullsState,
};
pub use release::ReleaseState;
pub use types::{
    Applied, Drift, Failure, GpuHealth, Granted, HEALS_KEPT_MAX, Hold, InFlight, LastLook,
    LostData, Paused, PlanState, PolicyFinding, Refused, Rejected, ResourceState, SourceState,
    SpecState, State, XIDS_KEPT_MAX,
};
pub use way_back::{InsideSnapshot, Kept, Pinned, WAYS_KEPT_MAX, WayThere, keep_s};
