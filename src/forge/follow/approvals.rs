//! Hearing what people say on the forge: approvals, and the wish for another plan.
//!
//! Nobody is believed before the forge was asked who may what. Only what is new is looked at: the
//! comments of the whole repository in one conditional request, and the reviews of a pull request
//! when it has changed. What is heard twice says nothing more than once, so a restart may hear again.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::ballot::{self, Subject};
use super::people::{People, Unheard, is_bot, login, web_page};
use super::turn::Follower;
use crate::config::ApprovalSettings;
use crate::event::body::{ApprovalMeans, ForgeApproval};
use crate::forge::command::{Command, read_comment};
use crate::model::Digest;
use crate::port::JournalFault;
use crate::port::forge::{Comment, CommentId, ForgeError, PullRequest, PullState, User};
use crate::reconcile::LedgerError;

/// Pull requests whose reviews and labels are read in one turn.
const LOOKS_MAX: usize = 20;
/// How finely forges tell times, with something to spare.
pub(super) const TOLD_TO_THE: SignedDuration = SignedDuration::from_secs(2);

/// What is remembered of what was heard; losing it costs requests only.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The newest change of a comment that was looked at.
    cursor: Option<Timestamp>,
    /// Comments looked at with just that time.
    seen: BTreeSet<CommentId>,
    /// When pull requests had changed last when their reviews were read.
    looked: BTreeMap<u64, Timestamp>,
    /// The pull request looked at last without a reason.
    last: u64,
    /// How far the forge's clock is ahead of ours.
    pub(super) ahead: SignedDuration,
    /// What was asked about people.
    pub(super) people: People,
}

impl Heard {
    /// What is said to be unreadable where a merged pull request is.
    pub(super) const MERGED: &str = "merged pull requests";
}

/// Somebody's approval, before it is known who may.
struct Vote<'a> {
    subject: Subject,
    by: &'a User,
    opened_by: Option<String>,
    via: ForgeApproval,
}

impl Follower {
    /// Remembers from when on comments matter, before anything of it is closed.
    pub(super) fn prick_up(&mut self) {
        self.memory.heard.people.begin_turn();
        if self.memory.heard.cursor.is_none() {
            let now = self.clock.now();
            let from = self.reconciler.ledger.read(|state| ballot::listen_from(state, now));
            self.memory.heard.cursor = Some(from);
        }
    }

    /// The forge's clock, as its reply says it.
    pub(super) fn set_clock(&mut self, forge: Option<Timestamp>) {
        self.memory.heard.ahead = ballot::ahead(forge, self.clock.now());
    }

    /// Hears what people said since the last turn. The inner error: the forge does not answer.
    pub(super) async fn hear(&mut self) -> Result<Result<(), ForgeError>, JournalFault> {
        let Some(settings) = self.approvals.clone() else { return Ok(Ok(())) };
        let mut heard = Ok(());
        if settings.comment {
            heard = self.hear_comments(&settings).await;
        }
        if heard.is_ok() && (settings.review || settings.label.is_some()) {
            heard = self.hear_votes(&settings).await;
            if heard.is_ok() {
                heard = self.look_at_merged(&settings).await;
            }
        }
        sort(heard)
    }

    /// Reads the reviews of a pull request that is about to be closed because it was merged: they
    /// may have come since the last turn.
    pub(super) async fn last_look(
        &mut self,
        pull: Option<&PullRequest>,
    ) -> Result<Result<(), ForgeError>, JournalFault> {
        let Some(settings) = self.approvals.clone() else { return Ok(Ok(())) };
        let merged = pull.filter(|pull| pull.state == PullState::Merged);
        let Some(pull) = merged else { return Ok(Ok(())) };
        if !settings.review && settings.label.is_none() {
            return Ok(Ok(()));
        }
        // Also of one that was approved: that may have been taken back.
        let matters = self.reconciler.ledger.read(|state| {
            ballot::shown(state, pull).is_some() || ballot::voted_on(state).contains(&pull.number)
        });
        if !matters {
            return Ok(Ok(()));
        }
        // What a comment took back since then goes before a review or a label.
        if settings.comment
            && let Err(error) = sort(self.hear_comments(&settings).await)?
        {
            return Ok(Err(error));
        }
        sort(self.look_at(&settings, pull, settings.label.as_deref()).await)
    }

