//! Decisions and the fold, by example.

use super::*;
use crate::event::body::{
    Claim, CommitObserved, Drifted, Flapping, OperatorPaused, PlanHeld, PlanMade, PullObserved,
    PullOutcome, PullPlan, PullPlanned, RewriteAccepted, RewriteRefused, SignatureRejected,
    SpecAccepted, SpecWished, StepFailed, StepStarted, StepSucceeded, Synced,
};
use crate::event::{Entry, Event, Recorded, Spilled};
use crate::model::{CommitId, Digest, Fault, Name, ResourceId};
use crate::plan::promise::Promise;
use crate::plan::{Disruption, Reason};

fn fold(entries: Vec<Entry>) -> State {
    let mut state = State::default();
    for (index, entry) in entries.into_iter().enumerate() {
        let at = jiff::Timestamp::from_second(1_000 + index as i64).unwrap();
        state.apply(&Recorded { seq: index as u64 + 1, at, entry });
    }
    state
}

fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn vm() -> ResourceId {
    "vm/web".parse().unwrap()
}

fn accepted(changed: Vec<(ResourceId, Digest)>, removed: Vec<ResourceId>) -> Entry {
    let environment = Name::new("lab").unwrap();
    let desired = Digest::of("desired");
    let accepted = SpecAccepted { environment, desired, changed, removed, tree: None };
    Entry::new(Event::SpecAccepted(accepted)).at_commit(&commit('a'))
}

#[test]
fn a_wish_that_was_never_started_is_forgotten_with_its_spec() {
    let digest = Digest::of("web");
    let state = fold(vec![accepted(vec![(vm(), digest)], vec![]), accepted(vec![], vec![vm()])]);
    assert!(state.resources.is_empty());
}

#[test]
fn an_intent_makes_it_ours_even_without_an_outcome() {
    let digest = Digest::of("web");
    let started = StepStarted {
        plan: Digest::of("plan"),
        step: 0,
        verb: "define".into(),
        disruption: Disruption::None,
        reason: Reason::Missing,
        changes: vec![],
        more: None,
        wish: Some(digest),
        claim: None,
    };
    let state = fold(vec![
        accepted(vec![(vm(), digest)], vec![]),
        Entry::new(Event::StepStarted(started)).about(&vm()),
        accepted(vec![], vec![vm()]),
    ]);
    assert!(state.resources[&vm()].is_ours());
    assert_eq!(state.resources[&vm()].wish, None);
}

#[test]
fn what_is_cleared_after_the_last_of_it_is_gone_is_forgotten() {
    let backup: ResourceId = "backup/web".parse().unwrap();
    let plan = Digest::of("plan");
    let started = StepStarted {
        plan,
        step: 0,
        verb: "clear".into(),
        disruption: Disruption::None,
        reason: Reason::Gone,
        changes: vec![],
        more: None,
        wish: None,
        claim: None,
    };
    let facts = Default::default();
    let done = StepSucceeded { plan, step: 0, already: false, facts, elapsed_ms: 1 };
    let mut story = vec![Entry::new(Event::StepStarted(started)).about(&backup)];
    assert!(fold(story.clone()).resources[&backup].is_ours());
    story.push(Entry::new(Event::StepSucceeded(done)).about(&backup));
    assert!(fold(story).resources.is_empty());
}

#[test]
fn a_renamed_environment_orphans_what_the_old_one_made() {
    let digest = Digest::of("web");
    let claim = Claim {
        resource: None,
        prevent_destroy: false,
        orphan: false,
        depends_on: Default::default(),
    };
    let synced = Synced { wish: digest, claim };
    let made = vec![
        accepted(vec![(vm(), digest)], vec![]),
        Entry::new(Event::Synced(synced)).about(&vm()),
    ];
    let end = |name: &str, before: Vec<Event>, removed: Vec<ResourceId>| {
        let environment = Name::new(name).unwrap();
        let desired = Digest::of("other");
        let last = SpecAccepted { environment, desired, changed: vec![], removed, tree: None };
        let mut story = made.clone();
        story.extend(before.into_iter().map(Entry::new));
        story.push(Entry::new(Event::SpecAccepted(last)));
        fold(story).resources[&vm()].claim.as_ref().unwrap().orphan
    };
    let gone = || vec![vm()];
    assert!(end("renamed", vec![], gone()), "a name is no wish to destroy");
    assert!(!end("lab", vec![], gone()), "what is gone from the same environment is pruned");
    let part = || vec![Event::SpecWished(SpecWished { changed: vec![], removed: gone() })];
    assert!(end("renamed", part(), vec![]), "it was said in an earlier part");
    assert!(!end("lab", part(), vec![]));
    let earlier = || vec![accepted(vec![], gone()).event];
    assert!(end("renamed", earlier(), vec![]), "the old environment had not removed it yet");
    assert!(!end("renamed", vec![], vec![]), "what is still asked for is managed");
}

