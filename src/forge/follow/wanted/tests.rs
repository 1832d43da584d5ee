//! What is said, in which order, and when it is not said again.

use super::*;
use crate::plan::promise::Promise;
use crate::state::{Merged, Planned, Post, Refused, Rejected};

fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn pull(head: char, report: &str) -> PullState {
    let planned = Planned {
        at: Timestamp::UNIX_EPOCH,
        head: commit(head),
        base: commit('0'),
        tree: None,
        outcome: PullOutcome::Conflict(Vec::new()),
        report: Digest::of(report),
        says: None,
        summary: None,
    };
    PullState {
        head: commit(head),
        author: "ann".into(),
        fork: false,
        since: Timestamp::UNIX_EPOCH,
        planned: Some(planned),
        shown: None,
        meant: None,
        older: Default::default(),
        shown_at: None,
        approved: None,
    }
}

/// This commit is the head of the branch, and in force.
fn in_force(state: &mut State, digit: char) {
    state.spec.commit = Some(commit(digit));
    state.source.head = Some(commit(digit));
}

/// Says everything, and what there is to say after that.
fn said(state: &mut State) -> Vec<Want> {
    for want in wanted(state, Timestamp::UNIX_EPOCH, true, &BTreeSet::new()) {
        state.pulls.posted.retain(|post| post.target != want.target);
        let post = Post { target: want.target, content: want.content, url: None };
        state.pulls.posted.push_back(post);
    }
    wanted(state, Timestamp::UNIX_EPOCH, true, &BTreeSet::new())
}

#[test]
fn one_place_says_one_thing() {
    let mut state = State::default();
    in_force(&mut state, 'b');
    state.pulls.open.insert(1, pull('a', "one"));
    state.pulls.open.insert(2, pull('a', "two"));
    state.pulls.open.insert(3, pull('b', "three"));
    for pull in state.pulls.open.values_mut() {
        pull.planned.as_mut().unwrap().base = commit('b');
    }
    let wants = wanted(&state, Timestamp::UNIX_EPOCH, true, &BTreeSet::new());
    let of = |target: PostTarget| -> Vec<_> {
        wants.iter().filter(|want| want.target == target).map(|want| &want.what).collect()
    };
    assert_eq!(of(PostTarget::Status(commit('a'))), [&What::Report(Digest::of("one"))]);
    let landing = Landing::Applied { resources: 0 };
    let landed = What::Landing { landing, course: Course::default() };
    assert_eq!(of(PostTarget::Status(commit('b'))), [&landed], "it is in force");
    assert_eq!(of(PostTarget::Comment(2)).len(), 1);
    assert_eq!(said(&mut state), [], "they do not take turns");
}

#[test]
fn the_first_word_about_a_head_waits_for_no_newer_word_about_another() {
    let mut state = State::default();
    in_force(&mut state, '0');
    for (number, head) in [(1, 'a'), (2, 'b'), (3, 'c')] {
        state.pulls.open.insert(number, pull(head, "before"));
    }
    assert_eq!(said(&mut state), []);
    // Another base: everything is planned again. One of them has another head as well.
    for (number, head) in [(1, 'a'), (2, 'b'), (3, 'd')] {
        state.pulls.open.insert(number, pull(head, "after"));
    }
    let wants = wanted(&state, Timestamp::UNIX_EPOCH, false, &BTreeSet::new());
    let targets: Vec<_> = wants.into_iter().map(|want| want.target).collect();
    let (status, comment) = (|it| PostTarget::Status(commit(it)), PostTarget::Comment);
    let old = [status('a'), status('b'), comment(1), comment(2)];
    assert_eq!(targets, [vec![status('d'), comment(3)], old.to_vec()].concat());
}

#[test]
fn a_new_head_is_pending_until_it_was_looked_at() {
    let mut state = State::default();
    state.pulls.open.insert(1, pull('a', "one"));
    assert_eq!(said(&mut state), []);
    state.pulls.open.get_mut(&1).unwrap().head = commit('c');
    let wants = wanted(&state, Timestamp::UNIX_EPOCH, true, &BTreeSet::new());
    let [want] = wants.as_slice() else { panic!("{wants:?}") };
    assert_eq!((&want.target, &want.what), (&PostTarget::Status(commit('c')), &What::Looking));
}

#[test]
fn what_became_of_a_merge_has_its_times_and_its_pull_request_and_is_said_once() {
    let at = |text: &str| -> Timestamp { text.parse().unwrap() };
    let mut state = State::default();
    in_force(&mut state, 'b');
    state.spec.tree = Some("tree".into());
    state.spec.since = Some(at("2026-01-02T03:04:05Z"));
    let merged = Merged {
        number: 7,
        head: commit('a'),
        tree: "tree".into(),
        plan: Digest::of("plan"),
        promise: Promise::default(),
        held: Vec::new(),
        author: "ann".into(),
        approved: None,
        merged: true,
    };
    state.pulls.promises.push_back(merged);
    let url = Some("https://forge.example/7#c1".to_owned());
    let (target, content) = (PostTarget::Comment(7), Digest::of("comment"));
    state.pulls.posted.push_back(Post { target, content, url: url.clone() });
    let wants = wanted(&state, Timestamp::UNIX_EPOCH, false, &BTreeSet::new());
    let [Want { what: What::Landing { course, .. }, .. }] = wants.as_slice() else {
        panic!("{wants:?}")
    };
    let started = state.spec.since;
    assert_eq!(
        *course,
        Course { started, ended: started, url, number: Some(7) },
        "there was nothing to do"
    );
    said(&mut state);
    state.spec.settled = Some(at("2026-01-02T04:00:00Z"));
    assert_eq!(
        wanted(&state, Timestamp::UNIX_EPOCH, false, &BTreeSet::new()),
        [],
        "another time is no news"
    );
}

