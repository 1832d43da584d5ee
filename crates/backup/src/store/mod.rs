//! Where a repository lies: files of restic's layout, by kind and name.
//!
//! A store never says that something is missing when it only could not look: a listing is complete
//! or an error. (A prune that believes a short listing of snapshots destroys data.) It never writes
//! a file in two halves, and knows nothing of what is in the files.

mod local;
mod rclone;
mod remote;
mod rest;

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::protocol::{Fault, Target};

/// The kinds of files of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Config,
    Key,
    Snapshot,
    Index,
    Pack,
    Lock,
}

impl Kind {
    /// The folder they are in; the config is a file of its own.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Kind::Config => "config",
            Kind::Key => "keys",
            Kind::Snapshot => "snapshots",
            Kind::Index => "index",
            Kind::Pack => "data",
            Kind::Lock => "locks",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Config => "config",
            Kind::Key => "key",
            Kind::Snapshot => "snapshot",
            Kind::Index => "index",
            Kind::Pack => "pack",
            Kind::Lock => "lock",
        })
    }
}

/// Why a store could not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreFault {
    #[error("{kind} {name} is not there")]
    Missing { kind: Kind, name: String },
    #[error("{kind} {name} is shorter than it should be")]
    Short { kind: Kind, name: String },
    #[error("{kind} {name} cannot be read: {why}")]
    Unreadable { kind: Kind, name: String, why: String },
    #[error("there is one already")]
    Exists,
    #[error("no space is left")]
    Full,
    #[error("refused: {why}")]
    Refused { why: String },
    #[error("out of reach: {why}")]
    Offline { why: String },
}

impl StoreFault {
    /// What it means to whoever asked for the job.
    pub(crate) fn explain(self, at: &str) -> Fault {
        let at = at.to_owned();
        match self {
            StoreFault::Missing { kind: Kind::Config, .. } => Fault::RepositoryMissing { at },
            StoreFault::Missing { kind, name } => {
                Fault::Damaged { at, kind: kind.to_string(), name, why: "it is not there".into() }
            }
            StoreFault::Short { kind, name } => {
                Fault::Damaged { at, kind: kind.to_string(), name, why: "it is too short".into() }
            }
            StoreFault::Unreadable { kind, name, why } => {
                let why = format!("it cannot be read ({why})");
                Fault::Damaged { at, kind: kind.to_string(), name, why }
            }
            StoreFault::Exists => Fault::RepositoryExists { at },
            StoreFault::Full => Fault::DiskFullThere { at },
            StoreFault::Refused { why } => Fault::Refused { at, why },
            StoreFault::Offline { why } => Fault::RepositoryOffline { at, why },
        }
    }
}

pub(crate) use local::private_line;
use remote::Remote;

pub(crate) type Stored<T> = Result<T, StoreFault>;

/// A place with a repository's files.
pub(crate) trait Store: Send + Sync {
    /// The place, for people; it holds no secret.
    fn location(&self) -> String;
    /// Makes the folders of a new repository.
    fn create(&self) -> Stored<()>;
    /// All names of a kind with their sizes; one unnamed for the config.
    fn list(&self, kind: Kind) -> Stored<Vec<(String, u64)>>;
    fn read(&self, kind: Kind, name: &str) -> Stored<Bytes>;
    /// Exactly so many bytes.
    fn read_range(&self, kind: Kind, name: &str, offset: u64, length: usize) -> Stored<Bytes>;
    /// All of it or nothing. A config that is there is not replaced by `fresh`.
    fn write(&self, kind: Kind, name: &str, parts: &[Bytes], fresh: bool) -> Stored<()>;
    fn remove(&self, kind: Kind, name: &str) -> Stored<()>;
    /// Returns once all that was written would outlive a power cut, as far as can be known.
    fn settle(&self) -> Stored<()>;
    /// Removes what writers left that were killed; only while nobody else writes.
    fn sweep(&self) -> Stored<u64>;
    /// Whether a copy of indexes and trees nearby pays.
    fn remote(&self) -> bool;
}

/// The store at a target. It is not asked anything yet, but rclone is started. `state`: a private
/// folder of this host.
pub(crate) fn open(target: &Target, state: &Path) -> Result<Arc<dyn Store>, Fault> {
    Ok(match target {
        Target::Local { path } => Arc::new(local::Local::new(path.clone())),
        Target::Rest { url, credentials, ca } => {
            Arc::new(rest::Rest::open(url, credentials.as_deref(), ca.as_deref())?)
        }
        Target::Rclone { remote, config } => {
            let config = config.as_deref().map_or_else(Vec::new, |config| {
                vec![OsString::from("--config"), config.as_os_str().to_owned()]
            });
            let at = format!("rclone {remote}");
            let remote = Remote { at, name: remote.clone(), options: config, ..Remote::default() };
            Arc::new(rclone::Rclone::start(remote)?)
        }
        Target::Sftp { .. } | Target::S3 { .. } => {
            Arc::new(rclone::Rclone::start(Remote::of(target, state)?)?)
        }
    })
}
