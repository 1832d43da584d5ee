//! What counts as an approval, as pure functions.
//!
//! An approval is for one head and one plan. A comment names the plan; a review and a label do not,
//! so they count only when they came after that plan was shown. It never asks who somebody is.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::event::body::{
    ApprovalMeans, Asked, ForgeApproval, PlanApproved, PullApprovalWithdrawn, PullApproved,
    PullOutcome, Word,
};
use crate::event::{Entry, Event};
use crate::model::{CommitId, Digest};
use crate::port::forge::{Comment, LabelEvent, PullRequest, Review, ReviewVerdict, User};
use crate::state::{Approved, Merged, PullState, State};

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
    let pulls = state.pulls.open.values().filter(|pull| votable(pull).is_some());
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

/// What was shown of a pull request's head, where an approval of it counts: the first, or one more.
fn votable(pull: &PullState) -> Option<&Merged> {
    let again = || {
        let shown = pull.shown.as_ref().filter(|shown| shown.head == pull.head)?;
        pull.approved.as_ref().filter(|approved| approved.plan == shown.plan).map(|_| shown)
    };
    awaits(pull).or_else(again)
}

/// The plan that runs or waits by an approval of `plan` given on the forge, and when it was made.
fn approved_already(state: &State, plan: Digest) -> Option<Timestamp> {
    state.granted.as_ref().filter(|granted| granted.plan == plan)?;
    state.plan.as_ref().filter(|made| made.plan == plan).map(|made| made.made_at)
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
    let waits = waiting(state).filter(|(waiting, _)| *waiting == plan).map(|(_, made)| made);
    if let Some(made) = waits.or_else(|| approved_already(state, plan)) {
        // The same plan, made again after it was done once, needs a new word.
        let new = after(comment.created_at, made, ahead);
        return new.then(|| (Subject::Waiting(plan), from.map(|from| from.author.clone())));
    }
    let told = match state.pulls.open.get(&comment.number) {
        // A head that comes back needs a new word: the one in between took the old one away.
        Some(pull) => votable(pull).filter(|_| after(comment.created_at, pull.since, ahead))?,
        None => state.pulls.promises.iter().rev().find(|told| {
            told.number == comment.number && (told.approved.is_some() || !told.held.is_empty())
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
    let told = votable(known)?;
    let subject = Subject::Pull { number: pull.number, head: told.head.clone(), plan: told.plan };
    Some((subject, known.shown_at?))
}

/// Open pull requests whose reviews and labels matter: those that wait, and those that were approved,
/// which may be taken back or approved by one more.
pub(super) fn voted_on(state: &State) -> Vec<u64> {
    let open = state.pulls.open.iter();
    let matters = open.filter(|(_, pull)| pull.approved.is_some() || awaits(pull).is_some());
    matters.map(|(number, _)| *number).collect()
}

/// Whether this plan was shown, waits or was approved: taking an approval of it back means something.
pub(super) fn is_in_play(state: &State, plan: Digest) -> bool {
    let shown = state.pulls.open.values().filter_map(|pull| pull.shown.as_ref());
    let mut told = shown.chain(&state.pulls.promises).filter(|told| !told.held.is_empty());
    told.any(|told| told.plan == plan)
        || waiting(state).is_some_and(|(waiting, _)| waiting == plan)
        || standing(state).any(|it| it.plan == plan || it.carried == Some(plan))
}

/// Whether this word was heard already, and counts.
pub(super) fn is_heard(state: &State, word: Word) -> bool {
    standing(state).any(|it| it.via.word() == word)
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
    let (Subject::Waiting(plan) | Subject::Pull { plan, .. }) = subject;
    let counts = !state.pulls.is_void(&via) && !state.pulls.is_taken_back(*plan, &via);
    if !counts || is_heard(state, via.word()) {
        return None;
    }
    let event = match subject {
        Subject::Waiting(plan) => {
            let waits = waiting(state).is_some_and(|(waiting, _)| waiting == *plan);
            (waits || approved_already(state, *plan).is_some()).then_some(())?;
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
    let open =
        state.pulls.open.iter().filter_map(|(number, pull)| {
            pull.approved.as_ref().map(|approved| (*number, approved))
        });
    let merged = state
        .pulls
        .promises
        .iter()
        .filter_map(|told| told.approved.as_ref().map(|approved| (told.number, approved)));
    let of_pulls = open.chain(merged).flat_map(|(number, approved): (u64, &Approved)| {
        let plan = approved.plan;
        let standing = move |(via, since)| Standing { number, plan, carried: None, since, via };
        approved.ways().map(standing)
    });
    let granted = state.granted.iter().flat_map(|granted| {
        let (plan, carried) = (granted.shown.unwrap_or(granted.plan), Some(granted.plan));
        granted.ways().map(move |(via, since)| Standing {
            number: via.on,
            plan,
            carried,
            since,
            via,
        })
    });
    // The one in use first: what runs by it ends with it.
    granted.chain(of_pulls)
}

/// The merged pull request whose review or label the plan in force waits or runs by.
pub(super) fn merged_by_vote(state: &State) -> Option<u64> {
    let by_vote = |via: &&ForgeApproval| {
        via.means != ApprovalMeans::Comment && !state.pulls.open.contains_key(&via.on)
    };
    if let Some(granted) = &state.granted {
        return granted.ways().map(|(via, _)| via).find(by_vote).map(|via| via.on);
    }
    waiting(state)?;
    let tree = state.spec.tree.as_deref()?;
    let told = state.pulls.promises.iter().rev().find(|told| told.tree == tree)?;
    told.approved.as_ref()?.ways().map(|(via, _)| via).find(by_vote).map(|via| via.on)
}

/// The events that take back the approvals that `fits` has a reason for, each word once.
pub(super) fn withdrawn(
    state: &State,
    asked: Option<&Asked>,
    fits: impl Fn(&Standing<'_>) -> Option<String>,
) -> Vec<Entry> {
    let mut words = Vec::new();
    let mut entries = Vec::new();
    for it in standing(state) {
        let word = it.via.word();
        if words.contains(&(it.plan, word)) {
            continue;
        }
        let Some(why) = fits(&it) else { continue };
        words.push((it.plan, word));
        entries.push(taken(it.number, it.plan, why, Some(word), asked.cloned()));
    }
    entries
}

/// The event that takes a word back; `None`: whatever is heard later of what was said before.
pub(super) fn taken(
    number: u64,
    plan: Digest,
    why: String,
    word: Option<Word>,
    asked: Option<Asked>,
) -> Entry {
    let event = PullApprovalWithdrawn { number, plan, why, word, asked };
    Entry::new(Event::PullApprovalWithdrawn(event))
}

#[cfg(test)]
mod tests;
