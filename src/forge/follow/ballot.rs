//! What counts as an approval, as pure functions.
//!
//! An approval is for one head and one plan. A comment names the plan; a review and a label do not,
//! so they count only when they came after that plan was shown. It never asks who somebody is.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::event::body::{
    ApprovalMeans, ForgeApproval, PlanApproved, PullApprovalWithdrawn, PullApproved, PullOutcome,
};
use crate::event::{Entry, Event};
use crate::model::{CommitId, Digest};
use crate::port::forge::{Comment, LabelEvent, PullRequest, Review, ReviewVerdict, User};
use crate::state::{Approved, Granted, Merged, PullState, State};

/// A difference between the forge's clock and ours that is taken for one: less is what a time to the
/// second and a reply's way make.
const CLOCKS_APART_S: i64 = 2;
/// How far back comments are read after a start, at most: what is older was forgotten by everybody.
const LOOK_BACK_S: i64 = 7 * 86_400;
/// How much earlier than by our clock reading begins: the forge's may be late.
const LOOK_BACK_MARGIN_S: i64 = 900;

/// What an approval is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// The plan that waits on the machine.
    Waiting(Digest),
    /// The plan that a pull request was shown to have.
    Pull {
        /// Its number.
        number: u64,
        /// The head it was shown for.
        head: CommitId,
        /// The plan.
        plan: Digest,
    },
}

/// How far the forge's clock is ahead of ours, as far as its replies tell.
pub(super) fn ahead(forge: Option<Timestamp>, ours: Timestamp) -> SignedDuration {
    let apart = forge.map(|forge| forge.duration_since(ours)).unwrap_or_default();
    if apart.abs() > SignedDuration::from_secs(CLOCKS_APART_S) {
        apart
    } else {
        SignedDuration::ZERO
    }
}

/// Whether what happened on the forge `at` came after `ours`, a time of our clock.
pub(super) fn after(at: Timestamp, ours: Timestamp, ahead: SignedDuration) -> bool {
    at.duration_since(ours) > ahead
}

/// Whether anybody could say anything that matters.
pub(super) fn anything_to_hear(state: &State) -> bool {
    !state.pulls.open.is_empty() || waiting(state).is_some() || state.granted.is_some()
}

/// From when on comments matter: since the first plan was shown that still waits for somebody.
pub(super) fn listen_from(state: &State, now: Timestamp) -> Timestamp {
    let pulls = state.pulls.open.values().filter(|pull| awaits(pull).is_some());
    let shown = pulls.filter_map(|pull| pull.shown_at);
    let granted = state.granted.as_ref().map(|granted| granted.at);
    let made = waiting(state).map(|(_, made)| made);
    let from = shown.chain(made).chain(granted).min().unwrap_or(now);
    from.max(now - SignedDuration::from_secs(LOOK_BACK_S))
        - SignedDuration::from_secs(LOOK_BACK_MARGIN_S)
}

fn waiting(state: &State) -> Option<(Digest, Timestamp)> {
    let plan = state.plan.as_ref().filter(|plan| !plan.finished && !plan.held.is_empty())?;
    Some((plan.plan, plan.made_at))
}

/// What was shown of a pull request's head, where it waits for an approval that could be given.
fn awaits(pull: &PullState) -> Option<&Merged> {
    let denied = pull.planned.as_ref().is_some_and(|planned| match &planned.outcome {
        PullOutcome::Planned(plan) => !plan.denied.is_empty(),
        PullOutcome::Conflict(_) | PullOutcome::Rejected(..) | PullOutcome::Refused(_) => true,
    });
    let shown = pull.shown.as_ref().filter(|shown| shown.head == pull.head)?;
    (!denied && !shown.held.is_empty()).then_some(shown)
}

