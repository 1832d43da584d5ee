//! `Release`: objects of a Kubernetes cluster that belong together, applied, followed and removed together.

use schemars::JsonSchema;
use serde::Deserialize;

/// Objects of a Kubernetes cluster that belong together: applied in order, waited for, watched for drift,
/// and removed once they are gone from the repository.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReleaseSpec {
    /// The cluster: the name of a `Cluster` of type `kubernetes`, or one that only the config of the host
    /// knows, by `clusters.NAME.kubeconfig`.
    pub cluster: String,
    /// The namespace of objects that name none, and of the list of what the release has made: `default`
    /// when not given.
    pub namespace: Option<String>,
    /// The objects: YAML files, or folders of them, by their path from this document. They lie in a folder
    /// called `manifests` of the environment or base, whose files are no documents of trueup.
    pub manifests: Vec<String>,
    /// Whether objects go that the files no longer have.
    #[serde(default = "yes")]
    pub prune: bool,
    /// How long Deployments and their like may take to become ready: `10m`, the default. What comes after
    /// them waits.
    pub timeout: Option<String>,
    /// Releases of the same cluster from which objects are taken over, as `namespace/name`: where objects
    /// move from one to another, they are kept.
    #[serde(default)]
    pub takes_from: Vec<String>,
    /// What happens where others own fields that the files say.
    #[serde(default)]
    pub conflicts: ReleaseConflicts,
}

fn yes() -> bool {
    true
}

/// What happens to fields that others own in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ReleaseConflicts {
    /// They are taken.
    #[default]
    Take,
    /// They hold the whole release.
    Refuse,
}
