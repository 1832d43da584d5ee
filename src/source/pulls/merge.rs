//! Merges a head into a base from objects, as `git merge` would, without a checkout.
//!
//! What the merge makes stays in memory: nothing is written to the mirror. Attributes of either
//! side, merge drivers and filters play no part, so a pull request cannot choose how it is merged; a
//! forge that honours `merge=union` may come to another result, which the comparison after the merge
//! then shows. It has a time limit, because gix's merge has none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gix::merge::plumbing as merging;

use super::GitPulls;
use super::lines::pull_lines;
use crate::port::{CONFLICTS_MAX, MergeKind, PullLines};
use crate::source::deadline::{self, Missed};
use crate::source::error::SourceError;
use crate::source::id::{BlobId, CommitId, TreeId};
use crate::source::mirror::Mirror;
use crate::source::remote::ABANDONED_MAX;
use crate::source::tree::{Change, Tree, TreeError, TreeLimits};

/// Files from this size on are not merged line by line; both sides changing one is a conflict. Eight
/// times the largest file that is read at all.
const TEXT_BYTES_MAX: u64 = 8 << 20;
/// Files that may have been renamed, compared pair by pair; git's own default
/// (`merge.renameLimit` falls back to 7,000 for merges, its cost is quadratic) is too dear here.
const RENAMES_MAX: usize = 1_000;
/// Memory for decoded objects of one merge: the trees of a large repository fit.
const CACHE_BYTES: usize = 16 << 20;

/// What merging gives.
#[derive(Debug)]
pub enum MergeOutcome {
    /// There is a merged tree.
    Clean(Box<Merged>),
    /// It cannot be merged without a person.
    Conflict(Conflicts),
    /// The two have no common history.
    Unrelated,
}

/// Where a merge failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflicts {
    /// The paths, sorted; at most [`CONFLICTS_MAX`].
    pub paths: Vec<String>,
    /// How many more.
    pub more: usize,
}

/// A merged tree.
#[derive(Debug)]
pub struct Merged {
    /// How it came about.
    pub kind: MergeKind,
    /// Its files that matter.
    pub tree: Tree,
    /// Contents that no commit has.
    pub made: BTreeMap<BlobId, Arc<[u8]>>,
    /// What it changes in the base.
    pub changed: Vec<Change>,
    /// Lines of the files that the pull request changes.
    pub lines: BTreeMap<Arc<str>, PullLines>,
}

impl GitPulls {
    /// Merges `head` into `base`. `previous`: an earlier listing that saves reading what is the same.
    ///
    /// # Errors
    /// [`TreeError::Refused`] for a merged tree that holds what is refused; [`TreeError::Source`]
    /// where an object is missing or the time is over.
    pub fn merge(
        &self,
        base: CommitId,
        head: CommitId,
        previous: Option<Arc<Tree>>,
    ) -> Result<MergeOutcome, TreeError> {
        let inner = &self.mirror.inner;
        let abandoned = inner.abandoned.count();
        if abandoned >= ABANDONED_MAX {
            let url = inner.shown.clone();
            return Err(TreeError::Source(SourceError::Busy { url, abandoned }));
        }
        let work = Work { mirror: self.mirror.clone(), limits: self.limits, base, head, previous };
        let after = self.settings.merge_deadline;
        match deadline::within(after, &inner.abandoned, || false, move |_| work.run()) {
            Ok(result) => result,
            Err(Missed::Late) => {
                Err(TreeError::Source(SourceError::MergeDeadline { base, head, after }))
            }
            Err(other) => {
                let why = format!("merging failed: {other}");
                Err(TreeError::Source(self.mirror.not_a(&head, &why)))
            }
        }
    }
}

struct Work {
    mirror: Mirror,
    limits: TreeLimits,
    base: CommitId,
    head: CommitId,
    previous: Option<Arc<Tree>>,
}

enum Root {
    Tree(MergeKind, TreeId),
    Conflict(Conflicts),
}

impl Work {
    fn run(self) -> Result<MergeOutcome, TreeError> {
        let mut repo = self.mirror.inner.repo.to_thread_local().with_object_memory();
        repo.object_cache_size_if_unset(CACHE_BYTES);
        let base = self.mirror.commit(self.base).map_err(TreeError::Source)?;
        let head = self.mirror.commit(self.head).map_err(TreeError::Source)?;
        let failed = |error: gix::Error| TreeError::Source(self.mirror.object(&self.head, &error));
        let bases = repo
            .merge_bases_many(self.base.to_gix(), &[self.head.to_gix()])
            .map_err(failed)?
            .into_iter()
            .map(|id| CommitId::from_gix(id.detach()))
            .collect::<Vec<_>>();
        let Some(&fork) = bases.first() else {
            return Ok(MergeOutcome::Unrelated);
        };
        let root = if bases.contains(&self.head) {
            Root::Tree(MergeKind::UpToDate, base.tree)
        } else if bases.contains(&self.base) {
            Root::Tree(MergeKind::FastForward, head.tree)
        } else {
            self.three_way(&repo).map_err(failed)?
        };
        match root {
            Root::Conflict(conflicts) => Ok(MergeOutcome::Conflict(conflicts)),
            Root::Tree(kind, root) => {
                self.listed(&repo, kind, root, (base.tree, fork)).map(MergeOutcome::Clean)
            }
        }
    }

