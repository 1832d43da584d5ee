//! `port`: the traits between deciding and doing.
//!
//! It holds no implementation but plain data. Everything that crosses a port can be serialised, so
//! that the hand that performs may one day live in a process of its own.

mod agents;
mod blob;
mod clock;
mod crash;
pub mod forge;
mod guests;
mod journal;
mod provider;
mod pulls;
mod renderer;
mod source;

use std::future::Future;
use std::pin::Pin;

pub use agents::{AgentFault, Agents};
pub use blob::BlobStore;
pub use clock::Clock;
pub use crash::{Crash, CrashPoint, NeverCrash};
pub use forge::{Forge, ForgeError, ForgeFault};
pub use guests::{
    BootWish, Booted, DiskInBackup, GuestBase, GuestImage, GuestLeft, GuestWish, Guests, OpenGuest,
    SAVED_DISKS,
};
pub use journal::{Journal, JournalFault};
pub use provider::{Outcome, Progress, ProgressUpdate, Provider, Scope, misdirected};
pub use pulls::{
    CONFLICTS_MAX, CONTEXT_LINES, Fetched, FileChange, Merge, MergeKind, MergedFiles, Offered,
    PullLines, Pulls, SameLines, Wanted,
};
pub use renderer::Renderer;
pub use source::{FileRef, Head, Problem, Relation, Source, TreeFault};

/// A future that can be sent between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
