//! `model`: names, kinds, identifiers, quantities, digests and the canonical form of every resource.
//!
//! Desired and observed state share the types in [`resource`], so that comparing them is comparing
//! like with like. It never reads a clock, a file or the network, and knows no other module.

pub mod backup;
mod condition;
mod digest;
mod fault;
mod id;
mod inventory;
mod listed;
mod name;
mod observed;
mod policy;
pub mod resource;
mod schema;
pub mod xid;

pub use condition::{GpuCondition, GpuIdentity, GpuProblem, GpuProblemKind, GpuReport};
pub use digest::{Digest, DigestError, digest_of};
pub use fault::Fault;
pub use id::{CommitId, IdError, Kind, ResourceId, RunId, mac_for, uuid_for, uuid_for_part};
pub use inventory::{FailedGpu, FoundGpu, GpuCard, GpuDevice, GpuInventory};
pub use listed::listed;
pub use name::{NAME_MAX, Name, NameError};
pub use observed::{HostFacts, Observation, Observed, Ownership, Stale};
pub use policy::PolicyLevel;
pub use resource::Resource;