    fn three_way(&self, repo: &gix::Repository) -> gix::Result<Root> {
        let mut diffs = gix::diff::resource_cache(
            repo,
            gix::diff::blob::pipeline::Mode::ToGit,
            no_attributes(repo)?,
            gix::diff::blob::pipeline::WorktreeRoots::default(),
        )?;
        let roots = merging::blob::pipeline::WorktreeRoots::default();
        let filter = gix::filter::plumbing::Pipeline::new(
            repo.command_context()?,
            repo.object_hash(),
            gix::filter::plumbing::pipeline::Options::default(),
        );
        let options =
            merging::blob::pipeline::Options { large_file_threshold_bytes: TEXT_BYTES_MAX };
        let mut blobs = merging::blob::Platform::new(
            merging::blob::Pipeline::new(roots, filter, options),
            merging::blob::pipeline::Mode::ToGit,
            no_attributes(repo)?,
            Vec::new(),
            merging::blob::platform::Options::default(),
        );
        let mut graph = repo.revision_graph(None);
        let outcome = merging::commit(
            self.base.to_gix(),
            self.head.to_gix(),
            merging::blob::builtin_driver::text::Labels {
                ancestor: None,
                current: Some("base".into()),
                other: Some("head".into()),
            },
            &mut graph,
            &mut diffs,
            &mut blobs,
            repo,
            &mut |id| id.to_string(),
            options_of_git(repo)?,
        )?;
        let mut merge = outcome.tree_merge;
        let how = merging::tree::TreatAsUnresolved::git();
        if merge.has_unresolved_conflicts(how) {
            let open = merge.conflicts.iter().filter(|conflict| conflict.is_unresolved(how));
            let paths: BTreeSet<String> = open
                .flat_map(|conflict| [conflict.ours.location(), conflict.theirs.location()])
                .map(|path| path.to_string())
                .collect();
            let more = paths.len().saturating_sub(CONFLICTS_MAX);
            let paths = paths.into_iter().take(CONFLICTS_MAX).collect();
            return Ok(Root::Conflict(Conflicts { paths, more }));
        }
        use gix::objs::Write as _;
        let root = merge.tree.write(|tree| repo.write(tree))?;
        Ok(Root::Tree(MergeKind::Merged, TreeId::from_gix(root)))
    }

    fn listed(
        &self,
        repo: &gix::Repository,
        kind: MergeKind,
        root: TreeId,
        (base, fork): (TreeId, CommitId),
    ) -> Result<Box<Merged>, TreeError> {
        let list = |at, previous: Option<&Tree>| {
            self.mirror.tree_at(repo.clone(), at, &self.limits, previous)
        };
        let tree = list((self.head, root), self.previous.as_deref())?;
        // A base that holds what is refused today may be what the pull request mends: then everything
        // in the merged tree is new.
        let changed = match list((self.base, base), Some(&tree)) {
            Ok(base) => base.changes(&tree),
            Err(TreeError::Refused { .. }) => added(&tree),
            Err(error) => return Err(error),
        };
        let mut made = BTreeMap::new();
        if kind == MergeKind::Merged {
            let mirror = self.mirror.inner.repo.to_thread_local();
            for new in changed.iter().filter_map(|change| change.new) {
                if !mirror.has_object(new.to_gix()) {
                    let content = self.mirror.blob_in(repo, &new).map_err(TreeError::Source)?;
                    made.insert(new, Arc::from(content));
                }
            }
        }
        let lines = pull_lines(&self.mirror, repo, &self.limits, (fork, self.head), &tree)?;
        Ok(Box::new(Merged { kind, tree, made, changed, lines }))
    }
}

fn added(tree: &Tree) -> Vec<Change> {
    let entries = tree.entries().iter();
    entries
        .map(|entry| Change { path: Arc::clone(&entry.path), old: None, new: Some(entry.blob) })
        .collect()
}

/// Knows no attribute of any file.
fn no_attributes(repo: &gix::Repository) -> gix::Result<gix::worktree::Stack> {
    let nothing = gix::index::State::new(repo.object_hash());
    let source = gix::worktree::stack::state::attributes::Source::IdMapping;
    Ok(repo.attributes_only(&nothing, source)?.detach())
}

/// As `git merge` does it by default: the histogram algorithm, renames followed.
fn options_of_git(repo: &gix::Repository) -> gix::Result<merging::commit::Options> {
    let mut blob_merge = repo.blob_merge_options()?;
    blob_merge.text.diff_algorithm = gix::diff::blob::Algorithm::Histogram;
    let rewrites = gix::diff::Rewrites { limit: RENAMES_MAX, ..Default::default() };
    Ok(merging::commit::Options {
        allow_missing_merge_base: false,
        tree_merge: merging::tree::Options {
            rewrites: Some(rewrites),
            blob_merge,
            blob_merge_command_ctx: repo.command_context()?,
            fail_on_conflict: None,
            marker_size_multiplier: 0,
            symlink_conflicts: None,
            tree_conflicts: None,
        },
        use_first_merge_base: false,
    })
}
