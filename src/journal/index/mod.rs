//! The index: which events are about what, and snapshots of views, in sled.
//!
//! It never knows anything the log does not: it may be deleted at any time. sled 0.34 answers a
//! damaged file with holes, panics or hangs, so it is never shown one: `seal` keeps a digest of
//! all its files from a clean close to the next open, and whatever does not match, fails or panics
//! is deleted and built again from the log.

mod audit;
mod postings;
mod seal;
mod snapshots;
mod store;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use self::postings::Gathered;
use self::store::Store;
use super::error::JournalError;
use super::layout;
use super::lock::{self, Held};
use super::read::{Cursor, Position, Reader};
use super::search::Filter;
use crate::event::chain::Head;

pub use self::snapshots::{SNAPSHOT_BYTES_MAX, SNAPSHOTS_KEPT_MAX};

/// Events gathered in memory before they go to the index: a few megabytes.
const ROUND: usize = 20_000;

/// Candidates for a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Seqs that may fit, ascending.
    pub seqs: Vec<u64>,
    /// No other event up to here fits.
    pub complete_to: u64,
    /// Whether the index knows no more.
    pub last: bool,
}

/// The index of a log. Where it cannot serve, it answers `None` and the log is read instead.
pub struct Index {
    folder: PathBuf,
    state: Mutex<State>,
}

enum State {
    /// Serving.
    Ready(Store),
    /// To be built at the next update.
    Cold,
    /// Not available to this process, or given up after it failed again right after a rebuild.
    Off,
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Updated {
    /// The last seq the index covers.
    pub seq: u64,
    /// Whether it was built from nothing.
    pub rebuilt: bool,
}

impl Index {
    /// Positions are kept for every so many events.
    pub const STRIDE: u64 = 64;

    /// Opens the index of the state directory `dir`. It always succeeds: an index that is damaged,
    /// stale or of another version is built again by [`Index::update`], and one that another
    /// process uses is left alone and not used.
    #[must_use]
    pub fn open(dir: &Path, reader: &Reader) -> Self {
        let folder = dir.join("index");
        let state = match Self::take(&folder) {
            Ok(Some(lock)) => Self::load(&folder, lock, reader),
            Ok(None) => State::Off,
            Err(error) => {
                tracing::warn!(%error, "the index is not available; the log is read instead");
                State::Off
            }
        };
        Self { folder, state: Mutex::new(state) }
    }

    /// The index of the state directory `dir` for questions only: one that is missing, in use, or
    /// not whole is not used and not made. To be closed soon, because a writer that starts meanwhile
    /// does without it.
    #[must_use]
    pub fn peek(dir: &Path, reader: &Reader) -> Self {
        let folder = dir.join("index");
        let state = match seal::is_there(&folder).then(|| Self::take(&folder)) {
            Some(Ok(Some(lock))) => match Self::load(&folder, lock, reader) {
                State::Ready(store) => State::Ready(store),
                State::Cold | State::Off => State::Off,
            },
            Some(Ok(None)) | None => State::Off,
            Some(Err(error)) => {
                tracing::debug!(%error, "the index is not available; the log is read instead");
                State::Off
            }
        };
        Self { folder, state: Mutex::new(state) }
    }

    /// Whether it is this process's: to be used, or to be built.
    #[must_use]
    pub fn is_there(&self) -> bool {
        !matches!(*self.state(), State::Off)
    }

    fn take(folder: &Path) -> Result<Option<Held>, JournalError> {
        layout::create_dir(folder)?;
        let path = folder.join("lock");
        Ok(lock::try_lock(&path).map_err(JournalError::io("lock", &path))?.ok())
    }

