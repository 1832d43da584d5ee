//! What a plan is: ordered steps, each with its reason, and what is not done and why.
//!
//! A plan leaves no choice to the hand that performs it: every id, path and value is in it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trueup_kubernetes::release::Step as ReleaseStep;
use uuid::Uuid;

use super::gpu::{GpuChange, GpuPart, GpuPicture, GpuSide};
use crate::model::backup::Before;
use crate::model::resource::{
    Backup, Disk, Image, KubernetesBuilt, KubernetesNodeStep, Network, Nic, NodeStep, Readiness,
    ReleasePlace, Seed, SlurmPlace, StateFolder, StopPolicy, StoragePool, VirtualMachine,
};
use crate::model::{CommitId, Digest, Name, ResourceId, digest_of};

/// What has to be done, in order, to make the machine what the commit asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The commit it leads to.
    pub commit: CommitId,
    /// The environment.
    pub environment: Name,
    /// Steps, in an order in which they may run one by one.
    pub steps: Vec<Step>,
    /// Differences that are left alone, and why.
    pub skipped: Vec<Skipped>,
    /// GPUs whose cut changes, or would, before and after. Only shown: not part of the digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pictures: Vec<GpuPicture>,
    /// What is worth knowing of resources that are as they should be. Only shown: not part of the
    /// digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// Something worth knowing of a resource that is as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Note {
    /// What it is about.
    pub resource: ResourceId,
    /// What is worth knowing.
    pub what: Remark,
}

/// What is worth knowing of a resource although nothing is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum Remark {
    /// The guest is emulated, KVM works here by now, and its spec leaves the choice
    /// (`accelerator: auto`), for which nobody is restarted.
    EmulatedThoughKvmWorks,
    /// The guest is emulated because KVM does not work here, and its spec leaves the choice.
    EmulatedWithoutKvm,
    /// The driver calls a profile of a GPU otherwise than the commit does, and than it did when the
    /// GPU was cut. What stands is what was asked for.
    ProfileRenamed,
    /// A certificate by which a cluster is reached ends soon, or has ended.
    CertificateEnds,
}

impl Remark {
    /// Whether somebody can do something about it in the repository.
    #[must_use]
    pub fn asks_for_a_choice(self) -> bool {
        matches!(self, Self::EmulatedThoughKvmWorks | Self::ProfileRenamed)
    }
}

/// Place of a step in its plan, from 0.
pub type StepIndex = usize;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What it is done to.
    pub resource: ResourceId,
    /// What is done.
    pub action: Action,
    /// How much it disturbs.
    pub disruption: Disruption,
    /// Why it is done.
    pub reason: Reason,
    /// The fields that differ.
    pub changes: Vec<FieldChange>,
    /// Steps that must have succeeded before, by their place.
    pub after: BTreeSet<StepIndex>,
    /// Resources it interrupts, itself and its dependants; empty where it interrupts nothing.
    pub interrupts: BTreeSet<ResourceId>,
}

/// How much a change disturbs; later ones are worse.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Disruption {
    /// Nobody notices.
    None,
    /// Visible, without an interruption.
    Live,
    /// Something running is interrupted.
    Restart,
    /// Something is destroyed and made anew; its data is lost.
    Replace,
    /// Something is destroyed.
    Destroy,
}

/// Why a step is in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// The commit asks for it and it is not there.
    Missing,
    /// The commit asks for something else than the machine has.
    Changed,
    /// The machine no longer is what trueup made it.
    Drifted,
    /// The commit no longer asks for it.
    Gone,
    /// An existing object is taken over, as its `lifecycle.adopt` says.
    Adopted,
    /// Another step needs it.
    Needed,
    /// Its time has come, as its schedule or an operator says.
    Due,
}

/// A difference in one field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FieldChange {
    /// Where, as a path into the canonical resource: `/memory/current`.
    pub path: String,
    /// What the machine has; `None`: nothing.
    pub from: Option<Value>,
    /// What the commit asks for; `None`: nothing.
    pub to: Option<Value>,
    /// How much changing it disturbs.
    pub disruption: Disruption,
}

/// A difference that is left alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Skipped {
    /// What it is about.
    pub resource: ResourceId,
    /// Why nothing is done.
    pub why: SkipReason,
    /// The differences left, where they are known.
    pub changes: Vec<FieldChange>,
}

