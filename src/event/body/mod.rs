//! What the events say: one type per event, named and versioned in one table.
//!
//! A version, once written, stays readable for ever: a changed meaning is a new version with an
//! upcast, never an edit. The golden lines in `tests/golden/events` hold this.

mod backup;
mod cluster;
mod gpu;
mod health;
mod operator;
mod plan;
mod policy;
mod pull;
mod release;
mod resource;
mod source;

pub use backup::{
    BackupAsked, BackupBooted, BackupCancelled, BackupDrilled, BackupFailed, BackupForgotten,
    BackupMissed, BackupNews, BackupOpened, BackupTaken, BackupVerified, DrillAsked,
};
pub use cluster::{
    AccessGiven, AccessTaken, ClusterObserved, KubernetesObserved, NodeDrained, NodeResumed,
};
pub use gpu::GpuObserved;
pub use health::{GpuDegraded, GpuFound, GpuGone, GpuLost, GpuRecovered, GpuReturned, GpuXid};
pub use operator::{
    LogOpened, LogRecovered, LogTailCut, OperatorHeld, OperatorPaused, OperatorReleased, Resumed,
};
pub use plan::{
    Claim, MoreChanges, PlanApproved, PlanBegun, PlanFinished, PlanHeld, PlanLapsed, PlanMade,
    PlanWithdrawn, SoftHold, StepFailed, StepInterrupted, StepStarted, StepSucceeded, StepSummary,
};
pub use policy::{PolicyCleared, PolicyExempted, PolicyViolated};
pub use pull::{
    ApprovalMeans, Asked, ForgeApproval, ForgeAvailable, ForgePosted, ForgeRefused,
    ForgeUnavailable, PlanSurprised, PostTarget, PullApprovalWithdrawn, PullApproved, PullClosed,
    PullObserved, PullOutcome, PullPlan, PullPlanned, Word,
};
pub use release::{
    AddedField, FolderLook, ObjectHealth, ReleaseLook, ReleaseObserved, UnreadyObject,
};
pub use resource::{
    Adopted, Claimed, Drifted, Flapping, Moved, Observable, Pruned, Recovered, RestoreFailed,
    Restored, Restoring, Synced, Unobservable,
};
pub use source::{
    CommitObserved, Problem, Reachable, RefusalEnded, Rekeyed, RewriteAccepted, RewriteRefused,
    SignatureRejected, SpecAccepted, SpecReadable, SpecRejected, SpecUnreadable, SpecWarned,
    SpecWished, Unreachable,
};

/// Why stored data is no event of this program.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A newer program wrote it, or a type that this one does not have.
    #[error("event type {type_} version {v} is not known to this version of trueup")]
    Unknown {
        /// The stored type.
        type_: String,
        /// The stored version.
        v: u32,
    },
    /// The type is known, the data does not fit it.
    #[error("event type {type_} version {v} has data that does not fit it")]
    Data {
        /// The stored type.
        type_: String,
        /// The stored version.
        v: u32,
        /// What does not fit.
        source: serde_json::Error,
    },
}

/// Makes the enum, its names, and its decoder from one table, so that none can be forgotten.
macro_rules! events {
    ($($(#[$doc:meta])* $name:literal $version:literal $variant:ident($payload:ty),)+) => {
        /// Everything that can happen to what trueup knows.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Event {
            $($(#[$doc])* $variant($payload),)+
        }

        impl Event {
            /// Every type with the version this program writes.
            pub const TYPES: &'static [(&'static str, u32)] = &[$(($name, $version)),+];

            /// The stored type: `step.started`.
            pub fn type_name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)+ }
            }

            /// The version of the data's form.
            pub fn version(&self) -> u32 {
                match self { $(Self::$variant(_) => $version,)+ }
            }

            /// The data as JSON.
            ///
            /// # Errors
            /// Never for the types in the table; the signature leaves the proof to serde.
            pub fn to_json(&self) -> Result<String, serde_json::Error> {
                match self { $(Self::$variant(data) => serde_json::to_string(data),)+ }
            }

            /// Reads stored data.
            ///
            /// # Errors
            /// [`DecodeError`] for an unknown type or version, and for data that does not fit.
            pub fn decode(type_: &str, v: u32, data: &str) -> Result<Self, DecodeError> {
                match (type_, v) {
                    $(($name, $version) => serde_json::from_str(data)
                        .map(Self::$variant)
                        .map_err(|source| DecodeError::Data { type_: type_.to_owned(), v, source }),)+
                    _ => Err(DecodeError::Unknown { type_: type_.to_owned(), v }),
                }
            }
        }
    };
}

