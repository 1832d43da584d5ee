//! What came of work on a backup: what the log keeps of it.
//!
//! Written with the outcome of the step that did it; nothing here holds a secret or a saved content.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ResourceId;
use super::resource::Chore;

/// A repository that was made, or that was there and opens with the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupOpened {
    /// The repository's own id, 64 hex digits.
    pub repository: String,
    /// Whether it was made; otherwise it was there.
    pub made: bool,
}

/// A snapshot that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupTaken {
    /// The repository's own id, 64 hex digits.
    pub repository: String,
    /// The snapshot's id, 64 hex digits.
    pub snapshot: String,
    /// When it was begun: what was changed later is not in it.
    pub begun: Timestamp,
    /// The digest of its content.
    pub tree: String,
    /// Files in it.
    pub files: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// Bytes that were added to the repository.
    pub added: u64,
    /// The disks in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of: Vec<ResourceId>,
    /// Bytes that were read of a guest's disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<u64>,
    /// How many things could not be read and are missing from it; it is complete only at zero.
    pub missing: u64,
    /// The first of them, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_missing: Option<String>,
    /// What was noticed beside it, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// Whether somebody else's removals were among that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
    /// What it is the way back for; `None`: it was due, or somebody asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
    /// What went wrong with programs that were run before or after it, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<String>,
    /// How long it took, milliseconds.
    pub elapsed_ms: u64,
}

/// What a snapshot is taken before, as the way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Before {
    /// What is interrupted or destroyed after it.
    #[schemars(with = "Vec<String>")]
    pub of: BTreeSet<ResourceId>,
    /// How long these have to have been good before the snapshot may go, seconds.
    pub keep_s: u64,
}

/// A check of a repository that found nothing wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupVerified {
    /// Snapshots whose trees were followed.
    pub snapshots: u64,
    /// Bytes of data that were read and compared with their digests.
    pub read: u64,
    /// What was noticed beside it, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// How long it took, milliseconds.
    pub elapsed_ms: u64,
}

/// A snapshot that was restored beside, and is what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupDrilled {
    /// The snapshot's id, 64 hex digits.
    pub snapshot: String,
    /// Files that came back and were read again.
    pub files: u64,
    /// Bytes of them that have the digests the snapshot gives them.
    pub bytes: u64,
    /// How long the restore took, up to the last byte on the disk, milliseconds.
    pub elapsed_ms: u64,
    /// That it was booted; `None`: nobody asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BackupBooted>,
    /// What else was found right: the log's chain, or that a program was content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proved: Vec<String>,
    /// What was noticed beside it, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// Whether somebody else's removals were among that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
}

/// A copy of a guest that came up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupBooted {
    /// How long it took from its start until it was up, milliseconds.
    pub elapsed_ms: u64,
    /// What proved that, in a few words.
    pub ready: String,
    /// How many commands were run inside of it, all with success.
    pub commands: u64,
}

/// A check or a drill that found something wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupFailed {
    /// What was done when it was found.
    pub during: Chore,
    /// How many errors there are.
    pub errors: u64,
    /// The first of them, in a sentence.
    pub why: String,
    /// What a guest that did not come up wrote on its console last: its words, cut short, without
    /// what looks like a secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub console: Vec<String>,
}

/// Snapshots that were removed because nothing keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupForgotten {
    /// How many stay.
    pub kept: u64,
    /// Ids of those removed, the newest first; the first [`FORGOTTEN_NAMED_MAX`] of them.
    pub removed: Vec<String>,
    /// How many were removed.
    pub removed_count: u64,
    /// Snapshots that were the way back from a change, and are not any more: that was good for long
    /// enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub released: Vec<String>,
    /// Bytes of data that went with them.
    pub freed: u64,
    /// What was noticed beside it, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// Whether somebody else's removals were among that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
}

/// Most removed snapshots that an event names: a run removes one or two, and a line stays short.
pub const FORGOTTEN_NAMED_MAX: usize = 100;

/// What came of one step on a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum BackupNews {
    /// A repository was made or found.
    Opened(BackupOpened),
    /// A snapshot was taken.
    Taken(BackupTaken),
    /// The repository was checked, and nothing is wrong.
    Verified(BackupVerified),
    /// A snapshot was restored, and is what it should be.
    Drilled(BackupDrilled),
    /// The repository was checked, or a snapshot restored, and something is wrong.
    Failed(BackupFailed),
    /// Snapshots were removed.
    Forgotten(BackupForgotten),
}
