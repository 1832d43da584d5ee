//! What approved plans may still do: an approval outlives a failure, a stop and a crash.
//!
//! It ends with the commit, with the plan, and for each resource once that is seen as it should be, and
//! when whoever gave it on the forge takes it back. It never stands for anything that was not in an
//! approved plan.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Granted, State};
use crate::event::body::{PlanApproved, PlanBegun, PullApprovalWithdrawn, SoftHold};
use crate::model::{Digest, ResourceId};
use crate::plan::promise::{Kept, Promise};
use crate::plan::{Plan, Reason};

impl State {
    /// Whether an operator approved `plan`: it itself, or plans of the commit in force that were
    /// begun and that it is a part of.
    pub fn is_approved(&self, plan: &Plan) -> bool {
        self.approvals.contains_key(&plan.digest()) || self.is_left_of_begun(plan)
    }

    /// Whether it is part of what approved plans that were begun may still do.
    pub fn is_left_of_begun(&self, plan: &Plan) -> bool {
        let in_force = self.spec.commit.as_ref() == Some(&plan.commit);
        if self.begun.is_empty() || plan.is_empty() || !in_force {
            return false;
        }
        // Nobody approved what a schedule does.
        if plan.steps.iter().all(|step| step.reason == Reason::Due) {
            return false;
        }
        let steps = self.begun.values().flat_map(|begun| begun.steps.iter().cloned()).collect();
        matches!(Promise { steps }.kept_by(plan), Kept::Equal | Kept::Smaller { .. })
    }

    /// Remembers an approval given on the forge, so that it can be taken back.
    pub(super) fn grant(
        &mut self,
        approved: &PlanApproved,
        soft: &[SoftHold],
        surprised: bool,
        at: Timestamp,
    ) {
        let PlanApproved { plan, shown, via } = approved.clone();
        let granted = |via| Granted { plan, shown, via, soft: soft.to_vec(), surprised, at };
        match via {
            Some(via) => self.granted = Some(granted(via)),
            // Given on the host: one given on the forge for another plan stands beside it.
            None => self.ungrant(plan),
        }
    }

    /// What the approval was for is over.
    pub(super) fn ungrant(&mut self, plan: Digest) {
        self.granted = self.granted.take().filter(|granted| granted.plan != plan);
    }

    /// The approval that a plan waits or runs by is taken back: what it let through waits again, as far
    /// as it has not begun.
    pub(super) fn revoke(&mut self, withdrawn: &PullApprovalWithdrawn, seq: u64) {
        let fits = |it: &Granted| it.plan == withdrawn.plan || it.shown == Some(withdrawn.plan);
        let Some(granted) = self.granted.take_if(|granted| fits(granted)) else { return };
        self.pulls.avoid(&granted.via);
        self.approvals.remove(&granted.plan);
        self.begun.remove(&granted.plan);
        for SoftHold { rule, resource, steps } in &granted.soft {
            let Some(rules) = self.exempt.get_mut(resource) else { continue };
            let left = rules.remove(rule).unwrap_or_default();
            let left: BTreeSet<Digest> =
                left.into_iter().filter(|step| !steps.contains(step)).collect();
            if !left.is_empty() {
                rules.insert(rule.clone(), left);
            }
        }
        if granted.surprised {
            self.pulls.surprised = Some(granted.plan);
        }
        self.revoked = seq;
    }

    pub(super) fn begin(&mut self, begun: &PlanBegun) {
        self.begun.entry(begun.plan).or_default().steps.extend(begun.steps.iter().cloned());
    }

    /// The resource was seen as it should be, or is gone as it should be: what is done to it from
    /// here on was not what the approval was for.
    pub(super) fn settle(&mut self, id: &ResourceId) {
        for begun in self.begun.values_mut() {
            begun.steps.retain(|step| step.resource != *id);
        }
        self.begun.retain(|_, begun| !begun.steps.is_empty());
    }
}
