//! GitHub's replies, cut to the fields we use, and how they become ours.
//!
//! Every field that GitHub may leave out or set to null is optional here, so that an older
//! Enterprise server, or a new kind of account, is no error.

use jiff::Timestamp;
use serde::Deserialize;

use crate::forge::text::number_at_end;
use crate::model::CommitId;
use crate::port::forge::{
    CheckId, CheckSeen, CheckState, Comment, CommentId, CommitState, Conclusion, Issue, LabelEvent,
    PullRequest, PullState, Review, ReviewVerdict, Status, User,
};

#[derive(Deserialize)]
pub(super) struct WireUser {
    pub(super) id: u64,
    pub(super) login: String,
}

impl From<WireUser> for User {
    fn from(user: WireUser) -> Self {
        Self { id: user.id, login: user.login }
    }
}

#[derive(Deserialize)]
pub(super) struct WireApp {
    pub(super) slug: Option<String>,
}

#[derive(Deserialize)]
struct WireLabel {
    name: String,
}

#[derive(Deserialize)]
struct WireRepo {
    id: u64,
}

#[derive(Deserialize)]
struct WireBranch {
    #[serde(rename = "ref")]
    name: String,
    sha: CommitId,
    repo: Option<WireRepo>,
}

#[derive(Deserialize)]
pub(super) struct WirePull {
    number: u64,
    #[serde(default)]
    title: String,
    state: String,
    #[serde(default)]
    draft: Option<bool>,
    head: WireBranch,
    base: WireBranch,
    user: Option<WireUser>,
    #[serde(default)]
    labels: Vec<WireLabel>,
    updated_at: Timestamp,
    merged_at: Option<Timestamp>,
    merge_commit_sha: Option<String>,
    #[serde(default)]
    html_url: String,
}

