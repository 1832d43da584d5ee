//! What should stand on the forge, from what is known.
//!
//! Pure. It compares what should be said with what was said, so that a forge that was away for days,
//! or a crash between saying and noting, loses nothing and repeats nothing.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::seen::PLANNED_MAX;
use crate::event::body::{PostTarget, PullOutcome};
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
    /// What was found of it is no longer so, and it is looked at again.
    Stale,
    /// It is not looked at: there are so many newer ones.
    Beyond(usize),
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
    /// The pull request that it is the merge of.
    pub number: Option<u64>,
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
    /// It waits.
    Held {
        /// For these reasons.
        reasons: Vec<String>,
        /// The plan to approve; `None`: no approval ends it.
        plan: Option<Digest>,
    },
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
/// pull requests with a head of which nothing was said, then the others, and last those that are not
/// looked at (`beyond`); of these, statuses before comments and the lowest number first.
pub fn wanted(state: &State, now: Timestamp, checks: bool, beyond: &BTreeSet<u64>) -> Vec<Want> {
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
    let (unseen, looked_at): (Vec<_>, Vec<_>) = state
        .pulls
        .open
        .iter()
        .partition(|(number, pull)| beyond.contains(number) && !holds(state, pull));
    let (waiting, told): (Vec<_>, Vec<_>) =
        looked_at.into_iter().partition(|(number, pull)| is_waited_for(state, **number, pull));
    for part in [waiting, told] {
        for (_, pull) in &part {
            let what = match report_of(pull) {
                Some(_) if !holds(state, pull) => What::Stale,
                Some(report) => What::Report(report),
                None => What::Looking,
            };
            want(PostTarget::Status(pull.head.clone()), what);
        }
        for (number, pull) in &part {
            let Some(report) = report_of(pull) else { continue };
            if !holds(state, pull) {
                continue;
            }
            if !is_quiet(state, **number, pull) {
                want(PostTarget::Comment(**number), What::Report(report));
            }
            if checks {
                want(PostTarget::Check(pull.head.clone()), What::Report(report));
            }
        }
    }
    for (_, pull) in unseen {
        want(PostTarget::Status(pull.head.clone()), What::Beyond(PLANNED_MAX));
    }
    let drifts = lasting_drifts(state, now);
    if !drifts.is_empty() || state.pulls.post(&PostTarget::Issue).is_some() {
        want(PostTarget::Issue, What::Drift(drifts));
    }
    wants
}

/// Whether what was found of the head that is offered now was found against the branch as it is. A head
/// of the branch that is not used counts as well: pull requests are merged into it.
fn holds(state: &State, pull: &PullState) -> bool {
    let base = pull.planned.as_ref().map(|planned| &planned.base);
    report_of(pull).is_some() && base == state.source.branch()
}

/// Whether somebody waits for the first word about a head: more than for a newer one about an old head.
fn is_waited_for(state: &State, number: u64, pull: &PullState) -> bool {
    let said = |target: &PostTarget| state.pulls.post(target).map(|post| post.content);
    let status = said(&PostTarget::Status(pull.head.clone()));
    let nothing = [What::Looking, What::Beyond(PLANNED_MAX)].map(|what| Some(digest_of(&what)));
    let first = status.is_none() || nothing.contains(&status);
    // A comment completes what its status began.
    let report = report_of(pull).map(|report| digest_of(&What::Report(report)));
    let told = is_quiet(state, number, pull) || said(&PostTarget::Comment(number)) == report;
    first || (report.is_some() && status == report && !told)
}

/// Whether its status says all: strangers are not written to only to be told that nothing was looked at.
/// What stands in a comment already does not go stale, though.
fn is_quiet(state: &State, number: u64, pull: &PullState) -> bool {
    let outcome = pull.planned.as_ref().map(|planned| &planned.outcome);
    let refused = matches!(outcome, Some(PullOutcome::Refused(_)));
    pull.fork && refused && state.pulls.post(&PostTarget::Comment(number)).is_none()
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
        Landing::Held { .. } => {
            state.plan.as_ref().filter(|it| !it.held.is_empty()).map(|it| it.made_at)
        }
        Landing::Failed(_) => {
            let failures = state.resources.values().filter_map(|known| known.failure.as_ref());
            failures.map(|failure| failure.at).max()
        }
        Landing::Pending | Landing::Rejected { .. } | Landing::Refused(_) => None,
    };
    let merged = state.spec.tree.as_deref().and_then(|tree| state.pulls.promise(tree));
    let comment =
        merged.as_ref().and_then(|merged| state.pulls.post(&PostTarget::Comment(merged.number)));
    let url = comment.and_then(|comment| comment.url.clone());
    Course { started, ended, url, number: merged.map(|merged| merged.number) }
}

fn landing(state: &State) -> Landing {
    let plan = state.plan.as_ref().filter(|plan| !plan.finished);
    if let Some(plan) = plan.filter(|plan| !plan.held.is_empty()) {
        let may = !plan.firm && state.paused.is_none();
        return Landing::Held { reasons: plan.held.clone(), plan: may.then_some(plan.plan) };
    }
    if let Some(paused) = &state.paused {
        let reasons = vec![format!("paused by {}: {}", paused.by, paused.reason)];
        return Landing::Held { reasons, plan: None };
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
mod tests;
