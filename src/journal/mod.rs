//! `journal`: the log on disk: segments, durability, locking, verification and the sled index.
//!
//! It never interprets an event beyond its envelope, never reads a clock (each append brings its
//! time), and never repairs anything but a torn tail. Reading order: [`layout`] names the files,
//! [`Journal`] appends, [`Reader`] reads, [`verify()`] judges, [`index`] answers questions faster.
//!
//! ```text
//! <dir>/log/00000000000000000001.jsonl   events; the name is the first seq
//! <dir>/log/….jsonl.tail-<seq>           a torn tail, cut off and kept
//! <dir>/lock                             held by the writer: {"pid":…,"epoch":…}
//! <dir>/head                             the writer's epoch and a seq known to be durable
//! <dir>/reserve                          space kept for saying that the disk is full
//! <dir>/blobs/<sha256>                   content too large for an event
//! <dir>/index/                           sled; may be deleted at any time
//! ```

mod blob;
mod disk;
mod error;
mod handle;
pub mod index;
pub mod layout;
mod lines;
mod lock;
mod open;
mod port;
mod read;
mod search;
mod verify;
mod writer;

pub use blob::{BLOB_BYTES_MAX, Blobs};
pub use error::{AppendError, Damage, Finding, JournalError};
pub use handle::{Journal, Sealed};
pub use open::{Opened, Options, TailCut};
pub use port::LogPort;
pub use read::{Cursor, Follower, Position, Reader, StoredLine};
pub use search::{Filter, search};
pub use verify::{Report, Tail, verify};

/// A segment is closed when the next batch would make it larger. Small enough to be read, copied
/// and checked as a piece; large enough that a million events are some twenty files.
pub const SEGMENT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Space set aside for the events that tell of a full disk and of what was under way (about ten
/// thousand of them).
pub const RESERVE_BYTES: u64 = 4 * 1024 * 1024;
/// One append, all its lines together: half a segment, so that it always fits into one.
pub const APPEND_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The writer stops gathering appends for a batch once it holds this much: beyond it the disk, not
/// the sync, is what takes the time.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Appends that may wait for the writer; further callers wait for a place.
pub const QUEUE_MAX: usize = 1024;
/// Nothing torn can be longer than the longest batch, so more than this is damage.
pub const TAIL_BYTES_MAX: u64 = (APPEND_BYTES_MAX + BATCH_BYTES_MAX) as u64;

#[cfg(test)]
mod tests;
