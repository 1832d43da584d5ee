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
