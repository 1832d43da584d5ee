//! A plan in two: the steps that have to wait, with everything that hangs on them, and the rest.
//!
//! Each part is a plan of its own, the same for the same steps whatever stands beside them, so that
//! what waits keeps its digest while the rest comes and goes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Disruption, Plan, Reason, Step, StepIndex};
use crate::model::{Kind, ResourceId};

/// A plan in two.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts {
    /// What waits. Its steps may need some of `rest` to have been done.
    pub waits: Plan,
    /// What can be done without it: nothing in it comes after anything that waits.
    pub rest: Plan,
}

/// Takes the steps at `causes` out of `plan`, and with them what comes after them, what else is
/// done to their resources, and what is disturbed for their sake.
pub fn part(plan: &Plan, causes: &BTreeSet<StepIndex>) -> Parts {
    let mut out = causes.clone();
    loop {
        let before = out.len();
        grow(plan, &mut out);
        if out.len() == before {
            break;
        }
    }
    Parts { waits: pick(plan, |at| out.contains(&at)), rest: pick(plan, |at| !out.contains(&at)) }
}

/// One round of what hangs on the steps in `out`.
fn grow(plan: &Plan, out: &mut BTreeSet<StepIndex>) {
    // A snapshot taken first keeps nothing waiting that is due for its backup.
    let out_of = out.iter().map(|at| &plan.steps[*at]);
    let out_of = out_of.filter(|step| step.action.way_back_for().is_none());
    let resources: BTreeSet<_> = out_of.map(|step| &step.resource).collect();
    let same = |step: &Step| resources.contains(&step.resource);
    let mut more: BTreeSet<StepIndex> =
        plan.steps.iter().enumerate().filter(|(_, step)| same(step)).map(|(at, _)| at).collect();
    for (at, step) in plan.steps.iter().enumerate() {
        let waits = |before: &&StepIndex| out.contains(before) || more.contains(before);
        let mut waits = step.after.iter().filter(waits).map(|before| &plan.steps[*before].resource);
        if waits.any(|resource| !goes_on(step) || is_made(plan, resource)) {
            more.insert(at);
        }
    }
    for at in out.iter() {
        let before = plan.steps[*at].after.iter();
        more.extend(before.filter(|before| serves(&plan.steps[**before])));
    }
    out.extend(more);
}

/// Whether a step has its own time: a backup waits for no change of what it saves, as long as that is
/// there.
fn goes_on(step: &Step) -> bool {
    step.reason == Reason::Due && step.resource.kind == Kind::Backup
}

/// Whether the plan makes something that is not there.
fn is_made(plan: &Plan, resource: &ResourceId) -> bool {
    let mut steps = plan.steps.iter().filter(|step| step.resource == *resource);
    steps.any(|step| step.reason == Reason::Missing)
}

/// Whether a step is only worth its disturbance if the one it makes way for follows.
fn serves(step: &Step) -> bool {
    step.reason == Reason::Needed || step.disruption >= Disruption::Restart
}

/// The plan of the steps that `wanted` says, in their order.
fn pick(plan: &Plan, wanted: impl Fn(StepIndex) -> bool) -> Plan {
    let kept: Vec<StepIndex> = (0..plan.steps.len()).filter(|at| wanted(*at)).collect();
    let places: BTreeMap<StepIndex, StepIndex> =
        kept.iter().enumerate().map(|(new, old)| (*old, new)).collect();
    let steps = kept.iter().map(|old| {
        let step = &plan.steps[*old];
        let after = step.after.iter().filter_map(|before| places.get(before).copied());
        Step { after: after.collect(), ..step.clone() }
    });
    Plan { steps: steps.collect(), ..plan.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Action;

    fn step(resource: &str, disruption: Disruption, reason: Reason, after: &[usize]) -> Step {
        Step {
            resource: resource.parse().unwrap(),
            action: Action::VmStart,
            disruption,
            reason,
            changes: Vec::new(),
            after: after.iter().copied().collect(),
            interrupts: BTreeSet::new(),
        }
    }

    fn plan(steps: Vec<Step>) -> Plan {
        let commit = "a".repeat(40).parse().unwrap();
        let environment = crate::model::Name::new("lab").unwrap();
        Plan {
            commit,
            environment,
            steps,
            skipped: Vec::new(),
            pictures: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn resources(plan: &Plan) -> Vec<String> {
        plan.steps.iter().map(|step| step.resource.to_string()).collect()
    }

    #[test]
    fn what_hangs_on_a_cause_waits_with_it_and_the_rest_does_not() {
        use Disruption::{Destroy, None, Restart};
        use Reason::{Drifted, Gone, Missing, Needed};
        let whole = plan(vec![
            step("vm/a", Restart, Needed, &[]),
            step("network/b", None, Drifted, &[]),
            step("disk/a", Destroy, Gone, &[0, 1]),
            step("vm/c", None, Drifted, &[1]),
            step("vm/d", None, Missing, &[2]),
        ]);
        let parts = part(&whole, &BTreeSet::from([2]));
        assert_eq!(resources(&parts.waits), ["vm/a", "disk/a", "vm/d"]);
        assert_eq!(resources(&parts.rest), ["network/b", "vm/c"]);
        assert_eq!(parts.rest.steps[1].after, BTreeSet::from([0]), "places are counted anew");
        let again = part(&parts.waits, &BTreeSet::from([1]));
        assert_eq!(again.waits.digest(), parts.waits.digest(), "it keeps its digest");
        assert!(again.rest.is_empty());
    }
}
