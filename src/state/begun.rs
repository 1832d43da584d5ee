//! What approved plans may still do: an approval outlives a failure, a stop and a crash.
//!
//! It ends with the commit, with the plan, and for each resource once that is seen as it should be. It
//! never stands for anything that was not in an approved plan.

use super::State;
use crate::event::body::PlanBegun;
use crate::model::ResourceId;
use crate::plan::Plan;
use crate::plan::promise::{Kept, Promise};

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
        let steps = self.begun.values().flat_map(|begun| begun.steps.iter().cloned()).collect();
        matches!(Promise { steps }.kept_by(plan), Kept::Equal | Kept::Smaller { .. })
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
