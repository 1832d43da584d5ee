//! Names and small files of the state directory.
//!
//! It never opens a segment for writing.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::JournalError;
use crate::event::chain::{Head, LineHash};

/// The folder of the segments.
#[must_use]
pub fn log_dir(dir: &Path) -> PathBuf {
    dir.join("log")
}

/// The segment whose first event is `first`.
#[must_use]
pub fn segment_path(dir: &Path, first: u64) -> PathBuf {
    log_dir(dir).join(format!("{first:020}.jsonl"))
}

/// Where the next segment is made ready before it gets its name: one name, so that a crash leaves at
/// most one such file.
pub(crate) fn next_path(dir: &Path) -> PathBuf {
    log_dir(dir).join("next")
}

/// Whether the segment whose first event is `first` holds nothing. One that cannot be looked at may
/// hold something.
pub(crate) fn is_empty(dir: &Path, first: u64) -> bool {
    fs::metadata(segment_path(dir, first)).is_ok_and(|data| data.len() == 0)
}

/// The first seqs of all segments, ascending. Files with other names are not the log's.
///
/// # Errors
/// When the folder cannot be listed; a folder that does not exist holds no segments.
pub fn segments(dir: &Path) -> Result<Vec<u64>, JournalError> {
    let folder = log_dir(dir);
    let listed = match fs::read_dir(&folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(JournalError::io("list", &folder)(error)),
    };
    let mut firsts = Vec::new();
    for entry in listed {
        let name = entry.map_err(JournalError::io("list", &folder))?.file_name();
        firsts.extend(name.to_str().and_then(parse_segment));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

fn parse_segment(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".jsonl")?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// The writer's note to its successor: the `head` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// How often the log was opened for writing.
    pub(crate) epoch: u64,
    /// A seq known to be durable, and its hash.
    pub(crate) seq: u64,
    pub(crate) hash: LineHash,
}

#[derive(Serialize, Deserialize)]
struct NoteText {
    epoch: u64,
    seq: u64,
    hash: String,
}

fn note_path(dir: &Path) -> PathBuf {
    dir.join("head")
}

/// Reads the note. A missing or unreadable one is `None`: it only adds to what the chain proves.
pub(crate) fn read_note(dir: &Path) -> Result<Option<Note>, JournalError> {
    let path = note_path(dir);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(JournalError::io("read", &path)(error)),
    };
    let note = serde_json::from_slice::<NoteText>(&text).ok().and_then(|note| {
        let hash = LineHash::parse(note.hash.as_bytes())?;
        Some(Note { epoch: note.epoch, seq: note.seq, hash })
    });
    if note.is_none() {
        tracing::warn!(path = %path.display(), "the head note is unreadable and is written anew");
    }
    Ok(note)
}

/// When the note was written; `None` where there is none.
pub(crate) fn note_time(dir: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(note_path(dir)).and_then(|data| data.modified()).ok()
}

/// Replaces the note, durably.
pub(crate) fn write_note(dir: &Path, epoch: u64, head: &Head) -> Result<(), JournalError> {
    let path = note_path(dir);
    let text = NoteText { epoch, seq: head.seq, hash: head.hash.to_string() };
    let text = serde_json::to_vec(&text)
        .map_err(|error| JournalError::io("write", &path)(io::Error::other(error)))?;
    replace(&path, &text).map_err(JournalError::io("write", &path))
}

/// Writes beside, syncs, renames: the file is whole before and after a crash.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Makes names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

/// Creates a folder with its parents, readable by its owner only, and makes its name durable.
pub(crate) fn create_dir(dir: &Path) -> Result<(), JournalError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    created.map_err(JournalError::io("create", dir))?;
    match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync_dir(parent).map_err(JournalError::io("sync", parent)),
        None => Ok(()),
    }
}
