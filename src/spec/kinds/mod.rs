//! The kinds of documents a user writes, one file each, and what all documents have in common.
//!
//! The doc comments of these types are the descriptions in the JSON Schemas. Types check shape only;
//! what a value means is checked where it is resolved, so that every mistake of a document is found.

pub mod backup;
pub mod cluster;
pub mod cluster_kubernetes;
pub mod cluster_machine;
pub mod disk;
pub mod environment;
pub mod gpu;
pub mod image;
pub mod machine;
pub mod network;
pub mod policy;
pub mod release;
pub mod repository;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::SelfHeal;
use crate::model::Kind;

pub use backup::BackupSpec;
pub use cluster::ClusterSpec;
pub use disk::DiskSpec;
pub use environment::EnvironmentSpec;
pub use gpu::GpuLayoutSpec;
pub use image::ImageSpec;
pub use machine::MachineSpec;
pub use network::NetworkSpec;
pub use policy::PolicySpec;
pub use release::ReleaseSpec;
pub use repository::RepositorySpec;

/// The only version of the document format.
pub const API_VERSION: &str = "trueup/v1";

/// The kind of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DocKind {
    /// Environments of a repository.
    Repository,
    /// Settings of an environment.
    Environment,
    /// A libvirt network.
    Network,
    /// A golden image.
    Image,
    /// A disk.
    Disk,
    /// How a GPU is cut.
    GpuLayout,
    /// A virtual machine.
    VirtualMachine,
    /// A series of snapshots.
    Backup,
    /// A cluster.
    Cluster,
    /// Objects of a Kubernetes cluster.
    Release,
    /// How rules apply to an environment.
    Policy,
}

impl DocKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Repository,
        Self::Environment,
        Self::Network,
        Self::Image,
        Self::Disk,
        Self::GpuLayout,
        Self::VirtualMachine,
        Self::Backup,
        Self::Cluster,
        Self::Release,
        Self::Policy,
    ];

    /// The word after `kind:`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Repository => "Repository",
            Self::Environment => "Environment",
            Self::Network => "Network",
            Self::Image => "Image",
            Self::Disk => "Disk",
            Self::GpuLayout => "GpuLayout",
            Self::VirtualMachine => "VirtualMachine",
            Self::Backup => "Backup",
            Self::Cluster => "Cluster",
            Self::Release => "Release",
            Self::Policy => "Policy",
        }
    }

    /// The kind that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.word() == word)
    }

    /// The primitive kind it becomes; `None` for documents that hold settings.
    pub fn primitive(self) -> Option<Kind> {
        match self {
            Self::Repository | Self::Environment | Self::Policy => None,
            Self::Network => Some(Kind::Network),
            Self::Image => Some(Kind::Image),
            Self::Disk => Some(Kind::Disk),
            Self::GpuLayout => Some(Kind::GpuLayout),
            Self::VirtualMachine => Some(Kind::VirtualMachine),
            Self::Backup => Some(Kind::Backup),
            Self::Cluster => Some(Kind::Cluster),
            Self::Release => Some(Kind::Release),
        }
    }
}

/// One document as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document<S> {
    /// Version of the document format.
    pub api_version: String,
    /// What the document describes.
    pub kind: String,
    /// Name, labels and annotations.
    pub metadata: Metadata,
    /// What it has to be.
    pub spec: S,
    /// How it may be created, changed and destroyed.
    #[serde(default)]
    pub lifecycle: LifecycleSpec,
    /// Resources that have to be there and ready first, as `kind/name`: `vm/db`. References in the
    /// spec need not be repeated here.
    #[serde(default)]
    pub depends_on: Vec<String>,
}