    fn load(folder: &Path, lock: Held, reader: &Reader) -> State {
        let store = seal::take(folder).then(|| Store::open(folder, lock)).flatten();
        match store {
            Some(store) if agrees(&store, reader) => return State::Ready(store),
            // The lock goes with the store and is taken again by the rebuild.
            Some(store) => store.discard(),
            None => {}
        }
        State::Cold
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every access leaves the state whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `job` on the store; a failure makes the index cold.
    fn ask<T>(&self, job: impl FnOnce(&Store) -> Option<T>) -> Option<T> {
        let mut state = self.state();
        let State::Ready(store) = &*state else { return None };
        let answer = store.guard(job);
        if answer.is_none() {
            tracing::warn!("the index failed; it is built again from the log");
            std::mem::replace(&mut *state, State::Cold).discard();
        }
        answer
    }

    /// Takes in what the log has beyond the index; builds it from nothing where needed.
    ///
    /// # Errors
    /// When the log cannot be read or is damaged; never for the index's own failures.
    pub fn update(&self, reader: &Reader) -> Result<Updated, JournalError> {
        let mut rebuilt = self.warm();
        loop {
            if let Some(seq) = self.catch_up(reader)? {
                return Ok(Updated { seq, rebuilt });
            }
            let mut state = self.state();
            if rebuilt || matches!(*state, State::Off) {
                std::mem::replace(&mut *state, State::Off).discard();
                return Ok(Updated { seq: 0, rebuilt });
            }
            drop(state);
            rebuilt = self.warm();
        }
    }

    /// Makes a cold index an empty one; whether it did.
    fn warm(&self) -> bool {
        let mut state = self.state();
        if !matches!(*state, State::Cold) {
            return false;
        }
        *state = match Self::take(&self.folder) {
            Ok(Some(lock)) => Store::create(&self.folder, lock).map_or(State::Off, State::Ready),
            Ok(None) => State::Off,
            Err(error) => {
                tracing::warn!(%error, "the index cannot be built");
                State::Off
            }
        };
        true
    }

    /// Reads on from where the index ends; the seq reached, or `None` when the index failed.
    fn catch_up(&self, reader: &Reader) -> Result<Option<u64>, JournalError> {
        let Some(head) = self.ask(Store::head) else { return Ok(None) };
        let from = head.seq + 1;
        let mut cursor = match self.position(from) {
            Some((position, seq)) => reader.at(position, seq, from),
            None => reader.from(from)?,
        };
        let mut reached = head.seq;
        let mut gathered = Gathered::default();
        loop {
            let line = cursor.read()?;
            let ended = line.is_none();
            if let Some(line) = line {
                reached = line.record.seq;
                gathered.add(&line);
            }
            if gathered.len() >= ROUND || (ended && gathered.len() > 0) {
                let round = std::mem::take(&mut gathered);
                // Without the lock on the state between rounds, so that queries are not kept out.
                if self.ask(|store| store.apply(&round)).is_none() {
                    return Ok(None);
                }
            }
            if ended {
                return Ok(Some(reached));
            }
        }
    }

    /// Seqs after `after` that may fit `filter`, at most `limit`. `None` when the filter names
    /// nothing the index knows, or there is no index: read the log.
    #[must_use]
    pub fn candidates(&self, filter: &Filter, after: u64, limit: usize) -> Option<Page> {
        let term = postings::Term::of(filter)?;
        self.ask(|store| store.page(&term, after, limit))
    }

    /// The nearest known place at or before event `seq`, and the seq that stands there.
    #[must_use]
    pub fn position(&self, seq: u64) -> Option<(Position, u64)> {
        self.ask(|store| store.position(seq)).flatten()
    }

    /// A cursor at event `seq`, from the nearest place that is known.
    ///
    /// # Errors
    /// As [`Reader::from`].
    pub fn read_from(&self, reader: &Reader, seq: u64) -> Result<Cursor, JournalError> {
        match self.position(seq) {
            Some((position, there)) => Ok(reader.at(position, there, seq)),
            None => reader.from(seq),
        }
    }

    /// A seq at or before which every event is earlier than `time`.
    #[must_use]
    pub fn seq_before(&self, time: Timestamp) -> Option<u64> {
        self.ask(|store| store.seq_before(time))
    }

    /// Where the index ends.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.ask(Store::head)
    }

    /// Keeps `bytes` as the state of `view` (in its version) after event `seq`; whether it did.
    pub fn snapshot_put(&self, view: &str, version: u32, seq: u64, bytes: &[u8]) -> bool {
        let put = |store: &Store| store.snapshot_put(view, version, seq, bytes);
        self.ask(put).unwrap_or(false)
    }

    /// The newest state kept of `view` in this version after an event at or before `seq`.
    #[must_use]
    pub fn snapshot_latest(&self, view: &str, version: u32, seq: u64) -> Option<(u64, Vec<u8>)> {
        self.ask(|store| store.snapshot_latest(view, version, seq)).flatten()
    }

    /// Closes the index so that the next process can use it. Without this it is built again.
    pub fn close(self) {
        let state = std::mem::replace(&mut *self.state(), State::Off);
        if let State::Ready(store) = state
            && let Some(lock) = store.close()
        {
            seal::put(&self.folder);
            drop(lock);
        }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        std::mem::replace(&mut *self.state(), State::Off).discard();
    }
}

impl State {
    fn discard(self) {
        match self {
            Self::Ready(store) => store.discard(),
            Self::Cold | Self::Off => {}
        }
    }
}

/// Whether the index was built from this very log.
fn agrees(store: &Store, reader: &Reader) -> bool {
    let Some(head) = store.guard(Store::head) else { return false };
    if head.seq == 0 {
        return true;
    }
    let Some(Some((position, seq))) = store.guard(|store| store.position(head.seq)) else {
        return false;
    };
    match reader.at(position, seq, head.seq).read() {
        Ok(Some(line)) => line.record.seq == head.seq && line.record.hash == head.hash,
        Ok(None) => false,
        Err(error) => {
            tracing::info!(%error, "the index does not fit the log and is built again");
            false
        }
    }
}

#[cfg(test)]
mod tests;