/// What a comment that names `plan` is about, and who may not be the one to approve it: whoever
/// opened the pull request. `from`: the pull request the commit in force is the merge of.
pub(super) fn named(
    state: &State,
    plan: Digest,
    comment: &Comment,
    from: Option<&Merged>,
    ahead: SignedDuration,
) -> Option<(Subject, Option<String>)> {
    if let Some((_, made)) = waiting(state).filter(|(waiting, _)| *waiting == plan) {
        // The same plan, made again after it was done once, needs a new word.
        let new = after(comment.created_at, made, ahead);
        return new.then(|| (Subject::Waiting(plan), from.map(|from| from.author.clone())));
    }
    let told = match state.pulls.open.get(&comment.number) {
        // A head that comes back needs a new word: the one in between took the old one away.
        Some(pull) => awaits(pull).filter(|_| after(comment.created_at, pull.since, ahead))?,
        None => state.pulls.promises.iter().rev().find(|told| {
            told.number == comment.number && told.approved.is_none() && !told.held.is_empty()
        })?,
    };
    (told.plan == plan).then(|| {
        let subject = Subject::Pull { number: told.number, head: told.head.clone(), plan };
        (subject, Some(told.author.clone()))
    })
}

/// What a review or a label of this pull request would be about, and since when it was shown.
pub(super) fn shown(state: &State, pull: &PullRequest) -> Option<(Subject, Timestamp)> {
    let known = state.pulls.open.get(&pull.number).filter(|known| known.head == pull.head_sha)?;
    let told = awaits(known).filter(|_| known.approved.is_none())?;
    let subject = Subject::Pull { number: pull.number, head: told.head.clone(), plan: told.plan };
    Some((subject, known.shown_at?))
}

/// Open pull requests whose reviews and labels matter: those that wait, and those that were approved
/// by one, which may be taken back.
pub(super) fn voted_on(state: &State) -> Vec<u64> {
    let open = state.pulls.open.iter();
    let matters = open.filter(|(_, pull)| {
        let by_vote =
            pull.approved.as_ref().map(|approved| approved.via.means != ApprovalMeans::Comment);
        by_vote.unwrap_or_else(|| awaits(pull).is_some())
    });
    matters.map(|(number, _)| *number).collect()
}

/// The approving reviews of the head handed in after `since`, each the last word of its writer.
pub(super) fn approving<'a>(
    reviews: &'a [Review],
    head: &CommitId,
    since: Timestamp,
    ahead: SignedDuration,
) -> Vec<(&'a Review, &'a User)> {
    let mut counts: Vec<_> = last_words(reviews)
        .into_values()
        .filter(|(review, _)| review.verdict == ReviewVerdict::Approved)
        .filter(|(review, _)| review.commit.as_ref() == Some(head))
        .filter(|(review, _)| review.at.is_some_and(|at| after(at, since, ahead)))
        .collect();
    counts.sort_by_key(|(review, _)| review.id);
    counts
}

fn last_words(reviews: &[Review]) -> BTreeMap<u64, (&Review, &User)> {
    // A comment without a verdict changes none.
    let words = reviews.iter().filter(|review| review.verdict != ReviewVerdict::Commented);
    words
        .filter_map(|review| Some((review.author.as_ref()?.id, (review, review.author.as_ref()?))))
        .collect()
}

/// The label that is on, where it was put on after `since`.
pub(super) fn labelled<'a>(
    events: &'a [LabelEvent],
    label: &str,
    since: Timestamp,
    ahead: SignedDuration,
) -> Option<(&'a LabelEvent, &'a User)> {
    let last = events.iter().rev().find(|event| event.label == label)?;
    let counts = last.added && after(last.at, since, ahead);
    Some((last, last.actor.as_ref()?)).filter(|_| counts)
}

/// Why an approval by a review or a label no longer stands.
pub(super) fn taken_back(
    via: &ForgeApproval,
    pull: &PullRequest,
    reviews: Option<&[Review]>,
    label: Option<&str>,
) -> Option<String> {
    match via.means {
        ApprovalMeans::Comment => None,
        ApprovalMeans::Review => {
            let words = last_words(reviews?);
            let stands = words.values().any(|(review, _)| {
                review.id == via.id && review.verdict == ReviewVerdict::Approved
            });
            (!stands).then(|| format!("the review {} no longer approves", via.id))
        }
        ApprovalMeans::Label => {
            let label = label?;
            let gone = !pull.labels.iter().any(|name| name == label);
            gone.then(|| format!("the label {label} was taken off"))
        }
    }
}

