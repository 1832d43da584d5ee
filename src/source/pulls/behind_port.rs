//! Pull requests behind `port::Pulls`: everything blocking on a thread of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{GitPulls, MergeOutcome, Merged, PullQuery};
use crate::model::{CommitId, Fault};
use crate::port::{
    BoxFuture, Fetched, FileChange, FileRef, Merge, MergedFiles, Offered, Pulls, TreeFault, Wanted,
};
use crate::source::EntryKind;
use crate::source::behind_port::{fault, inner_id, outer_id, problem};
use crate::source::error::{SourceError, chain};
use crate::source::tree::TreeError;

impl GitPulls {
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let this = self.clone();
        match tokio::task::spawn_blocking(move || work(&this)).await {
            Ok(result) => result,
            Err(error) => Err(Fault::transient(format!("reading the repository failed: {error}"))),
        }
    }
}

/// What concerns the far side is not known; what concerns a limit stays until somebody acts.
fn far(error: &SourceError) -> Fault {
    match error {
        SourceError::PullLimit { .. } | SourceError::PullPattern { .. } => {
            Fault::permanent(chain(error))
        }
        other => Fault::unobservable(chain(other)),
    }
}

fn outer_heads(
    heads: BTreeMap<u64, crate::source::id::CommitId>,
) -> Result<BTreeMap<u64, CommitId>, Fault> {
    heads.into_iter().map(|(number, head)| Ok((number, outer_id(head)?))).collect()
}

fn files(merged: &Merged) -> MergedFiles {
    let entries = merged.tree.entries().iter().map(|entry| FileRef {
        path: entry.path.to_string(),
        blob: entry.blob.to_string(),
        size: entry.size,
        executable: entry.kind == EntryKind::Executable,
    });
    let changes = merged.changed.iter().map(|change| FileChange {
        path: change.path.to_string(),
        old: change.old.map(|blob| blob.to_string()),
        new: change.new.map(|blob| blob.to_string()),
    });
    let made = merged.made.iter().map(|(blob, text)| (blob.to_string(), Arc::clone(text)));
    let lines = merged.lines.iter().map(|(path, lines)| (path.to_string(), lines.clone()));
    MergedFiles {
        tree: merged.tree.id().to_string(),
        kind: merged.kind,
        files: entries.collect(),
        made: made.collect(),
        changed: changes.collect(),
        lines: lines.collect(),
    }
}

impl Pulls for GitPulls {
    fn offered(&self, wanted: Wanted) -> BoxFuture<'_, Result<Offered, Fault>> {
        Box::pin(self.blocking(move |this| {
            let query = match wanted {
                Wanted::All => PullQuery::All,
                Wanted::Only(numbers) => PullQuery::Only(numbers),
            };
            let found = this.list(query).map_err(|error| far(&error))?;
            Ok(Offered {
                base: outer_id(found.base)?,
                heads: outer_heads(found.heads)?,
                left_out: found.left_out,
            })
        }))
    }

    fn fetch(&self, numbers: BTreeSet<u64>) -> BoxFuture<'_, Result<Fetched, Fault>> {
        Box::pin(self.blocking(move |this| {
            let gathered = this.gather(&numbers).map_err(|error| far(&error))?;
            Ok(Fetched { heads: outer_heads(gathered.heads)?, refused: gathered.refused })
        }))
    }

    fn retain(&self, open: BTreeSet<u64>) -> BoxFuture<'_, Result<BTreeSet<u64>, Fault>> {
        Box::pin(
            self.blocking(move |this| GitPulls::retain(this, &open).map_err(|error| fault(&error))),
        )
    }

    fn merge(&self, base: CommitId, head: CommitId) -> BoxFuture<'_, Result<Merge, TreeFault>> {
        let this = self.clone();
        Box::pin(async move {
            let work = move || {
                let base = inner_id(&base).map_err(TreeFault::Mirror)?;
                let head = inner_id(&head).map_err(TreeFault::Mirror)?;
                let previous = this.last_listing();
                let merged = GitPulls::merge(&this, base, head, previous);
                match merged.map_err(|error| refusal(&error))? {
                    MergeOutcome::Clean(merged) => {
                        let files = files(&merged);
                        this.remember(merged.tree);
                        Ok(Merge::Clean(Box::new(files)))
                    }
                    MergeOutcome::Conflict(found) => {
                        Ok(Merge::Conflict { paths: found.paths, more: found.more })
                    }
                    MergeOutcome::Unrelated => Ok(Merge::Unrelated),
                }
            };
            match tokio::task::spawn_blocking(work).await {
                Ok(result) => result,
                Err(error) => {
                    Err(TreeFault::Mirror(Fault::transient(format!("merging failed: {error}"))))
                }
            }
        })
    }
}

fn refusal(error: &TreeError) -> TreeFault {
    match error {
        TreeError::Source(error) => TreeFault::Mirror(fault(error)),
        TreeError::Refused { problems, .. } => {
            TreeFault::Refused(problems.iter().map(problem).collect())
        }
    }
}
