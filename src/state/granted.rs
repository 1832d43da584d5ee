//! Who approved the same thing, and what of that was taken back.
//!
//! Several people can approve one plan: what one takes back leaves what another said standing. A word
//! that was taken back never counts again, in whatever order the two are heard.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::pulls::{Approved, PullsState};
use super::types::Granted;
use crate::event::body::{ApprovalMeans, ForgeApproval, PullApprovalWithdrawn, Word};
use crate::model::Digest;

/// People whose approvals of one plan are remembered: more than any plan needs.
const GIVEN_KEPT_MAX: usize = 20;
/// Comments that took something back that are remembered: far more than one log of a forge is read
/// again for.
const TAKEN_BACK_KEPT_MAX: usize = 1_000;

/// An approval of what somebody approved already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Given {
    /// Who, as in the log: `github:ann`.
    pub by: String,
    /// How.
    pub via: ForgeApproval,
    /// When that was taken note of.
    pub at: Timestamp,
}

/// A comment that took approvals back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TakenBack {
    /// The plan that had been approved.
    pub plan: Digest,
    /// The forge's number of the comment.
    pub comment: u64,
    /// When it was written, by the forge's clock.
    pub at: Timestamp,
    /// Whose approvals, by the name on the forge; `None`: everybody's.
    pub of: Option<String>,
}

impl TakenBack {
    /// Whether this came before the comment, or nobody can tell which came first.
    fn covers(&self, via: &ForgeApproval) -> bool {
        let theirs = self.of.as_ref().is_none_or(|of| of.eq_ignore_ascii_case(&via.login));
        theirs
            && match via.means {
                // Two comments tell by their numbers, which came first.
                ApprovalMeans::Comment => via.id < self.comment,
                ApprovalMeans::Review | ApprovalMeans::Label => {
                    via.at.is_none_or(|at| at <= self.at)
                }
            }
    }
}

/// Whether `withdrawn` takes back the word of `via`.
fn takes(withdrawn: &PullApprovalWithdrawn, word: Word) -> bool {
    match (withdrawn.word, &withdrawn.asked) {
        (Some(taken), _) => taken == word,
        // Only what is heard later is taken back.
        (None, Some(_)) => false,
        (None, None) => true,
    }
}

impl Approved {
    /// Every approval of it, the one that counts first: what was done, and when that was noted.
    pub fn ways(&self) -> impl Iterator<Item = (&ForgeApproval, Timestamp)> {
        let more = self.more.iter().map(|given| (&given.via, given.at));
        std::iter::once((&self.via, self.at)).chain(more)
    }

    /// `new` beside what was approved before, where it is of the same plan; else in its place.
    pub(super) fn beside(known: Option<Self>, new: Option<Self>) -> Option<Self> {
        let (mut known, new) = match (known, new) {
            (Some(known), Some(new)) if known.plan == new.plan => (known, new),
            (known, new) => return new.or(known),
        };
        let heard = known.ways().any(|(via, _)| via.word() == new.via.word());
        if !heard && known.more.len() < GIVEN_KEPT_MAX {
            known.more.push(Given { by: new.by, via: new.via, at: new.at });
        }
        Some(known)
    }

    /// What is left of it, and what is gone.
    pub(super) fn without(
        self,
        withdrawn: &PullApprovalWithdrawn,
    ) -> (Option<Self>, Vec<ForgeApproval>) {
        let Self { by, via, at, more, .. } = self.clone();
        let all = std::iter::once(Given { by, via, at }).chain(more);
        let (gone, left): (Vec<_>, Vec<_>) =
            all.partition(|given| takes(withdrawn, given.via.word()));
        let mut left = left.into_iter();
        let rest = left.next().map(|Given { by, via, at }| Self {
            by,
            via,
            at,
            more: left.collect(),
            ..self
        });
        (rest, gone.into_iter().map(|given| given.via).collect())
    }
}

impl Granted {
    /// Every approval of it, the one that counts first: what was done, and when that was noted.
    pub fn ways(&self) -> impl Iterator<Item = (&ForgeApproval, Timestamp)> {
        let more = self.more.iter().map(|given| (&given.via, given.at));
        std::iter::once((&self.via, self.at)).chain(more)
    }

    /// Somebody else approved the same.
    pub(super) fn add(&mut self, given: Given) {
        let heard = self.ways().any(|(via, _)| via.word() == given.via.word());
        if !heard && self.more.len() < GIVEN_KEPT_MAX {
            self.more.push(given);
        }
    }

    /// Takes back what `withdrawn` says, where something is left: what is gone, and who is left.
    pub(super) fn lessen(
        &mut self,
        withdrawn: &PullApprovalWithdrawn,
    ) -> Option<(Vec<ForgeApproval>, Option<String>)> {
        let stays = self.ways().any(|(via, _)| !takes(withdrawn, via.word()));
        if !stays {
            return None;
        }
        let mut gone = Vec::new();
        let mut first = None;
        while takes(withdrawn, self.via.word()) && !self.more.is_empty() {
            let Given { by, via, at } = self.more.remove(0);
            gone.push(std::mem::replace(&mut self.via, via));
            self.at = at;
            first = Some(by);
        }
        self.more.retain(|given| {
            let taken = takes(withdrawn, given.via.word());
            if taken {
                gone.push(given.via.clone());
            }
            !taken
        });
        Some((gone, first))
    }
}

impl PullsState {
    /// Whether a comment took back what `via` says of this plan.
    pub fn is_taken_back(&self, plan: Digest, via: &ForgeApproval) -> bool {
        self.taken_back.iter().any(|taken| taken.plan == plan && taken.covers(via))
    }

    /// Whether this comment was obeyed already.
    pub fn has_taken_back(&self, comment: u64) -> bool {
        self.taken_back.iter().any(|taken| taken.comment == comment)
    }

    /// Everybody who approved what this plan of a pull request was shown to be.
    pub(super) fn given(&self, shown: Digest) -> Vec<Given> {
        let open = self.open.values().filter_map(|pull| pull.approved.as_ref());
        let closed = self.promises.iter().filter_map(|told| told.approved.as_ref());
        let approved = open.chain(closed).find(|approved| approved.plan == shown);
        approved.map_or_else(Vec::new, |approved| {
            let Approved { by, via, at, more, .. } = approved.clone();
            std::iter::once(Given { by, via, at }).chain(more).collect()
        })
    }

    /// Remembers a comment that took something back.
    pub(super) fn take_back(&mut self, withdrawn: &PullApprovalWithdrawn) {
        let Some(asked) = &withdrawn.asked else { return };
        let plan = withdrawn.plan;
        let known = |taken: &TakenBack| (taken.comment, taken.plan) == (asked.comment, plan);
        if self.taken_back.iter().any(known) {
            return;
        }
        if self.taken_back.len() == TAKEN_BACK_KEPT_MAX {
            self.taken_back.pop_front();
        }
        let (comment, at, of) = (asked.comment, asked.at, asked.of.clone());
        self.taken_back.push_back(TakenBack { plan, comment, at, of });
    }
}
