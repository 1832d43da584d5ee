//! The port to the pull requests of the repository: which there are, and what merging one gives.
//!
//! A pull request's content is data: it is merged and read from objects, never checked out, and
//! nothing of it decides how it is read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::{BoxFuture, FileRef, TreeFault};
use crate::model::{CommitId, Fault};

/// Which pull requests the remote is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Every one it has a ref for. Forges keep those of closed ones too.
    All,
    /// These, by number.
    Only(BTreeSet<u64>),
}

/// What the remote has, from one conversation without objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// The head of the followed branch.
    pub base: CommitId,
    /// The heads of pull requests, by number.
    pub heads: BTreeMap<u64, CommitId>,
    /// How many more there are, beyond the limit; the highest numbers are kept.
    pub left_out: usize,
}

/// What a fetch of pull requests brought.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fetched {
    /// The heads that are there now, by number.
    pub heads: BTreeMap<u64, CommitId>,
    /// Pull requests that are not taken, however often they are asked for: why, in words.
    pub refused: BTreeMap<u64, String>,
}

/// What merging a head into a base gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merge {
    /// There is a merged tree.
    Clean(Box<MergedFiles>),
    /// It cannot be merged without a person.
    Conflict {
        /// The paths in conflict, sorted; at most [`CONFLICTS_MAX`].
        paths: Vec<String>,
        /// How many more.
        more: usize,
    },
    /// The two have no common history.
    Unrelated,
}

/// Conflicting paths that are told: enough to find the cause by, not enough to flood a status.
pub const CONFLICTS_MAX: usize = 50;

/// How a merged tree came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeKind {
    /// The base holds the head already: the tree is the base's.
    UpToDate,
    /// The head builds on the base: the tree is the head's.
    FastForward,
    /// Both sides changed something.
    Merged,
}

/// The files of a merged tree, under the same limits and refusals as those of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedFiles {
    /// Id of the merged tree: equal ids are equal content, whatever commits they come from.
    pub tree: String,
    /// How it came about.
    pub kind: MergeKind,
    /// Every file that can matter to trueup.
    pub files: Vec<FileRef>,
    /// Contents that exist in no commit, by blob id: files both sides changed. All other blobs are
    /// in the mirror. They are held here only, so that strangers cannot fill the mirror.
    pub made: BTreeMap<String, Arc<[u8]>>,
    /// What merging changes in the base, sorted by path.
    pub changed: Vec<FileChange>,
    /// For files that the pull request changes: where the merged text stands in the head's, and
    /// which of its lines a forge shows.
    pub lines: BTreeMap<String, PullLines>,
}

/// A file that merging changes. One side may be absent, never both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// The path.
    pub path: String,
    /// The blob in the base; `None`: added.
    pub old: Option<String>,
    /// The blob in the merged tree; `None`: removed.
    pub new: Option<String>,
}

/// The lines of one file of a pull request. All lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PullLines {
    /// Head-side lines that the pull request adds or changes, ascending and apart.
    pub changed: Vec<RangeInclusive<u32>>,
    /// Runs of lines that are the same in the merged text and the head's, ascending.
    pub same: Vec<SameLines>,
}

/// A run of equal lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SameLines {
    /// First line in the merged text.
    pub merged: u32,
    /// First line in the head's text.
    pub head: u32,
    /// How many.
    pub count: u32,
}

/// Unchanged lines that forges show around a change (the default of `git diff`).
pub const CONTEXT_LINES: u32 = 3;

impl PullLines {
    /// The head-side line of a line of the merged text; `None`: it is the base's.
    #[must_use]
    pub fn head_line(&self, merged: u32) -> Option<u32> {
        let run = self.same.iter().rev().find(|run| run.merged <= merged)?;
        let offset = merged - run.merged;
        (offset < run.count).then_some(run.head + offset)
    }

    /// Whether the pull request adds or changes this head-side line.
    #[must_use]
    pub fn changes(&self, head: u32) -> bool {
        self.changed.iter().any(|range| range.contains(&head))
    }

    /// Whether a forge shows this head-side line in the diff, changed or around a change.
    #[must_use]
    pub fn shows(&self, head: u32) -> bool {
        self.changed.iter().any(|range| {
            let from = range.start().saturating_sub(CONTEXT_LINES);
            (from..=range.end().saturating_add(CONTEXT_LINES)).contains(&head)
        })
    }
}

/// The pull requests of the environment repository.
///
/// Every call keeps its own time and size limits, and blocks no executor.
pub trait Pulls: Send + Sync {
    /// Asks the remote for the heads of its branch and of pull requests, without objects.
    ///
    /// # Errors
    /// `Fault::Unobservable` when the remote does not answer.
    fn offered(&self, wanted: Wanted) -> BoxFuture<'_, Result<Offered, Fault>>;

    /// Brings the heads of these pull requests into the mirror. One that is more than is taken does
    /// not keep the others from it. Numbers the remote has no ref for are in neither list of the
    /// answer, and so are those that there was no time for: they are asked for again.
    ///
    /// # Errors
    /// `Fault::Unobservable` when the remote does not answer; `Fault::Permanent` where a setting is
    /// wrong.
    fn fetch(&self, numbers: BTreeSet<u64>) -> BoxFuture<'_, Result<Fetched, Fault>>;

    /// Lets go of every pull request but these. The answer is what was let go of.
    ///
    /// # Errors
    /// A fault when the mirror cannot be written.
    fn retain(&self, open: BTreeSet<u64>) -> BoxFuture<'_, Result<BTreeSet<u64>, Fault>>;

    /// Merges `head` into `base`, both in the mirror, without writing to it.
    ///
    /// # Errors
    /// A [`TreeFault`]; refusals are those of the merged tree.
    fn merge(&self, base: CommitId, head: CommitId) -> BoxFuture<'_, Result<Merge, TreeFault>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_lines_are_found_in_the_head() {
        let lines = PullLines {
            changed: vec![5..=6],
            same: vec![
                SameLines { merged: 1, head: 1, count: 3 },
                SameLines { merged: 6, head: 4, count: 10 },
            ],
        };
        assert_eq!(lines.head_line(3), Some(3));
        assert_eq!(lines.head_line(4), None, "a line of the base's");
        assert_eq!(lines.head_line(7), Some(5));
        assert_eq!(lines.head_line(16), None);
        assert!(lines.changes(5) && !lines.changes(4));
        assert!(lines.shows(2) && lines.shows(9) && !lines.shows(1) && !lines.shows(10));
    }
}