#[test]
fn what_is_no_longer_asked_for_has_nothing_wrong_with_it() {
    let digest = Digest::of("web");
    let claim = Claim {
        resource: None,
        prevent_destroy: false,
        orphan: true,
        depends_on: Default::default(),
    };
    let plan = Digest::of("plan");
    let started = |wish| StepStarted {
        plan,
        step: 0,
        verb: "start".into(),
        disruption: Disruption::None,
        reason: Reason::Drifted,
        changes: vec![],
        more: None,
        wish,
        claim: None,
    };
    let again = jiff::Timestamp::from_second(9_000).unwrap();
    let retry_at = Some(again);
    let fault = Fault::transient("busy");
    let failed =
        || StepFailed { plan, step: 0, fault: fault.clone(), attempt: 1, retry_at, more: None };
    let drifted = Drifted { changes: vec![], more: None, what: "stopped".into(), heal: true };
    let flapping = Flapping { heals: 5, retry_at: again };
    let about = |event: Event| Entry::new(event).about(&vm());
    let wrong = vec![
        accepted(vec![(vm(), digest)], vec![]),
        about(Event::Synced(Synced { wish: digest, claim })),
        about(Event::Drifted(drifted)),
        about(Event::StepStarted(started(Some(digest)))),
        about(Event::StepFailed(failed())),
        about(Event::Flapping(flapping)),
        about(Event::StepStarted(started(Some(digest)))),
    ];
    let before = fold(wrong.clone()).resources[&vm()].clone();
    assert!(before.drift.is_some() && before.failure.is_some() && before.flapping_until.is_some());
    let gone = [accepted(vec![], vec![vm()]), about(Event::StepFailed(failed()))];
    let after = fold(wrong.into_iter().chain(gone.clone()).collect()).resources[&vm()].clone();
    assert_eq!((after.drift, after.failure, after.flapping_until), (None, None, None));
    // What removes it is tried again as everything else.
    let removal = [about(Event::StepStarted(started(None))), about(Event::StepFailed(failed()))];
    let synced = Synced { wish: digest, claim: before.claim.unwrap() };
    let made = [accepted(vec![(vm(), digest)], vec![]), about(Event::Synced(synced))];
    let story = made.into_iter().chain(gone.into_iter().take(1)).chain(removal);
    assert!(fold(story.collect()).resources[&vm()].failure.is_some());
}

#[test]
fn only_the_plan_that_waits_can_be_approved() {
    let plan = Digest::of("plan");
    let made = PlanMade { plan, total: 1, steps: vec![], more: None, beside: None };
    let held = PlanHeld {
        plan,
        reasons: vec!["sync is manual".into()],
        soft: Vec::new(),
        more: None,
        firm: false,
    };
    let ask = |state: &State, text: &str| {
        decide(state, &Command::Approve { plan: text.into() }, "operator:ann")
    };
    let state = fold(vec![Entry::new(Event::PlanMade(made))]);
    assert_eq!(ask(&state, &plan.short()), Err(Refusal::NoPlan));
    let mut state = state;
    let at = jiff::Timestamp::from_second(2_000).unwrap();
    let entry = Entry::new(Event::PlanHeld(held));
    state.apply(&Recorded { seq: 2, at, entry });
    assert!(matches!(ask(&state, "ffffffffffff"), Err(Refusal::OtherPlan { .. })));
    assert!(
        matches!(ask(&state, ""), Err(Refusal::OtherPlan { .. })),
        "an empty prefix is no plan"
    );
    let granted = ask(&state, &plan.short()).unwrap();
    assert_eq!(granted[0].actor, "operator:ann");
}

