//! What crosses the port to the forge: few fields, in our words.
//!
//! Plain data. It never holds a token.

use std::num::NonZeroU32;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::CommitId;

/// An account on the forge. Logins can be renamed and taken over; the id stays.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The forge's number of it.
    pub id: u64,
    /// The name people write.
    pub login: String,
}

/// What becomes of a pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PullState {
    /// It can be merged, in principle.
    Open,
    /// It was closed without a merge.
    Closed,
    /// It was merged.
    Merged,
}

/// A pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullRequest {
    /// Its number in the repository.
    pub number: u64,
    /// Its title: a stranger's text.
    pub title: String,
    /// What became of it.
    pub state: PullState,
    /// Whether its author says that it is not ready.
    pub draft: bool,
    /// The commit to be merged.
    pub head_sha: CommitId,
    /// The branch that commit is on, without `refs/heads/`; in the fork's repository for a fork.
    pub head_ref: String,
    /// The branch to merge into, without `refs/heads/`.
    pub base_ref: String,
    /// The commit of that branch as the forge remembers it, which may be an older one.
    pub base_sha: CommitId,
    /// Whether the head is in another repository, or in one that is gone.
    pub fork: bool,
    /// Who opened it; `None` where the account is gone.
    pub author: Option<User>,
    /// The names of its labels.
    pub labels: Vec<String>,
    /// When anything about it last changed, comments included.
    pub updated_at: Timestamp,
    /// The commit the merge made; only for [`PullState::Merged`].
    pub merge_commit: Option<CommitId>,
    /// Its page for people.
    pub url: String,
}

/// The open pull requests at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pulls {
    /// By number, each once.
    pub items: Vec<PullRequest>,
    /// Whether the forge says that nothing changed since the last call.
    pub unchanged: bool,
    /// Whether there are more than the client reads (2,000 on GitHub).
    pub cut: bool,
    /// The forge's clock, for comparing with times it gives elsewhere.
    pub date: Option<Timestamp>,
}

/// What a commit status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CommitState {
    /// Under way.
    Pending,
    /// Fine.
    Success,
    /// The check says no.
    Failure,
    /// The check could not be made.
    Error,
}

/// A commit status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Which of a commit's statuses: `trueup/host/environment`.
    pub context: String,
    /// What it says.
    pub state: CommitState,
    /// A line for people; cut to [`Status::DESCRIPTION_CHARS_MAX`] characters when sent.
    pub description: String,
    /// Where the details are.
    pub url: Option<String>,
}

impl Status {
    /// Longest description GitHub takes, in characters (its answer to longer ones is 422).
    pub const DESCRIPTION_CHARS_MAX: usize = 140;

    /// The description as it is sent.
    #[must_use]
    pub fn cut_description(&self) -> String {
        if self.description.chars().count() <= Self::DESCRIPTION_CHARS_MAX {
            return self.description.clone();
        }
        let mut cut: String =
            self.description.chars().take(Self::DESCRIPTION_CHARS_MAX - 1).collect();
        cut.push('…');
        cut
    }

    /// Whether the forge, having this one, already shows what `wanted` would make it show.
    #[must_use]
    pub fn shows(&self, wanted: &Self) -> bool {
        self.context == wanted.context
            && self.state == wanted.state
            && self.description == wanted.cut_description()
            && self.url == wanted.url
    }
}

/// A check's number on the forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CheckId(pub u64);

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckState {
    /// Under way.
    InProgress,
    /// Done, with this result.
    Completed(Conclusion),
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Conclusion {
    /// Fine.
    Success,
    /// No.
    Failure,
    /// Neither: it does not keep anyone from merging.
    Neutral,
    /// A person has to do something.
    ActionRequired,
    /// It was given up, as its commit is no longer wanted.
    Cancelled,
}

/// How bad what an annotation says is; the worst first in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// It fails the check.
    Failure,
    /// It does not fail the check.
    Warning,
    /// For information.
    Notice,
}

/// A remark on lines of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Annotation {
    /// How bad it is.
    pub level: Level,
    /// The file, from the repository's root.
    pub path: String,
    /// The first line, from 1.
    pub start_line: NonZeroU32,
    /// The last line.
    pub end_line: NonZeroU32,
    /// First and last column, from 1; only sent where both lines are the same.
    pub columns: Option<(u32, u32)>,
    /// The remark; at most 64 KB are sent.
    pub message: String,
    /// A heading.
    pub title: Option<String>,
}

impl Annotation {
    /// Most annotations in one request (`maxItems` in GitHub's OpenAPI description).
    pub const BATCH_MAX: usize = 50;
    /// Longest remark, in bytes (GitHub: 64 KB).
    pub const MESSAGE_BYTES_MAX: usize = 64 << 10;
    /// Longest heading, in characters (GitHub: 255).
    pub const TITLE_CHARS_MAX: usize = 255;
}

/// What a check says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// Its name: the same as the status's context.
    pub name: String,
    /// What we find it by again: a digest of what it is about.
    pub external_id: String,
    /// How far it is.
    pub state: CheckState,
    /// One line.
    pub title: String,
    /// Markdown; at most [`CheckReport::TEXT_BYTES_MAX`].
    pub summary: String,
    /// More markdown below it; at most [`CheckReport::TEXT_BYTES_MAX`].
    pub text: Option<String>,
    /// Where the details are.
    pub url: Option<String>,
    /// Remarks; at most [`Annotation::BATCH_MAX`] a call.
    pub annotations: Vec<Annotation>,
}

