//! The port to the forge: pull requests, statuses, checks, comments, issues, and who may what.
//!
//! Everything read from it was written by strangers: names, titles and bodies are data, never
//! instructions. No call waits for a rate limit, and no call repeats a write: the caller looks first
//! (`find_…`) when an outcome is unknown.

mod types;

pub use types::{
    Annotation, Budget, Capabilities, CheckId, CheckReport, CheckSeen, CheckState, Comment,
    CommentId, CommitState, Conclusion, ForgeError, ForgeFault, Issue, IssueChange, LabelEvent,
    Level, Permission, PullRequest, PullState, Pulls, Review, ReviewVerdict, Status, User,
};

use jiff::Timestamp;

use super::BoxFuture;
use crate::model::CommitId;

/// What a call to the forge comes to.
pub type Reply<'a, T> = BoxFuture<'a, Result<T, ForgeError>>;

/// One repository on a forge.
///
/// Every call keeps its own time limit. Errors: a [`ForgeError`], whose fault says what to do next;
/// [`ForgeFault::Maybe`] only comes from calls that create.
pub trait Forge: Send + Sync {
    /// A short name for logs: `github`.
    fn name(&self) -> &'static str;

    /// What this forge, with this login, can do.
    fn capabilities(&self) -> Capabilities;

    /// What the last reply said of the budget of calls; `None` where the forge does not say.
    fn budget(&self) -> Option<Budget>;

    /// Who we are: the author of our comments. Asked once, then remembered.
    fn viewer(&self) -> Reply<'_, User>;

    /// The open pull requests. With nothing new this costs one conditional request a hundred.
    ///
    /// The list may miss one for a moment while others are closed: ask [`Forge::pull`] before taking
    /// a missing one for closed.
    fn open_pulls(&self) -> Reply<'_, Pulls>;

    /// One pull request, open or not; `None` where there is none of this number.
    fn pull(&self, number: u64) -> Reply<'_, Option<PullRequest>>;

    /// The newest status of a commit under this context.
    fn find_status<'a>(
        &'a self,
        commit: &'a CommitId,
        context: &'a str,
    ) -> Reply<'a, Option<Status>>;

    /// Adds a status to a commit. Its description is cut to what the forge takes.
    fn set_status<'a>(&'a self, commit: &'a CommitId, status: &'a Status) -> Reply<'a, ()>;

    /// Our check of a commit by its name and external id.
    fn find_check<'a>(
        &'a self,
        commit: &'a CommitId,
        name: &'a str,
        external_id: &'a str,
    ) -> Reply<'a, Option<CheckSeen>>;

    /// Creates a check with at most [`Annotation::BATCH_MAX`] annotations.
    fn create_check<'a>(
        &'a self,
        commit: &'a CommitId,
        report: &'a CheckReport,
    ) -> Reply<'a, CheckSeen>;

    /// Changes a check; its annotations are **added** to those it has.
    fn update_check<'a>(&'a self, check: CheckId, report: &'a CheckReport) -> Reply<'a, CheckSeen>;

    /// Comments on all pull requests and issues changed at or after then, oldest change first: one
    /// request for all of them, free where `since` is the same as before and nothing is new. So keep
    /// it at the newest change seen, and expect that one again.
    fn comments_since(&self, since: Timestamp) -> Reply<'_, Vec<Comment>>;

    /// Our own first comment on a pull request or issue that has `marker` in its text.
    fn find_comment<'a>(&'a self, number: u64, marker: &'a str) -> Reply<'a, Option<Comment>>;

    /// Comments on a pull request or issue.
    fn create_comment<'a>(&'a self, number: u64, body: &'a str) -> Reply<'a, Comment>;

    /// Replaces a comment's text.
    fn update_comment<'a>(&'a self, comment: CommentId, body: &'a str) -> Reply<'a, Comment>;

    /// Removes a comment; one that is gone already is no error.
    fn delete_comment(&self, comment: CommentId) -> Reply<'_, ()>;

    /// The reviews of a pull request, oldest first, each with the commit it was given for.
    fn reviews(&self, number: u64) -> Reply<'_, Vec<Review>>;

    /// When labels were put on a pull request and taken off, oldest first.
    ///
    /// Forges do not record the head a label was put on. It holds for a head only if it was put on
    /// (`at`) later than that head was first seen ([`Pulls::date`], the same clock): then a push that
    /// came between label and poll does not inherit it.
    fn label_events(&self, number: u64) -> Reply<'_, Vec<LabelEvent>>;

    /// What a person may do in the repository. A stranger may [`Permission::None`] or, where the
    /// repository is public, [`Permission::Read`].
    fn permission<'a>(&'a self, login: &'a str) -> Reply<'a, Permission>;

    /// Whether a person is an active member of a team, written `organisation/team`.
    fn in_team<'a>(&'a self, team: &'a str, login: &'a str) -> Reply<'a, bool>;

    /// Our own newest issue, open or closed, that has `marker` in its text.
    fn find_issue<'a>(&'a self, marker: &'a str) -> Reply<'a, Option<Issue>>;

    /// Opens an issue.
    fn create_issue<'a>(&'a self, title: &'a str, body: &'a str) -> Reply<'a, Issue>;

    /// Changes an issue: what is `None` stays.
    fn update_issue<'a>(&'a self, number: u64, change: &'a IssueChange) -> Reply<'a, Issue>;
}
