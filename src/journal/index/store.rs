//! sled behind a guard: every call may fail or panic, and then the store is of no more use.
//!
//! It never lets a panic or an error of sled out; both become `None`.

use std::fs;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use jiff::Timestamp;
use sled::{Batch, Db, Tree};

use super::postings::{self, Gathered, Term};
use super::{Page, seal};
use crate::event::chain::{Head, LineHash};
use crate::journal::lock::Held;
use crate::journal::read::Position;

/// sled's cache in bytes. The index is read rarely and written in rounds; the default of 1 GB would
/// take the whole log into memory.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
const HEAD: &[u8] = b"head";

pub(super) struct Store {
    db: Db,
    meta: Tree,
    pub(super) terms: Tree,
    pub(super) positions: Tree,
    pub(super) times: Tree,
    pub(super) snapshots: Tree,
    /// Held as long as sled is open; sled's own lock is not waited for.
    lock: Held,
}

impl Store {
    /// Opens files whose seal was right.
    pub(super) fn open(folder: &Path, lock: Held) -> Option<Self> {
        let path = seal::database(folder);
        guarded(|| {
            let config = sled::Config::new()
                .path(path)
                .cache_capacity(CACHE_BYTES)
                .mode(sled::Mode::LowSpace)
                .flush_every_ms(None);
            let db = known(config.open())?;
            Some(Self {
                meta: known(db.open_tree("meta"))?,
                terms: known(db.open_tree("terms"))?,
                positions: known(db.open_tree("positions"))?,
                times: known(db.open_tree("times"))?,
                snapshots: known(db.open_tree("snapshots"))?,
                db,
                lock,
            })
        })
    }

