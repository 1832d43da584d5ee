//! The canonical form of a release: where its objects are, which there are, and what a look at them found.
//!
//! What is stored of it holds the keys and digests of objects only. The objects themselves, which may be
//! Secrets, are beside it for the hand that applies them: they are in no event, claim or rule's input.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trueup_kubernetes::release::{Manifest, Seen, Wish};

use super::super::{Digest, Name};
use super::shared_folder::SharedFolder;

/// Objects of a Kubernetes cluster that belong together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// Where it is.
    pub place: ReleasePlace,
    /// Whether objects go that it no longer has.
    pub prune: bool,
    /// Whether fields that others own are taken from them.
    pub takes_fields: bool,
    /// Releases from which objects may be taken over, as `namespace/name`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub takes_from: BTreeSet<String>,
    /// The host from which it may be taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_over_from: Option<String>,
    /// How long an object may take to become ready, seconds.
    pub timeout_s: u64,
    /// Its objects, in the order of their keys.
    pub objects: Vec<ReleaseObject>,
    /// What was rendered for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rendered: Vec<ReleaseRendering>,
    /// The folder of files, in place of objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<Box<SharedFolder>>,
    /// The objects themselves; in wishes only.
    #[serde(skip)]
    pub manifests: ReleaseManifests,
    /// What was seen of it; in observations only.
    #[serde(skip)]
    pub seen: Option<Arc<ReleaseSeen>>,
}

/// Where a release is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReleasePlace {
    /// The cluster, as the host's config calls it.
    pub cluster: Name,
    /// The namespace of the list of what it has made.
    pub namespace: String,
    /// Its name in that namespace.
    pub name: String,
}

impl fmt::Display for ReleasePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} of {}", self.namespace, self.name, self.cluster)
    }
}

/// One object of a release, without what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReleaseObject {
    /// The version of its API, as `apps/v1`.
    pub version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace, where it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Digest of the whole of it (SHA-256, hex).
    pub digest: String,
}

/// What a program made of a chart or a kustomization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseRendering {
    /// What was rendered: the folder in the repository.
    pub of: String,
    /// The program, with its version and its digest.
    pub by: String,
    /// Digest of all objects that came of it.
    pub digest: Digest,
    /// Objects of it that are no part of the release, because they are hooks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// The objects of a release. They are shown to nobody: Secrets may be among them.
#[derive(Clone, Default, PartialEq)]
pub struct ReleaseManifests(pub Arc<Vec<Manifest>>);

impl fmt::Debug for ReleaseManifests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReleaseManifests({})", self.0.len())
    }
}

/// What a look at a release found.
#[derive(Clone, PartialEq)]
pub struct ReleaseSeen {
    /// What it was compared with: the objects with their namespaces.
    pub wish: Arc<Wish>,
    /// What is there.
    pub seen: Seen,
}

impl fmt::Debug for ReleaseSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wished, left) = (self.seen.objects.len(), self.seen.left.len());
        write!(f, "ReleaseSeen({wished} wished, {left} left)")
    }
}

impl Release {
    /// Leaves what is needed to find it again.
    pub fn strip_texts(&mut self) {
        self.objects.clear();
        if let Some(folder) = &mut self.folder {
            folder.files.clear();
        }
        self.strip_objects();
    }

    /// Takes out the objects themselves, and what was seen of them.
    pub fn strip_objects(&mut self) {
        self.manifests = ReleaseManifests::default();
        if let Some(folder) = &mut self.folder {
            folder.strip();
        }
        self.seen = None;
    }
}