#[test]
fn a_rewrite_is_let_through_by_name_only() {
    let refused =
        RewriteRefused { have: commit('a'), offered: commit('b'), relation: "diverged".into() };
    let state = fold(vec![Entry::new(Event::RewriteRefused(refused))]);
    let ask =
        |digit| decide(&state, &Command::AcceptRewrite { commit: commit(digit) }, "operator:x");
    assert!(matches!(ask('c'), Err(Refusal::OtherRewrite { .. })));
    assert!(ask('b').is_ok());
}

#[test]
fn no_operator_stands_in_for_a_signature() {
    let rejected = || SignatureRejected { why: "it is not signed".into() };
    let allowed = RewriteAccepted { offered: commit('b') };
    let state = fold(vec![
        Entry::new(Event::RewriteAccepted(allowed)),
        Entry::new(Event::SignatureRejected(rejected())).at_commit(&commit('b')),
    ]);
    assert_eq!(state.source.allowed, None);
    let ask = Command::AcceptRewrite { commit: commit('b') };
    assert_eq!(decide(&state, &ask, "operator:x"), Err(Refusal::Unsigned(commit('b'))));
}

#[test]
fn a_new_head_clears_what_was_refused() {
    let refused =
        RewriteRefused { have: commit('a'), offered: commit('b'), relation: "behind".into() };
    let observed = CommitObserved {
        author: "ann".into(),
        time: String::new(),
        subject: String::new(),
        signer: None,
        repository: None,
    };
    let state = fold(vec![
        Entry::new(Event::RewriteRefused(refused)),
        Entry::new(Event::CommitObserved(observed)).at_commit(&commit('c')),
    ]);
    assert_eq!(state.source.head, Some(commit('c')));
    assert_eq!(state.source.refused, None);
}

#[test]
fn resume_needs_a_pause() {
    assert_eq!(decide(&State::default(), &Command::Resume, "operator:x"), Err(Refusal::NotPaused));
    let paused = OperatorPaused { reason: "moving house".into() };
    let state = fold(vec![Entry::new(Event::OperatorPaused(paused)).by("operator:ann")]);
    assert_eq!(state.paused.as_ref().unwrap().by, "operator:ann");
    assert!(decide(&state, &Command::Resume, "operator:x").is_ok());
}

#[test]
fn earlier_plans_of_a_pull_request_are_kept_newest_first_each_once_and_not_for_ever() {
    let mut state = State::default();
    let observed = PullObserved { number: 7, head: commit('a'), author: "ann".into(), fork: false };
    let planned = |name: &str| {
        let plan = PullPlan {
            plan: Digest::of(name),
            promise: Promise::default(),
            held: Vec::new(),
            denied: Vec::new(),
        };
        Event::PullPlanned(PullPlanned {
            number: 7,
            head: commit('a'),
            base: commit('b'),
            tree: None,
            outcome: PullOutcome::Planned(plan),
            report: Spilled::of(name.into()).0,
            says: Some(Digest::of(name)),
            summary: Some(name.to_owned()),
        })
    };
    let mut seq = 0;
    let mut tell = |state: &mut State, event: Event| {
        seq += 1;
        state.apply(&Recorded { seq, at: jiff::Timestamp::UNIX_EPOCH, entry: Entry::new(event) });
    };
    tell(&mut state, Event::PullObserved(observed));
    let older = |state: &State| -> Vec<String> {
        state.pulls.open[&7].older.iter().map(|it| it.summary.clone()).collect()
    };
    tell(&mut state, planned("one"));
    assert!(older(&state).is_empty());
    tell(&mut state, planned("two"));
    tell(&mut state, planned("one"));
    assert_eq!(older(&state), ["two"], "what is shown now is no earlier one");
    tell(&mut state, planned("two"));
    assert_eq!(older(&state), ["one"], "one that came back is one");
    for n in 0..40 {
        tell(&mut state, planned(&format!("more {n}")));
    }
    assert_eq!(older(&state).len(), OLDER_KEPT_MAX);
    assert_eq!(older(&state)[0], "more 38");
}
