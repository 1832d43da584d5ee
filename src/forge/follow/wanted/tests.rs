//! What is said, in which order, and when it is not said again.

use super::*;
use crate::event::body::PullPlan;
use crate::forge::follow::landing::Landing;
use crate::model::CommitId;
use crate::plan::promise::Promise;
use crate::state::{Landed, Merged, Planned, Post, Refused, Rejected};

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
        seq: 0,
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

fn post(target: PostTarget, content: Digest) -> Post {
    Post { target, content, url: None, times: 1, full: false }
}

/// What is to be said, where these are not looked at and everything else was since the machine moved.
fn seen(state: &State, checks: bool, beyond: &[u64]) -> Vec<Want> {
    let beyond = beyond.iter().copied().collect();
    wanted(state, Timestamp::UNIX_EPOCH, &Sight { checks, beyond, ..Sight::default() })
}

/// Says everything, and what there is to say after that.
fn said(state: &mut State) -> Vec<Want> {
    for want in seen(state, true, &[]) {
        state.pulls.posted.retain(|post| post.target != want.target);
        state.pulls.posted.push_back(post(want.target, want.content));
    }
    seen(state, true, &[])
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
    let wants = seen(&state, true, &[]);
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
    let wants = seen(&state, false, &[]);
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
    let wants = seen(&state, true, &[]);
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
    state.pulls.posted.push_back(Post { url: url.clone(), ..post(target, content) });
    let wants = seen(&state, false, &[]);
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
    assert_eq!(seen(&state, false, &[]), [], "another time is no news");
}

#[test]
fn what_is_not_looked_at_says_so_once_and_after_everything_else() {
    let mut state = State::default();
    in_force(&mut state, '0');
    state.pulls.open.insert(1, PullState { planned: None, ..pull('a', "") });
    state.pulls.open.insert(2, pull('b', "two"));
    state.pulls.open.insert(3, pull('c', "three"));
    let beyond = [1, 3];
    let wants = seen(&state, false, &beyond);
    let (last, of) = (wants.last().unwrap(), |it| PostTarget::Status(commit(it)));
    assert_eq!((&last.target, &last.what), (&of('a'), &What::Beyond(PLANNED_MAX)));
    let three: Vec<_> = wants.iter().filter(|want| want.target == of('c')).collect();
    assert_eq!(three[0].what, What::Report(Digest::of("three")), "what was found still holds");
    let (target, content) = (last.target.clone(), last.content);
    state.pulls.posted.push_back(post(target, content));
    let again = seen(&state, false, &beyond);
    assert!(!again.iter().any(|want| want.target == of('a')), "said once");
    in_force(&mut state, '9');
    let moved = seen(&state, false, &beyond);
    let three: Vec<_> = moved.iter().filter(|want| want.target == of('c')).collect();
    assert_eq!(three[0].what, What::Lapsed(PLANNED_MAX), "it does not stay green for another base");
    let within = seen(&state, false, &[]);
    assert!(within.iter().any(|want| want.target == of('a') && want.what == What::Looking));
}

#[test]
fn a_plan_for_another_base_is_not_green_while_it_is_made_again() {
    let mut state = State::default();
    in_force(&mut state, '0');
    state.pulls.open.insert(1, pull('a', "one"));
    assert_eq!(said(&mut state), []);
    in_force(&mut state, '9');
    let wants = seen(&state, true, &[]);
    let of = |commit| PostTarget::Status(commit);
    let stale: Vec<_> = wants.iter().filter(|want| want.target == of(commit('a'))).collect();
    assert_eq!(stale[0].what, What::Stale);
    assert_eq!(check_of(&wants), Some(&What::Outdated), "nor is its check");
    assert!(!wants.iter().any(|want| want.target == PostTarget::Comment(1)));
    assert_eq!(said(&mut state), []);
    state.pulls.open.get_mut(&1).unwrap().planned.as_mut().unwrap().base = commit('9');
    let wants = seen(&state, true, &[]);
    let report = What::Report(Digest::of("one"));
    assert_eq!(
        (wants.len(), status_of(&wants), check_of(&wants)),
        (2, Some(&report), Some(&report)),
        "the same found again is said again"
    );
}