/// Why a difference is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum SkipReason {
    /// It could not be observed.
    Unobservable(String),
    /// It is not ours, and its spec does not say `adopt: true`.
    Foreign,
    /// trueup made it for another environment; `formerly` in the `Environment` takes it over.
    OtherEnvironment(Name),
    /// trueup itself needs it.
    OwnNeed(String),
    /// Something it depends on is not there and cannot be made.
    Blocked(ResourceId),
    /// `lifecycle.preventDestroy` forbids it.
    PreventDestroy,
    /// `prune: false`, or the environment could not be read whole.
    PruneOff,
    /// `selfHeal: report`.
    ReportOnly,
    /// The disk keeps the image it was made from (`onImageChange: keep`).
    ImageKept,
    /// It would shrink a disk.
    ShrinkRefused,
    /// Something that is not ours still uses it.
    InUse(String),
    /// It cannot be changed in place and nothing may be destroyed for it.
    Immutable(String),
    /// Somebody uses what would have to go, and has to see to it.
    Busy(String),
    /// Somebody uses what would have to go; it is done once that is free.
    BusyWaits(String),
    /// It takes effect only with a reset of the device or a reboot.
    NeedsReset(String),
    /// It does not fit on the device, or the device does not have it.
    Unplaceable(String),
    /// It overlaps with something of the host.
    Conflict(String),
    /// A running domain keeps its old configuration until it is restarted by somebody.
    RestartNeeded,
    /// An earlier failure waits for its next try.
    BackingOff,
    /// It is paused or held by an operator.
    Paused,
    /// A step on it, or one that comes before it in a plan under way, has not ended yet.
    InProgress,
    /// It is gone from the commit and stays on the machine, unmanaged (`lifecycle.orphan`).
    Orphaned,
    /// A backup does not keep what is promised, and no step alone mends it.
    Unprotected(String),
    /// What it interrupts or destroys has to be saved first, and cannot be now.
    Unsaved(String),
    /// It is otherwise than asked, and nothing that trueup does mends it.
    Unlike(String),
}

