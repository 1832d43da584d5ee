//! What the steps of a plan are called, and which of them read or take away. Nothing is decided here.

use std::collections::BTreeSet;

use trueup_kubernetes::release::Step as ReleaseStep;

use super::gpu::GpuSide;
use super::types::Action;
use crate::model::ResourceId;
use crate::model::resource::{KubernetesNodeStep, NodeStep};

impl Action {
    /// The verb of taking a snapshot: by it the log knows that one failed.
    pub const BACKUP_RUN: &'static str = "back up";
    /// The verb of checking a repository.
    pub const BACKUP_VERIFY: &'static str = "verify";
    /// The verb of restoring a snapshot to prove that it can be.
    pub const BACKUP_DRILL: &'static str = "drill";
    /// The verb of removing snapshots.
    pub const BACKUP_FORGET: &'static str = "forget";

    /// The verb of taking a snapshot inside the disks of a domain.
    pub const VM_SNAPSHOT: &'static str = "snapshot";
    /// The verb of removing one.
    pub const VM_FORGET: &'static str = "forget";
    /// The fact of both: what libvirt calls the snapshot.
    pub const VM_SNAPSHOT_FACT: &'static str = "snapshot";

    /// The verb of the proof at the end of a change of a GPU, in the log.
    pub const GPU_SETTLE: &'static str = "settle";

    /// The verb shown to people.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::PoolDefine { .. } | Self::NetworkDefine { .. } | Self::VmDefine { .. } => {
                "define"
            }
            Self::PoolStart | Self::NetworkStart { .. } | Self::VmStart => "start",
            Self::NetworkStop | Self::VmStop { .. } | Self::GpuStopClients { .. } => "stop",
            Self::PoolUndefine | Self::NetworkUndefine | Self::VmUndefine => "undefine",
            Self::NetworkUpdateLive { .. } | Self::VmUpdateLive { .. } => "update",
            Self::ImageCreate { .. } | Self::DiskCreate { .. } | Self::SeedCreate { .. } => {
                "create"
            }
            Self::ImageDelete { .. } | Self::DiskDelete { .. } | Self::SeedDelete { .. } => {
                "delete"
            }
            Self::DiskGrow { .. } => "grow",
            Self::GpuMigMode { .. } => "switch",
            Self::GpuDestroyCompute { .. } | Self::GpuDestroyInstance { .. } => "destroy",
            Self::GpuCreateInstance { .. } | Self::GpuCreateCompute { .. } => "create",
            Self::GpuHandover { to: GpuSide::Guests, .. } => "give",
            Self::GpuHandover { to: GpuSide::Host, .. } => "take",
            Self::GpuSettle { .. } => Self::GPU_SETTLE,
            Self::VmSnapshot { .. } => Self::VM_SNAPSHOT,
            Self::VmForget { .. } => Self::VM_FORGET,
            Self::VmPause => "pause",
            Self::VmAwaitReady { .. } => "await",
            Self::BackupOpen { .. } => "open",
            Self::BackupRun { .. } => Self::BACKUP_RUN,
            Self::BackupClear { .. } => "clear",
            Self::BackupVerify { .. } => Self::BACKUP_VERIFY,
            Self::BackupDrill { .. } => Self::BACKUP_DRILL,
            Self::BackupForget { .. } => Self::BACKUP_FORGET,
            Self::ClusterAdopt { .. } => "take over",
            Self::ClusterRecover { .. } => "recover",
            Self::ClusterPrepare { .. } => "prepare",
            Self::ClusterDatabase { .. } => "database",
            Self::ClusterCopy { .. } => "copy",
            Self::ClusterFirewall { .. } => "firewall",
            Self::ClusterProve { .. } => "prove",
            Self::ClusterConfigure { .. } => "configure",
            Self::ClusterReconfigure { .. } => "reconfigure",
            Self::ClusterNode { step, .. } => step.verb(),
            Self::ClusterAccount { .. } => "account",
            Self::KubernetesAdopt => "take over",
            Self::KubernetesPrepare { .. } => "prepare",
            Self::KubernetesInit { again: false, .. } => "init",
            Self::KubernetesInit { again: true, .. } => "read",
            Self::KubernetesRestore { .. } => "restore",
            Self::KubernetesConnect { .. } => "connect",
            Self::KubernetesRenew { .. } => "renew",
            Self::KubernetesNode { step, .. } => step.verb(),
            Self::KubernetesNamespace { step } => release_verb(step),
            Self::KubernetesAccess { .. } => "take back",
            Self::Release { step, .. } => release_verb(step),
        }
    }

    /// What a snapshot is taken before, where it is the way back from something.
    pub fn way_back_for(&self) -> Option<&BTreeSet<ResourceId>> {
        match self {
            Self::BackupRun { before: Some(before), .. } => Some(&before.of),
            _ => None,
        }
    }

    /// Whether it only waits: ending it at any moment leaves nothing half-done.
    pub fn only_waits(&self) -> bool {
        match self {
            Self::ClusterNode { step, .. } => {
                matches!(step, NodeStep::Wait { .. } | NodeStep::Check)
            }
            // A pod that was asked to go goes, and those that were not asked stay where they are.
            Self::KubernetesNode { step, .. } => {
                use KubernetesNodeStep::{Check, Drain};
                matches!(step, Drain { .. } | Check { .. })
            }
            Self::KubernetesNamespace { step } => {
                matches!(step, ReleaseStep::AwaitReady { .. } | ReleaseStep::AwaitGone { .. })
            }
            Self::Release { step, .. } => {
                matches!(**step, ReleaseStep::AwaitReady { .. } | ReleaseStep::AwaitGone { .. })
            }
            _ => false,
        }
    }

    /// Whether after it the resource (or a file of it) is no longer there.
    pub fn removes(&self) -> bool {
        if let Self::Release { step, .. } = self {
            return **step == ReleaseStep::Forget;
        }
        matches!(
            self,
            Self::PoolUndefine
                | Self::NetworkUndefine
                | Self::ImageDelete { .. }
                | Self::DiskDelete { .. }
                | Self::SeedDelete { .. }
                | Self::VmUndefine
        )
    }
}

/// What a step of a release is called.
fn release_verb(step: &ReleaseStep) -> &'static str {
    match step {
        ReleaseStep::Apply { .. } => "apply",
        ReleaseStep::AwaitReady { .. } | ReleaseStep::AwaitGone { .. } => "wait",
        ReleaseStep::Record { .. } => "record",
        ReleaseStep::Delete { .. } => "delete",
        ReleaseStep::Forget => "remove",
    }
}
