//! What trueup knows, as data.
//!
//! It is kept in ordered maps so that the same log always gives the same bytes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::backup::BackupState;
use super::cluster::ClusterState;
use super::granted::Given;
use super::landed::Landed;
use super::pulls::PullsState;
use super::release::ReleaseState;
use super::way_back::InsideSnapshot;
use crate::event::body::{Claim, ForgeApproval, MoreChanges, Problem, SoftHold};
use crate::model::resource::GpuSeen;
use crate::model::{
    CommitId, Digest, Fault, GpuIdentity, GpuProblem, GpuReport, Name, PolicyLevel, ResourceId,
    RunId,
};
use crate::plan::FieldChange;
use crate::plan::promise::Promise;

/// Everything trueup knows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The last event folded in; 0: none.
    pub seq: u64,
    /// When that was.
    pub at: Option<Timestamp>,
    /// Number of the writer that opened the log last.
    pub epoch: u64,
    /// The repository.
    pub source: SourceState,
    /// What is asked for.
    pub spec: SpecState,
    /// Every resource that is asked for or ours.
    pub resources: BTreeMap<ResourceId, ResourceState>,
    /// The plan made last.
    pub plan: Option<PlanState>,
    /// Plans that were approved and not yet finished, with who did it.
    pub approvals: BTreeMap<Digest, String>,
    /// What of approved plans that were begun may still be done, by plan.
    #[serde(default)]
    pub begun: BTreeMap<Digest, Promise>,
    /// The approval given on the forge that a plan waits or runs by: it can be taken back.
    #[serde(default)]
    pub granted: Option<Granted>,
    /// The event that last took back an approval; 0: none did.
    #[serde(default)]
    pub revoked: u64,
    /// Pull requests, and what was said about them.
    #[serde(default)]
    pub pulls: PullsState,
    /// What breaks a rule, exempted or not, by the finding's key.
    #[serde(default)]
    pub policy: BTreeMap<Digest, PolicyFinding>,
    /// Steps that a soft rule holds and that were let through, by resource and rule: digests of what
    /// is done. They count for as long as the commit asks the same of the resource.
    #[serde(default)]
    pub exempt: BTreeMap<ResourceId, BTreeMap<String, BTreeSet<Digest>>>,
    /// Set while an operator has stopped all changes.
    pub paused: Option<Paused>,
    /// How every GPU is, by its UUID.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gpus: BTreeMap<String, GpuHealth>,
}

/// An approval given on the forge, with all that it let through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Granted {
    /// The plan that it is for.
    pub plan: Digest,
    /// The plan of the pull request that was approved, where that was done before the merge.
    pub shown: Option<Digest>,
    /// What was done on the forge.
    pub via: ForgeApproval,
    /// What it let through for good.
    pub soft: Vec<SoftHold>,
    /// Whether the plan did more than its pull request had said.
    pub surprised: bool,
    /// When a plan was let through by it.
    pub at: Timestamp,
    /// Who else approved the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<Given>,
}

/// What is known of one GPU.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuHealth {
    /// What it is; `None`: it has not answered yet.
    pub identity: Option<GpuIdentity>,
    /// Its PCI address.
    pub pci: String,
    /// Since when it does not answer, and why.
    pub lost: Option<(Timestamp, String)>,
    /// Since when something is wrong with it.
    pub degraded: Option<Timestamp>,
    /// What is wrong with it, by kind; empty: nothing.
    pub problems: Vec<GpuProblem>,
    /// The run of the machine in which that was last said.
    pub boot: Option<String>,
    /// The newest critical errors, oldest first; bounded by [`XIDS_KEPT_MAX`].
    pub xids: Vec<GpuReport>,
}

/// Critical errors remembered for one GPU; the log has all of them.
pub const XIDS_KEPT_MAX: usize = 8;

/// Something that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyFinding {
    /// The rule.
    pub rule: String,
    /// What it is about.
    pub resource: Option<ResourceId>,
    /// How much it weighs; `None`: it is exempted.
    pub level: Option<PolicyLevel>,
    /// What is wrong.
    pub message: String,
    /// Who answers for it, where it is exempted.
    pub owner: Option<String>,
    /// Since when it is known so.
    pub since: Timestamp,
}

/// What is known of the repository.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceState {
    /// The newest commit that may be used: it fast-forwards, and its signature is right.
    pub head: Option<CommitId>,
    /// A head that was refused and is still there.
    pub refused: Option<Refused>,
    /// A rewritten head that an operator lets through.
    pub allowed: Option<CommitId>,
    /// The repository that `head` is from; `None`: an event of an earlier version did not say.
    #[serde(default)]
    pub repository: Option<String>,
    /// Since when the repository does not answer, and why.
    pub unreachable: Option<(Timestamp, String)>,
}

impl SourceState {
    /// The head of the followed branch as it was last seen, used or not.
    pub fn branch(&self) -> Option<&CommitId> {
        self.refused.as_ref().map(|refused| &refused.commit).or(self.head.as_ref())
    }
}

