//! Walks the tree objects of a commit, in Git's own order, which is that of the paths' bytes.
//!
//! It never descends into what it does not list, and its work is bounded by the limits however the
//! objects were made: recursion by the depth, time by the numbers of files and folders.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use gix::bstr::{BStr, ByteSlice};
use gix::objs::tree::EntryKind as Mode;

use super::name::{ascending, escaped, unsafe_name};
use super::{
    Entry, EntryKind, FOLDERS, PROBLEMS_MAX, Tree, TreeError, TreeLimits, TreeProblem, lfs,
};
use crate::source::error::{SourceError, chain};
use crate::source::id::{BlobId, CommitId, TreeId};
use crate::source::mirror::Mirror;

/// One directory of a listing and the part of the listing that it makes up.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    path: Arc<str>,
    id: TreeId,
    entries: Range<usize>,
    /// Directories below it; they follow it directly.
    below: usize,
}

/// A listing in the making.
struct Walk<'a> {
    mirror: &'a Mirror,
    repo: gix::Repository,
    limits: &'a TreeLimits,
    previous: Option<Previous<'a>>,
    entries: Vec<Entry>,
    directories: Vec<Directory>,
    problems: Vec<TreeProblem>,
    total_bytes: u64,
}

struct Previous<'a> {
    tree: &'a Tree,
    directories: HashMap<&'a str, usize>,
    /// The first entry whose path is not yet passed: both listings are sorted.
    cursor: usize,
}

/// The walk ended early: the mirror failed, or a limit on the amount of work was met (and noted).
enum Stop {
    Failed(SourceError),
    Enough,
}

/// What kind of file it is, if it is one.
fn kind_of(mode: Mode) -> Option<EntryKind> {
    match mode {
        Mode::Blob => Some(EntryKind::File),
        Mode::BlobExecutable => Some(EntryKind::Executable),
        Mode::Tree | Mode::Link | Mode::Commit => None,
    }
}

pub(super) fn list(
    mirror: &Mirror,
    commit: CommitId,
    limits: &TreeLimits,
    previous: Option<&Tree>,
) -> Result<Tree, TreeError> {
    let info = mirror.commit(commit).map_err(TreeError::Source)?;
    let repo = mirror.inner.repo.to_thread_local();
    list_at(mirror, repo, (commit, info.tree), limits, previous)
}

/// Lists the tree `root`, which need not be that of a commit, as `repo` sees the objects. Refusals
/// name the commit beside it.
pub(super) fn list_at(
    mirror: &Mirror,
    repo: gix::Repository,
    (commit, root): (CommitId, TreeId),
    limits: &TreeLimits,
    previous: Option<&Tree>,
) -> Result<Tree, TreeError> {
    let mut walk = Walk {
        mirror,
        repo,
        limits,
        previous: previous.map(Previous::new),
        entries: Vec::with_capacity(previous.map_or(0, |tree| tree.entries.len())),
        directories: Vec::new(),
        problems: Vec::new(),
        total_bytes: 0,
    };
    match walk.root(root) {
        Ok(()) | Err(Stop::Enough) => {}
        Err(Stop::Failed(error)) => return Err(TreeError::Source(error)),
    }
    if walk.entries.is_empty() && walk.problems.is_empty() {
        walk.problems.push(TreeProblem::Empty);
    }
    if !walk.problems.is_empty() {
        return Err(TreeError::Refused { commit, problems: walk.problems });
    }
    Ok(Tree {
        commit,
        id: root,
        entries: walk.entries,
        directories: walk.directories,
        total_bytes: walk.total_bytes,
    })
}

impl<'a> Previous<'a> {
    fn new(tree: &'a Tree) -> Self {
        let directories = tree.directories.iter().enumerate();
        Self {
            tree,
            directories: directories.map(|(at, directory)| (&*directory.path, at)).collect(),
            cursor: 0,
        }
    }

