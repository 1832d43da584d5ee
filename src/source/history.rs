//! How commits relate, and what one says about itself.
//!
//! It reports; whether a rewrite or an older commit is accepted is decided elsewhere.

use super::error::SourceError;
use super::id::{CommitId, TreeId};
use super::mirror::Mirror;

/// How an offered commit stands to the one we have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// It is the same commit.
    Same,
    /// It builds on ours: the ordinary case.
    Ahead,
    /// Ours builds on it: somebody moved the branch back.
    Behind,
    /// Neither builds on the other: history was rewritten, or ours is not part of it at all.
    Diverged,
}

/// A name, an address and when, as a commit tells it. None of it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
    /// Seconds since 1970 in UTC.
    pub seconds: i64,
}

/// What a commit says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// Its id.
    pub id: CommitId,
    /// Its root directory.
    pub tree: TreeId,
    /// What it builds on.
    pub parents: Vec<CommitId>,
    /// Who wrote it.
    pub author: Person,
    /// Who committed it.
    pub committer: Person,
    /// The first line of its message, at most [`SUBJECT_CHARS_MAX`] characters, no controls.
    pub subject: String,
}

/// A subject is shown on one line and stored in events; longer ones are cut.
pub const SUBJECT_CHARS_MAX: usize = 200;

impl Mirror {
    /// How `offered` stands to `have`. A `have` that is not in the mirror counts as diverged: the
    /// mirror holds the whole history of what the remote offers, so it cannot be part of it.
    ///
    /// # Errors
    /// [`SourceError::CommitMissing`] for `offered`, [`SourceError::Object`] for a broken history.
    pub fn relation(&self, have: CommitId, offered: CommitId) -> Result<Relation, SourceError> {
        if !self.has(offered) {
            let url = self.inner.shown.clone();
            return Err(SourceError::CommitMissing { url, commit: offered });
        }
        if have == offered {
            return Ok(Relation::Same);
        }
        if !self.has(have) {
            return Ok(Relation::Diverged);
        }
        let mut repo = self.inner.repo.to_thread_local();
        // Enough for the commits of any walk here; without it each is decoded again and again.
        repo.object_cache_size_if_unset(4 << 20);
        let bases = repo
            .merge_bases_many(have.to_gix(), &[offered.to_gix()])
            .map_err(|error| self.object(&offered, &error))?;
        let bases: Vec<_> =
            bases.into_iter().map(|base| CommitId::from_gix(base.detach())).collect();
        Ok(if bases.contains(&have) {
            Relation::Ahead
        } else if bases.contains(&offered) {
            Relation::Behind
        } else {
            Relation::Diverged
        })
    }

    /// What the commit says about itself.
    ///
    /// # Errors
    /// [`SourceError::CommitMissing`] and [`SourceError::Object`].
    pub fn commit(&self, id: CommitId) -> Result<CommitInfo, SourceError> {
        if !self.has(id) {
            return Err(SourceError::CommitMissing { url: self.inner.shown.clone(), commit: id });
        }
        let repo = self.inner.repo.to_thread_local();
        let broken = |error: gix::Error| self.object(&id, &error);
        let commit = repo.find_commit(id.to_gix()).map_err(broken)?;
        let subject = commit.message_raw_sloppy().to_string();
        let subject = subject.trim_start().lines().next().unwrap_or_default();
        Ok(CommitInfo {
            id,
            tree: TreeId::from_gix(commit.tree_id().map_err(broken)?.detach()),
            parents: commit.parent_ids().map(|id| CommitId::from_gix(id.detach())).collect(),
            author: person(commit.author().map_err(broken)?),
            committer: person(commit.committer().map_err(broken)?),
            subject: plain(subject, SUBJECT_CHARS_MAX),
        })
    }
}

fn person(signature: gix::actor::SignatureRef<'_>) -> Person {
    /// Names and addresses are shown and stored; longer ones are cut.
    const PERSON_CHARS_MAX: usize = 200;
    Person {
        name: plain(&signature.name.to_string(), PERSON_CHARS_MAX),
        email: plain(&signature.email.to_string(), PERSON_CHARS_MAX),
        seconds: signature.seconds(),
    }
}

/// Text from a commit, safe to print: a terminal escape in a name must not reach a terminal.
pub(crate) fn plain(text: &str, chars_max: usize) -> String {
    text.trim().chars().map(|c| if c.is_control() { '?' } else { c }).take(chars_max).collect()
}
