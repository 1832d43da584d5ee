//! The hash chain and the order of time: what ties each line to the one before it.
//!
//! It never reads a clock: the time is given, and only kept from going backwards.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::envelope::{Draft, EnvelopeError, Record};
use super::line;

/// SHA-256 (FIPS 180-4) of a line's content; in the log and for people 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LineHash([u8; 32]);

const NOT_A_DIGIT: u8 = 0x80;

/// What each byte stands for as a lower-case hex digit. Two hashes a line are read in every replay,
/// and a branch a digit costs as much as the rest of the line.
const VALUES: [u8; 256] = {
    let mut values = [NOT_A_DIGIT; 256];
    let mut digit = 0;
    while digit < 16 {
        values[b"0123456789abcdef"[digit as usize] as usize] = digit;
        digit += 1;
    }
    values
};

impl LineHash {
    /// The `prev` of the first line: all zeros.
    pub const ZERO: Self = Self([0; 32]);

    /// Reads 64 lower-case hex digits; `None` for anything else.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        let mut bad = 0;
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let (high, low) = (VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]);
            bad |= high | low;
            *byte = high << 4 | (low & 15);
        }
        if bad & NOT_A_DIGIT != 0 {
            return None;
        }
        Some(Self(bytes))
    }

    /// The hash of one piece of text after another.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hex digits as ASCII.
    #[must_use]
    pub fn hex(&self) -> [u8; 64] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        text
    }
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hex().iter().try_for_each(|digit| fmt::Write::write_char(f, char::from(*digit)))
    }
}

impl fmt::Debug for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a log stands: the last line's place, hash and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last seq; 0 for an empty log.
    pub seq: u64,
    /// The last line's hash; [`LineHash::ZERO`] for an empty log.
    pub hash: LineHash,
    /// The last line's time; none for an empty log.
    pub at: Option<Timestamp>,
}

impl Head {
    /// The head of an empty log.
    pub const EMPTY: Self = Self { seq: 0, hash: LineHash::ZERO, at: None };

    /// The head after `record`.
    #[must_use]
    pub fn after(record: &Record<'_>) -> Self {
        Self { seq: record.seq, hash: record.hash, at: Some(record.at) }
    }

    /// Appends the line of `draft`, newline included, to `out` and returns the head after it.
    ///
    /// # Errors
    /// When the draft breaks the format; `out` is then as it was.
    pub fn seal_into(
        &self,
        draft: &Draft,
        now: Timestamp,
        out: &mut Vec<u8>,
    ) -> Result<Self, EnvelopeError> {
        let (seq, at) = (self.seq + 1, sealed_time(now, self.at));
        let hash = line::seal_into(draft, seq, at, &self.hash, out)?;
        Ok(Self { seq, hash, at: Some(at) })
    }
}

/// The time a line gets: the given time cut to whole microseconds or, where the clock stands still
/// or has jumped back, one microsecond after the line before. So order in the log is order in time.
#[must_use]
pub fn sealed_time(now: Timestamp, last: Option<Timestamp>) -> Timestamp {
    let now = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
    let Some(last) = last else { return now };
    // At the end of the calendar (year 9999) time stands still rather than fail.
    let next = last.checked_add(SignedDuration::from_micros(1)).unwrap_or(last);
    now.max(next)
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// The bytes are not a line of this format.
    #[error("not a line of the log: expected {expected} at byte {at} of the line")]
    Format {
        /// Offset in the line.
        at: usize,
        /// What should have stood there.
        expected: &'static str,
    },
    /// The content does not have the hash that stands at its end.
    #[error("the line's bytes have hash {computed}, but it says {written}")]
    Hash {
        /// The hash of the bytes.
        computed: LineHash,
        /// The hash that the line holds.
        written: LineHash,
    },
    /// The line does not follow the one before it.
    #[error("the line follows {found}, but the line before it is {expected}")]
    Prev {
        /// The hash of the line before.
        expected: LineHash,
        /// What `prev` holds.
        found: LineHash,
    },
    /// A line is missing, doubled or out of order.
    #[error("expected seq {expected}, found seq {found}")]
    Seq {
        /// One more than the line before.
        expected: u64,
        /// What the line holds.
        found: u64,
    },
    /// The time does not go forward.
    #[error("time goes backwards: {found} after {last}")]
    Time {
        /// The time of the line before.
        last: Timestamp,
        /// The line's time.
        found: Timestamp,
    },
}

/// Reads a line (without its newline) and checks its own hash, but not what came before it.
///
/// # Errors
/// [`LineFault::Format`] or [`LineFault::Hash`].
pub fn verify_alone(text: &[u8]) -> Result<Record<'_>, LineFault> {
    let record = line::parse(text)?;
    let computed = line::hash_of(text);
    if computed == record.hash {
        Ok(record)
    } else {
        Err(LineFault::Hash { computed, written: record.hash })
    }
}

/// Reads a line (without its newline) and checks that it is whole and follows `head`.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn verify_line<'a>(text: &'a [u8], head: &Head) -> Result<Record<'a>, LineFault> {
    let record = verify_alone(text)?;
    follows(&record, head)?;
    Ok(record)
}

/// Checks that `record` is the line right after `head`.
///
/// # Errors
/// [`LineFault::Seq`], [`LineFault::Prev`] or [`LineFault::Time`].
pub fn follows(record: &Record<'_>, head: &Head) -> Result<(), LineFault> {
    if record.seq != head.seq + 1 {
        return Err(LineFault::Seq { expected: head.seq + 1, found: record.seq });
    }
    if record.prev != head.hash {
        return Err(LineFault::Prev { expected: head.hash, found: record.prev });
    }
    match head.at {
        Some(last) if record.at < last => Err(LineFault::Time { last, found: record.at }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_microsecond(micros).unwrap()
    }

    #[test]
    fn time_never_goes_backwards() {
        assert_eq!(sealed_time(at(10), None), at(10));
        assert_eq!(sealed_time(at(10), Some(at(5))), at(10));
        assert_eq!(sealed_time(at(10), Some(at(10))), at(11), "a clock that stands still");
        assert_eq!(sealed_time(at(-50), Some(at(10))), at(11), "a clock that jumped back");
        assert_eq!(sealed_time(Timestamp::MAX, Some(Timestamp::MAX)), Timestamp::MAX);
        let nanos = Timestamp::from_nanosecond(1_999).unwrap();
        assert_eq!(sealed_time(nanos, None), at(1), "cut to microseconds");
    }

    #[test]
    fn hash_text_is_lower_case_hex() {
        let abc = LineHash::of(&[b"a", b"bc"]);
        // FIPS 180-4, the one-block example.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(abc.to_string(), known);
        assert_eq!(LineHash::parse(known.as_bytes()), Some(abc));
        assert_eq!(LineHash::parse(known.to_uppercase().as_bytes()), None);
    }
}