impl CheckReport {
    /// Longest summary and text (`maxLength` in GitHub's OpenAPI description).
    pub const TEXT_BYTES_MAX: usize = 65_535;
}

/// A check as the forge has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckSeen {
    /// Its number.
    pub id: CheckId,
    /// How far it is.
    pub state: CheckState,
    /// How many annotations arrived.
    pub annotations: usize,
    /// Its page for people.
    pub url: Option<String>,
}

/// A comment's number on the forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommentId(pub u64);

/// A comment on a pull request or issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Comment {
    /// Its number.
    pub id: CommentId,
    /// The pull request or issue it is on.
    pub number: u64,
    /// Who wrote it; `None` where the account is gone.
    pub author: Option<User>,
    /// Its text: a stranger's.
    pub body: String,
    /// When it was written.
    pub created_at: Timestamp,
    /// When it was last changed. A command in a comment that was changed later is not to be trusted.
    pub updated_at: Timestamp,
    /// Its page for people.
    pub url: String,
}

/// What a review says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReviewVerdict {
    /// Yes.
    Approved,
    /// No.
    ChangesRequested,
    /// Neither.
    Commented,
    /// Taken back.
    Dismissed,
}

/// A review that was handed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    /// Its number.
    pub id: u64,
    /// Who gave it; `None` where the account is gone.
    pub author: Option<User>,
    /// What it says.
    pub verdict: ReviewVerdict,
    /// The head it was given for; `None` where the forge no longer knows.
    pub commit: Option<CommitId>,
    /// When.
    pub at: Option<Timestamp>,
    /// Its text: a stranger's.
    pub body: String,
}

/// A label was put on or taken off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelEvent {
    /// Its number.
    pub id: u64,
    /// The label's name.
    pub label: String,
    /// Whether it was put on.
    pub added: bool,
    /// Who did it; `None` where the account is gone.
    pub actor: Option<User>,
    /// When, by the forge's clock.
    pub at: Timestamp,
}

/// What a person may do in the repository, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Permission {
    /// Nothing.
    None,
    /// Look.
    Read,
    /// Sort issues.
    Triage,
    /// Push.
    Write,
    /// Push, and most settings.
    Maintain,
    /// Everything.
    Admin,
}

/// An issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Issue {
    /// Its number in the repository.
    pub number: u64,
    /// Whether it is open.
    pub open: bool,
    /// Its title.
    pub title: String,
    /// Its text.
    pub body: String,
    /// Its page for people.
    pub url: String,
}

/// What to change about an issue.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IssueChange {
    /// Its title.
    pub title: Option<String>,
    /// Its text.
    pub body: Option<String>,
    /// Whether it is open.
    pub open: Option<bool>,
}

/// What a forge with this login can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// Checks with annotations. On GitHub only an app may write them.
    pub checks: bool,
    /// Whether an unchanged list costs nothing of the budget.
    pub conditional: bool,
    /// Longest comment or issue it takes, in bytes; longer ones are refused.
    pub comment_bytes_max: usize,
    /// Most statuses a commit takes under one context.
    pub statuses_max: Option<usize>,
}

/// The budget of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// Calls an hour.
    pub limit: u64,
    /// Calls left until `reset`.
    pub remaining: u64,
    /// When it is full again.
    pub reset: Option<Timestamp>,
}

/// Why a call to the forge failed, told by what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ForgeFault {
    /// The login is missing, wrong or has ended: a person has to give another.
    Unauthorised,
    /// The login lacks a permission.
    Forbidden {
        /// Which, in the forge's words: `statuses=write`.
        permission: String,
    },
    /// There is no such thing, or the login may not see it.
    NotFound,
    /// The forge does not take what was sent; the same again gives the same answer.
    Invalid,
    /// There is no room for more of it there, and never will be.
    Full,
    /// Too many calls: none before then, of any kind.
    RateLimited {
        /// When to go on.
        until: Timestamp,
    },
    /// It does not answer, or not sensibly; nothing was done, or doing it again does no harm.
    Unavailable,
    /// It was sent, and may have been carried out: look before doing it again.
    Maybe,
    /// This forge, or this login, cannot do that at all.
    Unsupported,
}

/// Why a call to the forge failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{what}; {next}")]
#[serde(rename_all = "camelCase")]
pub struct ForgeError {
    /// What to do next, for the program.
    pub fault: ForgeFault,
    /// What happened, to which object. Never a secret.
    pub what: String,
    /// What to do next, for a person.
    pub next: String,
}

impl ForgeError {
    /// Whether the same call can succeed later without anyone doing anything.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(
            self.fault,
            ForgeFault::RateLimited { .. } | ForgeFault::Unavailable | ForgeFault::Maybe
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_cut_between_characters() {
        let mut status = Status {
            context: "trueup/host/lab".into(),
            state: CommitState::Success,
            description: "ü".repeat(140),
            url: None,
        };
        assert_eq!(status.cut_description(), status.description);
        status.description.push('é');
        let cut = status.cut_description();
        assert_eq!(cut.chars().count(), 140);
        assert!(cut.ends_with("ü…"));
        let seen = Status { description: cut, ..status.clone() };
        assert!(seen.shows(&status));
        assert!(!seen.shows(&Status { state: CommitState::Failure, ..status }));
    }
}