#[test]
fn what_is_not_looked_at_says_so_once_and_after_everything_else() {
    let mut state = State::default();
    in_force(&mut state, '0');
    state.pulls.open.insert(1, PullState { planned: None, ..pull('a', "") });
    state.pulls.open.insert(2, pull('b', "two"));
    state.pulls.open.insert(3, pull('c', "three"));
    let beyond = BTreeSet::from([1, 3]);
    let wants = wanted(&state, Timestamp::UNIX_EPOCH, false, &beyond);
    let (last, of) = (wants.last().unwrap(), |it| PostTarget::Status(commit(it)));
    assert_eq!((&last.target, &last.what), (&of('a'), &What::Beyond(PLANNED_MAX)));
    let three: Vec<_> = wants.iter().filter(|want| want.target == of('c')).collect();
    assert_eq!(three[0].what, What::Report(Digest::of("three")), "what was found still holds");
    let (target, content) = (last.target.clone(), last.content);
    state.pulls.posted.push_back(Post { target, content, url: None });
    let again = wanted(&state, Timestamp::UNIX_EPOCH, false, &beyond);
    assert!(!again.iter().any(|want| want.target == of('a')), "said once");
    in_force(&mut state, '9');
    let moved = wanted(&state, Timestamp::UNIX_EPOCH, false, &beyond);
    let three: Vec<_> = moved.iter().filter(|want| want.target == of('c')).collect();
    assert_eq!(three[0].what, What::Beyond(PLANNED_MAX), "it does not stay green for another base");
    let within = wanted(&state, Timestamp::UNIX_EPOCH, false, &BTreeSet::new());
    assert!(within.iter().any(|want| want.target == of('a') && want.what == What::Looking));
}

#[test]
fn a_plan_for_another_base_is_not_green_while_it_is_made_again() {
    let mut state = State::default();
    in_force(&mut state, '0');
    state.pulls.open.insert(1, pull('a', "one"));
    assert_eq!(said(&mut state), []);
    in_force(&mut state, '9');
    let wants = wanted(&state, Timestamp::UNIX_EPOCH, true, &BTreeSet::new());
    let of = |commit| PostTarget::Status(commit);
    let stale: Vec<_> = wants.iter().filter(|want| want.target == of(commit('a'))).collect();
    assert_eq!(stale[0].what, What::Stale);
    assert!(!wants.iter().any(|want| want.target == PostTarget::Comment(1)));
    assert_eq!(said(&mut state), []);
    state.pulls.open.get_mut(&1).unwrap().planned.as_mut().unwrap().base = commit('9');
    let wants = wanted(&state, Timestamp::UNIX_EPOCH, true, &BTreeSet::new());
    let [want] = wants.as_slice() else { panic!("{wants:?}") };
    assert_eq!(want.what, What::Report(Digest::of("one")), "the same found again is said again");
}

#[test]
fn a_plan_for_a_head_of_the_branch_that_is_not_used_holds() {
    let mut state = State::default();
    in_force(&mut state, '9');
    state.source.head = Some(commit('0'));
    state.spec.rejected = Some(Rejected { commit: commit('0'), errors: 1, problems: Vec::new() });
    state.pulls.open.insert(1, pull('a', "one"));
    let of = |state: &State| {
        let wants = wanted(state, Timestamp::UNIX_EPOCH, false, &BTreeSet::new());
        let status = PostTarget::Status(commit('a'));
        wants.into_iter().find(|want| want.target == status).map(|want| want.what)
    };
    let report = What::Report(Digest::of("one"));
    assert_eq!(of(&state), Some(report.clone()), "it is merged into what is at the head");
    in_force(&mut state, '9');
    assert_eq!(of(&state), Some(What::Stale), "the mistake was taken back");
    let (why, since) = ("it is not signed".into(), Timestamp::UNIX_EPOCH);
    state.source.refused = Some(Refused { commit: commit('0'), why, signature: true, since });
    assert_eq!(of(&state), Some(report), "a head that is refused is merged into as well");
}

#[test]
fn a_stranger_who_is_refused_gets_a_status_and_no_comment() {
    let mut state = State::default();
    in_force(&mut state, '0');
    let mut stranger = PullState { fork: true, ..pull('a', "one") };
    stranger.planned.as_mut().unwrap().outcome = PullOutcome::Refused("from a fork".into());
    state.pulls.open.insert(1, stranger.clone());
    let targets = |state: &State| -> Vec<_> {
        let wants = wanted(state, Timestamp::UNIX_EPOCH, false, &BTreeSet::new());
        wants.into_iter().skip(1).map(|want| want.target).collect()
    };
    assert_eq!(targets(&state), [PostTarget::Status(commit('a'))]);
    // One that was planned before has a comment, and that may not tell of the old plan for ever.
    let (target, content) = (PostTarget::Comment(1), Digest::of("before"));
    state.pulls.posted.push_back(Post { target: target.clone(), content, url: None });
    assert!(targets(&state).contains(&target));
    stranger.fork = false;
    state.pulls.posted.clear();
    state.pulls.open.insert(1, stranger);
    assert!(targets(&state).contains(&target), "a member is told why at length");
}
