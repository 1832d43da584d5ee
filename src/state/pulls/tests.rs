//! An approval on the forge, from its event to the plan it lets through.

use super::*;
use crate::event::body::{ApprovalMeans, PlanFinished, PullClosed};
use crate::event::{Entry, Event, Recorded, Spilled};
use crate::state::State;

const TREE: &str = "dddddddddddddddddddddddddddddddddddddddd";

#[derive(Default)]
struct Log(State);

impl Log {
    fn tell(&mut self, entry: Entry) {
        let seq = self.0.seq + 1;
        let at = Timestamp::from_second(i64::try_from(seq).unwrap()).unwrap();
        self.0.apply(&Recorded { seq, at, entry });
    }

    /// Pull request 7 with this head, whose plan is shown and waits.
    fn shown(&mut self, head: char, plan: &str) {
        self.planned(head, plan);
        self.posted(7, plan);
    }

    fn posted(&mut self, number: u64, plan: &str) {
        let (target, content) = (PostTarget::Comment(number), Digest::of(plan));
        self.tell(Entry::new(Event::ForgePosted(ForgePosted {
            target,
            content,
            id: None,
            url: None,
        })));
    }

    /// Pull request 7 with this head, whose plan is made and waits.
    fn planned(&mut self, head: char, plan: &str) {
        self.offered(7, head, plan, TREE);
    }

    /// A pull request, whose plan is made and waits; those from 8 on are of strangers.
    fn offered(&mut self, number: u64, head: char, plan: &str, tree: &str) {
        let (author, head) = ("ann".to_owned(), commit(head));
        let observed = PullObserved { number, head: head.clone(), author, fork: number > 7 };
        self.tell(Entry::new(Event::PullObserved(observed)));
        let outcome = PullOutcome::Planned(PullPlan {
            plan: Digest::of(plan),
            promise: Promise::default(),
            held: vec!["it would destroy".into()],
            denied: Vec::new(),
        });
        let planned = PullPlanned {
            number,
            head,
            base: commit('0'),
            tree: Some(tree.to_owned()),
            outcome,
            report: Spilled::of(plan.as_bytes().to_vec()).0,
            says: None,
            summary: None,
        };
        self.tell(Entry::new(Event::PullPlanned(planned)));
    }

    fn approve(&mut self, head: char, plan: &str) {
        let (head, plan) = (commit(head), Digest::of(plan));
        let approved = PullApproved { number: 7, head, plan, via: via() };
        self.tell(Entry::new(Event::PullApproved(approved)).by("github:ben"));
    }

    fn close(&mut self) {
        self.tell(Entry::new(Event::PullClosed(PullClosed { number: 7, merged: true })));
    }

    /// Who let the merge through.
    fn approver(&self) -> Option<String> {
        Some(self.0.pulls.promise(TREE)?.approved?.by)
    }
}

#[test]
fn what_is_said_after_the_merge_was_promised_to_nobody() {
    let promised = |log: &Log| log.0.pulls.promise(TREE).map(|merged| merged.plan);
    let mut log = Log::default();
    log.shown('a', "seen");
    log.0.source.head = Some(commit('e'));
    log.shown('a', "while the merge is taken in");
    assert_eq!(promised(&log), Some(Digest::of("seen")));
    (log.0.spec.commit, log.0.spec.tree) = (Some(commit('e')), Some(TREE.to_owned()));
    log.shown('a', "of a machine that moved");
    assert_eq!(promised(&log), Some(Digest::of("seen")));
    // Another commit was merged: this one is still open, and its plan is made anew.
    log.0.spec.tree = Some("f".repeat(40));
    log.shown('a', "anew");
    assert_eq!(promised(&log), Some(Digest::of("anew")));
}

#[test]
fn what_may_have_been_said_is_promised_where_nothing_is_known_to_be() {
    let promised = |log: &Log| log.0.pulls.promise(TREE).map(|merged| merged.plan);
    let merging = |log: &mut Log| log.0.source.head = Some(commit('e'));
    // Said, and the program ended before that was taken note of; then it was merged.
    let mut log = Log::default();
    log.planned('a', "said at last");
    merging(&mut log);
    assert_eq!(promised(&log), Some(Digest::of("said at last")));
    log.planned('a', "while the merge is taken in");
    (log.0.spec.commit, log.0.spec.tree) = (Some(commit('e')), Some(TREE.to_owned()));
    log.planned('a', "of a machine that moved");
    assert_eq!(promised(&log), Some(Digest::of("said at last")));
    log.close();
    assert_eq!(promised(&log), Some(Digest::of("said at last")));
    // What is known to stand there goes before what may.
    let mut log = Log::default();
    log.shown('a', "seen");
    log.planned('a', "of a machine that moved");
    assert_eq!(promised(&log), Some(Digest::of("seen")));
    log.close();
    assert_eq!(promised(&log), Some(Digest::of("seen")));
}

