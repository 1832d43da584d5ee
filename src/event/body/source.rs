//! Events about the repository and the specs read from it.

use serde::{Deserialize, Serialize};

use crate::event::Spilled;
use crate::model::{CommitId, Digest, Name, ResourceId};

/// `source.commit_observed`; the commit is the envelope's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitObserved {
    /// Author as Git has it: `name <mail>`.
    pub author: String,
    /// Author's time as Git has it, RFC 3339.
    pub time: String,
    /// First line of the message.
    pub subject: String,
    /// Who signed it, where signatures are required.
    pub signer: Option<String>,
    /// The repository it is from, without a password; events of earlier versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
}

/// `source.rekeyed`: the config names another repository than the commit in force is from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rekeyed {
    /// The repository that was followed.
    pub previous: String,
    /// The repository that is followed from here on.
    pub repository: String,
}

/// `source.rewrite_refused`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewriteRefused {
    /// The commit that stays in force.
    pub have: CommitId,
    /// The head that is refused.
    pub offered: CommitId,
    /// `behind` (an older commit) or `diverged` (another history).
    pub relation: String,
}

/// `source.rewrite_accepted`; who did it is the envelope's actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewriteAccepted {
    /// The head that is let through.
    pub offered: CommitId,
}

/// `source.unreachable`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreachable {
    /// What went wrong, without credentials.
    pub error: String,
}

/// `source.reachable`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reachable {}

/// `source.signature_rejected`; the commit is the envelope's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureRejected {
    /// What is wrong with the signature.
    pub why: String,
}

/// `spec.wished`: a part of what a large commit asks for; `spec.accepted` follows. The commit is
/// the envelope's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecWished {
    /// Resources that are new or changed, with their digests.
    pub changed: Vec<(ResourceId, Digest)>,
    /// Resources that are gone.
    pub removed: Vec<ResourceId>,
}

/// `source.refusal_ended`: the refused head is no longer the branch's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalEnded {}

/// `spec.accepted`; the commit is the envelope's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecAccepted {
    /// The environment read.
    pub environment: Name,
    /// Digest of the whole desired state.
    pub desired: Digest,
    /// Resources that are new or changed since the last accepted commit, with their digests.
    pub changed: Vec<(ResourceId, Digest)>,
    /// Resources gone since the last accepted commit.
    pub removed: Vec<ResourceId>,
    /// Id of the commit's tree, by which its pull request is known; events of earlier versions have
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<String>,
}

/// `spec.rejected`; the commit is the envelope's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecRejected {
    /// How many mistakes there are.
    pub errors: u64,
    /// The first of them.
    pub problems: Vec<Problem>,
    /// All of them, where that is more; events of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<Spilled>,
}

/// `spec.warned`: what somebody should look at in the commit in force; none where it is mended. The
/// commit is the envelope's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecWarned {
    /// How many warnings there are.
    pub count: u64,
    /// The first of them.
    pub warnings: Vec<Problem>,
}

/// `spec.unreadable`: the mirror does not give a commit that it should hold. The commit is the
/// envelope's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecUnreadable {
    /// What went wrong.
    pub error: String,
}

/// `spec.readable`: the mirror gives its commits again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecReadable {}

/// One mistake in a spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Path in the repository.
    pub path: String,
    /// Line, from 1; 0: the whole file.
    pub line: u32,
    /// Column, from 1; 0: the whole line.
    pub column: u32,
    /// What is wrong.
    pub message: String,
}
