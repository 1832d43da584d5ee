//! Events about releases; the release is always the envelope's subject.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Name;

/// `release.observed`: how the objects of a release do, written when it is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseObserved {
    /// The cluster.
    pub cluster: Name,
    /// The namespace of the list of what it has made.
    pub namespace: String,
    /// What was seen.
    pub look: ReleaseLook,
}

/// The objects of a release at a glance. No value of any of them is in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseLook {
    /// How many objects are asked for, by kind.
    pub kinds: BTreeMap<String, u64>,
    /// How many of them do what they are for.
    pub ready: u64,
    /// Those that do not, the first of them.
    pub unready: Vec<UnreadyObject>,
    /// How many more of these there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_unready: u64,
    /// Fields that others added to them and an apply leaves there, the first of them.
    pub added: Vec<AddedField>,
    /// How many more of these there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_added: u64,
    /// Which folder it is, where it is one: its objects are files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<FolderLook>,
}

/// A folder of files at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FolderLook {
    /// Where it is seen.
    pub to: String,
    /// The version that is asked for: digits of the digest of its files.
    pub version: String,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Whether it is what whoever opens the folder gets.
    pub in_force: bool,
}

/// An object that does not do what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnreadyObject {
    /// `Deployment shop/web`.
    pub object: String,
    /// What it is in.
    pub health: ObjectHealth,
    /// Why, in the cluster's words.
    pub why: String,
}

/// What an object is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ObjectHealth {
    /// It is not there.
    Missing,
    /// It is on its way.
    Progressing,
    /// It will not get there by itself.
    Failed,
    /// It is being deleted.
    Terminating,
}

impl ObjectHealth {
    /// The word shown to people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Progressing => "progressing",
            Self::Failed => "failed",
            Self::Terminating => "terminating",
        }
    }
}

/// A field that somebody else added to an object of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddedField {
    /// `ConfigMap shop/web`.
    pub object: String,
    /// Where: `.data.color`.
    pub path: String,
    /// Who, by the name that they write under.
    pub manager: String,
}

impl ReleaseLook {
    /// How many objects are asked for.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.kinds.values().sum()
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