events! {
    /// The log was opened for writing.
    "log.opened" 1 LogOpened(LogOpened),
    /// The log was brought back from a backup.
    "log.recovered" 1 LogRecovered(LogRecovered),
    /// An unfinished line at the end of the log was cut off and kept beside it.
    "log.tail_cut" 1 LogTailCut(LogTailCut),
    /// The followed branch has a new head.
    "source.commit_observed" 1 CommitObserved(CommitObserved),
    /// The branch was rewritten or moved back; the last good commit stays in force.
    "source.rewrite_refused" 1 RewriteRefused(RewriteRefused),
    /// An operator let a rewritten history through.
    "source.rewrite_accepted" 1 RewriteAccepted(RewriteAccepted),
    /// The repository does not answer; the last good commit stays in force.
    "source.unreachable" 1 SourceUnreachable(Unreachable),
    /// The repository answers again.
    "source.reachable" 1 SourceReachable(Reachable),
    /// The head has no signature that is accepted; the last good commit stays in force.
    "source.signature_rejected" 1 SignatureRejected(SignatureRejected),
    /// The refused head is no longer the branch's.
    "source.refusal_ended" 1 RefusalEnded(RefusalEnded),
    /// Another repository is followed from here on.
    "source.rekeyed" 1 SourceRekeyed(Rekeyed),
    /// A part of what a large commit asks for.
    "spec.wished" 1 SpecWished(SpecWished),
    /// A commit was read, found right, and is now what the machine is brought to.
    "spec.accepted" 1 SpecAccepted(SpecAccepted),
    /// A commit has mistakes; the last good commit stays in force.
    "spec.rejected" 1 SpecRejected(SpecRejected),
    /// The commit in force holds what somebody should look at.
    "spec.warned" 1 SpecWarned(SpecWarned),
    /// A commit cannot be read from the mirror; nothing is concluded from it.
    "spec.unreadable" 1 SpecUnreadable(SpecUnreadable),
    /// The mirror can be read again.
    "spec.readable" 1 SpecReadable(SpecReadable),
    /// There is something to do.
    "plan.made" 1 PlanMade(PlanMade),
    /// A plan waits for somebody or something.
    "plan.held" 1 PlanHeld(PlanHeld),
    /// Somebody approved a plan.
    "plan.approved" 1 PlanApproved(PlanApproved),
    /// A plan that was approved begins.
    "plan.begun" 1 PlanBegun(PlanBegun),
    /// What is left of a plan that was begun is no longer needed.
    "plan.lapsed" 1 PlanLapsed(PlanLapsed),
    /// What a plan was for is no longer so; nothing of it was done.
    "plan.withdrawn" 1 PlanWithdrawn(PlanWithdrawn),
    /// Every step of a plan has its outcome.
    "plan.finished" 1 PlanFinished(PlanFinished),
    /// A merge would do more than its pull request said.
    "plan.surprised" 1 PlanSurprised(PlanSurprised),
    /// Something breaks a rule.
    "policy.violated" 1 PolicyViolated(PolicyViolated),
    /// Something breaks a rule, and somebody answers for it.
    "policy.exempted" 1 PolicyExempted(PolicyExempted),
    /// A rule no longer finds what it found.
    "policy.cleared" 1 PolicyCleared(PolicyCleared),
    /// A step is about to act.
    "step.started" 1 StepStarted(StepStarted),
    /// A step did what it should.
    "step.succeeded" 1 StepSucceeded(StepSucceeded),
    /// A step failed.
    "step.failed" 1 StepFailed(StepFailed),
    /// A step had started when the program ended; what it did is looked at anew.
    "step.interrupted" 1 StepInterrupted(StepInterrupted),
    /// The machine is what the commit asks for.
    "resource.synced" 1 Synced(Synced),
    /// How it may be destroyed has changed.
    "resource.claimed" 1 Claimed(Claimed),
    /// The machine is no longer what trueup made it.
    "resource.drifted" 1 Drifted(Drifted),
    /// A drift is gone.
    "resource.recovered" 1 Recovered(Recovered),
    /// Putting it right does not last: something else keeps changing it.
    "resource.flapping" 1 Flapping(Flapping),
    /// A foreign object was taken over.
    "resource.adopted" 1 Adopted(Adopted),
    /// It has a new name; nothing of it was touched.
    "resource.moved" 1 Moved(Moved),
    /// It can no longer be seen.
    "resource.unobservable" 1 Unobservable(Unobservable),
    /// It can be seen again.
    "resource.observable" 1 Observable(Observable),
    /// It is gone from the commit and from the machine.
    "resource.pruned" 1 Pruned(Pruned),
    /// The data of a disk is about to be brought back.
    "resource.restoring" 1 Restoring(Restoring),
    /// The data of a disk is back.
    "resource.restored" 1 Restored(Restored),
    /// The data of a disk did not come back.
    "resource.restore_failed" 1 RestoreFailed(RestoreFailed),
    /// A GPU is cut in another way than the log says.
    "gpu.observed" 1 GpuObserved(GpuObserved),
    /// A GPU was found, or is not what it was: its driver, its firmware, its place.
    "gpu.found" 1 GpuFound(GpuFound),
    /// A GPU is not there any more, or nobody looks at GPUs any more.
    "gpu.gone" 1 GpuGone(GpuGone),
    /// A GPU no longer answers.
    "gpu.lost" 1 GpuLost(GpuLost),
    /// A GPU answers again.
    "gpu.returned" 1 GpuReturned(GpuReturned),
    /// The driver reported a critical error of a GPU.
    "gpu.xid" 1 GpuXid(GpuXid),
    /// Something is wrong with a GPU, or something else than before.
    "gpu.degraded" 1 GpuDegraded(GpuDegraded),
    /// Nothing is wrong with a GPU any more.
    "gpu.recovered" 1 GpuRecovered(GpuRecovered),
    /// The repository of a backup was made, or found.
    "backup.opened" 1 BackupOpened(BackupOpened),
    /// A snapshot was taken.
    "backup.taken" 1 BackupTaken(BackupTaken),
    /// A repository was checked, and nothing is wrong.
    "backup.verified" 1 BackupVerified(BackupVerified),
    /// The last complete snapshot was restored beside, and is what it should be.
    "backup.drilled" 1 BackupDrilled(BackupDrilled),
    /// A repository was checked, or a snapshot restored, and something is wrong.
    "backup.failed" 1 BackupFailed(BackupFailed),
    /// Snapshots that nothing keeps were removed.
    "backup.forgotten" 1 BackupForgotten(BackupForgotten),
    /// The last complete snapshot became older than promised.
    "backup.missed" 1 BackupMissed(BackupMissed),
    /// A cluster is in another way than the log says.
    "cluster.observed" 1 ClusterObserved(ClusterObserved),
    /// A Kubernetes cluster is in another way than the log says.
    "cluster.kubernetes_observed" 1 KubernetesObserved(KubernetesObserved),
    /// The objects of a release do otherwise than the log says.
    "release.observed" 1 ReleaseObserved(ReleaseObserved),
    /// A pull request is open, and is new or has another head.
    "pull.observed" 1 PullObserved(PullObserved),
    /// What merging a pull request would do.
    "pull.planned" 1 PullPlanned(PullPlanned),
    /// Somebody approved what a pull request was shown to do.
    "pull.approved" 1 PullApproved(PullApproved),
    /// An approval of a pull request was taken back.
    "pull.approval_withdrawn" 1 PullApprovalWithdrawn(PullApprovalWithdrawn),
    /// A pull request is not open any more.
    "pull.closed" 1 PullClosed(PullClosed),
    /// Something was said on the forge.
    "forge.posted" 1 ForgePosted(ForgePosted),
    /// The forge does not take a post.
    "forge.refused" 1 ForgeRefused(ForgeRefused),
    /// The forge does not answer; what is to be said waits.
    "forge.unavailable" 1 ForgeUnavailable(ForgeUnavailable),
    /// The forge answers again.
    "forge.available" 1 ForgeAvailable(ForgeAvailable),
    /// An operator stopped all changes.
    "operator.paused" 1 OperatorPaused(OperatorPaused),
    /// An operator let changes go on.
    "operator.resumed" 1 OperatorResumed(Resumed),
    /// An operator stopped changes to one resource.
    "operator.held" 1 OperatorHeld(OperatorHeld),
    /// An operator let changes to one resource go on.
    "operator.released" 1 OperatorReleased(OperatorReleased),
    /// An operator wants a snapshot now.
    "operator.backup_asked" 1 BackupAsked(BackupAsked),
    /// An operator wants a drill now.
    "operator.drill_asked" 1 DrillAsked(DrillAsked),
    /// An operator ends what is being done for a backup.
    "operator.backup_cancelled" 1 BackupCancelled(BackupCancelled),
    /// An operator takes a node of a cluster out of use for a while.
    "operator.node_drained" 1 NodeDrained(NodeDrained),
    /// An operator gives a node back before its time.
    "operator.node_resumed" 1 NodeResumed(NodeResumed),
    /// An operator gives somebody access to a cluster for a while.
    "operator.access_given" 1 AccessGiven(AccessGiven),
    /// An operator takes access back before its time.
    "operator.access_taken" 1 AccessTaken(AccessTaken),
}