    async fn hear_comments(&mut self, settings: &ApprovalSettings) -> Result<(), Unheard> {
        if !self.reconciler.ledger.read(ballot::anything_to_hear) {
            self.memory.heard.cursor = None;
            return Ok(());
        }
        let Some(cursor) = self.memory.heard.cursor else { return Ok(()) };
        if self.is_deaf("comments") {
            return Ok(());
        }
        let read = self.forge.comments_since(cursor).await;
        let Some(comments) = self.audible("comments", read)? else { return Ok(()) };
        for comment in comments {
            let known = &mut self.memory.heard;
            if known.cursor == Some(comment.updated_at) && known.seen.contains(&comment.id) {
                continue;
            }
            self.obey(settings, &comment).await?;
            let known = &mut self.memory.heard;
            if known.cursor != Some(comment.updated_at) {
                known.cursor = Some(comment.updated_at);
                known.seen.clear();
            }
            known.seen.insert(comment.id);
        }
        Ok(())
    }

    /// Does what a comment asks for, where its writer may ask for it.
    async fn obey(
        &mut self,
        settings: &ApprovalSettings,
        comment: &Comment,
    ) -> Result<(), Unheard> {
        if comment.updated_at != comment.created_at {
            // Somebody else may have changed it; and whoever changed an approval did not mean it so.
            let (id, why) = (comment.id.0, format!("the comment {} was changed", comment.id.0));
            return self
                .withdraw(|standing| {
                    let via = standing.via;
                    let it = via.means == ApprovalMeans::Comment && via.id == id;
                    it.then(|| why.clone())
                })
                .await;
        }
        let spoken = read_comment(&comment.body);
        if spoken.commands.is_empty() && spoken.mistakes.is_empty() {
            return Ok(());
        }
        let Some(by) = comment.author.as_ref().filter(|author| !is_bot(author)) else {
            return Ok(());
        };
        let viewer = self.forge.viewer().await;
        let Some(viewer) = self.audible("our own account", viewer)? else { return Ok(()) };
        if viewer.id == by.id {
            return Ok(());
        }
        for command in &spoken.commands {
            match command {
                Command::Approve { digest } => {
                    self.hear_approval(settings, comment, by, *digest).await?;
                }
                Command::Withdraw { digest } => {
                    self.hear_withdrawal(settings, comment, by, *digest).await?;
                }
                Command::Plan => self.plan_again(settings, comment, by).await?,
            }
        }
        if let (Some(mistake), true) = (spoken.mistakes.first(), spoken.commands.is_empty())
            && self.may(settings, by).await?
        {
            let text =
                format!("Line {} of that comment is no command: {}.", mistake.line, mistake.hint);
            self.answer(comment, &text).await?;
        }
        Ok(())
    }

    async fn hear_approval(
        &mut self,
        settings: &ApprovalSettings,
        comment: &Comment,
        by: &User,
        plan: Digest,
    ) -> Result<(), Unheard> {
        let from = self.reconciler.came_from().await;
        let ahead = self.memory.heard.ahead;
        let ledger = &self.reconciler.ledger;
        let named = ledger.read(|state| ballot::named(state, plan, comment, from.as_ref(), ahead));
        // Not a plan of ours, or not any more: it may be another host's.
        let Some((subject, opened_by)) = named else { return Ok(()) };
        let via = ForgeApproval {
            login: login(by),
            on: comment.number,
            means: ApprovalMeans::Comment,
            id: comment.id.0,
            url: web_page(&comment.url),
            at: Some(comment.created_at),
        };
        let own = is_own(settings, by, opened_by.as_deref());
        let granted = self.count(settings, Vote { subject, by, opened_by, via }).await?;
        if own && !granted && self.may(settings, by).await? {
            let text = "A pull request is approved by somebody else than who opened it.";
            self.answer(comment, text).await?;
        }
        Ok(())
    }

    /// Makes the plan of a pull request anew, and has the machine looked at.
    async fn plan_again(
        &mut self,
        settings: &ApprovalSettings,
        comment: &Comment,
        by: &User,
    ) -> Result<(), Unheard> {
        let number = comment.number;
        let writer = self.reconciler.ledger.read(|state| {
            let pull = state.pulls.open.get(&number)?;
            Some(!pull.fork && pull.author.eq_ignore_ascii_case(&by.login))
        });
        if writer == Some(true) || self.may(settings, by).await? {
            self.memory.planned.remove(&number);
            self.memory.put_off.remove(&number);
            (self.wake)();
        }
        Ok(())
    }

