//! Events about pull requests, and about what was said of them on the forge.
//!
//! What a stranger wrote is kept only where it is needed: no titles, no texts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Problem;
use crate::event::spill::Spilled;
use crate::model::{CommitId, Digest};
use crate::plan::promise::Promise;

/// `pull.observed`: it is open, and is new or has another head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullObserved {
    /// Its number.
    pub number: u64,
    /// The commit it offers.
    pub head: CommitId,
    /// Who opened it, by the name on the forge.
    pub author: String,
    /// Whether it comes from another repository, whose writers are strangers.
    pub fork: bool,
}

/// `pull.planned`: what merging it would do, or why that cannot be said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullPlanned {
    /// Its number.
    pub number: u64,
    /// The commit it offers.
    pub head: CommitId,
    /// The head of the branch, which it was merged into.
    pub base: CommitId,
    /// Id of the tree that the merge gives; a commit with this tree is what was looked at.
    pub tree: Option<String>,
    /// What came of it.
    pub outcome: PullOutcome,
    /// What is posted.
    pub report: Spilled,
    /// Digest of what the comment says, without what changes with every look; events of earlier
    /// versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<Digest>,
    /// It in a line, for the list of earlier plans; events of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}

/// What came of looking at a pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum PullOutcome {
    /// There is a plan.
    Planned(PullPlan),
    /// It does not merge: these files collide.
    Conflict(Vec<String>),
    /// What the merge would give has mistakes: how many, and the first of them.
    Rejected(u64, Vec<Problem>),
    /// It is not looked at, and why.
    Refused(String),
}

/// The plan of a pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullPlan {
    /// Its digest.
    pub plan: Digest,
    /// What it promises not to exceed.
    pub promise: Promise,
    /// What would hold it after the merge.
    pub held: Vec<String>,
    /// Hard rules it breaks: such a plan never runs.
    pub denied: Vec<String>,
}

/// `pull.closed`: it is not open any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullClosed {
    /// Its number.
    pub number: u64,
    /// Whether it was merged into the branch. Events of earlier versions do not say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub merged: bool,
}

/// `pull.approved`: what was shown of it may run after the merge, also where it would have to wait; who
/// did it is the envelope's actor. Another head voids it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullApproved {
    /// Its number.
    pub number: u64,
    /// The head it was given for.
    pub head: CommitId,
    /// Digest of the plan that was shown.
    pub plan: Digest,
    /// What was done on the forge.
    pub via: ForgeApproval,
}

/// `pull.approval_withdrawn`: it was taken back. Of a plan that runs by it, what has begun is finished,
/// and nothing more is begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullApprovalWithdrawn {
    /// Its number; after the merge, of where the approval was given.
    pub number: u64,
    /// Digest of the plan that was approved.
    pub plan: Digest,
    /// What was done on the forge, in a sentence.
    pub why: String,
    /// The word that counts no more; those of others go on counting. `None`, and nothing was `asked`:
    /// every word, as in events of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<Word>,
    /// Who asked for it by a comment: what was said until then counts no more, also where it is heard
    /// only later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
}

/// A comment, a review or a label put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Which of them.
    pub means: ApprovalMeans,
    /// The forge's number of it.
    pub id: u64,
}

/// A comment that asks to take approvals back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The forge's number of it.
    pub comment: u64,
    /// When it was written, by the forge's clock.
    pub at: Timestamp,
    /// Whose approvals, by the name on the forge; `None`: everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
}

/// What somebody did on the forge to approve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgeApproval {
    /// Who, by the name on the forge.
    pub login: String,
    /// The pull request or issue it was done on.
    pub on: u64,
    /// What was done.
    pub means: ApprovalMeans,
    /// The forge's number of the comment, the review or the label's event.
    pub id: u64,
    /// Its page for people, where the forge says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// When it was done, by the forge's clock; events of earlier versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

impl ForgeApproval {
    /// What it is known by.
    #[must_use]
    pub fn word(&self) -> Word {
        Word { means: self.means, id: self.id }
    }
}

/// How somebody approves on the forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ApprovalMeans {
    /// By a comment with the digest.
    Comment,
    /// By a review.
    Review,
    /// By a label.
    Label,
}

impl ApprovalMeans {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Comment => "comment",
            Self::Review => "review",
            Self::Label => "label",
        }
    }
}

/// `plan.surprised`: a merge would do more than its pull request said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSurprised {
    /// Digest of the plan that would do more.
    pub plan: Digest,
    /// The pull request.
    pub number: u64,
    /// Digest of the plan that was shown.
    pub shown: Digest,
    /// Exactly what was not shown, one sentence each; the first of it.
    pub extra: Vec<String>,
    /// All of it, where that is more; events of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<Spilled>,
}

/// Where something is said on the forge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum PostTarget {
    /// The status of a commit.
    Status(CommitId),
    /// The one comment on a pull request.
    Comment(u64),
    /// The check run of a commit.
    Check(CommitId),
    /// The one issue about drift.
    Issue,
}

/// `forge.posted`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgePosted {
    /// Where.
    pub target: PostTarget,
    /// Digest of what was said.
    pub content: Digest,
    /// The forge's id of it, where it has one.
    pub id: Option<u64>,
    /// Its page for people, an `http` or `https` address; events of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// `forge.refused`: the forge does not take a post, and trying again would not help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgeRefused {
    /// Where.
    pub target: PostTarget,
    /// Digest of what was to be said.
    pub content: Digest,
    /// Why, and what to do.
    pub why: String,
    /// Whether nothing more is ever taken there; events of earlier versions do not say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
}

/// `forge.unavailable`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgeUnavailable {
    /// Why.
    pub error: String,
}

/// `forge.available`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgeAvailable {}
