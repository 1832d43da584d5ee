//! What makes a start faster: the index, with a snapshot of the state.
//!
//! It never knows anything the log does not: without it a start takes longer and comes to the same.

use std::path::{Path, PathBuf};

use super::{STATE_VIEW, STATE_VIEW_VERSION};
use crate::cli::exit::CliError;
use crate::event::Recorded;
use crate::journal::Reader;
use crate::journal::index::Index;
use crate::state::State;

/// The index of a log that this process writes.
pub(in super::super) struct Memory {
    dir: PathBuf,
    index: Index,
}

impl Memory {
    /// Opens the index of the log in `dir`, and folds the log from its newest snapshot on.
    pub(super) fn recall(dir: &Path) -> Result<(Self, State), CliError> {
        let reader = Reader::open(dir);
        let index = Index::open(dir, &reader);
        let mut state = newest(&index).unwrap_or_default();
        let mut cursor = reader.from(state.seq + 1)?;
        while let Some(line) = cursor.read()? {
            state.apply(&Recorded::open(&line.record)?);
        }
        Ok((Self { dir: dir.to_owned(), index }, state))
    }

    /// Takes the log's end in, keeps `state` as a snapshot, and closes.
    pub(super) fn keep(self, state: &State) {
        let Self { dir, index } = self;
        match index.update(&Reader::open(&dir)) {
            Ok(updated) if updated.seq >= state.seq => match serde_json::to_vec(state) {
                Ok(bytes) => {
                    let kept =
                        index.snapshot_put(STATE_VIEW, STATE_VIEW_VERSION, state.seq, &bytes);
                    tracing::debug!(kept, seq = state.seq, "snapshot of the state");
                }
                Err(error) => tracing::warn!(%error, "the state cannot be kept as a snapshot"),
            },
            Ok(updated) => tracing::debug!(?updated, "the index lags behind; no snapshot is kept"),
            Err(error) => tracing::warn!(%error, "the index could not take the log in"),
        }
        index.close();
    }
}

/// The newest snapshot, if it is one of this program's version.
fn newest(index: &Index) -> Option<State> {
    let (seq, bytes) = index.snapshot_latest(STATE_VIEW, STATE_VIEW_VERSION, u64::MAX)?;
    match serde_json::from_slice::<State>(&bytes) {
        Ok(state) if state.seq == seq => Some(state),
        Ok(state) => {
            tracing::warn!(seq, found = state.seq, "a snapshot is of another event; not used");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "the snapshot of the state cannot be read; not used");
            None
        }
    }
}
