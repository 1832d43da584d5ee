//! What should stand on the forge, from what is known.
//!
//! Pure. It compares what should be said with what was said, so that a forge that was away for days,
//! or a crash between saying and noting, loses nothing and repeats nothing.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::landing::{Course, Landing, earlier, landings};
use super::seen::PLANNED_MAX;
use crate::event::body::{PostTarget, PullOutcome};
use crate::model::{Digest, digest_of};
use crate::state::{Post, PullState, State};
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
    /// The base has moved since it was looked at, and it is looked at again.
    Stale,
    /// The machine has moved since it was looked at, and that could not be done again at once.
    Moved,
    /// What was found of it is no longer so, and it is not looked at again: there are so many newer
    /// ones.
    Lapsed(usize),
    /// What its check says was found of another base or machine.
    Outdated,
    /// The commit has nearly as many statuses as the forge takes: this is the last one.
    Full,
    /// What is in this blob was found of a pull request whose status says nothing any more.
    Noted(Digest),
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

/// How long a drift has to last before it is written down as an issue, in seconds: what heals by
/// itself is gone by then.
const DRIFT_TOLD_AFTER_S: i64 = 600;

/// Statuses of a commit that are left unused: for a post that is not known to have arrived, and what
/// somebody else says under the same name.
const STATUSES_SPARED: usize = 10;

/// What is known beyond the log: what the forge can do and lists, and what this program looked at.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    /// Whether the forge takes checks.
    pub checks: bool,
    /// Most statuses of one name that a commit takes.
    pub statuses_max: Option<usize>,
    /// Pull requests that are not looked at: there are so many newer ones.
    pub beyond: BTreeSet<u64>,
    /// Pull requests that were looked at since the machine moved: what is in the log of them holds.
    pub verified: BTreeSet<u64>,
    /// Whether every other one should have been looked at by now.
    pub late: bool,
}

impl Sight {
    /// Whether a commit has nearly as many statuses as it takes.
    fn is_full(&self, post: Option<&Post>) -> bool {
        let times = post.map_or(0, |post| post.times);
        self.statuses_max.is_some_and(|max| times >= max.saturating_sub(STATUSES_SPARED) as u64)
    }
}

/// What was found of the head that is offered now, and whether that is still so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    OfAnotherBase,
    OfAnotherMachine(Digest),
    Holds(Digest),
}

/// Everything that should be said now and has not been, most urgent first: the commit in force,
/// pull requests with a head of which nothing was said, then the others, then those that are not
/// looked at, and last the commits before; of these, statuses before comments and the lowest number
/// first.
pub fn wanted(state: &State, now: Timestamp, sight: &Sight) -> Vec<Want> {
    let mut wants = Wants { state, sight, spoken_for: BTreeSet::new(), wants: Vec::new() };
    for (commit, landing, course) in landings(state) {
        let target = PostTarget::Status(commit);
        // What became of a commit is said once: a later drift is no news about the commit.
        let applied = Landing::Applied { resources: state.wished() };
        let said = state.pulls.post(&target).map(|post| post.content);
        let landing = if said == Some(applied.word()) { applied } else { landing };
        wants.add(target, What::Landing { landing, course });
    }
    let (looked_at, unseen): (Vec<_>, Vec<_>) = state
        .pulls
        .open
        .iter()
        .map(|(number, pull)| (*number, pull, found(state, sight, *number, pull)))
        .partition(|(number, _, found)| {
            !sight.beyond.contains(number) || matches!(found, Found::Holds(_))
        });
    let (waiting, told): (Vec<_>, Vec<_>) =
        looked_at.into_iter().partition(|(number, pull, _)| is_waited_for(state, *number, pull));
    for part in [waiting, told] {
        let part: Vec<_> = part
            .iter()
            .map(|(number, pull, found)| (*number, *pull, wants.word(pull, *found)))
            .collect();
        for (_, pull, what) in &part {
            wants.add(PostTarget::Status(pull.head.clone()), what.clone());
        }
        for (number, pull, what) in &part {
            wants.rest_of_pull(*number, pull, what);
        }
    }
    for (number, pull, found) in unseen {
        let what = match found {
            Found::Nothing => What::Beyond(PLANNED_MAX),
            _ => What::Lapsed(PLANNED_MAX),
        };
        wants.add(PostTarget::Status(pull.head.clone()), what.clone());
        wants.rest_of_pull(number, pull, &what);
    }
    for (commit, landing, course) in earlier(state) {
        wants.add(PostTarget::Status(commit), What::Landing { landing, course });
    }
    let drifts = lasting_drifts(state, now);
    if !drifts.is_empty() || state.pulls.post(&PostTarget::Issue).is_some() {
        wants.add(PostTarget::Issue, What::Drift(drifts));
    }
    wants.wants
}

