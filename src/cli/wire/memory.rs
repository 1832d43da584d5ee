//! What makes a start faster: the index, with a snapshot of the state.
//!
//! It never knows anything the log does not: without it a start takes longer and comes to the same.

use std::path::{Path, PathBuf};

use super::{STATE_VIEW, STATE_VIEW_VERSION, Until};
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
        let state = fold_from(&reader, &index, Until::End)?;
        Ok((Self { dir: dir.to_owned(), index }, state))
    }

    /// Takes the log's end in, keeps `state` as a snapshot, and closes.
    pub(super) fn keep(self, state: &State) {
        let Self { dir, mut index } = self;
        let reader = Reader::open(&dir);
        if !index.is_there() {
            // Somebody was reading it when this process began.
            index = Index::open(&dir, &reader);
        }
        match index.update(&reader) {
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

/// The fold of the log up to `until`, from the newest snapshot in `index` that is not later.
pub(super) fn fold_from(reader: &Reader, index: &Index, until: Until) -> Result<State, CliError> {
    let latest = match until {
        Until::End => Some(u64::MAX),
        Until::Seq(seq) => Some(seq),
        Until::Time(at) => index.seq_before(at),
    };
    let mut state = latest.and_then(|latest| newest(index, latest)).unwrap_or_default();
    let mut cursor = index.read_from(reader, state.seq + 1)?;
    while let Some(line) = cursor.read()? {
        if !until.covers(line.record.seq, line.record.at) {
            break;
        }
        state.apply(&Recorded::open(&line.record)?);
    }
    Ok(state)
}

/// The newest snapshot at or before event `latest`, if it is one of this program's version.
fn newest(index: &Index, latest: u64) -> Option<State> {
    let (seq, bytes) = index.snapshot_latest(STATE_VIEW, STATE_VIEW_VERSION, latest)?;
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
