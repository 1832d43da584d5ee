//! Events about single resources; the resource is always the envelope's subject.

use serde::{Deserialize, Serialize};

use super::plan::{Claim, MoreChanges};
use crate::model::{Digest, ResourceId};
use crate::plan::FieldChange;

/// `resource.synced`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Synced {
    /// Digest of the wish that the machine now fulfils.
    pub wish: Digest,
    /// What is ours.
    pub claim: Claim,
}

/// `resource.claimed`: how it may be destroyed has changed, although it is not yet what is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claimed {
    /// What is ours.
    pub claim: Claim,
}

/// `resource.drifted`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drifted {
    /// The fields that differ, the first of them; none where the whole thing is missing or not running.
    pub changes: Vec<FieldChange>,
    /// All of them, where that is more; events of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<MoreChanges>,
    /// What happened, in a few words: `missing`, `stopped`, `changed`.
    pub what: String,
    /// Whether it will be put right.
    pub heal: bool,
}

/// `resource.recovered`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {}

/// `resource.flapping`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flapping {
    /// How often it was put right within the window.
    pub heals: u32,
    /// When it is tried again.
    pub retry_at: jiff::Timestamp,
}

/// `resource.adopted`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {}

/// `resource.moved`: the subject is what was known as `from` until now; nothing of it was touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// What it was called.
    pub from: ResourceId,
}

/// `resource.unobservable`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unobservable {
    /// Who did not answer.
    pub why: String,
}

/// `resource.observable`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observable {}

/// `resource.pruned`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Digest of the last wish there was for it.
    pub wish: Option<Digest>,
}

/// `resource.restoring`: the data of a disk is about to be brought back, where no file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoring {
    /// The backup that has it.
    pub backup: ResourceId,
    /// The snapshot's id, 64 hex digits.
    pub snapshot: String,
    /// When that was begun.
    pub taken: jiff::Timestamp,
    /// What it is called in the snapshot.
    pub file: String,
    /// Where it goes.
    pub path: String,
}

/// `resource.restored`: the data of a disk is back; who did it is the envelope's actor. What only waited
/// for that waits no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// The backup that had it.
    pub backup: ResourceId,
    /// The snapshot's id, 64 hex digits.
    pub snapshot: String,
    /// When that was begun: what was written later is lost.
    pub taken: jiff::Timestamp,
    /// How large it is, bytes.
    pub bytes: u64,
    /// How long it took, milliseconds.
    pub elapsed_ms: u64,
}

/// `resource.restore_failed`: the data of a disk did not come back, and nothing is in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreFailed {
    /// Why, and what to do about it.
    pub why: String,
}
