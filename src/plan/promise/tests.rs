//! Promises by example, and over random plans.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::fixture::*;
use super::*;
use crate::plan::FieldChange;

fn step(resource: &str, action: Action, disruption: Disruption, fields: &[(&str, u64)]) -> Step {
    let changes = fields.iter().map(|(path, to)| FieldChange {
        path: (*path).into(),
        from: Some(0.into()),
        to: Some((*to).into()),
        disruption,
    });
    Step {
        resource: id(resource),
        action,
        disruption,
        reason: Reason::Changed,
        changes: changes.collect(),
        after: BTreeSet::new(),
        interrupts: BTreeSet::new(),
    }
}

fn plan_of(steps: Vec<Step>) -> Plan {
    let machine = Machine::new();
    Plan {
        commit: machine.commit,
        environment: machine.desired.environment,
        steps,
        skipped: Vec::new(),
        pictures: Vec::new(),
        notes: Vec::new(),
    }
}

fn grow(fields: &[(&str, u64)]) -> Step {
    let changes = vec![LiveChange::Memory(2 * GIB)];
    step("vm/web", Action::VmUpdateLive { changes }, Disruption::Live, fields)
}

fn delete(path: &str) -> Step {
    let action = Action::DiskDelete { pool: name("main"), path: path.into() };
    step("disk/web", action, Disruption::Destroy, &[])
}

#[track_caller]
fn surprises(shown: Vec<Step>, live: Vec<Step>) -> Vec<String> {
    match Promise::of(&plan_of(shown)).kept_by(&plan_of(live)) {
        Kept::Surprised { surprises } => surprises.iter().map(ToString::to_string).collect(),
        kept => panic!("no surprise: {kept:?}"),
    }
}

#[test]
fn the_same_plan_of_another_commit_and_order_is_equal() {
    let shown = vec![grow(&[("/memory/current", 2)]), delete("/vm/a")];
    let mut live = plan_of(vec![delete("/vm/a"), grow(&[("/memory/current", 2)])]);
    live.commit = "ffffffffffffffffffffffffffffffffffffffff".parse().unwrap();
    live.steps[1].changes[0].from = Some(7.into());
    assert_eq!(Promise::of(&plan_of(shown)).kept_by(&live), Kept::Equal);
}

#[test]
fn what_is_done_already_makes_it_smaller() {
    let both = [("/memory/current", 2), ("/memory/max", 4)];
    let shown = plan_of(vec![grow(&both), delete("/vm/a")]);
    let live = plan_of(vec![grow(&both[..1])]);
    let Kept::Smaller { missing, fewer } = Promise::of(&shown).kept_by(&live) else { panic!() };
    assert_eq!((missing.len(), fewer), (1, 1));
    assert_eq!(missing[0].resource, id("disk/web"));
    let nothing = Promise::of(&shown).kept_by(&plan_of(Vec::new()));
    assert!(matches!(nothing, Kept::Smaller { missing, .. } if missing.len() == 2));
}

#[test]
fn everything_beyond_is_told_exactly() {
    let shown = || vec![grow(&[("/memory/current", 2)])];
    let more = surprises(shown(), vec![grow(&[("/memory/current", 2)]), delete("/vm/a")]);
    assert_eq!(more, ["delete disk/web (destroy) was not shown"]);

    let other = surprises(shown(), vec![grow(&[("/memory/current", 3), ("/cpus/count", 2)])]);
    assert_eq!(other, ["update vm/web also changes /cpus/count, /memory/current"]);

    let mut worse = grow(&[("/memory/current", 2)]);
    worse.disruption = Disruption::Restart;
    worse.interrupts.insert(id("vm/db"));
    assert_eq!(
        surprises(shown(), vec![worse]),
        ["update vm/web: restart, live was shown", "update vm/web also interrupts vm/db"]
    );
    let elsewhere = surprises(vec![delete("/vm/a")], vec![delete("/vm/b")]);
    assert_eq!(elsewhere, ["delete disk/web (destroy) was not shown"]);
    let twice = surprises(vec![delete("/vm/a")], vec![delete("/vm/a"), delete("/vm/a")]);
    assert_eq!(twice.len(), 1, "one promise is kept once");
}

#[test]
fn a_real_plan_survives_its_own_promise_and_storage() {
    let mut machine = converged();
    machine.edit_vm("vm/web", |vm| vm.memory.max = 4 * GIB);
    let plan = machine.plan();
    assert!(!plan.is_empty());
    let stored = serde_json::to_string(&Promise::of(&plan)).unwrap();
    let promise: Promise = serde_json::from_str(&stored).unwrap();
    assert_eq!(promise.kept_by(&plan), Kept::Equal);
    machine.edit_vm("vm/web", |vm| vm.memory.max = 5 * GIB);
    assert!(matches!(promise.kept_by(&machine.plan()), Kept::Surprised { .. }));
}

fn any_step() -> impl Strategy<Value = Step> {
    let deed = prop_oneof![
        Just(Action::VmStart),
        Just(Action::VmUndefine),
        (0..3_u64).prop_map(|n| Action::ImageDelete { path: format!("/i/{n}") }),
        (0..3_u64).prop_map(|n| Action::VmUpdateLive { changes: vec![LiveChange::Memory(n)] }),
    ];
    let disruption = prop_oneof![
        Just(Disruption::None),
        Just(Disruption::Live),
        Just(Disruption::Restart),
        Just(Disruption::Destroy),
    ];
    let fields = prop::collection::btree_map("/[ab]", 0..2_u64, 0..3);
    ("vm/[a-c]", deed, disruption, fields).prop_map(|(resource, action, disruption, fields)| {
        let fields: Vec<(&str, u64)> = fields.iter().map(|(path, to)| (&**path, *to)).collect();
        step(&resource, action, disruption, &fields)
    })
}

proptest! {
    #[test]
    fn a_part_of_a_plan_is_never_a_surprise(
        steps in prop::collection::vec(any_step(), 0..8),
        keep in prop::collection::vec(any::<bool>(), 8),
    ) {
        // Steps that cannot be told apart may be shown in any order; each once is the plan's rule.
        let mut seen = BTreeSet::new();
        let steps: Vec<Step> = steps
            .into_iter()
            .filter(|step| {
                let promised = PromisedStep::of(step);
                seen.insert((promised.resource, promised.deed))
            })
            .collect();
        let part: Vec<Step> =
            steps.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(step, _)| step.clone()).collect();
        let whole = part.len() == steps.len();
        let mut turned = part;
        turned.reverse();
        let kept = Promise::of(&plan_of(steps)).kept_by(&plan_of(turned));
        prop_assert_eq!(matches!(kept, Kept::Equal), whole);
        prop_assert!(!matches!(kept, Kept::Surprised { .. }), "surprised");
    }

    #[test]
    fn a_worse_or_new_step_is_always_a_surprise(
        steps in prop::collection::vec(any_step(), 0..6),
        worse in any_step(),
    ) {
        let mut live = steps.clone();
        let mut worse = worse;
        worse.disruption = Disruption::Destroy;
        worse.resource = id("vm/new");
        live.push(worse);
        let Kept::Surprised { surprises } = Promise::of(&plan_of(steps)).kept_by(&plan_of(live.clone()))
        else {
            return Err(TestCaseError::fail("not surprised"));
        };
        prop_assert!(surprises.iter().any(|it| it.step == live.len() - 1));
    }
}