#[test]
fn a_plan_for_a_head_of_the_branch_that_is_not_used_holds() {
    let mut state = State::default();
    in_force(&mut state, '9');
    state.source.head = Some(commit('0'));
    state.spec.rejected = Some(Rejected { commit: commit('0'), errors: 1, problems: Vec::new() });
    state.pulls.open.insert(1, pull('a', "one"));
    let of = |state: &State| {
        let wants = seen(state, false, &[]);
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
        let wants = seen(state, false, &[]);
        wants.into_iter().skip(1).map(|want| want.target).collect()
    };
    assert_eq!(targets(&state), [PostTarget::Status(commit('a'))]);
    // One that was planned before has a comment, and that may not tell of the old plan for ever.
    let (target, content) = (PostTarget::Comment(1), Digest::of("before"));
    state.pulls.posted.push_back(post(target.clone(), content));
    assert!(targets(&state).contains(&target));
    stranger.fork = false;
    state.pulls.posted.clear();
    state.pulls.open.insert(1, stranger);
    assert!(targets(&state).contains(&target), "a member is told why at length");
}

/// A pull request with a plan, made before the machine moved.
fn planned_before(state: &mut State) {
    in_force(state, '0');
    let mut one = pull('a', "one");
    let planned = one.planned.as_mut().unwrap();
    planned.seq = 3;
    planned.outcome = PullOutcome::Planned(PullPlan {
        plan: Digest::of("plan"),
        promise: Promise::default(),
        held: Vec::new(),
        denied: Vec::new(),
    });
    state.pulls.open.insert(1, one);
    state.pulls.machine = 2;
    assert_eq!(said(state), []);
    state.pulls.machine = 4;
}

fn status_of(wants: &[Want]) -> Option<&What> {
    let target = PostTarget::Status(commit('a'));
    wants.iter().find(|want| want.target == target).map(|want| &want.what)
}

fn check_of(wants: &[Want]) -> Option<&What> {
    let target = PostTarget::Check(commit('a'));
    wants.iter().find(|want| want.target == target).map(|want| &want.what)
}

#[test]
fn a_plan_for_another_machine_is_marked_where_it_is_not_made_again_at_once() {
    let mut state = State::default();
    planned_before(&mut state);
    let look = |state: &State, verified: bool, late: bool| {
        let verified = verified.then_some(1).into_iter().collect();
        let sight = Sight { checks: true, verified, late, ..Sight::default() };
        wanted(state, Timestamp::UNIX_EPOCH, &sight)
    };
    assert_eq!(
        look(&state, false, false),
        [],
        "it is being made again, and mostly comes to the same"
    );
    assert_eq!(look(&state, true, true), [], "it was made again and came to the same");
    let wants = look(&state, false, true);
    assert_eq!((status_of(&wants), check_of(&wants)), (Some(&What::Moved), Some(&What::Outdated)));
    for want in wants {
        state.pulls.posted.retain(|post| post.target != want.target);
        state.pulls.posted.push_back(post(want.target, want.content));
    }
    assert_eq!(look(&state, false, true), [], "said once");
    assert_eq!(
        look(&state, false, false),
        [],
        "what was taken back is not said before it is made again"
    );
    let wants = look(&state, true, true);
    let report = What::Report(Digest::of("one"));
    assert_eq!((status_of(&wants), check_of(&wants)), (Some(&report), Some(&report)));
    // What comes to the same on every machine is not marked.
    state.pulls.open.get_mut(&1).unwrap().planned.as_mut().unwrap().outcome =
        PullOutcome::Conflict(Vec::new());
    assert_eq!(status_of(&look(&state, false, true)), Some(&report));
}

