//! `source`: Git through gix: mirror, poll, signatures and the tree at a commit.
//!
//! Reading order: [`config`] says what to follow; [`mirror`] owns the bare repository on disk;
//! `remote` talks to the other side under a deadline; [`history`] relates commits; [`signature`]
//! says who signed one; [`tree`] lists what a commit holds; [`pulls`] follows pull requests;
//! [`watch`] and [`schedule`] say when to look again; `restored` proves a mirror out of a backup. Everything here blocks: call it from a thread that may.
//!
//! It never checks a tree out, never follows a symbolic link or a submodule of the repository,
//! never runs a hook or a filter, never prompts, and never decides whether a commit is wanted.

mod behind_port;
pub mod config;
mod credential;
pub mod deadline;
pub mod error;
pub mod history;
pub mod id;
mod maintenance;
pub mod mirror;
mod process;
pub mod pulls;
mod remote;
mod restored;
pub mod schedule;
pub mod signature;
pub mod tree;
pub mod watch;

pub use behind_port::GitSource;
pub use config::{Credentials, MirrorConfig, SshOptions};
pub use error::SourceError;
pub use history::{CommitInfo, Person, Relation};
pub use id::{BlobId, CommitId, TreeId};
pub use maintenance::Maintenance;
pub use mirror::{Mirror, Opening};
pub use pulls::{GitPulls, PullSettings};
pub use remote::Fetched;
pub use restored::prove_restored;
pub use schedule::PollSchedule;
pub use signature::{SignaturePolicy, SignatureRejection, Verified};
pub use tree::{Change, Entry, EntryKind, FOLDERS, Tree, TreeError, TreeLimits, TreeProblem};
pub use watch::Watch;
