//! Which events are about what: gathering from lines, and the keys and values that keep it.
//!
//! It never touches sled.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Index;
use crate::event::chain::Head;
use crate::journal::read::{Position, StoredLine};
use crate::journal::search::Filter;

/// Seqs in one value; a value is decoded whole.
const CHUNK: usize = 1024;
/// Times are kept as the first seq of each so many seconds.
const BUCKET_SECONDS: i64 = 60;

const SUBJECT: u8 = b's';
const TYPE: u8 = b't';
const COMMIT: u8 = b'c';
const RUN: u8 = b'r';

/// What to look for in the index: a term or the start of one.
pub(super) struct Term {
    /// The start of all keys that hold it.
    pub(super) prefix: Vec<u8>,
    /// Whether several terms may start so; their seqs then interleave.
    pub(super) many: bool,
}

impl Term {
    /// The narrowest thing the filter names: passes and commits have few events, types many.
    pub(super) fn of(filter: &Filter) -> Option<Self> {
        let pattern = |field, text: &str| match text.strip_suffix('*') {
            Some(start) => Self { prefix: head(field, start), many: true },
            None => Self { prefix: key(field, text), many: false },
        };
        if let Some(run) = &filter.run {
            return Some(pattern(RUN, run));
        }
        if let Some(commit) = &filter.commit {
            return Some(Self { prefix: head(COMMIT, commit), many: true });
        }
        if let Some(subject) = &filter.subject {
            return Some(pattern(SUBJECT, subject));
        }
        filter.type_.as_ref().map(|type_| pattern(TYPE, type_))
    }
}

fn head(field: u8, text: &str) -> Vec<u8> {
    let mut key = vec![field];
    key.extend_from_slice(text.as_bytes());
    key
}

/// Field, term, and a zero byte, which no term holds.
fn key(field: u8, text: &str) -> Vec<u8> {
    let mut key = head(field, text);
    key.push(0);
    key
}

/// A term as its key has it, for people: `subject vm/web`.
pub(super) fn words(term: &[u8]) -> String {
    let (field, text) = term.split_first().unwrap_or((&0, &[]));
    let field = match *field {
        SUBJECT => "subject",
        TYPE => "type",
        COMMIT => "commit",
        RUN => "run",
        _ => "an unknown field",
    };
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    format!("{field} {}", String::from_utf8_lossy(text))
}

/// What a run of lines adds to the index.
#[derive(Default)]
pub(super) struct Gathered {
    terms: BTreeMap<Vec<u8>, Vec<u64>>,
    pub(super) positions: Vec<(u64, Position)>,
    /// Time bucket and the first seq in it.
    pub(super) times: Vec<(u64, u64)>,
    pub(super) head: Option<Head>,
    count: usize,
}

impl Gathered {
    pub(super) fn add(&mut self, line: &StoredLine<'_>) {
        let record = &line.record;
        let named = [
            (SUBJECT, record.subject.as_deref()),
            (TYPE, Some(record.type_)),
            (COMMIT, record.commit),
            (RUN, record.run),
        ];
        for (field, text) in named {
            if let Some(text) = text {
                self.terms.entry(key(field, text)).or_default().push(record.seq);
            }
        }
        if record.seq % Index::STRIDE == 1 || line.position.offset == 0 {
            self.positions.push((record.seq, line.position));
        }
        let bucket = bucket(record.at);
        if self.times.last().is_none_or(|(last, _)| *last != bucket) {
            self.times.push((bucket, record.seq));
        }
        self.head = Some(Head::after(record));
        self.count += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Keys (term, then the chunk's first seq) and values (the seqs' distances).
    pub(super) fn chunks(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        self.terms.iter().flat_map(|(term, seqs)| {
            seqs.chunks(CHUNK).map(|chunk| {
                let mut key = term.clone();
                key.extend_from_slice(&chunk[0].to_be_bytes());
                (key, encode(chunk))
            })
        })
    }
}

/// The number of a time's bucket; larger for later times, from year 0 on.
pub(super) fn bucket(at: Timestamp) -> u64 {
    let least = Timestamp::MIN.as_second().div_euclid(BUCKET_SECONDS);
    (at.as_second().div_euclid(BUCKET_SECONDS) - least).unsigned_abs()
}

/// Distances between seqs, seven bits a byte, the high bit set on all but a number's last byte.
fn encode(seqs: &[u64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(seqs.len() * 2);
    let mut last = seqs[0];
    for seq in seqs {
        let mut distance = seq - last;
        last = *seq;
        while distance >= 0x80 {
            out.push((distance & 0x7f) as u8 | 0x80);
            distance >>= 7;
        }
        out.push(distance as u8);
    }
    out
}

/// The seqs of a chunk; `None` for bytes that [`encode`] did not write.
pub(super) fn decode(key: &[u8], value: &[u8]) -> Option<Vec<u64>> {
    let mut last = first_seq(key)?;
    let mut seqs = Vec::with_capacity(value.len());
    let (mut distance, mut shift) = (0_u64, 0);
    for byte in value {
        distance |= u64::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        if byte & 0x80 == 0 {
            last = last.checked_add(distance)?;
            seqs.push(last);
            (distance, shift) = (0, 0);
        }
    }
    (shift == 0 && !seqs.is_empty()).then_some(seqs)
}

/// The first seq of a chunk, from its key.
pub(super) fn first_seq(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*key.last_chunk::<8>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seqs_read_back() {
        let seqs = [5, 6, 133, 134, 100_000, u64::MAX];
        let mut key = key(TYPE, "a.b");
        key.extend_from_slice(&5_u64.to_be_bytes());
        assert_eq!(decode(&key, &encode(&seqs)).as_deref(), Some(&seqs[..]));
        assert_eq!(decode(&key, &[0x80]), None);
        assert_eq!(decode(&key, &[]), None);
        assert_eq!(decode(&key, &[0xff; 12]), None);
    }
}
