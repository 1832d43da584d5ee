//! Gitea's and Forgejo's replies, cut to the fields we use, and how they become ours.
//!
//! Both leave out or empty what GitHub sets to null, so everything but ids may be missing.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use crate::forge::text::number_at_end;
use crate::model::CommitId;
use crate::port::forge::{
    Comment, CommentId, CommitState, Issue, LabelEvent, PullRequest, PullState, Review,
    ReviewVerdict, Status, User,
};

/// A list that may be null.
fn maybe<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Deserialize)]
pub(super) struct WireUser {
    pub(super) id: i64,
    #[serde(default)]
    pub(super) login: String,
}

/// An account that is gone is shown with an id that is not positive ("Ghost", -1).
pub(super) fn user(user: Option<WireUser>) -> Option<User> {
    let user = user?;
    let id = u64::try_from(user.id).ok().filter(|id| *id > 0)?;
    Some(User { id, login: user.login })
}

#[derive(Deserialize)]
struct WireLabel {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct WireBranch {
    #[serde(rename = "ref")]
    name: String,
    sha: CommitId,
    repo_id: Option<i64>,
}

#[derive(Deserialize)]
pub(super) struct WirePull {
    number: u64,
    #[serde(default)]
    title: String,
    state: String,
    #[serde(default)]
    draft: bool,
    head: WireBranch,
    base: WireBranch,
    user: Option<WireUser>,
    #[serde(default, deserialize_with = "maybe")]
    labels: Vec<WireLabel>,
    updated_at: Timestamp,
    #[serde(default)]
    merged: bool,
    merge_commit_sha: Option<String>,
    #[serde(default)]
    html_url: String,
}

impl From<WirePull> for PullRequest {
    fn from(pull: WirePull) -> Self {
        let state = match (pull.merged, pull.state.as_str()) {
            (true, _) => PullState::Merged,
            (false, "open") => PullState::Open,
            (false, _) => PullState::Closed,
        };
        let merge_commit = pull
            .merge_commit_sha
            .filter(|_| state == PullState::Merged)
            .and_then(|sha| sha.parse().ok());
        let fork = match (pull.head.repo_id, pull.base.repo_id) {
            (Some(head), Some(base)) => head != base,
            _ => true,
        };
        Self {
            number: pull.number,
            title: pull.title,
            state,
            draft: pull.draft,
            head_sha: pull.head.sha,
            head_ref: pull.head.name,
            base_ref: pull.base.name,
            base_sha: pull.base.sha,
            fork,
            author: user(pull.user),
            labels: pull.labels.into_iter().map(|label| label.name).collect(),
            updated_at: pull.updated_at,
            merge_commit,
            url: pull.html_url,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct WireStatus {
    #[serde(default)]
    pub(super) context: String,
    /// Gitea's name of the field; its own newer versions also give `state`.
    #[serde(default)]
    status: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    target_url: String,
}

impl From<WireStatus> for Status {
    fn from(status: WireStatus) -> Self {
        Self {
            context: status.context,
            state: match status.status.as_str() {
                "success" | "warning" | "skipped" => CommitState::Success,
                "failure" => CommitState::Failure,
                "error" => CommitState::Error,
                _ => CommitState::Pending,
            },
            description: status.description,
            url: Some(status.target_url).filter(|url| !url.is_empty()),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct WireComment {
    id: u64,
    /// Only one of the two is filled in.
    #[serde(default)]
    issue_url: String,
    #[serde(default)]
    pull_request_url: String,
    user: Option<WireUser>,
    #[serde(default)]
    body: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(default)]
    html_url: String,
}

impl From<WireComment> for Comment {
    fn from(comment: WireComment) -> Self {
        let number = number_at_end(&comment.pull_request_url)
            .or_else(|| number_at_end(&comment.issue_url))
            .unwrap_or_default();
        Self {
            id: CommentId(comment.id),
            number,
            author: user(comment.user),
            body: comment.body,
            created_at: comment.created_at,
            updated_at: comment.updated_at,
            url: comment.html_url,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct WireReview {
    id: u64,
    user: Option<WireUser>,
    #[serde(default)]
    state: String,
    #[serde(default)]
    dismissed: bool,
    commit_id: Option<String>,
    submitted_at: Option<Timestamp>,
    #[serde(default)]
    body: String,
}

impl WireReview {
    /// `None` for one that is not handed in yet, or only asked for.
    pub(super) fn into_review(self) -> Option<Review> {
        let verdict = match self.state.as_str() {
            _ if self.dismissed => ReviewVerdict::Dismissed,
            "APPROVED" => ReviewVerdict::Approved,
            "REQUEST_CHANGES" => ReviewVerdict::ChangesRequested,
            "COMMENT" => ReviewVerdict::Commented,
            _ => return None,
        };
        Some(Review {
            id: self.id,
            author: user(self.user),
            verdict,
            commit: self.commit_id.and_then(|sha| sha.parse().ok()),
            at: self.submitted_at,
            body: self.body,
        })
    }
}

#[derive(Deserialize)]
pub(super) struct WireTimeline {
    id: u64,
    #[serde(rename = "type", default)]
    kind: String,
    user: Option<WireUser>,
    label: Option<WireLabel>,
    /// `1` where a label was put on.
    #[serde(default)]
    body: String,
    created_at: Timestamp,
}

impl WireTimeline {
    /// `None` for an entry about something else.
    pub(super) fn into_label(self) -> Option<LabelEvent> {
        if self.kind != "label" {
            return None;
        }
        Some(LabelEvent {
            id: self.id,
            label: self.label?.name,
            added: self.body == "1",
            actor: user(self.user),
            at: self.created_at,
        })
    }
}

#[derive(Deserialize)]
pub(super) struct WirePermission {
    #[serde(default)]
    pub(super) permission: String,
}

#[derive(Deserialize)]
pub(super) struct WireTeam {
    pub(super) id: u64,
    #[serde(default)]
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct WireTeams {
    #[serde(default, deserialize_with = "maybe")]
    pub(super) data: Vec<WireTeam>,
}

#[derive(Deserialize)]
pub(super) struct WireIssue {
    number: u64,
    #[serde(default)]
    state: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    pub(super) body: String,
    pub(super) user: Option<WireUser>,
    #[serde(default)]
    html_url: String,
}

impl From<WireIssue> for Issue {
    fn from(issue: WireIssue) -> Self {
        Self {
            number: issue.number,
            open: issue.state == "open",
            title: issue.title,
            body: issue.body,
            url: issue.html_url,
        }
    }
}
