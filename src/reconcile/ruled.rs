//! Which steps of a plan the rules hold.
//!
//! Pure. A finding that names a resource is about that resource's steps and no others; one that names
//! none is about everything the commit asks for, and never about drift from what was in force before.
//! What a soft rule held and somebody let through is not held by it again.

use std::collections::{BTreeMap, BTreeSet};

use super::pass::Round;
use crate::event::body::SoftHold;
use crate::model::{Digest, PolicyLevel, ResourceId, digest_of};
use crate::plan::{self, Plan, Step, StepIndex};
use crate::policy::{Verdict, Verdicts};
use crate::spec::Desired;

/// Steps named in an event for one approval, 64 bytes each: the rest is asked about again.
const SOFT_STEPS_MAX: usize = 1_000;

/// What was let through, by resource and rule: digests of what is done.
pub(super) type Exempt = BTreeMap<ResourceId, BTreeMap<String, BTreeSet<Digest>>>;

/// Steps that wait.
#[derive(Debug, Default)]
pub(super) struct HeldSteps {
    /// For what, in sentences.
    pub(super) reasons: Vec<String>,
    /// Their places in the plan; what hangs on them is not among them yet.
    pub(super) causes: BTreeSet<StepIndex>,
    /// What an approval of them lets through for good.
    pub(super) holds: Vec<SoftHold>,
}

/// What hard rules hold, and what soft ones do.
pub(super) fn held_by_rules(round: &Round, exempt: &Exempt) -> (HeldSteps, HeldSteps) {
    held(&round.plan, &round.scope.desired, &round.verdicts, exempt)
}

fn held(
    plan: &Plan,
    desired: &Desired,
    verdicts: &Verdicts,
    exempt: &Exempt,
) -> (HeldSteps, HeldSteps) {
    let (mut hard, mut soft) = (HeldSteps::default(), HeldSteps::default());
    let mut steps = BTreeMap::<(&str, &ResourceId), BTreeSet<Digest>>::new();
    for verdict in verdicts.all.iter().filter(|verdict| verdict.holds()) {
        let mut about = about(plan, desired, verdict);
        if verdict.level == PolicyLevel::Hard {
            hard.add(about, verdict.sentence());
            continue;
        }
        about.retain(|at| !let_through(&plan.steps[*at], &verdict.rule, exempt));
        for step in about.iter().map(|at| &plan.steps[*at]) {
            let key = (verdict.rule.as_str(), &step.resource);
            steps.entry(key).or_default().insert(digest_of(&step.action));
        }
        soft.add(about, verdict.sentence());
    }
    // What is not listed any more is no lighter than nothing, and no heavier than the last that is.
    if let Some(last) = verdicts.all.last().filter(|last| verdicts.omitted > 0 && last.holds()) {
        let why = format!("policy: {} more findings", verdicts.omitted);
        let held = if last.level == PolicyLevel::Hard { &mut hard } else { &mut soft };
        held.add(plan::asked(plan), why);
    }
    let mut room = SOFT_STEPS_MAX;
    for ((rule, resource), steps) in steps {
        let steps: Vec<Digest> = steps.into_iter().take(room).collect();
        room -= steps.len();
        if !steps.is_empty() {
            let (rule, resource) = (rule.to_owned(), resource.clone());
            soft.holds.push(SoftHold { rule, resource, steps });
        }
    }
    (hard, soft)
}

impl HeldSteps {
    /// A finding about nothing that is to be done holds nothing.
    fn add(&mut self, causes: BTreeSet<StepIndex>, reason: String) {
        if !causes.is_empty() {
            self.causes.extend(causes);
            self.reasons.push(reason);
        }
    }
}

/// The steps that a finding is about.
fn about(plan: &Plan, desired: &Desired, verdict: &Verdict) -> BTreeSet<StepIndex> {
    let Some(id) = &verdict.resource else { return plan::asked(plan) };
    // Media and pools are written in another resource's document, and are no business of their own.
    let owned = |of: &ResourceId| {
        desired.resources.get(of).is_some_and(|wish| wish.owner.as_ref() == Some(id))
    };
    let steps = plan.steps.iter().enumerate();
    let named = steps.filter(|(_, step)| step.resource == *id || owned(&step.resource));
    named.map(|(at, _)| at).collect()
}

