//! What a commit holds: the listing of every file that matters to trueup, straight from the object
//! database.
//!
//! What matters is `*.yaml` and `*.yml` at the root and everything below `environments/`, `bases/`
//! and `policies/`; the rest of the repository is not even looked at. Inside, anything that is not
//! a plain file or directory with a plain name is a problem, and all problems come at once. A
//! listing is whole or it is not there: a damaged object is an error, never an absence.

mod change;
pub(crate) mod lfs;
mod name;
mod walk;

use std::sync::Arc;

use super::error::SourceError;
use super::id::{BlobId, CommitId, TreeId};
use super::mirror::Mirror;

pub use change::Change;

/// The folders that are read as a whole.
pub const FOLDERS: [&str; 3] = ["bases", "environments", "policies"];

/// How much a commit may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeLimits {
    /// Files.
    pub files_max: usize,
    /// Directories.
    pub directories_max: usize,
    /// Bytes of one file.
    pub file_bytes_max: u64,
    /// Bytes of all files together.
    pub total_bytes_max: u64,
    /// Components of a path.
    pub depth_max: usize,
    /// Bytes of a path.
    pub path_bytes_max: usize,
}

impl Default for TreeLimits {
    /// Ten times what the largest repositories this is meant for hold (5,000 documents of under
    /// 1 KiB), so that a mistake is caught long before memory is short.
    fn default() -> Self {
        Self {
            files_max: 50_000,
            directories_max: 10_000,
            file_bytes_max: 1 << 20,
            total_bytes_max: 64 << 20,
            depth_max: 16,
            path_bytes_max: 512,
        }
    }
}

/// Whether a file is marked executable. Nothing is ever executed either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// Mode 100644.
    File,
    /// Mode 100755.
    Executable,
}

/// One file at a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path from the root, with `/`.
    pub path: Arc<str>,
    /// Its content.
    pub blob: BlobId,
    /// The content's length in bytes.
    pub size: u64,
    /// Its mode.
    pub kind: EntryKind,
}

/// The files of a commit that matter, sorted by the bytes of their paths.
#[derive(Debug, Clone)]
pub struct Tree {
    commit: CommitId,
    id: TreeId,
    entries: Vec<Entry>,
    directories: Vec<walk::Directory>,
    total_bytes: u64,
}

impl Tree {
    /// The commit it was read from.
    #[must_use]
    pub fn commit(&self) -> CommitId {
        self.commit
    }

    /// The root directory's id: equal ids are equal content.
    #[must_use]
    pub fn id(&self) -> TreeId {
        self.id
    }

    /// The files, sorted by path.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes of all files.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// The file at `path`.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Entry> {
        let place = self.entries.binary_search_by(|entry| entry.path.as_ref().cmp(path)).ok()?;
        self.entries.get(place)
    }
}

/// Why there is no listing.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The mirror failed.
    #[error("the files of the commit cannot be listed")]
    Source(#[source] SourceError),
    /// The commit holds what trueup does not accept. At least one problem, all of them at once (up
    /// to [`PROBLEMS_MAX`]).
    #[error("commit {commit} cannot be used: {}", first(.problems))]
    Refused {
        /// The commit.
        commit: CommitId,
        /// What is wrong with it.
        problems: Vec<TreeProblem>,
    },
}

fn first(problems: &[TreeProblem]) -> String {
    let first = problems.first().map(ToString::to_string).unwrap_or_default();
    match problems.len() {
        0 | 1 => first,
        more => format!("{first} (and {} more)", more - 1),
    }
}

/// Problems reported at most: enough to mend a repository by, not enough to flood an event.
pub const PROBLEMS_MAX: usize = 200;

/// One thing in a commit that trueup does not accept, with its path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeProblem {
    /// A symbolic link.
    #[error("{path}: is a symbolic link; commit the file itself")]
    Symlink {
        /// Where.
        path: String,
    },
    /// A submodule.
    #[error("{path}: is a submodule; commit its files instead")]
    Submodule {
        /// Where.
        path: String,
    },
    /// A Git LFS pointer.
    #[error("{path}: is a Git LFS pointer; commit the file without LFS")]
    LfsPointer {
        /// Where.
        path: String,
    },
    /// The name is not UTF-8.
    #[error("{path}: its name is not UTF-8; rename it")]
    NotUtf8 {
        /// Where, with the offending bytes escaped.
        path: String,
    },
    /// A name that could lead out of the repository or fool a reader.
    #[error("{path:?}: {why}; rename it")]
    UnsafeName {
        /// Where.
        path: String,
        /// What about it.
        why: &'static str,
    },
    /// A file where a folder must be or the reverse.
    #[error("{path}: must be a {expected}")]
    WrongKind {
        /// Where.
        path: String,
        /// `file` or `folder`.
        expected: &'static str,
    },
    /// The directory's entries are not in Git's order or not unique: not made by Git.
    #[error("{path}: this entry is out of order or there twice; the commit was not made by Git")]
    Malformed {
        /// Where.
        path: String,
    },
    /// Too many folders inside each other.
    #[error("{path}: is more than {limit} levels deep")]
    TooDeep {
        /// Where.
        path: String,
        /// The limit.
        limit: usize,
    },
    /// A path too long.
    #[error("{path}: its path is longer than {limit} bytes")]
    PathTooLong {
        /// Where, cut to the limit.
        path: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// A file too large.
    #[error("{path}: has {bytes} bytes, more than the {limit} allowed")]
    FileTooLarge {
        /// Where.
        path: String,
        /// Its size.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// All files together too large.
    #[error(
        "{path}: up to here the files have {bytes} bytes together, more than the {limit} allowed"
    )]
    TotalTooLarge {
        /// The file that crossed the limit.
        path: String,
        /// The sum so far.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Too many files or folders; the listing ends here.
    #[error("{path}: is one more than the {limit} {what} allowed")]
    TooMany {
        /// The first one over the limit.
        path: String,
        /// `files` or `folders`.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Nothing that matters is there: far more likely a mistake than a wish to remove everything.
    #[error("the commit holds no trueup files: no YAML at its root, nothing in {}", FOLDERS.join(", "))]
    Empty,
    /// More problems than are reported.
    #[error("{path}: more than {limit} problems; the rest is not reported")]
    Truncated {
        /// Where reporting ended.
        path: String,
        /// The limit.
        limit: usize,
    },
}

impl Mirror {
    /// Lists the files of a commit.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn tree(&self, commit: CommitId, limits: &TreeLimits) -> Result<Tree, TreeError> {
        walk::list(self, commit, limits, None)
    }

    /// As [`Mirror::tree`], taking what did not change from an earlier listing made with the same
    /// limits: the cost is that of the changed folders.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn tree_from(
        &self,
        previous: &Tree,
        commit: CommitId,
        limits: &TreeLimits,
    ) -> Result<Tree, TreeError> {
        walk::list(self, commit, limits, Some(previous))
    }

    /// The files of a tree that is no commit's, as `repo` sees the objects; `commit` is only named.
    pub(crate) fn tree_at(
        &self,
        repo: gix::Repository,
        at: (CommitId, TreeId),
        limits: &TreeLimits,
        previous: Option<&Tree>,
    ) -> Result<Tree, TreeError> {
        walk::list_at(self, repo, at, limits, previous)
    }
}