#[test]
fn a_copy_of_what_is_in_force_promises_nothing() {
    let promised = |log: &Log| log.0.pulls.promise(TREE).map(|merged| (merged.number, merged.plan));
    let seen = Some((7, Digest::of("seen")));
    let mut log = Log::default();
    log.shown('a', "seen");
    log.offered(8, 'b', "a copy, before the merge", TREE);
    log.posted(8, "a copy, before the merge");
    assert_eq!(promised(&log), seen);
    log.close();
    (log.0.spec.commit, log.0.spec.tree) = (Some(commit('e')), Some(TREE.to_owned()));
    log.offered(9, 'c', "a copy, after it", TREE);
    log.posted(9, "a copy, after it");
    for number in [8, 9] {
        log.tell(Entry::new(Event::PullClosed(PullClosed { number, merged: false })));
        assert_eq!(promised(&log), seen);
    }
}

#[test]
fn what_the_commit_in_force_promised_outlives_a_crowd() {
    let mut log = Log::default();
    log.shown('a', "seen");
    log.close();
    (log.0.spec.commit, log.0.spec.tree) = (Some(commit('e')), Some(TREE.to_owned()));
    for number in 8..8 + 2 * PROMISES_KEPT_MAX as u64 {
        log.offered(number, 'b', "noise", &"f".repeat(40));
        log.posted(number, "noise");
        log.tell(Entry::new(Event::PullClosed(PullClosed { number, merged: true })));
    }
    assert_eq!(log.0.pulls.promises.len(), PROMISES_KEPT_MAX);
    assert_eq!(log.0.pulls.promise(TREE).map(|it| it.plan), Some(Digest::of("seen")));
}

#[test]
fn a_word_taken_back_is_void() {
    let mut log = Log::default();
    log.shown('a', "plan");
    log.approve('a', "plan");
    assert!(!log.0.pulls.is_void(&via()));
    let (plan, why) = (Digest::of("plan"), "she said so".to_owned());
    let withdrawn = PullApprovalWithdrawn { number: 7, plan, why, word: None, asked: None };
    log.tell(Entry::new(Event::PullApprovalWithdrawn(withdrawn)));
    assert!(log.0.pulls.is_void(&via()));
    assert!(!log.0.pulls.is_void(&ForgeApproval { id: 13, ..via() }), "another word is another");
}

fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn via() -> ForgeApproval {
    let login = "ben".to_owned();
    ForgeApproval { login, on: 7, means: ApprovalMeans::Review, id: 12, url: None, at: None }
}

#[test]
fn an_approval_outlives_the_pull_request_and_is_spent_once() {
    let mut log = Log::default();
    log.shown('a', "plan");
    assert_eq!(log.approver(), None);
    log.approve('a', "plan");
    log.close();
    assert_eq!(log.approver().as_deref(), Some("github:ben"));
    let live = Digest::of("live");
    let approved = PlanApproved { plan: live, via: Some(via()), shown: Some(Digest::of("plan")) };
    log.tell(Entry::new(Event::PlanApproved(approved)).by("github:ben"));
    let finished = |failed| PlanFinished { plan: live, succeeded: 1, failed, blocked: 0 };
    log.tell(Entry::new(Event::PlanFinished(finished(1))));
    assert!(log.approver().is_some(), "what failed may be tried again");
    log.tell(Entry::new(Event::PlanFinished(finished(0))));
    assert_eq!(log.approver(), None);
    log.approve('a', "plan");
    let told = log.0.pulls.promises.back().unwrap();
    assert!(told.held.is_empty(), "the same word heard again has nothing to be about");
}

#[test]
fn another_head_voids_it_and_the_old_head_does_not_bring_it_back() {
    let mut log = Log::default();
    log.shown('a', "plan");
    log.approve('a', "plan");
    log.shown('b', "other");
    assert_eq!(log.approver(), None);
    log.approve('a', "plan");
    assert_eq!(log.approver(), None, "it is of a head that is offered no more");
    log.shown('a', "plan");
    assert_eq!(log.approver(), None);
}

#[test]
fn it_is_for_what_was_shown_and_can_be_taken_back() {
    let mut log = Log::default();
    log.shown('a', "plan");
    let since = log.0.pulls.open[&7].shown_at;
    log.approve('a', "another");
    assert_eq!(log.approver(), None);
    log.approve('a', "plan");
    assert!(log.approver().is_some());
    let (plan, why) = (Digest::of("plan"), "the label go was taken off".to_owned());
    let withdrawn = PullApprovalWithdrawn { number: 7, plan, why, word: None, asked: None };
    log.tell(Entry::new(Event::PullApprovalWithdrawn(withdrawn)));
    assert_eq!(log.approver(), None);
    log.shown('a', "plan");
    assert_eq!(log.0.pulls.open[&7].shown_at, since, "the same plan said again is no news");
    log.shown('a', "next");
    assert!(log.0.pulls.open[&7].shown_at > since);
}
