//! What counts, case by case.

use super::*;

const ZERO: SignedDuration = SignedDuration::ZERO;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn user(id: u64) -> User {
    User { id, login: format!("user{id}") }
}

fn review(id: u64, by: u64, verdict: ReviewVerdict, head: char, second: i64) -> Review {
    Review {
        id,
        author: Some(user(by)),
        verdict,
        commit: Some(commit(head)),
        at: Some(at(second)),
        body: String::new(),
    }
}

#[track_caller]
fn counts(reviews: &[Review], ids: &[u64]) {
    let found = approving(reviews, &commit('a'), at(100), ZERO);
    let found: Vec<u64> = found.into_iter().map(|(review, _)| review.id).collect();
    assert_eq!(found, ids);
}

#[test]
fn a_review_counts_for_its_head_after_the_plan_was_shown() {
    use ReviewVerdict::{Approved, ChangesRequested, Commented, Dismissed};
    counts(&[review(1, 1, Approved, 'a', 101)], &[1]);
    counts(&[review(1, 1, Approved, 'b', 101)], &[]);
    counts(&[review(1, 1, Approved, 'a', 100)], &[]);
    counts(&[review(1, 1, Commented, 'a', 101)], &[]);
    let yes = review(1, 1, Approved, 'a', 101);
    counts(&[yes.clone(), review(2, 1, Commented, 'a', 102)], &[1]);
    counts(&[yes.clone(), review(2, 1, ChangesRequested, 'a', 102)], &[]);
    counts(&[yes.clone(), review(2, 2, ChangesRequested, 'a', 102)], &[1]);
    counts(&[review(1, 1, Dismissed, 'a', 101)], &[]);
    let nobody = Review { author: None, ..yes.clone() };
    counts(&[nobody], &[]);
    let unknown = Review { commit: None, ..yes };
    counts(&[unknown], &[]);
}

#[test]
fn a_label_counts_when_it_was_put_on_last_and_late_enough() {
    let event = |id, added, second| LabelEvent {
        id,
        label: "go".into(),
        added,
        actor: Some(user(1)),
        at: at(second),
    };
    let of = |events: &[LabelEvent]| labelled(events, "go", at(100), ZERO).map(|(it, _)| it.id);
    assert_eq!(of(&[event(1, true, 101)]), Some(1));
    assert_eq!(of(&[event(1, true, 99)]), None, "put on for what was shown before");
    assert_eq!(of(&[event(1, true, 101), event(2, false, 102)]), None);
    assert_eq!(of(&[event(1, true, 99), event(2, false, 101), event(3, true, 102)]), Some(3));
}

#[test]
fn a_clock_that_is_apart_is_counted_in_and_a_second_is_none() {
    assert_eq!(ahead(Some(at(100)), at(101)), ZERO);
    assert_eq!(ahead(None, at(101)), ZERO);
    let late = ahead(Some(at(100)), at(700));
    assert!(after(at(101), at(700), late), "their 101 is our 701");
    assert!(!after(at(700), at(700), ahead(Some(at(1_300)), at(700))));
}

#[test]
fn what_was_given_can_be_taken_back() {
    let via =
        |means, id| ForgeApproval { login: "user1".into(), on: 1, means, id, url: None, at: None };
    let pull = |label: Option<&str>| PullRequest {
        number: 1,
        title: String::new(),
        state: crate::port::forge::PullState::Open,
        draft: false,
        head_sha: commit('a'),
        head_ref: "x".into(),
        base_ref: "main".into(),
        base_sha: commit('0'),
        fork: false,
        author: None,
        labels: label.into_iter().map(str::to_owned).collect(),
        updated_at: at(1),
        merge_commit: None,
        url: String::new(),
    };
    let yes = review(7, 1, ReviewVerdict::Approved, 'a', 101);
    let no = review(8, 1, ReviewVerdict::ChangesRequested, 'a', 102);
    let by_review = via(ApprovalMeans::Review, 7);
    let stands = |reviews: Option<&[Review]>| {
        taken_back(&by_review, &pull(None), reviews, Some("go")).is_none()
    };
    assert!(stands(Some(std::slice::from_ref(&yes))));
    assert!(!stands(Some(&[yes, no])));
    assert!(stands(None), "what could not be read takes nothing away");
    let by_label = via(ApprovalMeans::Label, 9);
    assert!(taken_back(&by_label, &pull(Some("go")), None, Some("go")).is_none());
    assert!(taken_back(&by_label, &pull(None), None, Some("go")).is_some());
}
