//! `Release`: what belongs together in a cluster, applied, followed and removed together: objects of
//! Kubernetes, or a folder of files that a Slurm cluster shares.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// What belongs together in a cluster: applied in order, waited for, watched for drift, and removed once it
/// is gone from the repository. `manifests`, `helm` and `kustomize` are for Kubernetes, `folder` is for
/// Slurm.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReleaseSpec {
    /// The cluster: the name of a `Cluster`, or one of Kubernetes that only the config of the host knows,
    /// by `clusters.NAME.kubeconfig`.
    pub cluster: String,
    /// The namespace of objects that name none, and of the list of what the release has made: `default`
    /// when not given.
    pub namespace: Option<String>,
    /// The objects: YAML files, or folders of them, by their path from this document. They lie in a folder
    /// called `manifests` of the environment or base, whose files are no documents of trueup.
    #[serde(default)]
    pub manifests: Vec<String>,
    /// Objects that `helm template` renders from a chart in the repository.
    pub helm: Option<HelmSpec>,
    /// Objects that `kustomize build` renders: a folder with a `kustomization.yaml`, by its path from this
    /// document, in a folder called `manifests`. What it refers to lies there too.
    pub kustomize: Option<String>,
    /// A folder of files on the shared file system of a Slurm cluster.
    pub folder: Option<FolderSpec>,
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
    /// The host that has kept this release until now, by its name: it is taken over from there. A release
    /// that another host keeps is not touched otherwise.
    pub takes_over_from: Option<String>,
    /// What happens where others own fields that the files say.
    #[serde(default)]
    pub conflicts: ReleaseConflicts,
}

fn yes() -> bool {
    true
}

/// A chart of Helm, and how it is rendered. Which program does it is for the host's config to say
/// (`programs.helm`).
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HelmSpec {
    /// The folder of the chart, by its path from this document, in a folder called `manifests`. What it
    /// depends on lies in its folder `charts`; nothing is fetched.
    pub chart: String,
    /// Files of values, by their path from this document; later ones win. They lie in the chart's folder, or
    /// are called `values.yaml`, `values-….yaml` or `….values.yaml`.
    #[serde(default)]
    pub values: Vec<String>,
    /// Values that win over all files.
    #[serde(default)]
    pub set: BTreeMap<String, Value>,
    /// The name that the chart is told; that of the document when not given.
    pub release_name: Option<String>,
    /// Whether the definitions of its folder `crds` are part of it.
    #[serde(default = "yes")]
    pub include_crds: bool,
    /// The version of Kubernetes that the chart is told, as `1.33`; the program's own when not given.
    pub kube_version: Option<String>,
    /// Versions of APIs that the chart is told to be there, as `monitoring.coreos.com/v1`.
    #[serde(default)]
    pub api_versions: Vec<String>,
    /// What becomes of objects that Helm would run around an install or an upgrade: no hook is ever run
    /// here. Tests are always left out.
    #[serde(default)]
    pub hooks: HelmHooks,
}

/// What becomes of a chart's hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum HelmHooks {
    /// They are a mistake, so that nobody relies on what is not run.
    #[default]
    Refuse,
    /// They are left out.
    LeaveOut,
}

/// A folder of files on a shared file system: all of it is exchanged at once.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FolderSpec {
    /// The files: a folder, by its path from this document, in a folder called `files` of the environment
    /// or base.
    pub from: String,
    /// Where it is seen: the whole path, below a folder that the host's config allows for this cluster
    /// (`clusters.NAME.shared`). It becomes a link to the version in force.
    pub to: String,
    /// How many versions stay, the one in force among them: what was begun with one goes on with it.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 50))]
    pub keep: u32,
    /// Who may read it.
    #[serde(default)]
    pub readers: FolderReaders,
    /// The group that it belongs to, by its name on the host; root's when not given.
    pub group: Option<String>,
}

fn two() -> u32 {
    2
}

/// Who may read a shared folder. Nobody but root changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FolderReaders {
    /// Everybody.
    #[default]
    All,
    /// Its group.
    Group,
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
