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
        let (target, content) = (PostTarget::Comment(7), Digest::of(plan));
        self.tell(Entry::new(Event::ForgePosted(ForgePosted {
            target,
            content,
            id: None,
            url: None,
        })));
    }

    /// Pull request 7 with this head, whose plan is made and waits.
    fn planned(&mut self, head: char, plan: &str) {
        let (author, head) = ("ann".to_owned(), commit(head));
        let observed = PullObserved { number: 7, head: head.clone(), author, fork: false };
        self.tell(Entry::new(Event::PullObserved(observed)));
        let outcome = PullOutcome::Planned(PullPlan {
            plan: Digest::of(plan),
            promise: Promise::default(),
            held: vec!["it would destroy".into()],
            denied: Vec::new(),
        });
        let planned = PullPlanned {
            number: 7,
            head,
            base: commit('0'),
            tree: Some(TREE.to_owned()),
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
        self.tell(Entry::new(Event::PullClosed(PullClosed { number: 7 })));
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

fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn via() -> ForgeApproval {
    let login = "ben".to_owned();
    ForgeApproval { login, on: 7, means: ApprovalMeans::Review, id: 12, url: None }
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
    let withdrawn = PullApprovalWithdrawn { number: 7, plan, why };
    log.tell(Entry::new(Event::PullApprovalWithdrawn(withdrawn)));
    assert_eq!(log.approver(), None);
    log.shown('a', "plan");
    assert_eq!(log.0.pulls.open[&7].shown_at, since, "the same plan said again is no news");
    log.shown('a', "next");
    assert!(log.0.pulls.open[&7].shown_at > since);
}
