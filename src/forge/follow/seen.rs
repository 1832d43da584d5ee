//! Which pull requests there are and which have to be looked at again, as pure functions.

use std::collections::{BTreeMap, BTreeSet};

use super::ground::Ground;
use crate::event::body::{PullClosed, PullObserved};
use crate::event::{Entry, Event};
use crate::model::{CommitId, Digest};
use crate::port::forge::PullRequest;
use crate::state::State;

/// Most pull requests planned at a time, the newest first: a noisy repository cannot starve the rest.
pub const PLANNED_MAX: usize = 100;

/// The events that follow from the list of open pull requests into the followed branch. Those in
/// `gone` are known to be closed, and whether they were merged: being missing in the list is not enough.
pub(super) fn events_of_list(
    state: &State,
    listed: &[&PullRequest],
    gone: &BTreeMap<u64, bool>,
) -> Vec<Entry> {
    let mut entries = Vec::new();
    for pull in listed {
        let known = state.pulls.open.get(&pull.number);
        if known.is_some_and(|known| known.head == pull.head_sha && known.fork == pull.fork) {
            continue;
        }
        let author = pull.author.as_ref().map_or("unknown", |author| author.login.as_str());
        entries.push(Entry::new(Event::PullObserved(PullObserved {
            number: pull.number,
            head: pull.head_sha.clone(),
            author: author.to_owned(),
            fork: pull.fork,
        })));
    }
    let closed = gone.iter().filter(|(number, _)| state.pulls.open.contains_key(number));
    entries
        .extend(closed.map(|(&number, &merged)| {
            Entry::new(Event::PullClosed(PullClosed { number, merged }))
        }));
    entries
}

/// Known pull requests that the list does not hold: closed, turned to another branch, or missed.
pub(super) fn missing(state: &State, listed: &[&PullRequest]) -> Vec<u64> {
    let listed: BTreeSet<u64> = listed.iter().map(|pull| pull.number).collect();
    state.pulls.open.keys().copied().filter(|number| !listed.contains(number)).collect()
}

/// What a plan of a pull request rests on; another one of these is another plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Basis {
    /// The commit it offers.
    pub head: CommitId,
    /// What it is merged into, and what governs that.
    pub ground: Ground,
    /// The last event that said something new about the machine when the round began.
    pub machine: u64,
    /// Whether a stranger's head may be looked at (a label can allow it).
    pub allowed: bool,
    /// The plan of it that somebody approved.
    pub approved: Option<Digest>,
}

fn approved(state: &State, number: u64) -> Option<Digest> {
    Some(state.pulls.open.get(&number)?.approved.as_ref()?.plan)
}

/// The pull requests that are not planned: there are so many newer ones.
pub(super) fn beyond(listed: &[&PullRequest]) -> BTreeSet<u64> {
    newest_first(listed).into_iter().skip(PLANNED_MAX).map(|pull| pull.number).collect()
}

fn newest_first<'a>(listed: &[&'a PullRequest]) -> Vec<&'a PullRequest> {
    let mut newest = listed.to_vec();
    newest.sort_by_key(|pull| std::cmp::Reverse((pull.updated_at, pull.number)));
    newest
}

/// The pull requests whose plan rests on something that is no longer so: heads that nobody looked at
/// first, then the plans made longest ago, so that each has its turn.
pub(super) fn stale(
    state: &State,
    listed: &[&PullRequest],
    ground: &Ground,
    planned: &BTreeMap<u64, Basis>,
    allowed: &BTreeSet<u64>,
    machine: u64,
) -> Vec<(u64, Basis)> {
    let due = newest_first(listed).into_iter().take(PLANNED_MAX).filter_map(|pull| {
        let basis = Basis {
            head: pull.head_sha.clone(),
            ground: ground.clone(),
            machine,
            allowed: !pull.fork || allowed.contains(&pull.number),
            approved: approved(state, pull.number),
        };
        (planned.get(&pull.number) != Some(&basis)).then_some((pull.number, basis))
    });
    let mut due: Vec<_> = due.collect();
    due.sort_by_key(|(number, basis)| {
        let planned = state.pulls.open.get(number).and_then(|known| known.planned.as_ref());
        planned.filter(|planned| planned.head == basis.head).map(|planned| planned.at)
    });
    due
}
