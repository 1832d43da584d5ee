//! What became of commits that are no longer in force.
//!
//! Where a forge is followed, each commit that was in force has a last word, also where it was away
//! while that came about. It is bounded: the oldest go first.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::State;
use crate::model::CommitId;

/// Commits remembered: more than are merged in days of an outage.
pub const LANDED_KEPT_MAX: usize = 64;

/// A commit that was in force before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Landed {
    /// The commit.
    pub commit: CommitId,
    /// Id of its tree; `None`: not known.
    pub tree: Option<String>,
    /// When it was taken in.
    pub since: Option<Timestamp>,
    /// When the machine last came nearer to it.
    pub ended: Option<Timestamp>,
    /// How many resources it asked for.
    pub resources: u64,
    /// Whether the machine was as it asked when it was replaced.
    pub done: bool,
    /// What took its place.
    pub by: CommitId,
}

impl State {
    /// How many resources the commit in force asks for.
    pub fn wished(&self) -> u64 {
        self.resources.values().filter(|known| known.wish.is_some()).count() as u64
    }

    /// Whether everything was last seen as the commit in force asks.
    pub fn is_as_asked(&self) -> bool {
        self.resources.values().all(|known| {
            let applied = known.applied.as_ref().map(|applied| applied.wish);
            // What is gone from the commit and still there waits to be pruned, unless it is kept.
            let gone =
                known.wish.is_none() && known.claim.as_ref().is_none_or(|claim| !claim.orphan);
            if known.wish.is_none() { !gone } else { applied == known.wish }
        })
    }

    /// Another commit takes the place of the one in force: what became of that one is remembered.
    pub(super) fn note_landing(&mut self, next: Option<&CommitId>) {
        let Some(by) = next.filter(|next| self.spec.commit.as_ref() != Some(next)) else { return };
        let Some(commit) = self.spec.commit.clone() else { return };
        // A large commit says what it asks for in several events, and the first one changes the wish.
        let known = self.spec.landed.back();
        if known.is_some_and(|known| known.commit == commit && known.by == *by) {
            return;
        }
        // Nobody waits for a word where no forge is followed.
        if self.pulls.posted.is_empty() && self.pulls.unavailable.is_none() {
            return;
        }
        let failed = self.resources.values().any(|known| known.failure.is_some());
        let done = self.is_as_asked() && !failed;
        let (since, tree) = (self.spec.since, self.spec.tree.clone());
        let (ended, resources) = (self.spec.settled.or(since), self.wished());
        let by = by.clone();
        self.spec.landed.retain(|landed| landed.commit != commit);
        if self.spec.landed.len() == LANDED_KEPT_MAX {
            self.spec.landed.pop_front();
        }
        self.spec.landed.push_back(Landed { commit, tree, since, ended, resources, done, by });
    }
}