/// What a step does. Each action can be repeated safely: doing it twice is doing it once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum Action {
    /// Defines or redefines the pool, makes its directory, starts it.
    PoolDefine {
        /// What it has to be.
        pool: StoragePool,
        /// Its UUID.
        #[schemars(with = "String")]
        uuid: Uuid,
    },
    /// Starts a pool that is defined.
    PoolStart,
    /// Stops and undefines a pool; its directory and files stay.
    PoolUndefine,
    /// Defines or redefines a network and marks it as ours; what runs is not touched.
    NetworkDefine {
        /// What it has to be.
        network: Network,
        /// Its UUID.
        #[schemars(with = "String")]
        uuid: Uuid,
    },
    /// Changes fixed leases and DNS records of a running network without a restart.
    NetworkUpdateLive {
        /// What it has to be.
        network: Network,
    },
    /// Starts a network, and plugs the running domains named back into it.
    NetworkStart {
        /// Domains whose interfaces are plugged in again.
        reconnect: Vec<Name>,
    },
    /// Stops a network; domains on it lose their link.
    NetworkStop,
    /// Undefines a stopped network.
    NetworkUndefine,
    /// Fetches or builds an image, verifies it, and puts it in its place.
    ImageCreate {
        /// What it has to be.
        image: Image,
    },
    /// Deletes one file of an image.
    ImageDelete {
        /// Absolute path.
        path: String,
    },
    /// Makes a disk.
    DiskCreate {
        /// What it has to be.
        disk: Disk,
    },
    /// Grows a disk, live where a running domain has it.
    DiskGrow {
        /// Absolute path of its file.
        path: String,
        /// Its pool.
        pool: Name,
        /// New virtual size in bytes.
        size: u64,
        /// The running domain that has it and the target device it has there.
        live: Option<(Name, String)>,
    },
    /// Deletes a disk and its data.
    DiskDelete {
        /// Its pool.
        pool: Name,
        /// Absolute path.
        path: String,
    },
    /// Writes cloud-init media.
    SeedCreate {
        /// What it has to be.
        seed: Seed,
    },
    /// Deletes one file of cloud-init media.
    SeedDelete {
        /// Absolute path.
        path: String,
    },
    /// Stops the clients of a GPU that are declared in its layout, for the steps that follow.
    GpuStopClients {
        /// The change; its memory names the units.
        change: Box<GpuChange>,
    },
    /// Makes a GPU one that is cut, or a whole one.
    GpuMigMode {
        /// Whether it is cut afterwards.
        on: bool,
        /// Whether the GPU may be reset for it.
        reset: bool,
        /// The change.
        change: Box<GpuChange>,
    },
    /// Destroys a compute instance that nobody uses.
    GpuDestroyCompute {
        /// Which.
        part: GpuPart,
        /// The change.
        change: Box<GpuChange>,
    },
    /// Destroys an empty GPU instance.
    GpuDestroyInstance {
        /// Which.
        part: GpuPart,
        /// The change.
        change: Box<GpuChange>,
    },
    /// Makes a GPU instance at its place.
    GpuCreateInstance {
        /// Which.
        part: GpuPart,
        /// The change.
        change: Box<GpuChange>,
    },
    /// Makes a compute instance in a GPU instance.
    GpuCreateCompute {
        /// Which.
        part: GpuPart,
        /// The change.
        change: Box<GpuChange>,
    },
    /// One write, command or wait at the kernel's files that brings a GPU nearer to a guest or to the
    /// host.
    GpuHandover {
        /// Who it is for.
        to: GpuSide,
        /// What is done, and what must be true before and after it.
        #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
        step: Box<trueup_gpu_sysfs::Step>,
        /// The change.
        change: Box<GpuChange>,
    },
    /// Proves that the GPU is as planned, tells containers of its devices, and starts clients.
    GpuSettle {
        /// Units to start.
        start: Vec<String>,
        /// The change.
        change: Box<GpuChange>,
    },
    /// Defines or redefines a domain and marks it as ours; what runs is not touched.
    VmDefine {
        /// What it has to be.
        vm: Box<VirtualMachine>,
        /// Its UUID.
        #[schemars(with = "String")]
        uuid: Uuid,
    },
    /// Changes a running domain without interrupting it; its configuration was changed before.
    VmUpdateLive {
        /// The changes, in order.
        changes: Vec<LiveChange>,
    },
    /// Takes a snapshot of the domain's disks under this name, replacing an older one of ours.
    VmSnapshot {
        /// Name of the snapshot.
        name: String,
    },
    /// Removes a snapshot of the domain's disks that was taken before a change which has been good for
    /// long enough.
    VmForget {
        /// Name of the snapshot.
        name: String,
    },
    /// Starts a domain, or resumes a paused one.
    VmStart,
    /// Pauses a domain.
    VmPause,
    /// Stops a domain: gracefully first, harder only as the policy says.
    VmStop {
        /// How.
        policy: StopPolicy,
    },
    /// Waits until the guest proves that it is up.
    VmAwaitReady {
        /// The proof.
        readiness: Readiness,
        /// The console file, for a proof on the console.
        console_log: Option<String>,
    },
    /// Undefines a stopped domain; its disks stay.
    VmUndefine,
    /// Makes the repository of a backup, or proves that the one that is there opens with its key.
    BackupOpen {
        /// What it has to be.
        backup: Box<Backup>,
    },
    /// Takes a snapshot.
    BackupRun {
        /// Of what, and where to.
        backup: Box<Backup>,
        /// The id that the repository has to have; `None`: not known yet.
        repository: Option<String>,
        /// Since when it is due; `None`: for the first time, or because an operator asks.
        #[schemars(with = "Option<String>")]
        due: Option<Timestamp>,
        /// What it is taken before, as the way back; `None`: nothing, it is due.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Before>,
    },
    /// Takes away what a backup left in guests when it was interrupted, or has there although
    /// nothing needs it any more: jobs, files and marks of ours.
    BackupClear {
        /// The guests.
        guests: Vec<String>,
        /// Whether nothing of it is needed any more; otherwise the mark that its next run needs
        /// stays.
        wholly: bool,
    },
    /// Checks a repository, and reads its data as far as asked.
    BackupVerify {
        /// Whose repository.
        backup: Box<Backup>,
        /// The id that the repository has to have.
        repository: Option<String>,
        /// Which part of the data is read; `None`: none.
        part: Option<u32>,
        /// The newest snapshot, which has to be there; `None`: there is none.
        snapshot: Option<String>,
        /// The last complete one where that is another, which has to be there too: it is what was proved.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        good: Option<String>,
        /// Whether it comes before its time because somebody else removed things.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        foreign: bool,
        /// Since when it is due.
        #[schemars(with = "Option<String>")]
        due: Option<Timestamp>,
    },
    /// Restores a snapshot into a scratch folder, compares it with what it should be, and removes it
    /// again.
    BackupDrill {
        /// Whose snapshot.
        backup: Box<Backup>,
        /// The id that the repository has to have.
        repository: Option<String>,
        /// The snapshot: the last complete one.
        snapshot: String,
        /// Since when it is due; `None`: for the first time, or because an operator asks.
        #[schemars(with = "Option<String>")]
        due: Option<Timestamp>,
    },
    /// Removes the snapshots that nothing keeps, with the data that nothing else needs.
    BackupForget {
        /// Whose snapshots.
        backup: Box<Backup>,
        /// The id that the repository has to have.
        repository: Option<String>,
        /// Snapshots that stay, whatever the retention says: the ways back from changes.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pinned: Vec<String>,
        /// Snapshots that were such and are not any more.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        released: Vec<String>,
        /// Since when it is due.
        #[schemars(with = "Option<String>")]
        due: Option<Timestamp>,
    },
    /// Takes over a cluster that is there: its controller has to answer, and nothing is changed.
    ClusterAdopt {
        /// Where it is.
        place: SlurmPlace,
        /// What it has to call itself.
        name: String,
    },
    /// Ends an exchange of a cluster's files that was cut off: the files before it come back.
    ClusterRecover {
        /// Where it is.
        place: SlurmPlace,
    },
    /// Gives machines that trueup made for a cluster its munge key, and sets up their services.
    ClusterPrepare {
        /// Where it is.
        place: SlurmPlace,
        /// The virtual machines, by their name in the cluster.
        machines: BTreeMap<String, Name>,
        /// The number of the key; the key itself is in no plan.
        key: u32,
        /// A folder that the backup controller has to see as the first one does, where there is a backup.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shared: Option<StateFolder>,
    },
    /// Sets up the accounting database of a cluster that trueup makes, and makes the cluster known to it.
    ClusterDatabase {
        /// Where the cluster is.
        place: SlurmPlace,
        /// The machine of the database, by its name in the cluster.
        machine: String,
        /// The virtual machine.
        guest: Name,
        /// Whether the database is on a disk of its own.
        disk: bool,
        /// `slurmdbd.conf`, in which there is no password: there is none.
        conf: String,
        /// What MariaDB is told.
        statements: String,
        /// The name of the cluster.
        cluster: String,
        /// The `slurm.conf` with which slurmdbd is asked.
        client: String,
    },
    /// Gives machines the files that the controller has: a backup controller and login machines.
    ClusterCopy {
        /// Where the cluster is.
        place: SlurmPlace,
        /// The virtual machines, by their name in the cluster.
        machines: BTreeMap<String, Name>,
        /// Those of them that run a controller with these files.
        controllers: Vec<String>,
    },
    /// Puts firewall rules of machines into force, or takes trueup's away.
    ClusterFirewall {
        /// Where the cluster is.
        place: SlurmPlace,
        /// The virtual machines, by their name in the cluster.
        machines: BTreeMap<String, Name>,
        /// The rules of each; none: it is to have none.
        rules: BTreeMap<String, String>,
        /// Digest of the rules that all machines are to have in the end.
        wish: Digest,
    },
    /// Tries the files that a cluster is to have in the end, before anything of it is touched.
    ClusterProve {
        /// Where it is.
        place: SlurmPlace,
        /// The files, by name.
        files: BTreeMap<String, String>,
        /// Digest of the wish that they are of.
        wish: Digest,
    },
    /// Tries files and puts them into force; the old ones come back where the controller does not take
    /// them.
    ClusterConfigure {
        /// Where it is.
        place: SlurmPlace,
        /// The files, by name.
        files: BTreeMap<String, String>,
        /// How the controller is brought to read them.
        #[schemars(with = "String")]
        controller: trueup_slurm::plan::config::Action,
        /// The empty nodes that become as wished by it; none: what needs no empty node.
        nodes: Vec<String>,
        /// Digest of the wish that they lead to.
        wish: Digest,
    },
    /// Makes the controller read its files, because it no longer runs as they say.
    ClusterReconfigure {
        /// Where it is.
        place: SlurmPlace,
    },
    /// Does something with one node.
    ClusterNode {
        /// Where the cluster is.
        place: SlurmPlace,
        /// The node.
        node: String,
        /// What is done.
        step: NodeStep,
        /// The reason on the node that says that it is in our hands.
        #[schemars(with = "String")]
        token: trueup_slurm::plan::roll::Token,
    },
    /// Writes one difference of a cluster's accounts.
    ClusterAccount {
        /// Where it is.
        place: SlurmPlace,
        /// The arguments of `sacctmgr`.
        arguments: Vec<String>,
    },
    /// Takes over a Kubernetes cluster that is there: its API server has to answer, and nothing is changed.
    KubernetesAdopt,
    /// Sets machines that trueup made up to be nodes of a Kubernetes cluster.
    KubernetesPrepare {
        /// The virtual machines, by the names of their nodes.
        machines: BTreeMap<String, Name>,
        /// The node among them whose machine has what the cluster knows on a disk of its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data: Option<String>,
    },
    /// Makes a machine the control plane of a new Kubernetes cluster, and keeps the credentials for it in the
    /// state directory.
    KubernetesInit {
        /// What it is built of.
        cluster: Box<KubernetesBuilt>,
        /// Whether it is one already, and only the credentials that it has are kept again. Where it is none,
        /// nothing is made.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        again: bool,
    },
    /// Makes a machine that was made anew the control plane again, on what the cluster knows, which is on a disk of
    /// its own; by an image of the next release that is an upgrade.
    KubernetesRestore {
        /// What it is built of.
        cluster: Box<KubernetesBuilt>,
        /// The release of its API server before, where it is upgraded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
    },
    /// Connects pods of machines with those of all other nodes.
    KubernetesConnect {
        /// What the cluster is built of.
        cluster: Box<KubernetesBuilt>,
        /// The nodes.
        nodes: BTreeSet<String>,
    },
    /// Renews the certificates of a control plane, and the credentials that are kept.
    KubernetesRenew {
        /// Its virtual machine.
        guest: Name,
    },
    /// Does something with one node of a Kubernetes cluster.
    KubernetesNode {
        /// The node.
        node: String,
        /// What is done.
        step: KubernetesNodeStep,
        /// The mark on the node that says that it is in our hands.
        #[schemars(with = "serde_json::Value")]
        mark: trueup_kubernetes::node::CordonMark,
    },
    /// Does one step for the namespaces of a Kubernetes cluster, and for what is around them.
    KubernetesNamespace {
        /// The step; what an object has to be is in the wish, and its digest here.
        #[schemars(with = "serde_json::Value")]
        step: ReleaseStep,
    },
    /// Takes away what gives somebody access to a Kubernetes cluster: its time is over, an operator or the
    /// document ended it, or nobody here knows of it.
    KubernetesAccess {
        /// What was found of it.
        #[schemars(with = "serde_json::Value")]
        found: trueup_kubernetes::grant::Found,
    },
    /// Does one step of a release in its cluster. Of an object it names the key and a digest.
    Release {
        /// Where it is.
        place: ReleasePlace,
        /// What is done.
        #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
        step: Box<ReleaseStep>,
    },
}

/// One change to a running domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum LiveChange {
    /// Sets the balloon, KiB.
    Memory(u64),
    /// Sets the number of processors.
    Vcpus(u32),
    /// Plugs a disk in.
    AttachDisk(crate::model::resource::DiskAttachment),
    /// Unplugs the disk at this target device.
    DetachDisk(String),
    /// Plugs an interface in.
    AttachNic(Nic),
    /// Unplugs the interface with this MAC.
    DetachNic(String),
    /// Re-plugs the interface into what it should be plugged into.
    ReplugNic(Nic),
    /// Starts it with libvirt, or not.
    Autostart(bool),
}

impl Plan {
    /// Digest of everything that would be done; equal inputs give equal digests. What is left alone
    /// is not part of it: a reason in other words is no other plan.
    pub fn digest(&self) -> Digest {
        digest_of(&(&self.commit, &self.environment, &self.steps))
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The worst disruption of any step.
    pub fn disruption(&self) -> Disruption {
        self.steps.iter().map(|step| step.disruption).max().unwrap_or(Disruption::None)
    }
}
