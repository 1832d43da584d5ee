//! Fetching many pull requests, of which one may be made to be too large.
//!
//! They come in one conversation. Where that is more than is taken, it is halved until the guilty one
//! is alone, so that nobody keeps the others from being looked at. It never takes part of a head.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::GitPulls;
use crate::source::error::SourceError;
use crate::source::id::CommitId;

/// Conversations of one call that may end at a limit. One guilty pull request among 300 takes ten; each
/// may cost all the bytes of a fetch, so many guilty ones are found over several calls.
const FAILED_MAX: usize = 16;

/// What came, and what is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gathered {
    /// The heads that the mirror holds now.
    pub heads: BTreeMap<u64, CommitId>,
    /// Those that alone are more than is taken, and which limit it was.
    pub refused: BTreeMap<u64, String>,
}

impl GitPulls {
    /// Brings the heads of these pull requests into the mirror, in one conversation where that is
    /// possible. Those in neither answer are gone from the remote, or have to be asked for again.
    ///
    /// # Errors
    /// Every variant of [`SourceError`] about the far side; never one about the size of a head.
    pub fn gather(&self, numbers: &BTreeSet<u64>) -> Result<Gathered, SourceError> {
        let (begun, mut failed) = (Instant::now(), 0);
        let mut gathered = Gathered::default();
        let mut waiting = vec![numbers.clone()];
        while let Some(batch) = waiting.pop() {
            let why = match self.fetch(&batch) {
                Ok(heads) => {
                    gathered.heads.extend(heads);
                    continue;
                }
                Err(error) => limit_of(&error).ok_or(error)?,
            };
            failed += 1;
            match batch.first() {
                Some(&one) if batch.len() == 1 => {
                    gathered.refused.insert(one, why);
                }
                _ => waiting.extend(halves(&batch)),
            }
            // There is progress first: a call that brought nothing would be made again for nothing.
            let progress = !gathered.heads.is_empty() || !gathered.refused.is_empty();
            if progress && (failed >= FAILED_MAX || begun.elapsed() > self.settings.deadline) {
                tracing::warn!(left = waiting.len(), "pull requests that are too large take long");
                break;
            }
        }
        Ok(gathered)
    }
}

/// Which limit on size it was, in words; `None`: another error.
fn limit_of(error: &SourceError) -> Option<String> {
    match error {
        SourceError::PullLimit { what, .. } => Some(what.clone()),
        SourceError::Bomb { limit, .. } => {
            Some(format!("a file in it is larger than the {} MiB that are read", limit >> 20))
        }
        _ => None,
    }
}

/// The first half last: it is taken next.
fn halves(batch: &BTreeSet<u64>) -> [BTreeSet<u64>; 2] {
    let mut first = batch.clone();
    let middle = batch.iter().nth(batch.len() / 2).copied().unwrap_or_default();
    let second = first.split_off(&middle);
    [second, first]
}
