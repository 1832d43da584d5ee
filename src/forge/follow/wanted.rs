//! What should stand on the forge, from what is known.
//!
//! Pure. It compares what should be said with what was said, so that a forge that was away for days,
//! or a crash between saying and noting, loses nothing and repeats nothing.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::body::PostTarget;
use crate::model::{CommitId, Digest, digest_of};
use crate::state::{PullState, State};
use crate::view::{self, DriftRow};

/// Something that should stand on the forge and, as far as is known, does not.
#[derive(Debug, Clone, PartialEq)]
pub struct Want {
    /// Where.
    pub target: PostTarget,
    /// Digest of `what`.
    pub content: Digest,
    /// What.
    pub what: What,
}

/// What is to be said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum What {
    /// A pull request is being looked at.
    Looking,
    /// What is in this blob was found of a pull request.
    Report(Digest),
    /// What became of a commit.
    Landing {
        /// What.
        landing: Landing,
        /// When, and where it is told of. No part of what is said: another time is no news.
        #[serde(skip)]
        course: Course,
    },
    /// These differ from the commit in force and are not put right; empty: none does any more.
    Drift(Vec<DriftRow>),
}

/// When a commit was taken in, when it came to what became of it, and the page that told of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Course {
    /// When it was taken in.
    pub started: Option<Timestamp>,
    /// When it came to what became of it.
    pub ended: Option<Timestamp>,
    /// The comment on its pull request.
    pub url: Option<String>,
}

/// What became of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum Landing {
    /// The machine is being brought to it.
    Pending,
    /// The machine is what it asks for.
    Applied {
        /// How many resources it asks for.
        resources: u64,
    },
    /// It waits, for these reasons.
    Held(Vec<String>),
    /// These could not be brought to it.
    Failed(Vec<String>),
    /// It has mistakes and is not used.
    Rejected {
        /// How many.
        errors: u64,
        /// The first.
        first: Option<String>,
    },
    /// It is refused for its signature or its history.
    Refused(String),
}

/// Names in a list; the rest is counted where it is shown.
const NAMED_MAX: usize = 20;

/// How long a drift has to last before it is written down as an issue, in seconds: what heals by
/// itself is gone by then.
const DRIFT_TOLD_AFTER_S: i64 = 600;

/// Everything that should be said now and has not been, most urgent first: the commit in force,
/// pull requests with a head of which nothing was said, then the others; of these, statuses before
/// comments and the lowest number first.
pub fn wanted(state: &State, now: Timestamp, checks: bool) -> Vec<Want> {
    let mut wants = Vec::new();
    let mut spoken_for = BTreeSet::new();
    let mut want = |target: PostTarget, what: What| {
        // Two pull requests can have one head, and a head can be the commit in force: one place says
        // one thing, or the two would take turns for ever.
        if !spoken_for.insert(target.clone()) {
            return;
        }
        let content = digest_of(&what);
        if state.pulls.post(&target).is_none_or(|post| post.content != content) {
            wants.push(Want { target, content, what });
        }
    };
    for (commit, landing, course) in landings(state) {
        let target = PostTarget::Status(commit);
        // What became of a commit is said once: a later drift is no news about the commit.
        let landing_of = |landing| What::Landing { landing, course: course.clone() };
        let applied = landing_of(Landing::Applied { resources: wished(state) });
        let said = state.pulls.post(&target).map(|post| post.content);
        let done = said == Some(digest_of(&applied));
        want(target, if done { applied } else { landing_of(landing) });
    }
    let (waiting, told): (Vec<_>, Vec<_>) =
        state.pulls.open.iter().partition(|(number, pull)| is_waited_for(state, **number, pull));
    for part in [waiting, told] {
        for (_, pull) in &part {
            let what = report_of(pull).map_or(What::Looking, What::Report);
            want(PostTarget::Status(pull.head.clone()), what);
        }
        for (number, pull) in part {
            let Some(report) = report_of(pull) else { continue };
            want(PostTarget::Comment(*number), What::Report(report));
            if checks {
                want(PostTarget::Check(pull.head.clone()), What::Report(report));
            }
        }
    }
    let drifts = lasting_drifts(state, now);
    if !drifts.is_empty() || state.pulls.post(&PostTarget::Issue).is_some() {
        want(PostTarget::Issue, What::Drift(drifts));
    }
    wants
}

/// Whether somebody waits for the first word about a head: more than for a newer one about an old head.
fn is_waited_for(state: &State, number: u64, pull: &PullState) -> bool {
    let said = |target: &PostTarget| state.pulls.post(target).map(|post| post.content);
    let status = said(&PostTarget::Status(pull.head.clone()));
    let first = status.is_none() || status == Some(digest_of(&What::Looking));
    // A comment completes what its status began.
    let report = report_of(pull).map(|report| digest_of(&What::Report(report)));
    first || (report.is_some() && status == report && said(&PostTarget::Comment(number)) != report)
}

/// The report on the head that is offered now.
fn report_of(pull: &PullState) -> Option<Digest> {
    let planned = pull.planned.as_ref()?;
    (planned.head == pull.head).then_some(planned.report)
}

/// What became of the commit in force, and of one that is not used.
fn landings(state: &State) -> Vec<(CommitId, Landing, Course)> {
    let mut landings = Vec::new();
    if let Some(refused) = &state.source.refused {
        let course = Course { ended: Some(refused.since), ..Course::default() };
        landings.push((refused.commit.clone(), Landing::Refused(refused.why.clone()), course));
    }
    if let Some(rejected) = &state.spec.rejected {
        let first = rejected.problems.first().map(|problem| {
            format!("{}:{}:{} {}", problem.path, problem.line, problem.column, problem.message)
        });
        let landing = Landing::Rejected { errors: rejected.errors, first };
        landings.push((rejected.commit.clone(), landing, Course::default()));
    }
    if let Some(commit) = &state.spec.commit {
        let landing = landing(state);
        let course = course(state, &landing);
        landings.push((commit.clone(), landing, course));
    }
    landings
}