/// A head that is not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// The head.
    pub commit: CommitId,
    /// Why, in a sentence.
    pub why: String,
    /// Whether it is for its signature, which an allowed signer added later can mend.
    pub signature: bool,
    /// Since when.
    pub since: Timestamp,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpecState {
    /// The last commit whose specs are right; what the machine is brought to.
    pub commit: Option<CommitId>,
    /// The environment read from it.
    pub environment: Option<Name>,
    /// The event that said so.
    pub seq: u64,
    /// When it was taken in.
    pub since: Option<Timestamp>,
    /// When the machine last came nearer to it: something was first seen to be what it asks for, or
    /// to be gone.
    pub settled: Option<Timestamp>,
    /// Id of its tree; `None`: not known.
    pub tree: Option<String>,
    /// Digest of its desired state.
    pub desired: Option<Digest>,
    /// A newer commit that has mistakes.
    pub rejected: Option<Rejected>,
    /// What somebody should look at in the commit in force.
    pub warnings: Vec<Problem>,
    /// Commits that were in force before, oldest first; bounded by
    /// [`LANDED_KEPT_MAX`](super::LANDED_KEPT_MAX).
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub landed: VecDeque<Landed>,
    /// Since when the mirror does not give a commit it should hold, and why.
    pub unreadable: Option<(Timestamp, String)>,
}

/// A commit with mistakes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// The commit.
    pub commit: CommitId,
    /// How many mistakes.
    pub errors: u64,
    /// The first of them.
    pub problems: Vec<Problem>,
}

/// What is known of one resource.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceState {
    /// Digest of what the commit in force asks for; `None`: it is gone from the commit.
    pub wish: Option<Digest>,
    /// The wish the machine was last seen to fulfil.
    pub applied: Option<Applied>,
    /// What is ours on the machine.
    pub claim: Option<Claim>,
    /// It differs from the wish it once fulfilled.
    pub drift: Option<Drift>,
    /// The last step on it failed.
    pub failure: Option<Failure>,
    /// A step on it has started and has no outcome yet.
    pub in_flight: Option<InFlight>,
    /// It cannot be seen, and why.
    pub unobservable: Option<String>,
    /// An operator holds it.
    pub hold: Option<Hold>,
    /// Its data was lost with the machine and is in a backup (disks only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_data: Option<Box<LostData>>,
    /// When drifts from this wish were put right lately, oldest first; bounded by [`HEALS_KEPT_MAX`].
    pub heals: Vec<Timestamp>,
    /// The pass that put it right last: a pass counts as one heal, however many steps it took.
    pub healed_by: Option<RunId>,
    /// It keeps drifting: it is left alone until then, or until another wish.
    pub flapping_until: Option<Timestamp>,
    /// How its GPU was cut when that was last seen to change (GPU layouts only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Box<LastLook>>,
    /// What is known of its snapshots (backups only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Box<BackupState>>,
    /// Snapshots inside its disks that were taken before changes and are there still (virtual machines
    /// only), the oldest first; bounded by [`WAYS_KEPT_MAX`](super::WAYS_KEPT_MAX).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<InsideSnapshot>,
    /// When something was last done to it, or it was last seen to differ or to be right (virtual
    /// machines and disks only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touched: Option<Timestamp>,
    /// What is known of its nodes and queues (clusters only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Box<ClusterState>>,
    /// How its objects do (releases only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Box<ReleaseState>>,
}

/// A look at a GPU that found something new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastLook {
    /// The event that says so.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What was seen.
    pub seen: GpuSeen,
}

/// Heals remembered for one resource: enough to see that it flaps.
pub const HEALS_KEPT_MAX: usize = 8;

/// A wish that was fulfilled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Its digest.
    pub wish: Digest,
    /// The commit that asked for it.
    pub commit: Option<CommitId>,
    /// When it was first seen fulfilled.
    pub at: Timestamp,
}

/// A drift.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// When it was first seen.
    pub since: Timestamp,
    /// What happened, in a few words.
    pub what: String,
    /// The fields that differ, the first of them.
    pub changes: Vec<FieldChange>,
    /// All of them, where that is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<MoreChanges>,
}

/// A failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// When.
    pub at: Timestamp,
    /// What went wrong.
    pub fault: Fault,
    /// What was done.
    pub verb: String,
    /// How often in a row.
    pub attempts: u32,
    /// When it is tried again; `None`: when the spec or the machine has changed.
    pub retry_at: Option<Timestamp>,
    /// The wish it was tried for: a changed one is tried at once.
    pub wish: Option<Digest>,
}

/// A step without an outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InFlight {
    /// The plan.
    pub plan: Digest,
    /// Place in it.
    pub step: u64,
    /// The event of its start.
    pub seq: u64,
    /// What is done.
    pub verb: String,
    /// The wish it serves.
    pub wish: Option<Digest>,
    /// Whether it puts a drift right.
    pub heals: bool,
    /// What was ours before it.
    pub claim_before: Option<Claim>,
    /// What was known of its snapshots before it, where it begins in another place (backups only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_before: Option<Box<BackupState>>,
    /// An operator wants it ended (backups only).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
}

/// An operator's hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Data that was lost with the machine and is in a backup. Until it is back, or an operator releases the
/// disk, it is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LostData {
    /// When trueup's own state was brought back without it.
    pub since: Timestamp,
    /// Somebody holds it for another reason too: then it stays held once its data is back.
    pub held_besides: bool,
}

/// An operator's pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// The plan made last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanState {
    /// Its digest.
    pub plan: Digest,
    /// The event that said so.
    pub seq: u64,
    /// When it was made.
    pub made_at: Timestamp,
    /// How many steps it has.
    pub total: u64,
    /// What it waits for; empty: nothing.
    pub held: Vec<String>,
    /// What an approval lets through for good.
    pub soft: Vec<SoftHold>,
    /// No approval ends its wait.
    #[serde(default)]
    pub firm: bool,
    /// Whether every step has its outcome.
    pub finished: bool,
    /// Steps that succeeded so far.
    pub succeeded: u64,
    /// Steps that failed so far.
    pub failed: u64,
}