impl From<WirePull> for PullRequest {
    fn from(pull: WirePull) -> Self {
        let state = match (pull.merged_at, pull.state.as_str()) {
            (Some(_), _) => PullState::Merged,
            (None, "open") => PullState::Open,
            (None, _) => PullState::Closed,
        };
        // Of an open one it is GitHub's trial merge, which is not ours.
        let merge_commit = pull
            .merge_commit_sha
            .filter(|_| state == PullState::Merged)
            .and_then(|sha| sha.parse().ok());
        // A fork that is gone is still a stranger's.
        let fork = match (&pull.head.repo, &pull.base.repo) {
            (Some(head), Some(base)) => head.id != base.id,
            _ => true,
        };
        Self {
            number: pull.number,
            title: pull.title,
            state,
            draft: pull.draft.unwrap_or_default(),
            head_sha: pull.head.sha,
            head_ref: pull.head.name,
            base_ref: pull.base.name,
            base_sha: pull.base.sha,
            fork,
            author: pull.user.map(User::from),
            labels: pull.labels.into_iter().map(|label| label.name).collect(),
            updated_at: pull.updated_at,
            merge_commit,
            url: pull.html_url,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct WireStatus {
    pub(super) context: String,
    state: String,
    description: Option<String>,
    target_url: Option<String>,
}

impl From<WireStatus> for Status {
    fn from(status: WireStatus) -> Self {
        Self {
            context: status.context,
            state: match status.state.as_str() {
                "success" => CommitState::Success,
                "failure" => CommitState::Failure,
                "error" => CommitState::Error,
                _ => CommitState::Pending,
            },
            description: status.description.unwrap_or_default(),
            url: status.target_url.filter(|url| !url.is_empty()),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct WireComment {
    id: u64,
    #[serde(default)]
    issue_url: String,
    user: Option<WireUser>,
    body: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(default)]
    html_url: String,
}

impl From<WireComment> for Comment {
    fn from(comment: WireComment) -> Self {
        Self {
            id: CommentId(comment.id),
            number: number_at_end(&comment.issue_url).unwrap_or_default(),
            author: comment.user.map(User::from),
            body: comment.body.unwrap_or_default(),
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
    state: String,
    commit_id: Option<String>,
    submitted_at: Option<Timestamp>,
    body: Option<String>,
}

impl WireReview {
    /// `None` for one that is not handed in yet.
    pub(super) fn into_review(self) -> Option<Review> {
        let verdict = match self.state.as_str() {
            "APPROVED" => ReviewVerdict::Approved,
            "CHANGES_REQUESTED" => ReviewVerdict::ChangesRequested,
            "DISMISSED" => ReviewVerdict::Dismissed,
            "COMMENTED" => ReviewVerdict::Commented,
            _ => return None,
        };
        Some(Review {
            id: self.id,
            author: self.user.map(User::from),
            verdict,
            commit: self.commit_id.and_then(|sha| sha.parse().ok()),
            at: self.submitted_at,
            body: self.body.unwrap_or_default(),
        })
    }
}

#[derive(Deserialize)]
pub(super) struct WireEvent {
    id: u64,
    event: String,
    actor: Option<WireUser>,
    created_at: Timestamp,
    label: Option<WireLabel>,
}

impl WireEvent {
    /// `None` for an event about something else.
    pub(super) fn into_label(self) -> Option<LabelEvent> {
        let added = match self.event.as_str() {
            "labeled" => true,
            "unlabeled" => false,
            _ => return None,
        };
        Some(LabelEvent {
            id: self.id,
            label: self.label?.name,
            added,
            actor: self.actor.map(User::from),
            at: self.created_at,
        })
    }
}

#[derive(Deserialize)]
pub(super) struct WirePermission {
    #[serde(default)]
    pub(super) permission: String,
    #[serde(default)]
    pub(super) role_name: String,
}

#[derive(Deserialize)]
pub(super) struct WireMembership {
    pub(super) state: String,
}

#[derive(Deserialize)]
pub(super) struct WireCheck {
    id: u64,
    pub(super) external_id: Option<String>,
    status: String,
    conclusion: Option<String>,
    output: Option<WireOutput>,
    html_url: Option<String>,
}

#[derive(Deserialize)]
struct WireOutput {
    #[serde(default)]
    annotations_count: usize,
}

impl From<WireCheck> for CheckSeen {
    fn from(check: WireCheck) -> Self {
        let state = match (check.status.as_str(), check.conclusion.as_deref()) {
            ("completed", Some("success")) => CheckState::Completed(Conclusion::Success),
            ("completed", Some("neutral" | "skipped")) => {
                CheckState::Completed(Conclusion::Neutral)
            }
            ("completed", Some("action_required")) => {
                CheckState::Completed(Conclusion::ActionRequired)
            }
            ("completed", Some("cancelled" | "stale")) => {
                CheckState::Completed(Conclusion::Cancelled)
            }
            ("completed", _) => CheckState::Completed(Conclusion::Failure),
            _ => CheckState::InProgress,
        };
        Self {
            id: CheckId(check.id),
            state,
            annotations: check.output.map(|output| output.annotations_count).unwrap_or_default(),
            url: check.html_url,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct WireIssue {
    pub(super) number: u64,
    state: String,
    #[serde(default)]
    title: String,
    body: Option<String>,
    pub(super) user: Option<WireUser>,
    #[serde(default)]
    html_url: String,
    /// There for pull requests, which GitHub lists among issues.
    pub(super) pull_request: Option<serde::de::IgnoredAny>,
}

impl WireIssue {
    pub(super) fn has(&self, marker: &str) -> bool {
        self.body.as_deref().is_some_and(|body| body.contains(marker))
    }
}

impl From<WireIssue> for Issue {
    fn from(issue: WireIssue) -> Self {
        Self {
            number: issue.number,
            open: issue.state == "open",
            title: issue.title,
            body: issue.body.unwrap_or_default(),
            url: issue.html_url,
        }
    }
}