    /// The earlier entry `name` of the directory `parent` if its content was the same.
    fn same(&mut self, parent: &str, name: &BStr, blob: BlobId) -> Option<&'a Entry> {
        while let Some(entry) = self.tree.entries.get(self.cursor) {
            match beside(&entry.path, parent, name) {
                Ordering::Less => self.cursor += 1,
                Ordering::Equal => return (entry.blob == blob).then_some(entry),
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// The earlier directory at `path` if it was the same.
    fn directory(&self, path: &str, id: TreeId) -> Option<(usize, &'a Directory)> {
        let at = *self.directories.get(path)?;
        let directory = self.tree.directories.get(at)?;
        (directory.id == id).then_some((at, directory))
    }
}

/// How `path` compares with `parent/name`, without putting the two together: most entries of a
/// changed directory are as they were.
fn beside(path: &str, parent: &str, name: &BStr) -> Ordering {
    let path = path.as_bytes();
    if parent.is_empty() {
        return path.cmp(name);
    }
    let (folder, rest) = path.split_at(path.len().min(parent.len()));
    folder.cmp(parent.as_bytes()).then_with(|| match rest.split_first() {
        None => Ordering::Less,
        Some((slash, rest)) => slash.cmp(&b'/').then_with(|| rest.cmp(name)),
    })
}

impl Walk<'_> {
    /// The root: of its entries only those that matter.
    fn root(&mut self, id: TreeId) -> Result<(), Stop> {
        let data = self.data(id)?;
        let mut last: Option<(&BStr, bool)> = None;
        for entry in gix::objs::TreeRefIter::from_bytes(&data, gix::hash::Kind::Sha1) {
            let entry = entry.map_err(|error| self.damaged(&id, &chain(&error)))?;
            let name = entry.filename;
            let key = (name, entry.mode.is_tree());
            if last.is_some_and(|last| !ascending(last, key)) {
                self.problem(TreeProblem::Malformed { path: escaped(name) })?;
            }
            last = Some(key);
            let folder = FOLDERS.iter().any(|folder| name == *folder);
            let yaml = name.ends_with(b".yaml") || name.ends_with(b".yml");
            if folder && matches!(entry.mode.kind(), Mode::Blob | Mode::BlobExecutable) {
                let path = name.to_string();
                self.problem(TreeProblem::WrongKind { path, expected: "folder" })?;
            } else if yaml && entry.mode.is_tree() {
                let path = escaped(name);
                self.problem(TreeProblem::WrongKind { path, expected: "file" })?;
            } else if folder || yaml {
                self.entry("", 1, name, entry.mode.kind(), entry.oid.to_owned())?;
            }
        }
        Ok(())
    }

    /// A directory below the root: all of it.
    fn directory(&mut self, path: &Arc<str>, depth: usize, id: TreeId) -> Result<(), Stop> {
        if self.reuse(path, id)? {
            return Ok(());
        }
        if self.directories.len() >= self.limits.directories_max {
            let limit = self.limits.directories_max;
            self.problem(TreeProblem::TooMany { path: path.to_string(), what: "folders", limit })?;
            return Err(Stop::Enough);
        }
        let at = self.directories.len();
        let start = self.entries.len();
        let path = Arc::clone(path);
        let own = Directory { path: Arc::clone(&path), id, entries: start..start, below: 0 };
        self.directories.push(own);
        let data = self.data(id)?;
        let mut last: Option<(&BStr, bool)> = None;
        for entry in gix::objs::TreeRefIter::from_bytes(&data, gix::hash::Kind::Sha1) {
            let entry = entry.map_err(|error| self.damaged(&id, &chain(&error)))?;
            let key = (entry.filename, entry.mode.is_tree());
            if last.is_some_and(|last| !ascending(last, key)) {
                let path = format!("{path}/{}", escaped(entry.filename));
                self.problem(TreeProblem::Malformed { path })?;
            }
            last = Some(key);
            let (mode, object) = (entry.mode.kind(), entry.oid.to_owned());
            self.entry(&path, depth, entry.filename, mode, object)?;
        }
        let (end, below) = (self.entries.len(), self.directories.len() - at - 1);
        if let Some(own) = self.directories.get_mut(at) {
            own.entries.end = end;
            own.below = below;
        }
        Ok(())
    }

    /// One entry of the directory `parent` (empty for the root), at `depth` components.
    fn entry(
        &mut self,
        parent: &str,
        depth: usize,
        name: &BStr,
        mode: Mode,
        object: gix::ObjectId,
    ) -> Result<(), Stop> {
        if let Some(kind) = kind_of(mode)
            && !name.contains(&b'/')
            && self.entries.len() < self.limits.files_max
            && let Some(previous) = &mut self.previous
            && let Some(same) = previous.same(parent, name, BlobId::from_gix(object))
        {
            // Its path and its content passed every check, at this very depth.
            let entry = Entry { kind, ..same.clone() };
            return self.add(entry);
        }
        let Some(path) = self.path(parent, name)? else {
            return Ok(());
        };
        if depth > self.limits.depth_max {
            let limit = self.limits.depth_max;
            return self.problem(TreeProblem::TooDeep { path, limit });
        }
        match mode {
            Mode::Link => self.problem(TreeProblem::Symlink { path }),
            Mode::Commit => self.problem(TreeProblem::Submodule { path }),
            Mode::Tree => self.directory(&path.into(), depth + 1, TreeId::from_gix(object)),
            Mode::Blob => self.file(path, BlobId::from_gix(object), EntryKind::File),
            Mode::BlobExecutable => {
                self.file(path, BlobId::from_gix(object), EntryKind::Executable)
            }
        }
    }

    fn file(&mut self, path: String, blob: BlobId, kind: EntryKind) -> Result<(), Stop> {
        if self.entries.len() >= self.limits.files_max {
            let limit = self.limits.files_max;
            self.problem(TreeProblem::TooMany { path, what: "files", limit })?;
            return Err(Stop::Enough);
        }
        let header = self
            .repo
            .find_header(blob.to_gix())
            .map_err(|error| Stop::Failed(self.mirror.object(&blob, &error)))?;
        if header.kind() != gix::object::Kind::Blob {
            return Err(Stop::Failed(self.mirror.not_a(&blob, "a file")));
        }
        let size = header.size();
        if (lfs::POINTER_BYTES_MIN..lfs::LISTED_BYTES_MAX).contains(&size) {
            match self.mirror.blob_in(&self.repo, &blob) {
                Ok(_) => {}
                Err(SourceError::LfsPointer { .. }) => {
                    return self.problem(TreeProblem::LfsPointer { path });
                }
                Err(error) => return Err(Stop::Failed(error)),
            }
        }
        if size > self.limits.file_bytes_max {
            let limit = self.limits.file_bytes_max;
            return self.problem(TreeProblem::FileTooLarge { path, bytes: size, limit });
        }
        self.add(Entry { path: path.into(), blob, size, kind })
    }

    fn add(&mut self, entry: Entry) -> Result<(), Stop> {
        let before = self.total_bytes;
        self.total_bytes = before.saturating_add(entry.size);
        let limit = self.limits.total_bytes_max;
        if before <= limit && self.total_bytes > limit {
            let (path, bytes) = (entry.path.to_string(), self.total_bytes);
            self.problem(TreeProblem::TotalTooLarge { path, bytes, limit })?;
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Takes over a directory that did not change. Its files passed every check but those of the
    /// sums; where a sum would be crossed, the walk goes on file by file to name the place.
    fn reuse(&mut self, path: &str, id: TreeId) -> Result<bool, Stop> {
        let Some(previous) = self.previous.as_mut() else {
            return Ok(false);
        };
        let Some((at, same)) = previous.directory(path, id) else {
            return Ok(false);
        };
        let Some(entries) = previous.tree.entries.get(same.entries.clone()) else {
            return Ok(false);
        };
        let Some(below) = previous.tree.directories.get(at..=at + same.below) else {
            return Ok(false);
        };
        let bytes: u64 = entries.iter().map(|entry| entry.size).sum();
        if self.entries.len() + entries.len() > self.limits.files_max
            || self.directories.len() + below.len() > self.limits.directories_max
            || self.total_bytes.saturating_add(bytes) > self.limits.total_bytes_max
        {
            return Ok(false);
        }
        let (from, to) = (same.entries.start, self.entries.len());
        previous.cursor = previous.cursor.max(same.entries.end);
        self.directories.extend(below.iter().map(|directory| Directory {
            entries: directory.entries.start - from + to..directory.entries.end - from + to,
            ..directory.clone()
        }));
        self.entries.extend_from_slice(entries);
        self.total_bytes += bytes;
        Ok(true)
    }

    /// The full path, or `None` after noting why it cannot be used.
    fn path(&mut self, parent: &str, name: &BStr) -> Result<Option<String>, Stop> {
        let join = |name: &str| match parent {
            "" => name.to_owned(),
            parent => format!("{parent}/{name}"),
        };
        let Ok(text) = name.to_str() else {
            let path = join(&escaped(name));
            return self.problem(TreeProblem::NotUtf8 { path }).map(|()| None);
        };
        let path = join(text);
        if let Some(why) = unsafe_name(text) {
            return self.problem(TreeProblem::UnsafeName { path, why }).map(|()| None);
        }
        let limit = self.limits.path_bytes_max;
        if path.len() > limit {
            let cut = (0..=limit).rev().find_map(|end| path.get(..end)).unwrap_or_default();
            let path = format!("{cut}…");
            return self.problem(TreeProblem::PathTooLong { path, limit }).map(|()| None);
        }
        Ok(Some(path))
    }

    fn problem(&mut self, problem: TreeProblem) -> Result<(), Stop> {
        if self.problems.len() >= PROBLEMS_MAX {
            let path = problem.to_string();
            let path = path.split(": ").next().unwrap_or_default().to_owned();
            self.problems.push(TreeProblem::Truncated { path, limit: PROBLEMS_MAX });
            return Err(Stop::Enough);
        }
        self.problems.push(problem);
        Ok(())
    }

    fn data(&self, id: TreeId) -> Result<Vec<u8>, Stop> {
        let failed = |error: gix::Error| Stop::Failed(self.mirror.object(&id, &error));
        let mut object = self.repo.find_object(id.to_gix()).map_err(failed)?;
        if object.kind != gix::object::Kind::Tree {
            return Err(Stop::Failed(self.mirror.not_a(&id, "a directory")));
        }
        Ok(std::mem::take(&mut object.data))
    }

    fn damaged(&self, id: &TreeId, why: &str) -> Stop {
        Stop::Failed(self.mirror.not_a(id, &format!("a well-formed directory ({why})")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_part_by_part_as_they_are_as_a_whole() {
        let paths = ["a", "a-b", "a.yaml", "a/b", "a/b-c", "a/b/c", "a0", "ab", "b"];
        let parts = [("", "a"), ("a", "b"), ("a", "b-c"), ("a/b", "c"), ("ab", "c"), ("", "a0")];
        for path in paths {
            for (parent, name) in parts {
                let whole =
                    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") };
                let found = beside(path, parent, name.into());
                assert_eq!(found, path.cmp(&whole), "{path} beside {whole}");
            }
        }
    }
}
