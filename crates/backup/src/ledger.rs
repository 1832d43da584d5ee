//! What a repository held when this host last saw it, so that it shows when others removed things.
//!
//! A loss of the file loses one comparison, never data: it is a note, not a record.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::protocol::{Fault, Notice};
use crate::store::{Kind, Store, Stored};

/// The most snapshots a notice names.
const NAMED_MAX: usize = 20;

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ledger {
    snapshots: BTreeSet<String>,
    pub(crate) indexes: BTreeSet<String>,
}

/// Where the notes on a repository lie.
pub(crate) fn path(state: &Path, repository: &str) -> PathBuf {
    state.join(format!("{repository}.seen.json"))
}

impl Ledger {
    /// What the repository holds now.
    pub(crate) fn look(store: &dyn Store) -> Stored<Self> {
        let names = |kind| Ok(store.list(kind)?.into_iter().map(|(name, _)| name).collect());
        Ok(Ledger { snapshots: names(Kind::Snapshot)?, indexes: names(Kind::Index)? })
    }

    /// What was noted; nothing where there is no note or none that can be read.
    pub(crate) fn recall(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Notes what is there now, for the next time.
    pub(crate) fn note(&self, path: &Path) -> Result<(), Fault> {
        let unwritable = |error: std::io::Error| {
            let path = path.to_owned();
            match error.kind() {
                ErrorKind::StorageFull => Fault::DiskFullHere { path },
                _ => Fault::Unwritable { path, why: error.to_string() },
            }
        };
        let text = serde_json::to_vec(self)
            .map_err(|error| Fault::Internal { what: error.to_string() })?;
        // Two jobs of this host may note at the same time; each its own file, the last one stays.
        let fresh = path.with_extension(std::process::id().to_string());
        let written = fs::File::create(&fresh).and_then(|mut file| file.write_all(&text));
        written.and_then(|()| fs::rename(&fresh, path)).map_err(|error| {
            // What is half written only takes room; it may be missing too.
            drop(fs::remove_file(&fresh));
            unwritable(error)
        })
    }

    /// What is gone since `before`.
    pub(crate) fn gone_since(&self, before: &Ledger) -> Vec<Notice> {
        let mut notices = Vec::new();
        let indexes = before.indexes.difference(&self.indexes).count();
        if indexes > 0 {
            notices.push(Notice::ForeignPrune { indexes: indexes as u64 });
        }
        let gone = before.snapshots.difference(&self.snapshots);
        let snapshots: Vec<_> = gone.take(NAMED_MAX).cloned().collect();
        if !snapshots.is_empty() {
            notices.push(Notice::ForeignForget { snapshots });
        }
        notices
    }
}