#[test]
fn what_is_not_looked_at_any_more_does_not_stay_green_for_another_machine() {
    let mut state = State::default();
    planned_before(&mut state);
    let wants = seen(&state, true, &[1]);
    let lapsed = What::Lapsed(PLANNED_MAX);
    assert_eq!((status_of(&wants), check_of(&wants)), (Some(&lapsed), Some(&What::Outdated)));
    for want in wants {
        state.pulls.posted.retain(|post| post.target != want.target);
        state.pulls.posted.push_back(post(want.target, want.content));
    }
    state.pulls.machine = 9;
    in_force(&mut state, '9');
    let again = seen(&state, true, &[1]);
    assert_eq!((status_of(&again), check_of(&again)), (None, None), "said once, whatever moves");
}

#[test]
fn the_last_status_that_a_commit_takes_says_so_and_the_comment_goes_on() {
    let mut state = State::default();
    in_force(&mut state, '0');
    state.pulls.open.insert(1, pull('a', "one"));
    assert_eq!(said(&mut state), []);
    let limited = |state: &State| {
        let sight = Sight { statuses_max: Some(1_000), checks: true, ..Sight::default() };
        wanted(state, Timestamp::UNIX_EPOCH, &sight)
    };
    let (status, comment) = (PostTarget::Status(commit('a')), PostTarget::Comment(1));
    let many = |state: &mut State, times| {
        let known = state.pulls.posted.iter_mut().find(|post| post.target == status).unwrap();
        known.times = times;
    };
    many(&mut state, 989);
    state.pulls.open.insert(1, pull('a', "two"));
    let two = What::Report(Digest::of("two"));
    assert_eq!(status_of(&limited(&state)), Some(&two), "there is room");
    many(&mut state, 990);
    let wants = limited(&state);
    assert_eq!(status_of(&wants), Some(&What::Full));
    let full = wants.into_iter().find(|want| want.target == status).unwrap();
    state.pulls.posted.retain(|post| post.target != full.target);
    state.pulls.posted.push_back(Post { times: 991, ..post(full.target, full.content) });
    let wants = limited(&state);
    let of = |target: &PostTarget| {
        wants.iter().find(|want| want.target == *target).map(|want| want.what.clone())
    };
    assert_eq!(of(&status), None, "that was the last one");
    assert_eq!(of(&comment), Some(What::Noted(Digest::of("two"))));
    assert_eq!(of(&PostTarget::Check(commit('a'))), Some(two));
    // The same where the forge says it first.
    state.pulls.posted.retain(|post| post.target != status);
    let refused = Post { full: true, ..post(status.clone(), Digest::of("nothing")) };
    state.pulls.posted.push_back(refused);
    let wants = limited(&state);
    assert_eq!(status_of(&wants), None, "it is not tried again");
    assert!(wants.iter().any(|want| want.what == What::Noted(Digest::of("two"))));
    // Another head has room.
    state.pulls.open.insert(1, pull('c', "three"));
    let wants = limited(&state);
    assert!(wants.iter().any(|want| want.what == What::Report(Digest::of("three"))));
}

#[test]
fn a_commit_that_another_took_the_place_of_has_a_last_word_of_its_own() {
    let mut state = State::default();
    in_force(&mut state, 'd');
    let landed = |digit, done| Landed {
        commit: commit(digit),
        tree: None,
        since: None,
        ended: None,
        resources: 3,
        done,
        by: commit('d'),
    };
    state.spec.landed.extend([landed('a', true), landed('b', false), landed('c', false)]);
    let applied = Landing::Applied { resources: 3 };
    let target = PostTarget::Status(commit('c'));
    state.pulls.posted.push_back(post(target, applied.word()));
    let words: Vec<_> = seen(&state, false, &[])
        .into_iter()
        .skip(1)
        .filter_map(|want| match want.what {
            What::Landing { landing, .. } => Some((want.target, landing)),
            _ => None,
        })
        .collect();
    let (of, by) = (|digit| PostTarget::Status(commit(digit)), commit('d'));
    let superseded = Landing::Superseded { by };
    assert_eq!(words, [(of('a'), applied), (of('b'), superseded)], "what was said stays said");
    assert_eq!(said(&mut state), []);
}
