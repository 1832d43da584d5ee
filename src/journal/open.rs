//! Opening the log for writing: lock, check, cut a torn tail, make ready.
//!
//! It never cuts anything that could have been acknowledged, and what it cuts it keeps beside.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use tokio::sync::watch;

use super::blob::Blobs;
use super::disk::{self, Disk, Segment};
use super::error::JournalError;
use super::layout;
use super::lock::Lock;
use super::read::Reader;
use super::verify::{self, Report, Rules, Tail};
use super::writer::{self, Writer};
use super::{APPEND_BYTES_MAX, BATCH_BYTES_MAX, RESERVE_BYTES, SEGMENT_BYTES_MAX};
use crate::event::chain::{Head, LineHash};

/// Tails kept for one seq; more means that something tears the same line at every start.
const TAILS_MAX: u32 = 100;

/// How to open a log.
#[derive(Debug, Clone)]
pub struct Options {
    /// Segments are closed before they grow beyond this many bytes.
    pub segment_bytes: u64,
    /// Space set aside for a full disk, in bytes; 0 for none.
    pub reserve_bytes: u64,
    /// Whether this program knows an event's type in that version. A log that holds others was
    /// written by a newer one and is not appended to.
    pub known: fn(&str, u32) -> bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_BYTES_MAX, reserve_bytes: RESERVE_BYTES, known: |_, _| true }
    }
}

/// What was found at opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The last seq; 0 for a new log.
    pub last_seq: u64,
    /// The last line's hash.
    pub last_hash: LineHash,
    /// How often this log was opened for writing, this time included. Larger than any before.
    pub epoch: u64,
    /// What was cut off, to be recorded as an event.
    pub tail_cut: Option<TailCut>,
    /// Whether there was no space for the reserve: only urgent appends work until there is.
    pub full: bool,
}

/// A torn tail that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailCut {
    /// The segment.
    pub file: PathBuf,
    /// Where it now ends.
    pub offset: u64,
    /// How many bytes were cut.
    pub bytes: u64,
    /// Where they are kept.
    pub saved_to: PathBuf,
}

pub(super) fn open(
    disk: Box<dyn Disk>,
    dir: &Path,
    options: &Options,
) -> Result<(Writer, watch::Receiver<Head>, Opened), JournalError> {
    check(options)?;
    layout::create_dir(dir)?;
    layout::create_dir(&layout::log_dir(dir))?;
    let lock = Lock::acquire(dir)?;
    let note = layout::read_note(dir)?;
    let last_opened = layout::note_time(dir).zip(note.as_ref().map(|note| note.seq));
    let rules = Rules { deep: false, known: Some(options.known), note: note.as_ref() };
    let report = verify::survey(dir, &rules)?;
    let head = report.head;
    let tail_cut = report.tail.as_ref().map(|tail| cut(tail, head.seq + 1)).transpose()?;

    match Blobs::open(dir).sweep(&Reader::open(dir), last_opened) {
        Ok(0) => {}
        Ok(blobs) => tracing::info!(blobs, "removed what was stored for events that never came"),
        // They only take space.
        Err(error) => tracing::warn!(%error, "what no event names could not be removed"),
    }

    // Without a note (a log restored from a backup) the seq is larger than any count of openings,
    // as each one leaves an event.
    let epoch = note.map_or(head.seq, |note| note.epoch) + 1;
    // What a crash left of a segment that was being made.
    let unfinished = layout::next_path(dir);
    disk.release(&unfinished).map_err(JournalError::io("remove", &unfinished))?;
    let mut reserved = set_aside(disk.as_ref(), dir, options.reserve_bytes)?;
    if let Err(error) = layout::write_note(dir, epoch, &head) {
        if !matches!(&error, JournalError::Io { source, .. } if disk::is_full(source)) {
            return Err(error);
        }
        // To say that the disk is full, the log has to open on a full disk.
        give_back(disk.as_ref(), dir)?;
        reserved = false;
        layout::write_note(dir, epoch, &head)?;
    }
    lock.sign(epoch)?;
    let (segment, segment_path, offset) = last_segment(disk.as_ref(), dir, &report, options)?;
    let opened = Opened {
        last_seq: head.seq,
        last_hash: head.hash,
        epoch,
        tail_cut,
        full: !reserved && options.reserve_bytes > 0,
    };
    let (published, receiver) = watch::channel(head);
    let writer = Writer {
        dir: dir.to_owned(),
        disk,
        lock,
        epoch,
        segment,
        segment_path,
        offset,
        head,
        segment_bytes: options.segment_bytes,
        reserve_bytes: options.reserve_bytes,
        reserved,
        poison: None,
        published,
    };
    Ok((writer, receiver, opened))
}