/// Name, labels and annotations.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Unique within its kind: 1 to 63 of a-z, 0-9 and `-`, no dash at either end.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub name: String,
    /// Free keys and values; the environment's labels are added to them.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Free keys and values for people and tools; trueup ignores them.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// How a resource may be created, changed and destroyed.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LifecycleSpec {
    /// Never destroy or replace it, whatever a commit says.
    pub prevent_destroy: bool,
    /// Take over an existing object of this name that trueup did not make.
    pub adopt: bool,
    /// Field paths in which a difference is neither planned nor drift: `/memory/current`.
    pub ignore_differences: Vec<String>,
    /// What happens on drift; the environment's setting when not given.
    pub self_heal: Option<SelfHeal>,
    /// Once it is gone from the commit, keep it on the machine, unmanaged.
    pub orphan: bool,
}

/// A typed document.
#[derive(Debug, Clone, PartialEq)]
pub struct Doc {
    /// Name, labels and annotations.
    pub metadata: Metadata,
    /// How it may be created, changed and destroyed.
    pub lifecycle: LifecycleSpec,
    /// What has to be there first.
    pub depends_on: Vec<String>,
    /// What it has to be.
    pub spec: Spec,
}

/// The spec of a document.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// Environments of a repository.
    Repository(RepositorySpec),
    /// Settings of an environment.
    Environment(Box<EnvironmentSpec>),
    /// A network.
    Network(Box<NetworkSpec>),
    /// A golden image.
    Image(Box<ImageSpec>),
    /// A disk.
    Disk(DiskSpec),
    /// How a GPU is cut.
    GpuLayout(Box<GpuLayoutSpec>),
    /// A virtual machine.
    VirtualMachine(Box<MachineSpec>),
    /// A series of snapshots.
    Backup(Box<BackupSpec>),
    /// A cluster.
    Cluster(Box<ClusterSpec>),
    /// Objects of a Kubernetes cluster.
    Release(Box<ReleaseSpec>),
    /// How rules apply to an environment.
    Policy(PolicySpec),
}

impl Doc {
    /// Types `value`, which says it is a `kind`.
    ///
    /// # Errors
    /// The first mismatch only: the schema tells all of them.
    pub fn typed(kind: DocKind, value: Value) -> Result<Self, serde_json::Error> {
        match kind {
            DocKind::Repository => Self::read(value, Spec::Repository),
            DocKind::Environment => Self::read(value, |s| Spec::Environment(Box::new(s))),
            DocKind::Network => Self::read(value, |s| Spec::Network(Box::new(s))),
            DocKind::Image => Self::read(value, |s| Spec::Image(Box::new(s))),
            DocKind::Disk => Self::read(value, Spec::Disk),
            DocKind::GpuLayout => Self::read(value, |s| Spec::GpuLayout(Box::new(s))),
            DocKind::VirtualMachine => Self::read(value, |s| Spec::VirtualMachine(Box::new(s))),
            DocKind::Backup => Self::read(value, |s| Spec::Backup(Box::new(s))),
            DocKind::Cluster => Self::read(value, |s| Spec::Cluster(Box::new(s))),
            DocKind::Release => Self::read(value, |s| Spec::Release(Box::new(s))),
            DocKind::Policy => Self::read(value, Spec::Policy),
        }
    }

    fn read<S: for<'de> Deserialize<'de>>(
        value: Value,
        wrap: impl FnOnce(S) -> Spec,
    ) -> Result<Self, serde_json::Error> {
        let document: Document<S> = serde_json::from_value(value)?;
        Ok(Self {
            metadata: document.metadata,
            lifecycle: document.lifecycle,
            depends_on: document.depends_on,
            spec: wrap(document.spec),
        })
    }

    /// Its kind.
    pub fn kind(&self) -> DocKind {
        match self.spec {
            Spec::Repository(_) => DocKind::Repository,
            Spec::Environment(_) => DocKind::Environment,
            Spec::Network(_) => DocKind::Network,
            Spec::Image(_) => DocKind::Image,
            Spec::Disk(_) => DocKind::Disk,
            Spec::GpuLayout(_) => DocKind::GpuLayout,
            Spec::VirtualMachine(_) => DocKind::VirtualMachine,
            Spec::Backup(_) => DocKind::Backup,
            Spec::Cluster(_) => DocKind::Cluster,
            Spec::Release(_) => DocKind::Release,
            Spec::Policy(_) => DocKind::Policy,
        }
    }
}
