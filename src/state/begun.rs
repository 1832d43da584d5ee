//! What approved plans may still do: an approval outlives a failure, a stop and a crash.
//!
//! It ends with the commit, with the plan, and for each resource once that is seen as it should be, and
//! when whoever gave it on the forge takes it back. It never stands for anything that was not in an
//! approved plan.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Given, Granted, State};
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
        by: &str,
        soft: &[SoftHold],
        surprised: bool,
        at: Timestamp,
    ) {
        let PlanApproved { plan, shown, via } = approved.clone();
        match (via, self.granted.as_mut().filter(|granted| granted.plan == plan)) {
            (Some(via), Some(granted)) => granted.add(Given { by: by.to_owned(), via, at }),
            (Some(via), None) => {
                // Whoever else approved the pull request approved this.
                let more = shown.map(|shown| self.pulls.given(shown)).unwrap_or_default();
                let soft = soft.to_vec();
                let mut granted =
                    Granted { plan, shown, via, soft, surprised, at, more: Vec::new() };
                more.into_iter().for_each(|given| granted.add(given));
                self.granted = Some(granted);
            }
            // Given on the host: one given on the forge for another plan stands beside it.
            (None, _) => self.ungrant(plan),
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
        let Some(mut granted) = self.granted.take_if(|granted| fits(granted)) else { return };
        // What somebody else said goes on standing.
        if let Some((gone, first)) = granted.lessen(withdrawn) {
            gone.iter().for_each(|via| self.pulls.avoid(via));
            if let (Some(by), Some(name)) = (first, self.approvals.get_mut(&granted.plan)) {
                *name = by;
            }
            self.granted = Some(granted);
            return;
        }
        granted.more.iter().for_each(|given| self.pulls.avoid(&given.via));
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