/// What is to be said, as it is found.
struct Wants<'a> {
    state: &'a State,
    sight: &'a Sight,
    spoken_for: BTreeSet<PostTarget>,
    wants: Vec<Want>,
}

impl Wants<'_> {
    fn add(&mut self, target: PostTarget, what: What) {
        // Two pull requests can have one head, and a head can be the commit in force: one place says
        // one thing, or the two would take turns for ever.
        if !self.spoken_for.insert(target.clone()) {
            return;
        }
        let post = self.state.pulls.post(&target);
        if post.is_some_and(|post| post.full) {
            return;
        }
        let last = matches!(target, PostTarget::Status(_)) && self.sight.is_full(post);
        let said = post.map(|post| post.content);
        let content = digest_of(&what);
        if said == Some(content) {
            return;
        }
        let (what, content) =
            if last { (What::Full, digest_of(&What::Full)) } else { (what, content) };
        if said != Some(content) {
            self.wants.push(Want { target, content, what });
        }
    }

    /// What the status of a pull request that is looked at says.
    fn word(&self, pull: &PullState, found: Found) -> What {
        match found {
            Found::Nothing => What::Looking,
            Found::OfAnotherBase => What::Stale,
            Found::Holds(report) => What::Report(report),
            Found::OfAnotherMachine(report) => {
                let report = What::Report(report);
                // Looking again takes a moment, and mostly comes to the same. What was taken back once
                // is not said again before that.
                let post = self.state.pulls.post(&PostTarget::Status(pull.head.clone()));
                let stands = post.is_some_and(|post| post.content == digest_of(&report));
                if stands && !self.sight.late { report } else { What::Moved }
            }
        }
    }

    /// The comment and the check, beside a status that says `what`.
    fn rest_of_pull(&mut self, number: u64, pull: &PullState, what: &What) {
        let check = PostTarget::Check(pull.head.clone());
        match what {
            What::Report(report) => {
                if !is_quiet(self.state, number, pull) {
                    self.add(PostTarget::Comment(number), self.comment_of(pull, *report));
                }
                if self.sight.checks {
                    self.add(check, what.clone());
                }
            }
            // A check that was made for another base or machine does not stay green.
            What::Stale | What::Moved | What::Lapsed(_)
                if self.sight.checks && self.state.pulls.post(&check).is_some() =>
            {
                self.add(check, What::Outdated);
            }
            _ => {}
        }
    }

    fn comment_of(&self, pull: &PullState, report: Digest) -> What {
        let status = self.state.pulls.post(&PostTarget::Status(pull.head.clone()));
        let says_nothing =
            status.is_some_and(|status| status.full || status.content == digest_of(&What::Full));
        if says_nothing { What::Noted(report) } else { What::Report(report) }
    }
}

/// Whether what was found of the head that is offered now was found against the branch and the machine
/// as they are. A head of the branch that is not used counts as well: pull requests are merged into it.
fn found(state: &State, sight: &Sight, number: u64, pull: &PullState) -> Found {
    let Some(planned) = pull.planned.as_ref().filter(|it| it.head == pull.head) else {
        return Found::Nothing;
    };
    if Some(&planned.base) != state.source.branch() {
        return Found::OfAnotherBase;
    }
    // A conflict or a mistake is the same on every machine.
    let depends = matches!(planned.outcome, PullOutcome::Planned(_));
    let moved = planned.seq < state.pulls.machine && !sight.verified.contains(&number);
    if depends && moved {
        Found::OfAnotherMachine(planned.report)
    } else {
        Found::Holds(planned.report)
    }
}

/// Whether somebody waits for the first word about a head: more than for a newer one about an old head.
fn is_waited_for(state: &State, number: u64, pull: &PullState) -> bool {
    let said = |target: &PostTarget| state.pulls.post(target).map(|post| post.content);
    let status = said(&PostTarget::Status(pull.head.clone()));
    let nothing = [What::Looking, What::Beyond(PLANNED_MAX), What::Lapsed(PLANNED_MAX)];
    let nothing = nothing.map(|what| Some(digest_of(&what)));
    let first = status.is_none() || nothing.contains(&status);
    // A comment completes what its status began.
    let planned = pull.planned.as_ref().filter(|planned| planned.head == pull.head);
    let report = planned.map(|planned| digest_of(&What::Report(planned.report)));
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
