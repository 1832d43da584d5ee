//! What is asked and answered when what was restored is compared with its snapshot.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Filter;

/// A comparison of what was restored with its snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compare {
    /// The snapshot's id, or the start of it, or `latest`.
    pub snapshot: String,
    /// What `latest` means.
    #[serde(default)]
    pub filter: Filter,
    /// The folder that all of it was restored into. What else is in it is not looked at.
    pub with: PathBuf,
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    /// The snapshot's id.
    pub snapshot: String,
    /// Files that were read.
    pub files: u64,
    /// Bytes in them that have the right digests.
    pub bytes: u64,
    /// Folders, links and special files that were looked at.
    pub others: u64,
    /// How many things are not what the snapshot says. It is the same only at zero.
    pub wrong_count: u64,
    /// The first of them.
    pub wrong: Vec<Difference>,
}

/// The most differences that an outcome names.
pub const DIFFERENCES_MAX: usize = 20;

/// Something that is not what its snapshot says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// Which, below the folder.
    pub path: PathBuf,
    /// How.
    pub why: String,
}