/// Whether somebody let this step through the rule, or the wish that it brings back.
fn let_through(step: &Step, rule: &str, exempt: &Exempt) -> bool {
    let known = exempt.get(&step.resource).and_then(|rules| rules.get(rule));
    known.is_some_and(|steps| plan::heals(step) || steps.contains(&digest_of(&step.action)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Action, Disruption, Reason};
    use crate::spec::TextPlace;

    fn step(resource: &str, action: Action, reason: Reason) -> Step {
        Step {
            resource: resource.parse().unwrap(),
            action,
            disruption: Disruption::None,
            reason,
            changes: Vec::new(),
            after: BTreeSet::new(),
            interrupts: BTreeSet::new(),
        }
    }

    fn plan() -> Plan {
        let steps = vec![
            step("vm/web", Action::VmStart, Reason::Changed),
            step("vm/db", Action::VmStart, Reason::Drifted),
            step("network/lan", Action::NetworkStop, Reason::Gone),
        ];
        let environment = crate::model::Name::new("lab").unwrap();
        let commit = "a".repeat(40).parse().unwrap();
        Plan {
            commit,
            environment,
            steps,
            skipped: Vec::new(),
            pictures: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn verdict(resource: Option<&str>, level: PolicyLevel) -> Verdict {
        Verdict {
            rule: "house.rule".into(),
            source: TextPlace::default(),
            level,
            broken: false,
            message: "no".into(),
            resource: resource.map(|id| id.parse().unwrap()),
            field: None,
            place: None,
            exempted: None,
        }
    }

    fn held_by(verdict: Verdict, exempt: &Exempt) -> (Vec<StepIndex>, Vec<StepIndex>) {
        let desired = Desired {
            environment: crate::model::Name::new("lab").unwrap(),
            sync: Default::default(),
            resources: BTreeMap::new(),
        };
        let verdicts = Verdicts { all: vec![verdict], omitted: 0 };
        let (hard, soft) = held(&plan(), &desired, &verdicts, exempt);
        (hard.causes.into_iter().collect(), soft.causes.into_iter().collect())
    }

    #[test]
    fn a_finding_holds_what_it_names_or_what_the_commit_asks() {
        use PolicyLevel::{Advisory, Hard, Soft};
        let none = Exempt::new();
        assert_eq!(held_by(verdict(Some("vm/db"), Hard), &none), (vec![1], vec![]));
        assert_eq!(held_by(verdict(Some("vm/other"), Hard), &none), (vec![], vec![]));
        assert_eq!(held_by(verdict(None, Hard), &none), (vec![0, 2], vec![]));
        assert_eq!(held_by(verdict(None, Soft), &none), (vec![], vec![0, 2]));
        assert_eq!(held_by(verdict(None, Advisory), &none), (vec![], vec![]));
    }

    #[test]
    fn what_was_let_through_a_soft_rule_is_not_held_by_it_again() {
        let id = |text: &str| -> ResourceId { text.parse().unwrap() };
        let rules = |action: &Action| {
            BTreeMap::from([("house.rule".to_owned(), BTreeSet::from([digest_of(action)]))])
        };
        let mut exempt = Exempt::from([(id("vm/web"), rules(&Action::VmStart))]);
        let soft = || verdict(None, PolicyLevel::Soft);
        assert_eq!(held_by(soft(), &exempt).1, [2], "a step that nobody let through is held");
        exempt.insert(id("vm/web"), rules(&Action::VmPause));
        assert_eq!(held_by(soft(), &exempt).1, [0, 2], "another step is another question");
        exempt.insert(id("vm/db"), rules(&Action::VmPause));
        let named = verdict(Some("vm/db"), PolicyLevel::Soft);
        let still = held_by(named, &exempt).1;
        assert!(still.is_empty(), "its wish was let through: drift is put right: {still:?}");
        let hard = verdict(None, PolicyLevel::Hard);
        assert_eq!(held_by(hard, &exempt).0, [0, 2], "nobody lets anything through a hard rule");
    }
}
