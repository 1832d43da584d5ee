//! The port to the repository.

use std::sync::Arc;

use super::BoxFuture;
pub use crate::event::body::Problem;
use crate::model::{CommitId, Fault};

/// The head of the followed branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The commit.
    pub commit: CommitId,
    /// The repository it is from, without a password: another one than that of the commit in force
    /// is told apart by it.
    pub repository: String,
    /// How it relates to the commit in force.
    pub relation: Relation,
    /// Author: `name <mail>`.
    pub author: String,
    /// Author's time, RFC 3339.
    pub time: String,
    /// First line of the message.
    pub subject: String,
    /// Who signed it, where signatures are required; `Err`: why it is not accepted.
    pub signer: Result<Option<String>, String>,
}

/// How an offered commit relates to the one in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// There is none in force yet.
    First,
    /// It is the same.
    Same,
    /// It contains the one in force: a fast-forward.
    Ahead,
    /// The one in force contains it.
    Behind,
    /// Neither contains the other.
    Diverged,
}

/// A file at a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRef {
    /// Path in the repository.
    pub path: String,
    /// Id of its content.
    pub blob: String,
    /// Size in bytes.
    pub size: u64,
    /// Whether Git has it as executable.
    pub executable: bool,
}

/// Why a commit's files cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeFault {
    /// The commit holds things that are refused: symlinks, submodules, too large a tree.
    #[error("the commit holds {} thing(s) that are refused", .0.len())]
    Refused(Vec<Problem>),
    /// The mirror cannot be read.
    #[error(transparent)]
    Mirror(Fault),
}

/// A mirror of the environment repository.
pub trait Source: Send + Sync {
    /// Asks the remote for the head of the branch and brings it into the mirror when it is new.
    ///
    /// # Errors
    /// `Fault::Unobservable` when the remote does not answer.
    fn poll(&self, have: Option<CommitId>) -> BoxFuture<'_, Result<Head, Fault>>;

    /// Whether a commit of the mirror has the signature that is required of it now, whatever was
    /// required when it was taken in. A source that requires none accepts all.
    ///
    /// # Errors
    /// Why it is not accepted.
    fn vouch(&self, commit: CommitId) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            tracing::trace!(%commit, "no signature is required");
            Ok(())
        })
    }

    /// The files at a commit that is in the mirror; every file that can matter to trueup.
    ///
    /// # Errors
    /// A [`TreeFault`].
    fn files(&self, commit: CommitId) -> BoxFuture<'_, Result<Vec<FileRef>, TreeFault>>;

    /// Id of the tree at a commit that is in the mirror: commits with equal trees ask for the same,
    /// however they came about.
    ///
    /// # Errors
    /// A fault when the mirror cannot be read.
    fn tree(&self, commit: CommitId) -> BoxFuture<'_, Result<String, Fault>>;

    /// The contents of blobs, in the order asked for.
    ///
    /// # Errors
    /// A fault when the mirror cannot be read.
    fn blobs(&self, wanted: Vec<String>) -> BoxFuture<'_, Result<Vec<Arc<[u8]>>, Fault>>;

    /// Keeps these commits readable, and lets go of others, whatever becomes of the remote branch.
    ///
    /// # Errors
    /// A fault when the mirror cannot be written.
    fn keep(&self, commits: Vec<CommitId>) -> BoxFuture<'_, Result<(), Fault>>;
}