/// The course of the commit in force.
fn course(state: &State, landing: &Landing) -> Course {
    let started = state.spec.since;
    let ended = match landing {
        Landing::Applied { .. } => state.spec.settled.or(started),
        Landing::Held(_) => {
            state.plan.as_ref().filter(|it| !it.held.is_empty()).map(|it| it.made_at)
        }
        Landing::Failed(_) => {
            let failures = state.resources.values().filter_map(|known| known.failure.as_ref());
            failures.map(|failure| failure.at).max()
        }
        Landing::Pending | Landing::Rejected { .. } | Landing::Refused(_) => None,
    };
    let merged = state.spec.tree.as_deref().and_then(|tree| state.pulls.promise(tree));
    let comment = merged.and_then(|merged| state.pulls.post(&PostTarget::Comment(merged.number)));
    Course { started, ended, url: comment.and_then(|comment| comment.url.clone()) }
}

fn landing(state: &State) -> Landing {
    let plan = state.plan.as_ref().filter(|plan| !plan.finished);
    if let Some(plan) = plan.filter(|plan| !plan.held.is_empty()) {
        return Landing::Held(plan.held.clone());
    }
    if let Some(paused) = &state.paused {
        return Landing::Held(vec![format!("paused by {}: {}", paused.by, paused.reason)]);
    }
    let failed = state.resources.iter().filter_map(|(id, known)| {
        let failure = known.failure.as_ref()?;
        Some(format!("{id}: {}", failure.fault))
    });
    let failed: Vec<_> = failed.take(NAMED_MAX).collect();
    if !failed.is_empty() {
        return Landing::Failed(failed);
    }
    let done = state.resources.values().all(|known| {
        let applied = known.applied.as_ref().map(|applied| applied.wish);
        // What is gone from the commit and still there waits to be pruned, unless it is kept.
        let gone = known.wish.is_none() && known.claim.as_ref().is_none_or(|claim| !claim.orphan);
        if known.wish.is_none() { !gone } else { applied == known.wish }
    });
    if done { Landing::Applied { resources: wished(state) } } else { Landing::Pending }
}

fn wished(state: &State) -> u64 {
    state.resources.values().filter(|known| known.wish.is_some()).count() as u64
}

/// The drifts that are told: what heals by itself is gone before it is one of them.
fn lasting_drifts(state: &State, now: Timestamp) -> Vec<DriftRow> {
    let mut drifts = view::drifts(state);
    drifts.retain(|drift| {
        now.duration_since(drift.since).as_secs() >= DRIFT_TOLD_AFTER_S
            && state.resources.get(&drift.resource).is_some_and(|it| it.in_flight.is_none())
    });
    drifts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::body::PullOutcome;
    use crate::plan::promise::Promise;
    use crate::state::{Merged, Planned, Post};

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
            older: Default::default(),
            shown_at: None,
            approved: None,
        }
    }

    /// Says everything, and what there is to say after that.
    fn said(state: &mut State) -> Vec<Want> {
        for want in wanted(state, Timestamp::UNIX_EPOCH, true) {
            state.pulls.posted.retain(|post| post.target != want.target);
            let post = Post { target: want.target, content: want.content, url: None };
            state.pulls.posted.push_back(post);
        }
        wanted(state, Timestamp::UNIX_EPOCH, true)
    }

    #[test]
    fn one_place_says_one_thing() {
        let mut state = State::default();
        state.spec.commit = Some(commit('b'));
        state.pulls.open.insert(1, pull('a', "one"));
        state.pulls.open.insert(2, pull('a', "two"));
        state.pulls.open.insert(3, pull('b', "three"));
        let wants = wanted(&state, Timestamp::UNIX_EPOCH, true);
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
    fn a_new_head_is_pending_until_it_was_looked_at() {
        let mut state = State::default();
        state.pulls.open.insert(1, pull('a', "one"));
        assert_eq!(said(&mut state), []);
        state.pulls.open.get_mut(&1).unwrap().head = commit('c');
        let wants = wanted(&state, Timestamp::UNIX_EPOCH, true);
        let [want] = wants.as_slice() else { panic!("{wants:?}") };
        assert_eq!((&want.target, &want.what), (&PostTarget::Status(commit('c')), &What::Looking));
    }

    #[test]
    fn what_became_of_a_merge_has_its_times_and_its_pull_request_and_is_said_once() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let mut state = State::default();
        state.spec.commit = Some(commit('b'));
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
        };
        state.pulls.promises.push_back(merged);
        let url = Some("https://forge.example/7#c1".to_owned());
        let (target, content) = (PostTarget::Comment(7), Digest::of("comment"));
        state.pulls.posted.push_back(Post { target, content, url: url.clone() });
        let wants = wanted(&state, Timestamp::UNIX_EPOCH, false);
        let [Want { what: What::Landing { course, .. }, .. }] = wants.as_slice() else {
            panic!("{wants:?}")
        };
        let started = state.spec.since;
        assert_eq!(*course, Course { started, ended: started, url }, "there was nothing to do");
        said(&mut state);
        state.spec.settled = Some(at("2026-01-02T04:00:00Z"));
        assert_eq!(wanted(&state, Timestamp::UNIX_EPOCH, false), [], "another time is no news");
    }
}
