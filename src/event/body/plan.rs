//! Events about plans and their steps.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::pull::ForgeApproval;
use crate::event::Spilled;
use crate::model::{Digest, Fault, Resource, ResourceId};
use crate::plan::promise::PromisedStep;
use crate::plan::{Disruption, FieldChange, Reason};

/// `plan.made`; the commit is the envelope's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanMade {
    /// Digest of the plan.
    pub plan: Digest,
    /// How many steps it has.
    pub total: u64,
    /// The first of them.
    pub steps: Vec<StepSummary>,
    /// All of them, where that is more; events of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<Spilled>,
    /// The plan that goes on waiting while this one is done; `None`: this one takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Digest>,
}

/// A step in a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepSummary {
    /// What it is done to.
    pub resource: ResourceId,
    /// What is done.
    pub verb: String,
    /// How much it disturbs.
    pub disruption: Disruption,
    /// Why.
    pub reason: Reason,
}

/// `plan.held`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanHeld {
    /// Digest of the plan.
    pub plan: Digest,
    /// What it waits for, one sentence each; the first of them.
    pub reasons: Vec<String>,
    /// What an approval of it lets through for good: each step that a soft rule holds. Events of
    /// earlier versions have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub soft: Vec<SoftHold>,
    /// All reasons, where that is more; events of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<Spilled>,
    /// No approval ends the wait: changes are stopped, the commit is not accepted, or a hard rule says
    /// no. Events of earlier versions do not say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub firm: bool,
}

/// Steps that a soft rule holds, of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftHold {
    /// The rule.
    pub rule: String,
    /// What the steps are done to.
    pub resource: ResourceId,
    /// Digests of what is done.
    pub steps: Vec<Digest>,
}

/// `plan.approved`; who did it is the envelope's actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanApproved {
    /// Digest of the plan.
    pub plan: Digest,
    /// What somebody did on the forge; `None`: it was approved on the host. Events of earlier
    /// versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<ForgeApproval>,
    /// The plan of the pull request that was approved, where this one does no more than that one;
    /// `None`: this very plan was approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Digest>,
}

impl PlanApproved {
    /// An approval given on the host.
    #[must_use]
    pub fn on_host(plan: Digest) -> Self {
        Self { plan, via: None, shown: None }
    }
}

/// `plan.begun`: a plan that an operator approved begins. The approval stands for these steps until
/// they are done, also in several tries; a large plan takes several of these events. The commit is the
/// envelope's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanBegun {
    /// Digest of the plan.
    pub plan: Digest,
    /// What it may do.
    pub steps: Vec<PromisedStep>,
}

/// `plan.lapsed`: what is left of a plan that was begun is no longer needed, and no longer approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanLapsed {
    /// Digest of the plan.
    pub plan: Digest,
}

/// `plan.withdrawn`: what it was for is no longer so; nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanWithdrawn {
    /// Digest of the plan.
    pub plan: Digest,
}

/// `plan.finished`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanFinished {
    /// Digest of the plan.
    pub plan: Digest,
    /// Steps that succeeded.
    pub succeeded: u64,
    /// Steps that failed.
    pub failed: u64,
    /// Steps that were not started because one before them failed.
    pub blocked: u64,
}

/// `step.started`: the intent; durable before anything is done. The resource is the envelope's subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepStarted {
    /// Digest of the plan.
    pub plan: Digest,
    /// Place in the plan.
    pub step: u64,
    /// What is done.
    pub verb: String,
    /// How much it disturbs.
    pub disruption: Disruption,
    /// Why.
    pub reason: Reason,
    /// The fields that differ, the first of them.
    pub changes: Vec<FieldChange>,
    /// All of them, where that is more; events of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<MoreChanges>,
    /// Digest of the wish it serves; `None`: the resource is gone from the commit.
    pub wish: Option<Digest>,
    /// What is ours from here on; `None` where the step makes nothing ours.
    pub claim: Option<Claim>,
}

/// Field changes that an event does not hold itself, because they are too many. Whoever compares two
/// lists compares this too: the first of them may be the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoreChanges {
    /// How many are left out.
    pub left_out: u64,
    /// All of them, as a JSON list of field changes.
    pub all: Spilled,
}

/// What the log remembers of a resource so that it can be found when its spec is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The resource without the texts it was made from, for things that cannot carry a mark.
    pub resource: Option<Resource>,
    /// It may not be destroyed even when its spec is gone.
    pub prevent_destroy: bool,
    /// It is kept, unmanaged, when its spec is gone.
    pub orphan: bool,
    /// What it was made on top of: it has to go before these.
    pub depends_on: std::collections::BTreeSet<ResourceId>,
}

/// `step.succeeded`; the resource is the envelope's subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepSucceeded {
    /// Digest of the plan.
    pub plan: Digest,
    /// Place in the plan.
    pub step: u64,
    /// Whether the machine was already so.
    pub already: bool,
    /// Facts worth keeping.
    pub facts: BTreeMap<String, String>,
    /// How long it took, milliseconds.
    pub elapsed_ms: u64,
}

/// `step.failed`; the resource is the envelope's subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFailed {
    /// Digest of the plan.
    pub plan: Digest,
    /// Place in the plan.
    pub step: u64,
    /// What went wrong.
    pub fault: Fault,
    /// How often in a row it has failed now.
    pub attempt: u32,
    /// When it is tried again; `None`: when the spec or the machine has changed.
    pub retry_at: Option<Timestamp>,
    /// The whole message, where that is more; events of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<Spilled>,
}

/// `step.interrupted`; the resource is the envelope's subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepInterrupted {
    /// Digest of the plan.
    pub plan: Digest,
    /// Place in the plan.
    pub step: u64,
}
