//! What differs between two listings.
//!
//! Pure: it looks at nothing but the two. A renamed file is one removed and one added.

use std::cmp::Ordering;
use std::sync::Arc;

use super::Tree;
use crate::source::id::BlobId;

/// A path whose content differs. One side may be absent, never both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The path.
    pub path: Arc<str>,
    /// The content before; `None` for an added file.
    pub old: Option<BlobId>,
    /// The content after; `None` for a removed file.
    pub new: Option<BlobId>,
}

impl Tree {
    /// What changed from `self` to `new`, sorted by path.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.id == new.id {
            return changes;
        }
        let (mut left, mut right) = (self.entries.iter().peekable(), new.entries.iter().peekable());
        loop {
            let order = match (left.peek(), right.peek()) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => a.path.cmp(&b.path),
            };
            let old = if order.is_le() { left.next() } else { None };
            let new = if order.is_ge() { right.next() } else { None };
            let Some(path) = new.or(old).map(|entry| Arc::clone(&entry.path)) else {
                continue;
            };
            let (old, new) = (old.map(|entry| entry.blob), new.map(|entry| entry.blob));
            if old != new {
                changes.push(Change { path, old, new });
            }
        }
    }
}
