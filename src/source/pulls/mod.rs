//! Pull requests: their refs on the remote, their heads in the mirror, and what merging one gives.
//!
//! Reading order: [`PullSettings`] says which refs and how much; `remote` lists, fetches and prunes;
//! `gather` keeps one that is too large from the others; `merge` merges from objects; `lines` says which lines a forge shows; `behind_port` is
//! [`crate::port::Pulls`]. Merging writes nothing to the mirror, runs no merge driver and no filter,
//! and reads no attributes: how a merge is made is not for a commit to say.

mod behind_port;
mod gather;
mod lines;
mod merge;
mod meter;
mod remote;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::error::SourceError;
use super::mirror::Mirror;
use super::tree::{Tree, TreeLimits};

pub use gather::Gathered;
pub use merge::{Conflicts, MergeOutcome, Merged};
pub use remote::{PullHeads, PullQuery};

/// Which refs are pull requests, and how much of them is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullSettings {
    /// The refs, with one `*` as a component of its own where the number stands.
    pub pattern: String,
    /// Heads told of one listing; those with the highest numbers.
    pub listed_max: usize,
    /// Heads fetched in one go.
    pub fetched_max: usize,
    /// Bytes of one fetch, as they come over the wire.
    pub bytes_max: u64,
    /// The most one conversation may take.
    pub deadline: Duration,
    /// The most one merge may take.
    pub merge_deadline: Duration,
}

impl PullSettings {
    /// GitHub's, Gitea's and Forgejo's refs.
    pub const PATTERN: &str = "refs/pull/*/head";
    /// Refs stay after a pull request is closed, so this bounds all there ever were: a busy
    /// repository's several years.
    pub const LISTED_MAX: usize = 20_000;
    /// More open pull requests than one machine's repository has; the next round takes the rest.
    pub const FETCHED_MAX: usize = 300;
    /// An environment repository holds text: this is a hundred times a large one, and small enough
    /// that a stranger cannot fill a disk in one go.
    pub const BYTES_MAX: u64 = 64 << 20;
    /// Pull requests come after the branch: less time than that has, so that neither waits long.
    pub const DEADLINE: Duration = Duration::from_secs(60);
    /// A merge of 5,000 files takes some milliseconds; what takes this long was made to.
    pub const MERGE_DEADLINE: Duration = Duration::from_secs(20);
}

impl Default for PullSettings {
    fn default() -> Self {
        Self {
            pattern: Self::PATTERN.to_owned(),
            listed_max: Self::LISTED_MAX,
            fetched_max: Self::FETCHED_MAX,
            bytes_max: Self::BYTES_MAX,
            deadline: Self::DEADLINE,
            merge_deadline: Self::MERGE_DEADLINE,
        }
    }
}

impl PullSettings {
    /// The pattern's parts before and after the number.
    ///
    /// # Errors
    /// [`SourceError::PullPattern`].
    pub fn parts(&self) -> Result<(&str, &str), SourceError> {
        let refuse = || SourceError::PullPattern { pattern: self.pattern.clone() };
        let (before, after) = self.pattern.split_once('*').ok_or_else(refuse)?;
        let whole = before.starts_with("refs/")
            && before.ends_with('/')
            && !before.starts_with("refs/heads/")
            && (after.is_empty() || after.starts_with('/'))
            && !after.contains('*');
        let sample = format!("{before}1{after}");
        let valid = gix::validate::reference::name(sample.as_str().into()).is_ok();
        if whole && valid { Ok((before, after)) } else { Err(refuse()) }
    }
}

/// The pull requests of a mirror's remote. Every method blocks.
#[derive(Debug, Clone)]
pub struct GitPulls {
    mirror: Mirror,
    limits: TreeLimits,
    settings: PullSettings,
    /// The listing made last: pull requests of one base are nearly the same.
    last: Arc<Mutex<Option<Arc<Tree>>>>,
}

impl GitPulls {
    /// Pull requests over `mirror`; merged trees are listed under `limits`, as commits are.
    ///
    /// # Errors
    /// [`SourceError::PullPattern`].
    pub fn new(
        mirror: Mirror,
        limits: TreeLimits,
        settings: PullSettings,
    ) -> Result<Self, SourceError> {
        settings.parts()?;
        Ok(Self { mirror, limits, settings, last: Arc::default() })
    }

    fn last_listing(&self) -> Option<Arc<Tree>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, tree: Tree) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(tree));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_one_component_and_never_branches() {
        let with = |pattern: &str| PullSettings { pattern: pattern.into(), ..Default::default() };
        assert_eq!(PullSettings::default().parts().unwrap(), ("refs/pull/", "/head"));
        assert!(with("refs/merge-requests/*/head").parts().is_ok());
        for bad in [
            "refs/pull/1/head",
            "refs/pull/*/*",
            "refs/pull*/head",
            "refs/heads/*",
            "pull/*/head",
            "refs/pull/*/he ad",
            "refs/pull/*head",
        ] {
            let error = with(bad).parts().unwrap_err().to_string();
            assert!(error.contains("refs/pull/*/head"), "{error}");
        }
    }
}