fn check(options: &Options) -> Result<(), JournalError> {
    let least = (APPEND_BYTES_MAX + BATCH_BYTES_MAX) as u64;
    if options.segment_bytes > i64::MAX as u64 / 2 {
        let reason = format!("{} bytes is more than a file can hold", options.segment_bytes);
        return Err(JournalError::Option { option: "segment_bytes", reason });
    }
    if options.segment_bytes < least {
        tracing::debug!(options.segment_bytes, "a large batch may make a segment larger than this");
    }
    Ok(())
}

/// Whether the reserve stands ready.
fn set_aside(disk: &dyn Disk, dir: &Path, bytes: u64) -> Result<bool, JournalError> {
    let path = writer::reserve_path(dir);
    if bytes == 0 {
        return Ok(false);
    }
    match disk.reserve(&path, bytes) {
        Ok(()) => Ok(true),
        Err(error) if disk::is_full(&error) => give_back(disk, dir).map(|()| false),
        Err(error) => Err(JournalError::io("allocate", &path)(error)),
    }
}

fn give_back(disk: &dyn Disk, dir: &Path) -> Result<(), JournalError> {
    let path = writer::reserve_path(dir);
    disk.release(&path).map_err(JournalError::io("remove", &path))
}

type LastSegment = (Box<dyn Segment>, PathBuf, u64);

fn last_segment(
    disk: &dyn Disk,
    dir: &Path,
    report: &Report,
    options: &Options,
) -> Result<LastSegment, JournalError> {
    let (first, offset) = report.segments.last().copied().unwrap_or((1, 0));
    let path = layout::segment_path(dir, first);
    let segment = disk.open_segment(&path).map_err(JournalError::io("open", &path))?;
    match segment.allocate(options.segment_bytes) {
        Ok(()) => {}
        // Appends find out for themselves; being able to start and say so matters more.
        Err(error) if disk::is_full(&error) => tracing::warn!(%error, "no space to preallocate"),
        Err(error) => return Err(JournalError::io("allocate", &path)(error)),
    }
    Ok((segment, path, offset))
}

/// Keeps the tail beside its segment, then cuts it off; in this order, each step durable.
fn cut(tail: &Tail, seq: u64) -> Result<TailCut, JournalError> {
    let Tail { file, offset, bytes } = tail;
    let io = |doing| JournalError::io(doing, file);
    let read = fs::read(file).map_err(io("read"))?;
    let start = usize::try_from(*offset).unwrap_or(usize::MAX).min(read.len());
    let saved_to = save(file, seq, &read[start..])?;
    let segment = OpenOptions::new().write(true).open(file).map_err(io("open"))?;
    segment.set_len(*offset).and_then(|()| segment.sync_all()).map_err(io("cut"))?;
    Ok(TailCut { file: file.clone(), offset: *offset, bytes: *bytes, saved_to })
}

fn save(segment: &Path, seq: u64, tail: &[u8]) -> Result<PathBuf, JournalError> {
    let name = segment.file_name().unwrap_or_default().to_string_lossy();
    for attempt in 1..=TAILS_MAX {
        let suffix = if attempt == 1 { String::new() } else { format!(".{attempt}") };
        let path = segment.with_file_name(format!("{name}.tail-{seq}{suffix}"));
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = match created {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(JournalError::io("create", &path)(error)),
        };
        file.write_all(tail).map_err(JournalError::io("write", &path))?;
        file.sync_all().map_err(JournalError::io("sync", &path))?;
        let folder = segment.parent().unwrap_or(Path::new("."));
        layout::sync_dir(folder).map_err(JournalError::io("sync", folder))?;
        return Ok(path);
    }
    let error = io::Error::other(format!("{TAILS_MAX} tails of seq {seq} are kept already"));
    Err(JournalError::io("keep the torn tail of", segment)(error))
}
