//! Which lines of a pull request's files a forge shows, and where merged lines stand in them.
//!
//! A forge shows the difference from the commit the two histories part at to the head, in the head's
//! lines; mistakes are found in the merged text. It reads plain text and judges nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use gix::diff::blob::{Algorithm, Diff, InternedInput};

use crate::port::{PullLines, SameLines};
use crate::source::error::SourceError;
use crate::source::id::{BlobId, CommitId};
use crate::source::mirror::Mirror;
use crate::source::tree::{Tree, TreeError, TreeLimits};

/// Files of a pull request whose lines are told: as many as GitHub lists
/// (docs.github.com, "List pull requests files": 3,000).
const FILES_MAX: usize = 3_000;

/// The lines of every file that `head` changes since `fork` and that is in the merged tree.
pub(super) fn pull_lines(
    mirror: &Mirror,
    repo: &gix::Repository,
    limits: &TreeLimits,
    (fork, head): (CommitId, CommitId),
    merged: &Tree,
) -> Result<BTreeMap<Arc<str>, PullLines>, TreeError> {
    let list = |commit: CommitId| {
        let info = mirror.commit(commit).map_err(TreeError::Source)?;
        match mirror.tree_at(repo.clone(), (commit, info.tree), limits, Some(merged)) {
            Ok(tree) => Ok(Some(tree)),
            // Then nothing can be said of lines, which takes nothing from the plan itself.
            Err(TreeError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    };
    let (Some(fork), Some(head)) = (list(fork)?, list(head)?) else {
        return Ok(BTreeMap::new());
    };
    let read = |blob: Option<BlobId>| match blob {
        None => Ok(Vec::new()),
        Some(blob) => match mirror.blob_in(repo, &blob) {
            Ok(content) => Ok(content),
            Err(SourceError::LfsPointer { .. }) => Ok(Vec::new()),
            Err(error) => Err(TreeError::Source(error)),
        },
    };
    let mut lines = BTreeMap::new();
    for change in fork.changes(&head).into_iter().take(FILES_MAX) {
        let Some(entry) = merged.get(&change.path) else { continue };
        let (old, new) = (read(change.old)?, read(change.new)?);
        let mut told = PullLines { changed: changed(&old, &new), same: Vec::new() };
        if Some(entry.blob) == change.new {
            told.same.push(SameLines { merged: 1, head: 1, count: count(&new) });
        } else {
            told.same = same(&read(Some(entry.blob))?, &new);
        }
        lines.insert(change.path, told);
    }
    Ok(lines)
}

fn count(text: &[u8]) -> u32 {
    let lines = gix::diff::blob::sources::byte_lines(text).count();
    u32::try_from(lines).unwrap_or(u32::MAX)
}

fn diff(before: &[u8], after: &[u8]) -> Diff {
    let input = InternedInput::new(before, after);
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    diff
}

/// Lines of `new` that are not in `old`; from 1.
fn changed(old: &[u8], new: &[u8]) -> Vec<std::ops::RangeInclusive<u32>> {
    let diff = diff(old, new);
    diff.hunks()
        .filter(|hunk| !hunk.after.is_empty())
        .map(|hunk| hunk.after.start + 1..=hunk.after.end)
        .collect()
}

/// Runs of equal lines of the merged text and the head's.
fn same(merged: &[u8], head: &[u8]) -> Vec<SameLines> {
    let (mut runs, mut at) = (Vec::new(), (0, 0));
    let end = (count(merged), count(head));
    let hunks = diff(merged, head);
    let bounds = hunks.hunks().map(|hunk| (hunk.before, hunk.after));
    for (before, after) in bounds.chain([(end.0..end.0, end.1..end.1)]) {
        let count = before.start.saturating_sub(at.0);
        if count > 0 {
            runs.push(SameLines { merged: at.0 + 1, head: at.1 + 1, count });
        }
        at = (before.end, after.end);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_lines_are_those_of_the_new_text() {
        assert_eq!(changed(b"a\nb\nc\n", b"a\nX\nY\nc\n"), [2..=3]);
        assert_eq!(changed(b"a\nb\n", b"a\n"), []);
        assert_eq!(changed(b"", b"a\nb\n"), [1..=2]);
    }

    #[test]
    fn equal_runs_lead_from_merged_to_head() {
        let runs = same(b"base\na\nb\nc\n", b"a\nX\nc\n");
        let lines = PullLines { changed: Vec::new(), same: runs };
        assert_eq!(lines.head_line(1), None);
        assert_eq!(lines.head_line(2), Some(1));
        assert_eq!(lines.head_line(3), None);
        assert_eq!(lines.head_line(4), Some(3));
        assert_eq!(lines.head_line(5), None);
    }
}
