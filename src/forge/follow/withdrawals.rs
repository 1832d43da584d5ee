//! Approvals that are taken back: by a command, a comment that was changed, a label that was taken off,
//! a review that was dismissed.
//!
//! After the merge too, for as long as the plan waits or runs by it: what has begun is finished, nothing
//! more is begun. It never asks who took off a label: that it is gone is enough.

use super::approvals::Heard;
use super::ballot::{self, Standing};
use super::people::{Unheard, login};
use super::turn::Follower;
use crate::config::ApprovalSettings;
use crate::event::body::ApprovalMeans;
use crate::model::Digest;
use crate::port::forge::{Comment, PullRequest, Review, User};

impl Follower {
    /// Takes back the approvals that `fits` has a reason for.
    pub(super) async fn withdraw(
        &mut self,
        fits: impl Fn(&Standing<'_>) -> Option<String>,
    ) -> Result<(), Unheard> {
        let entry = self.reconciler.ledger.read(|state| ballot::withdrawn(state, &fits));
        if let Some(entry) = entry {
            self.reconciler.ledger.append(vec![entry]).await?;
            (self.wake)();
        }
        Ok(())
    }

    /// A comment asks to take the approval of a plan back; whoever may approve may ask for it.
    pub(super) async fn hear_withdrawal(
        &mut self,
        settings: &ApprovalSettings,
        comment: &Comment,
        by: &User,
        plan: Digest,
    ) -> Result<(), Unheard> {
        let ahead = self.memory.heard.ahead;
        let stands = |it: &Standing<'_>| {
            let is_about = it.plan == plan || it.carried == Some(plan);
            // A word from before the approval says nothing about it. Two comments tell by their numbers,
            // which came first: both may be heard at once.
            let later = match it.via.means {
                ApprovalMeans::Comment => comment.id.0 > it.via.id,
                ApprovalMeans::Review | ApprovalMeans::Label => {
                    ballot::after(comment.created_at, it.since, ahead)
                }
            };
            is_about && later
        };
        let any =
            self.reconciler.ledger.read(|state| ballot::standing(state).any(|it| stands(&it)));
        if !any || !self.may(settings, by).await? {
            return Ok(());
        }
        let why = format!("{} took it back by the comment {}", login(by), comment.id.0);
        self.withdraw(|standing| stands(standing).then(|| why.clone())).await
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
