//! What can go wrong with the log, said with the file, the place and the way out.
//!
//! It never carries an event's data.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::event::chain::{LineFault, LineHash};
use crate::event::envelope::EnvelopeError;

/// What was found wrong at a place in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// A line is broken or does not follow the one before it.
    #[error("{0}")]
    Line(LineFault),
    /// A line that is not the log's last has no end.
    #[error(
        "the line has no end: expected a newline, found the end of the file after {bytes} bytes"
    )]
    Unterminated {
        /// Bytes after the last newline.
        bytes: u64,
    },
    /// A line is longer than any line can be.
    #[error("the line is longer than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// Segments do not join.
    #[error(
        "expected a segment that starts with seq {expected}, found one that starts with seq {found}"
    )]
    Gap {
        /// The seq after the last one read.
        expected: u64,
        /// The seq in the segment's name.
        found: u64,
    },
    /// The log ends before an event that is known to have been durable.
    #[error("expected the log to reach seq {expected} ({hash}), found its end after seq {found}")]
    Short {
        /// A seq that was durable.
        expected: u64,
        /// That line's hash.
        hash: LineHash,
        /// The last whole line found.
        found: u64,
    },
    /// An event that is known to have been durable is now another one.
    #[error("expected seq {seq} to have hash {expected}, found {found}: history was rewritten")]
    Rewritten {
        /// Which event.
        seq: u64,
        /// The hash it had.
        expected: LineHash,
        /// The hash it has.
        found: LineHash,
    },
    /// A line's data is not JSON though its hash is right.
    #[error("the data is not valid JSON: {reason}")]
    Data {
        /// The parser's words.
        reason: String,
    },
}

/// A damaged place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub file: PathBuf,
    /// Line in the file, from 1.
    pub line: u64,
    /// Byte in the file at which that line starts.
    pub offset: u64,
    /// What is wrong there.
    pub finding: Finding,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, line, offset, finding } = self;
        write!(f, "{}, line {line}, byte {offset}: {finding}", file.display())
    }
}

/// Why the log cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system said no.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// Another process writes this log.
    #[error(
        "the log in {} is being written by process {pid}: stop it first, or use another state \
         directory", dir.display()
    )]
    Busy {
        /// The state directory.
        dir: PathBuf,
        /// The other writer, `unknown` where it has not said.
        pid: String,
    },
    /// The log is damaged. Nothing was changed.
    #[error(
        "the log is damaged at {0}; nothing was changed: `trueup log verify` shows the place again, \
         and restoring that file from a backup is the way out"
    )]
    Damaged(Box<Damage>),
    /// The log holds an event that this version of trueup does not know.
    #[error(
        "{}, line {line}: event {seq} is {type_} version {v}, which this trueup does not know: the \
         log was written by a newer one; install that version again", file.display()
    )]
    Unknown {
        /// The segment.
        file: PathBuf,
        /// Line in the file, from 1.
        line: u64,
        /// The event's seq.
        seq: u64,
        /// Its type.
        type_: String,
        /// Its version.
        v: u32,
    },
    /// An option is out of bounds.
    #[error("journal option {option}: {reason}")]
    Option {
        /// Which.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A stored blob is not what its name says.
    #[error("blob {} does not have the digest in its name: restore it from a backup", path.display())]
    Blob {
        /// The file.
        path: PathBuf,
    },
}

impl JournalError {
    /// Whether there was no space.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if super::disk::is_full(source))
    }

    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    pub(crate) fn damage(file: &Path, line: u64, offset: u64, finding: Finding) -> Self {
        Self::Damaged(Box::new(Damage { file: file.to_owned(), line, offset, finding }))
    }
}

/// Why events were not recorded. None of them is in the log, and nothing they announce may be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// A draft breaks the format; only this append is refused.
    #[error(transparent)]
    Envelope(EnvelopeError),
    /// All lines together are longer than [`super::APPEND_BYTES_MAX`].
    #[error("the append holds {bytes} bytes, the limit is {limit}: append in parts")]
    TooLarge {
        /// The append's size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The disk is full. The log is whole, and appends work again once there is space.
    #[error("the disk that holds {} is full: free some space, trueup then goes on", dir.display())]
    Full {
        /// The state directory.
        dir: PathBuf,
    },
    /// A write or sync failed earlier, so what is on disk is unknown; only a restart helps.
    #[error("the log takes no more events: {reason}; restart trueup to read again what is on disk")]
    Poisoned {
        /// The first failure.
        reason: Arc<str>,
    },
    /// The journal was closed.
    #[error("the log is closed")]
    Closed,
}
