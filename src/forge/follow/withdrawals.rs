//! Approvals that are taken back: by a command, a comment that was changed, a label that was taken off,
//! a review that was dismissed.
//!
//! After the merge too, for as long as the plan waits or runs by it: what has begun is finished, nothing
//! more is begun. It never asks who took off a label: that it is gone is enough.

use std::sync::Arc;

use jiff::SignedDuration;

use super::approvals::Heard;
use super::ballot::{self, Standing};
use super::people::{Unheard, login};
use super::turn::Follower;
use crate::config::ApprovalSettings;
use crate::event::Entry;
use crate::event::body::{ApprovalMeans, Asked};
use crate::model::Digest;
use crate::port::forge::{Comment, PullRequest, Review, User};

impl Follower {
    /// Takes back the approvals that `fits` has a reason for.
    pub(super) async fn withdraw(
        &mut self,
        fits: impl Fn(&Standing<'_>) -> Option<String>,
    ) -> Result<(), Unheard> {
        let entries = self.reconciler.ledger.read(|state| ballot::withdrawn(state, None, &fits));
        self.take_note(entries).await
    }

    async fn take_note(&mut self, entries: Vec<Entry>) -> Result<(), Unheard> {
        if !entries.is_empty() {
            self.reconciler.ledger.append(entries).await?;
            (self.wake)();
        }
        Ok(())
    }

    /// A comment asks to take the approval of a plan back; whoever may approve may ask for it. Who
    /// approved it takes back that, and leaves what others said; who did not takes back everything. It
    /// goes before whatever was said until then and is heard only later, as a label is in the same turn.
    pub(super) async fn hear_withdrawal(
        &mut self,
        settings: &ApprovalSettings,
        comment: &Comment,
        by: &User,
        plan: Digest,
    ) -> Result<(), Unheard> {
        let (ahead, id, who) = (self.memory.heard.ahead, comment.id.0, login(by));
        let ledger = Arc::clone(&self.reconciler.ledger);
        let matters =
            ledger.read(|state| !state.pulls.has_taken_back(id) && ballot::is_in_play(state, plan));
        if !matters || !self.may(settings, by).await? {
            return Ok(());
        }
        let stands = |it: &Standing<'_>| {
            let is_about = it.plan == plan || it.carried == Some(plan);
            is_about && came_first(it, comment, ahead)
        };
        let own = |it: &Standing<'_>| it.via.login.eq_ignore_ascii_case(&who);
        let why = format!("{who} took it back by the comment {id}");
        let entries = ledger.read(|state| {
            let any_own = ballot::standing(state).any(|it| stands(&it) && own(&it));
            let of = any_own.then(|| who.clone());
            let asked = Asked { comment: id, at: comment.created_at, of };
            let fits =
                |it: &Standing<'_>| (stands(it) && (!any_own || own(it))).then(|| why.clone());
            let entries = ballot::withdrawn(state, Some(&asked), fits);
            if entries.is_empty() {
                return vec![ballot::taken(comment.number, plan, why.clone(), None, Some(asked))];
            }
            entries
        });
        self.take_note(entries).await
    }

    /// Takes back what a review or a label of this pull request no longer says.
    pub(super) async fn heed_votes_gone(
        &mut self,
        pull: &PullRequest,
        reviews: Option<&[Review]>,
        label: Option<&str>,
    ) -> Result<(), Unheard> {
        self.withdraw(|standing| {
            let here = standing.number == pull.number;
            here.then(|| ballot::taken_back(standing.via, pull, reviews, label)).flatten()
        })
        .await
    }

    /// Looks whether the review or the label that the plan of a merge waits or runs by still stands.
    pub(super) async fn look_at_merged(
        &mut self,
        settings: &ApprovalSettings,
    ) -> Result<(), Unheard> {
        let number = self.reconciler.ledger.read(ballot::merged_by_vote);
        let Some(number) = number.filter(|_| !self.is_deaf(Heard::MERGED)) else { return Ok(()) };
        let read = self.forge.pull(number).await;
        let Some(Some(pull)) = self.audible(Heard::MERGED, read)? else { return Ok(()) };
        let mut reviews = None;
        if settings.review && !self.is_deaf("reviews") {
            let read = self.forge.reviews(number).await;
            reviews = self.audible("reviews", read)?;
        }
        self.heed_votes_gone(&pull, reviews.as_deref(), settings.label.as_deref()).await
    }
}

/// Whether an approval was given before a comment, or nobody can tell which came first: then what takes
/// back goes before what lets through.
fn came_first(it: &Standing<'_>, comment: &Comment, ahead: SignedDuration) -> bool {
    match (it.via.means, it.via.at) {
        // Two comments tell by their numbers: both may be heard at once.
        (ApprovalMeans::Comment, _) => comment.id.0 > it.via.id,
        (ApprovalMeans::Review | ApprovalMeans::Label, Some(at)) => comment.created_at >= at,
        (ApprovalMeans::Review | ApprovalMeans::Label, None) => {
            ballot::after(comment.created_at, it.since, ahead)
        }
    }
}