    async fn hear_votes(&mut self, settings: &ApprovalSettings) -> Result<(), Unheard> {
        let numbers = self.reconciler.ledger.read(ballot::voted_on);
        let listed = self.memory.listed.iter().filter(|pull| numbers.contains(&pull.number));
        let listed: Vec<PullRequest> = listed.cloned().collect();
        let heard = &mut self.memory.heard;
        heard.looked.retain(|number, _| numbers.contains(number));
        let changed =
            |pull: &&PullRequest| heard.looked.get(&pull.number) != Some(&pull.updated_at);
        let mut due: Vec<&PullRequest> = listed.iter().filter(changed).take(LOOKS_MAX).collect();
        let mut labels = true;
        if due.is_empty() {
            // One in turn, as not every change of a review is told; every change of a label is.
            labels = false;
            let next = listed.iter().find(|pull| pull.number > heard.last).or(listed.first());
            heard.last = next.map_or(0, |pull| pull.number);
            due.extend(next);
        }
        let long_ago = self.clock.now() - TOLD_TO_THE;
        for pull in due {
            let label = settings.label.as_deref().filter(|_| labels);
            self.look_at(settings, pull, label).await?;
            let heard = &mut self.memory.heard;
            // Within a second more can change without another time.
            if !ballot::after(pull.updated_at, long_ago, heard.ahead) {
                heard.looked.insert(pull.number, pull.updated_at);
            }
        }
        Ok(())
    }

    /// Reads the reviews and, where one is named, the label of one pull request.
    async fn look_at(
        &mut self,
        settings: &ApprovalSettings,
        pull: &PullRequest,
        label: Option<&str>,
    ) -> Result<(), Unheard> {
        let mut reviews = None;
        if settings.review && !self.is_deaf("reviews") {
            let read = self.forge.reviews(pull.number).await;
            reviews = self.audible("reviews", read)?;
        }
        self.heed_votes_gone(pull, reviews.as_deref(), label).await?;
        let opened_by = pull.author.as_ref().map(|author| author.login.clone());
        let Some((subject, since)) = self.shown(pull) else { return Ok(()) };
        let ahead = self.memory.heard.ahead;
        let all = reviews.unwrap_or_default();
        for (review, by) in ballot::approving(&all, &pull.head_sha, since, ahead) {
            let via = vote_of(pull, by, ApprovalMeans::Review, review.id, review.at);
            let (subject, opened_by) = (subject.clone(), opened_by.clone());
            self.count(settings, Vote { subject, by, opened_by, via }).await?;
        }
        let Some(label) = label.filter(|label| pull.labels.iter().any(|name| name == label)) else {
            return Ok(());
        };
        if self.is_deaf("labels") {
            return Ok(());
        }
        let read = self.forge.label_events(pull.number).await;
        let Some(events) = self.audible("labels", read)? else { return Ok(()) };
        if let Some((event, by)) = ballot::labelled(&events, label, since, ahead) {
            let via = vote_of(pull, by, ApprovalMeans::Label, event.id, Some(event.at));
            self.count(settings, Vote { subject, by, opened_by, via }).await?;
        }
        Ok(())
    }

    fn shown(&self, pull: &PullRequest) -> Option<(Subject, Timestamp)> {
        self.reconciler.ledger.read(|state| ballot::shown(state, pull))
    }

    /// Takes an approval in, if its giver may give it; whether it counted.
    async fn count(
        &mut self,
        settings: &ApprovalSettings,
        vote: Vote<'_>,
    ) -> Result<bool, Unheard> {
        let Vote { subject, by, opened_by, via } = vote;
        let heard = self.reconciler.ledger.read(|state| ballot::is_heard(state, via.word()));
        if heard || is_bot(by) || is_own(settings, by, opened_by.as_deref()) {
            return Ok(false);
        }
        if !self.may(settings, by).await? {
            tracing::info!(by = login(by), on = via.on, "an approval of somebody who may not");
            return Ok(false);
        }
        let actor = format!("{}:{}", self.forge.name(), login(by));
        let ledger = &self.reconciler.ledger;
        let appended = ledger.decide(|state| {
            Ok::<_, Unheard>(ballot::granted(state, &subject, via, &actor).into_iter().collect())
        });
        match appended.await {
            Ok(appended) if appended.is_empty() => Ok(false),
            Ok(_) => {
                (self.wake)();
                Ok(true)
            }
            Err(LedgerError::Refused(unheard)) => Err(unheard),
            Err(LedgerError::Journal(fault)) => Err(fault.into()),
        }
    }
}

fn sort(heard: Result<(), Unheard>) -> Result<Result<(), ForgeError>, JournalFault> {
    match heard {
        Ok(()) | Err(Unheard::Later) => Ok(Ok(())),
        Err(Unheard::Forge(error)) => Ok(Err(error)),
        Err(Unheard::Journal(fault)) => Err(fault),
    }
}

fn vote_of(
    pull: &PullRequest,
    by: &User,
    means: ApprovalMeans,
    id: u64,
    at: Option<Timestamp>,
) -> ForgeApproval {
    ForgeApproval { login: login(by), on: pull.number, means, id, url: web_page(&pull.url), at }
}

fn is_own(settings: &ApprovalSettings, by: &User, opened_by: Option<&str>) -> bool {
    !settings.own && opened_by.is_some_and(|author| author.eq_ignore_ascii_case(&by.login))
}
