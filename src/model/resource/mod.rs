//! The canonical form of every primitive resource.
//!
//! Desired state is resolved into these types and observed state is parsed into them, so a plan
//! compares like with like. An `Option` that is `None` in a desired resource means "not owned": the
//! spec says nothing, so whatever the machine has is right. Lists are complete and sorted by the
//! identity of their items (target device, MAC, address), so that order is never a difference.

mod backup;
mod cluster;
mod domain;
mod gpu;
mod gpu_seen;
mod gpu_stop;
mod handover;
mod kubernetes;
mod network;
mod release;
mod share;
mod shared_folder;
mod volume;
mod way_back;

use serde::{Deserialize, Serialize};

pub use backup::{
    Backup, BackupBoot, BackupCommand, BackupDefinition, BackupDrill, BackupGuest, BackupHook,
    BackupHooks, BackupLimits, BackupPaths, BackupPostgresql, BackupRemote, BackupRetention,
    BackupSource, BackupVerify, BootNetwork, Chore, GuestPart, PostgresqlFormat,
};
pub use cluster::{
    Cluster, MachineSeen, NodeStep, SlurmBuilt, SlurmCluster, SlurmPlace, SlurmSeen, StateFolder,
};
pub use domain::{
    Accelerator, Boot, CpuMode, Cpus, DiskAttachment, DiskBus, DiskDevice, Firmware, GpuUse,
    HostDevice, Memory, Nic, NicSource, Power, Probe, Readiness, SnapshotPolicy, StopPolicy,
    Topology, VirtualMachine,
};
pub use gpu::{
    GpuClient, GpuLayout, GpuMatch, GpuMemory, GpuMigState, GpuMode, GpuProfile, GpuState,
    GpuSwitch, OnBusy, Partition,
};
pub use gpu_seen::{GpuSeen, SeenPart};
pub use gpu_stop::mark_stoppable;
pub use handover::{GpuGuest, GpuHandover, GpuKernel};
pub use kubernetes::{
    KubeconfigRule, KubernetesBuilt, KubernetesCluster, KubernetesData, KubernetesLost,
    KubernetesMachine, KubernetesMachineSeen, KubernetesNodeStep, KubernetesPool, KubernetesSeen,
};
pub use network::{
    AddressRange, Dhcp, DhcpHost, DnsRecord, Network, NetworkAddress, NetworkDomain, NetworkMode,
};
pub use release::{
    Release, ReleaseManifests, ReleaseObject, ReleasePlace, ReleaseRendering, ReleaseSeen,
};
pub use share::{GpuShare, Vgpu, VgpuClaim};
pub use shared_folder::{SharedContent, SharedDifference, SharedFile, SharedFolder, SharedSeen};
pub use volume::{
    BUILD_RECIPE, Backing, BootFiles, BuildFile, BuildSpec, BuildUser, Disk, Image, ImageOrigin,
    OnImageChange, Seed, StoragePool, VolumeFormat,
};
pub use way_back::WayBack;

use super::Kind;

/// A primitive resource in canonical form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", content = "spec", rename_all = "camelCase")]
pub enum Resource {
    /// A storage pool.
    StoragePool(StoragePool),
    /// A network.
    Network(Network),
    /// A golden image.
    Image(Image),
    /// A disk.
    Disk(Disk),
    /// cloud-init media.
    Seed(Seed),
    /// How a GPU is cut.
    GpuLayout(Box<GpuLayout>),
    /// A domain.
    VirtualMachine(Box<VirtualMachine>),
    /// A series of snapshots.
    Backup(Box<Backup>),
    /// A cluster.
    Cluster(Box<Cluster>),
    /// Objects of a Kubernetes cluster that belong together.
    Release(Box<Release>),
}

impl Resource {
    /// The kind of this resource.
    pub fn kind(&self) -> Kind {
        match self {
            Self::StoragePool(_) => Kind::StoragePool,
            Self::Network(_) => Kind::Network,
            Self::Image(_) => Kind::Image,
            Self::Disk(_) => Kind::Disk,
            Self::Seed(_) => Kind::Seed,
            Self::GpuLayout(_) => Kind::GpuLayout,
            Self::VirtualMachine(_) => Kind::VirtualMachine,
            Self::Backup(_) => Kind::Backup,
            Self::Cluster(_) => Kind::Cluster,
            Self::Release(_) => Kind::Release,
        }
    }
}