    /// Deletes what is there and starts from nothing.
    pub(super) fn create(folder: &Path, lock: Held) -> Option<Self> {
        match fs::remove_dir_all(seal::database(folder)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "the old index cannot be deleted");
                None
            }
            _ => Self::open(folder, lock),
        }
    }

    /// Runs `job`, and turns a panic of sled into a failure.
    pub(super) fn guard<T>(&self, job: impl FnOnce(&Self) -> Option<T>) -> Option<T> {
        guarded(|| job(self))
    }

    /// Where the index ends.
    pub(super) fn head(&self) -> Option<Head> {
        let Some(value) = known(self.meta.get(HEAD))? else { return Some(Head::EMPTY) };
        let (seq, rest) = value.split_first_chunk::<8>()?;
        let (at, hash) = rest.split_first_chunk::<8>()?;
        let at = Timestamp::from_microsecond(i64::from_be_bytes(*at)).ok()?;
        Some(Head { seq: u64::from_be_bytes(*seq), hash: LineHash::parse(hash)?, at: Some(at) })
    }

    /// Adds what was gathered; the head last.
    pub(super) fn apply(&self, gathered: &Gathered) -> Option<()> {
        let mut terms = Batch::default();
        gathered.chunks().for_each(|(key, value)| terms.insert(key, value));
        known(self.terms.apply_batch(terms))?;
        let mut positions = Batch::default();
        for (seq, Position { segment, offset }) in &gathered.positions {
            let value = [segment.to_be_bytes(), offset.to_be_bytes()].concat();
            positions.insert(&seq.to_be_bytes(), value);
        }
        known(self.positions.apply_batch(positions))?;
        for (bucket, seq) in &gathered.times {
            let key = bucket.to_be_bytes();
            // The first event of a bucket may have come in an earlier round.
            if known(self.times.get(key))?.is_none() {
                known(self.times.insert(key, &seq.to_be_bytes()))?;
            }
        }
        let head = gathered.head?;
        let mut value = head.seq.to_be_bytes().to_vec();
        value.extend_from_slice(&head.at?.as_microsecond().to_be_bytes());
        value.extend_from_slice(&head.hash.hex());
        known(self.meta.insert(HEAD, value)).map(|_| ())
    }

    /// The nearest known place at or before `seq`.
    #[expect(clippy::option_option, reason = "failed, nothing known, or the place")]
    pub(super) fn position(&self, seq: u64) -> Option<Option<(Position, u64)>> {
        let after = seq.saturating_add(1).to_be_bytes();
        let Some((key, value)) = known(self.positions.get_lt(after))? else { return Some(None) };
        let (segment, offset) = value.split_first_chunk::<8>()?;
        let segment = u64::from_be_bytes(*segment);
        let offset = u64::from_be_bytes(*offset.first_chunk::<8>()?);
        Some(Some((Position { segment, offset }, postings::first_seq(&key)?)))
    }

    /// A seq at or before which everything is earlier than `time`.
    pub(super) fn seq_before(&self, time: Timestamp) -> Option<u64> {
        let key = postings::bucket(time).to_be_bytes();
        // The bucket's own first event, or the first of the next one: nothing lies between.
        let first = known(self.times.range(key..).next().transpose())?;
        match first {
            Some((_, seq)) => Some(postings::first_seq(&seq)?.saturating_sub(1)),
            None => Some(self.head()?.seq),
        }
    }

    /// At most `limit` seqs after `after` that hold the term.
    pub(super) fn page(&self, term: &Term, after: u64, limit: usize) -> Option<Page> {
        let end = self.head()?.seq;
        let mut seqs = Vec::new();
        let entries = if term.many {
            self.terms.scan_prefix(&term.prefix)
        } else {
            self.chunks_from(&term.prefix, after)?
        };
        for entry in entries {
            let (key, value) = known(entry)?;
            if !key.starts_with(&term.prefix) {
                break;
            }
            seqs.extend(postings::decode(&key, &value)?.into_iter().filter(|seq| *seq > after));
            if seqs.len() > limit {
                if !term.many {
                    break;
                }
                // Several terms interleave: the smallest seqs so far are the candidates.
                if seqs.len() > 4 * limit {
                    keep_least(&mut seqs, limit + 1);
                }
            }
        }
        let last = seqs.len() <= limit;
        keep_least(&mut seqs, limit);
        let complete_to = if last { end } else { seqs.last().copied().unwrap_or(end) };
        Some(Page { seqs, complete_to: complete_to.max(after), last })
    }

    /// A single term's chunks from the one that may hold `after` on.
    fn chunks_from(&self, prefix: &[u8], after: u64) -> Option<sled::Iter> {
        let mut key = prefix.to_vec();
        key.extend_from_slice(&after.saturating_add(1).to_be_bytes());
        let before = known(self.terms.get_lt(&key))?;
        let start = before.filter(|(found, _)| found.starts_with(prefix));
        Some(match start {
            Some((found, _)) => self.terms.range(found..),
            None => self.terms.range(key..),
        })
    }

    /// Closes sled, whatever state it is in: its destructors may panic too.
    pub(super) fn discard(self) {
        let dropped = guarded(|| {
            drop(self);
            Some(())
        });
        if dropped.is_none() {
            tracing::debug!("sled did not close well");
        }
    }

    /// Flushes and closes sled; the lock, if everything reached the disk.
    pub(super) fn close(self) -> Option<Held> {
        let Self { db, meta, terms, positions, times, snapshots, lock } = self;
        guarded(move || {
            let flushed = known(db.flush());
            drop((meta, terms, positions, times, snapshots));
            drop(db);
            flushed.map(|_| lock)
        })
    }
}

fn keep_least(seqs: &mut Vec<u64>, count: usize) {
    seqs.sort_unstable();
    seqs.dedup();
    seqs.truncate(count);
}

/// sled's answer, its error told and turned into `None`.
pub(super) fn known<T>(answer: sled::Result<T>) -> Option<T> {
    answer.inspect_err(|error| tracing::warn!(%error, "sled failed")).ok()
}

/// Runs `job`; a panic becomes `None`. What it leaves behind is thrown away by the caller.
fn guarded<T>(job: impl FnOnce() -> Option<T>) -> Option<T> {
    panic::catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|_| {
        tracing::warn!("sled panicked");
        None
    })
}
