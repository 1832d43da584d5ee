//! The desired state: what a commit asks of one environment, resolved to primitives.
//!
//! Nothing in it is a default still to be filled in or a name still to be looked up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Digest, Name, Resource, ResourceId};

/// Everything a commit asks of one environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// The environment.
    pub environment: Name,
    /// How it is synchronised.
    pub sync: SyncSettings,
    /// Every primitive resource. Shared, so that a commit which changes one costs one.
    pub resources: BTreeMap<ResourceId, Arc<DesiredResource>>,
}

/// One primitive resource, as a commit asks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DesiredResource {
    /// What it has to be.
    pub resource: Resource,
    /// What has to be there before it: its references and its `dependsOn`.
    pub depends_on: BTreeSet<ResourceId>,
    /// The resource whose document it comes from, where that is another one.
    pub owner: Option<ResourceId>,
    /// How it may be created, changed and destroyed.
    pub lifecycle: Lifecycle,
    /// Labels, the environment's merged in.
    pub labels: BTreeMap<String, String>,
    /// Where it is written.
    pub origin: Origin,
    /// Digest of `resource` and `lifecycle`; changes when and only when they do.
    pub digest: Digest,
}

/// Where a resource is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Origin {
    /// Path in the repository.
    pub path: String,
    /// Line of the document's first key, from 1.
    pub line: u32,
}

/// How a resource may be created, changed and destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// It is never destroyed or replaced, whatever the commit says.
    pub prevent_destroy: bool,
    /// An existing foreign object of this name is taken over.
    pub adopt: bool,
    /// Field paths (`/memory/current`) in which a difference is neither planned nor drift.
    pub ignore_differences: Vec<String>,
    /// What happens on drift.
    pub self_heal: SelfHeal,
    /// It has gone from the commit but is kept on the machine, unmanaged.
    pub orphan: bool,
}

/// What happens when the machine drifts from the commit.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum SelfHeal {
    /// It is put right.
    #[default]
    Auto,
    /// It is reported only.
    Report,
}

/// How an environment is synchronised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncSettings {
    /// Whether a new commit is applied by itself.
    pub mode: SyncMode,
    /// Drift policy of resources that have none of their own.
    pub self_heal: SelfHeal,
    /// Whether resources gone from the commit are destroyed.
    pub prune: bool,
    /// Most resources one pass may destroy or replace; a plan with more is held.
    pub max_destroy: u32,
    /// When disruptive steps may run; empty: always.
    pub windows: Vec<SyncWindow>,
    /// Nothing is changed while set.
    pub pause: bool,
    /// What was called otherwise before.
    #[serde(default, skip_serializing_if = "Renames::is_empty")]
    pub renamed: Renames,
}

/// What was called otherwise before, so that a new name is no new thing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Renames {
    /// Names the environment had before, oldest first: what is marked for them may be taken over.
    pub formerly: Vec<Name>,
    /// Resources by their name now, with the names they had before, newest first.
    pub moved: BTreeMap<ResourceId, Vec<ResourceId>>,
}

impl Renames {
    /// Whether nothing was ever renamed.
    pub fn is_empty(&self) -> bool {
        self.formerly.is_empty() && self.moved.is_empty()
    }

    /// The name under which `ours` knows what is now called `to`, where that is an earlier one.
    pub fn former(
        &self,
        to: &ResourceId,
        ours: impl Fn(&ResourceId) -> bool,
    ) -> Option<&ResourceId> {
        if ours(to) {
            return None;
        }
        self.moved.get(to)?.iter().find(|from| ours(from))
    }
}

impl Default for SyncSettings {
    fn default() -> Self {
        Self {
            mode: SyncMode::Auto,
            self_heal: SelfHeal::Auto,
            prune: true,
            max_destroy: MAX_DESTROY_DEFAULT,
            windows: Vec::new(),
            pause: false,
            renamed: Renames::default(),
        }
    }
}

/// Default of `maxDestroy`: a person removes one or two things at a time; more is rather a mistake.
pub const MAX_DESTROY_DEFAULT: u32 = 3;

/// Whether a new commit is applied by itself.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum SyncMode {
    /// By itself.
    #[default]
    Auto,
    /// After `trueup approve`.
    Manual,
}

/// A weekly window in which disruptive steps may run, in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncWindow {
    /// Days it opens on, 1 (Monday) to 7 (Sunday), sorted; empty: every day.
    pub days: Vec<u8>,
    /// Minute of the day it opens at.
    pub start_minute: u16,
    /// How long it stays open, minutes.
    pub minutes: u32,
}
