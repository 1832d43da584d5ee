//! Comparing the index with one that is built from the log alone.
//!
//! It never says that a damaged index is right: what cannot be read differs.

use std::fs;
use std::iter::Peekable;
use std::sync::Mutex;

use sled::{Iter, Tree};

use super::store::{Store, known};
use super::{Index, State, Updated, postings};
use crate::journal::error::JournalError;
use crate::journal::read::Reader;

/// Found where the live index gives no answer at all.
const UNREADABLE: &str = "it cannot be read";

impl Index {
    /// Builds a second index from the log alone and compares every entry: the first place where
    /// they differ, and `None` where they do not, or where there is no index to compare. Snapshots
    /// are for those to compare who know what is in them. The log must not be written meanwhile.
    ///
    /// # Errors
    /// When the log cannot be read or is damaged, or the second index cannot be put away.
    pub fn audit(&self, reader: &Reader) -> Result<Option<String>, JournalError> {
        if !matches!(*self.state(), State::Ready(_)) {
            return Ok(None);
        }
        let folder = self.folder.join("audit");
        let fresh = Self { folder: folder.clone(), state: Mutex::new(State::Cold) };
        let found = fresh.update(reader).map(|_| self.compare(&fresh));
        drop(fresh);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(JournalError::io("remove", &folder)(error))
            }
            _ => found,
        }
    }

    fn compare(&self, fresh: &Self) -> Option<String> {
        let fresh = fresh.state();
        let State::Ready(rebuilt) = &*fresh else {
            tracing::warn!("no second index can be built here; the index is not compared");
            return None;
        };
        match self.ask(|live| difference(live, rebuilt)) {
            Some(place) => place,
            None => Some(UNREADABLE.to_owned()),
        }
    }

    /// Throws the index away and builds it from the log.
    ///
    /// # Errors
    /// As [`Index::update`].
    pub fn rebuild(&self, reader: &Reader) -> Result<Updated, JournalError> {
        std::mem::replace(&mut *self.state(), State::Cold).discard();
        self.update(reader)
    }
}

/// The first difference; the outer `None` is a failure of sled.
#[expect(clippy::option_option, reason = "failed, the same, or the place")]
fn difference(live: &Store, rebuilt: &Store) -> Option<Option<String>> {
    if live.head() != rebuilt.head() {
        return Some(Some("the event it ends at".to_owned()));
    }
    let trees = [
        ("place of event", &live.positions, &rebuilt.positions),
        ("minute", &live.times, &rebuilt.times),
    ];
    for (what, live, rebuilt) in trees {
        if let Some(number) = numbered(live, rebuilt)? {
            return Some(Some(format!("{what} {number}")));
        }
    }
    listed(&live.terms, &rebuilt.terms)
}

/// The first key that differs in trees whose keys are numbers.
#[expect(clippy::option_option, reason = "failed, the same, or the key")]
fn numbered(live: &Tree, rebuilt: &Tree) -> Option<Option<u64>> {
    let (mut live, mut rebuilt) = (live.iter(), rebuilt.iter());
    loop {
        let pair = (live.next().map(known), rebuilt.next().map(known));
        match pair {
            (None, None) => return Some(None),
            (Some(a), Some(b)) if a == b && a.is_some() => {}
            (a, b) => {
                let (key, _) = a.or(b)??;
                return Some(Some(postings::first_seq(&key)?));
            }
        }
    }
}

/// The first list of events that differs. How a list is cut into values depends on when it was
/// written, so that the lists are compared and not the values.
#[expect(clippy::option_option, reason = "failed, the same, or the place")]
fn listed(live: &Tree, rebuilt: &Tree) -> Option<Option<String>> {
    let (mut live, mut rebuilt) = (live.iter().peekable(), rebuilt.iter().peekable());
    loop {
        let pair = (list(&mut live)?, list(&mut rebuilt)?);
        match pair {
            (None, None) => return Some(None),
            (Some(a), Some(b)) if a == b && a.seqs.is_some() => {}
            (Some(a), Some(b)) if a.term == b.term => {
                let at = match (&a.seqs, &b.seqs) {
                    (Some(a), Some(b)) => format!(" from its entry {} on", common(a, b) + 1),
                    _ => format!(": {UNREADABLE}"),
                };
                return Some(Some(format!("events of {}{at}", postings::words(&a.term))));
            }
            (a, b) => {
                let first = a.into_iter().chain(b).map(|list| list.term).min()?;
                return Some(Some(format!("events of {}", postings::words(&first))));
            }
        }
    }
}

fn common(a: &[u64], b: &[u64]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// All events of one term; without seqs where a value cannot be read.
#[derive(PartialEq)]
struct List {
    term: Vec<u8>,
    seqs: Option<Vec<u64>>,
}

/// The next term with all its values; the outer `None` is a failure of sled.
#[expect(clippy::option_option, reason = "failed, at the end, or the list")]
fn list(entries: &mut Peekable<Iter>) -> Option<Option<List>> {
    let Some(first) = entries.next() else { return Some(None) };
    let (key, value) = known(first)?;
    let term = key[..key.len().checked_sub(8)?].to_vec();
    let mut seqs = postings::decode(&key, &value);
    while let Some(Ok((next, _))) = entries.peek()
        && next.len() == term.len() + 8
        && next.starts_with(&term)
    {
        let (key, value) = known(entries.next()?)?;
        let more = postings::decode(&key, &value);
        seqs = seqs.zip(more).map(|(mut seqs, more)| {
            seqs.extend(more);
            seqs
        });
    }
    Some(Some(List { term, seqs }))
}
