//! What became of commits: of the one in force, of one that is not used, and of those before.
//!
//! Pure, and from the log alone.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::wanted::What;
use crate::event::body::PostTarget;
use crate::model::{CommitId, Digest, digest_of};
use crate::state::State;

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
    /// Another commit took its place before the machine was as it asked.
    Superseded {
        /// Which.
        by: CommitId,
    },
}

/// Names in a list; the rest is counted where it is shown.
const NAMED_MAX: usize = 20;

/// What became of the commit in force, and of one that is not used.
pub(super) fn landings(state: &State) -> Vec<(CommitId, Landing, Course)> {
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
        Landing::Pending
        | Landing::Rejected { .. }
        | Landing::Refused(_)
        | Landing::Superseded { .. } => None,
    };
    let merged = state.spec.tree.as_deref().and_then(|tree| state.pulls.promise(tree));
    let comment =
        merged.as_ref().and_then(|merged| state.pulls.post(&PostTarget::Comment(merged.number)));
    let url = comment.and_then(|comment| comment.url.clone());
    Course { started, ended, url, number: merged.map(|merged| merged.number) }
}

/// What became of commits that were in force before, as far as that is remembered.
pub(super) fn earlier(state: &State) -> impl Iterator<Item = (CommitId, Landing, Course)> {
    state.spec.landed.iter().map(|landed| {
        let applied = Landing::Applied { resources: landed.resources };
        let target = PostTarget::Status(landed.commit.clone());
        let said = state.pulls.post(&target).map(|post| post.content);
        // What became of a commit is said once, however the machine changed after it.
        let done = landed.done || said == Some(applied.word());
        let landing = if done { applied } else { Landing::Superseded { by: landed.by.clone() } };
        let merged = landed.tree.as_deref().and_then(|tree| state.pulls.promise(tree));
        let number = merged.map(|merged| merged.number);
        let comment = number.and_then(|number| state.pulls.post(&PostTarget::Comment(number)));
        let url = comment.and_then(|comment| comment.url.clone());
        let course = Course { started: landed.since, ended: landed.ended, url, number };
        (landed.commit.clone(), landing, course)
    })
}

impl Landing {
    /// The digest under which it is remembered that this was said.
    pub(super) fn word(&self) -> Digest {
        digest_of(&What::Landing { landing: self.clone(), course: Course::default() })
    }
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
    if state.is_as_asked() {
        Landing::Applied { resources: state.wished() }
    } else {
        Landing::Pending
    }
}