/// The event that grants an approval, if there still is what it is of, and this very word was not taken
/// back.
pub(super) fn granted(
    state: &State,
    subject: &Subject,
    via: ForgeApproval,
    actor: &str,
) -> Option<Entry> {
    if state.pulls.is_void(&via) {
        return None;
    }
    let event = match subject {
        Subject::Waiting(plan) => {
            waiting(state).filter(|(waiting, _)| waiting == plan)?;
            Event::PlanApproved(PlanApproved { plan: *plan, via: Some(via), shown: None })
        }
        Subject::Pull { number, head, plan } => {
            let (number, plan) = (*number, *plan);
            if state.pulls.open.get(&number).is_some_and(|pull| pull.head != *head) {
                return None;
            }
            let head = head.clone();
            Event::PullApproved(PullApproved { number, head, plan, via })
        }
    };
    Some(Entry::new(event).by(actor))
}

/// An approval given on the forge that can still be taken back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing<'a> {
    /// The pull request it is of; or, given after a merge, where it was given.
    pub(super) number: u64,
    /// The plan that was approved.
    pub(super) plan: Digest,
    /// The plan of the merge that waits or runs by it, where that is another one.
    pub(super) carried: Option<Digest>,
    /// When it was taken note of.
    pub(super) since: Timestamp,
    /// What was done.
    pub(super) via: &'a ForgeApproval,
}

/// All approvals that can still be taken back: of open pull requests, of merged ones, and the one that
/// a plan waits or runs by.
pub(super) fn standing(state: &State) -> impl Iterator<Item = Standing<'_>> {
    let of = |number: u64, approved: &'_ Approved| (number, approved.plan, approved.at);
    let open = state.pulls.open.iter().filter_map(move |(number, pull)| {
        let approved = pull.approved.as_ref()?;
        Some((of(*number, approved), &approved.via))
    });
    let merged = state.pulls.promises.iter().filter_map(move |told| {
        let approved = told.approved.as_ref()?;
        Some((of(told.number, approved), &approved.via))
    });
    let of_pulls = open.chain(merged).map(|((number, plan, at), via)| Standing {
        number,
        plan,
        carried: None,
        since: at,
        via,
    });
    let granted = state.granted.as_ref().map(|granted| {
        let Granted { plan, shown, via, at, .. } = granted;
        let (number, since) = (via.on, *at);
        Standing { number, plan: shown.unwrap_or(*plan), carried: Some(*plan), since, via }
    });
    // The one in use first: what runs by it ends with it.
    granted.into_iter().chain(of_pulls)
}

/// The merged pull request whose review or label the plan in force waits or runs by.
pub(super) fn merged_by_vote(state: &State) -> Option<u64> {
    let granted = state.granted.as_ref().map(|granted| &granted.via);
    let told = || {
        waiting(state)?;
        let tree = state.spec.tree.as_deref()?;
        let told = state.pulls.promises.iter().rev().find(|told| told.tree == tree)?;
        Some(&told.approved.as_ref()?.via)
    };
    let via = granted.or_else(told)?;
    let by_vote = via.means != ApprovalMeans::Comment;
    (by_vote && !state.pulls.open.contains_key(&via.on)).then_some(via.on)
}

/// The event that takes an approval back.
pub(super) fn withdrawn(
    state: &State,
    fits: impl Fn(&Standing<'_>) -> Option<String>,
) -> Option<Entry> {
    let (number, plan, why) = standing(state)
        .find_map(|standing| Some((standing.number, standing.plan, fits(&standing)?)))?;
    let event = PullApprovalWithdrawn { number, plan, why };
    Some(Entry::new(Event::PullApprovalWithdrawn(event)))
}

#[cfg(test)]
mod tests;
