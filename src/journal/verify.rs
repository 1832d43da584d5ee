//! Judging a log: every line, every join between segments, and what the writer noted.
//!
//! It never changes anything and needs no lock.

use std::fs::File;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;

use super::disk;
use super::error::{Finding, JournalError};
use super::layout::{self, Note};
use super::lines::{Lines, Step};
use super::{TAIL_BYTES_MAX, error};
use crate::event::chain::{self, Head, LineFault, LineHash};
use crate::event::envelope::{LINE_BYTES_MAX, Record};

/// Threads that check segments side by side; beyond four the memory bus is what they share.
const THREADS_MAX: usize = 4;

/// A log that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How many events it holds.
    pub events: u64,
    /// The first event's time.
    pub first_at: Option<Timestamp>,
    /// Where it ends.
    pub head: Head,
    /// Its segments: first seq, and bytes of whole lines.
    pub segments: Vec<(u64, u64)>,
    /// A line still being written, or torn by a crash; the next writer cuts it off.
    pub tail: Option<Tail>,
}

/// Bytes after the last whole line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// The segment.
    pub file: PathBuf,
    /// Where they start.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
}

/// Checks the whole log of the state directory `dir`, the JSON of all data included.
///
/// # Errors
/// [`JournalError::Damaged`] with the first place that is wrong.
pub fn verify(dir: &Path) -> Result<Report, JournalError> {
    let note = layout::read_note(dir)?;
    survey(dir, &Rules { deep: true, known: None, note: note.as_ref() })
}

/// What to check besides the chain.
pub(crate) struct Rules<'a> {
    /// Whether to parse all data.
    pub(crate) deep: bool,
    /// Which events may occur; all where none is given.
    pub(crate) known: Option<fn(&str, u32) -> bool>,
    /// What the last writer noted.
    pub(crate) note: Option<&'a Note>,
}

/// Checks all segments, side by side, and then that they join.
pub(crate) fn survey(dir: &Path, rules: &Rules<'_>) -> Result<Report, JournalError> {
    let firsts = layout::segments(dir)?;
    // Only where the log ends can a crash have torn a line; a segment that holds nothing is no end.
    let end = firsts.iter().rposition(|first| !layout::is_empty(dir, *first)).unwrap_or(0);
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(first) = firsts.get(index) else { return done };
            let last = index >= end;
            let checked = check_segment(&layout::segment_path(dir, *first), *first, last, rules);
            let failed = checked.is_err();
            done.push((index, checked));
            if failed {
                // Later segments cannot hold the first damage, earlier ones are already taken.
                next.store(firsts.len(), Ordering::Relaxed);
            }
        }
    };
    let mut checked = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(firsts.len())).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            match other.join() {
                Ok(part) => done.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    checked.sort_by_key(|(index, _)| *index);
    join(dir, checked.into_iter().map(|(_, segment)| segment), rules.note)
}

/// One segment's result.
struct Checked {
    path: PathBuf,
    first: u64,
    /// The first line's `prev` and time.
    start: Option<(LineHash, Timestamp)>,
    head: Option<Head>,
    bytes: u64,
    tail: u64,
}

impl Checked {
    fn is_empty(&self) -> bool {
        self.head.is_none() && self.bytes == 0 && self.tail == 0
    }
}

fn join(
    dir: &Path,
    segments: impl Iterator<Item = Result<Checked, JournalError>>,
    note: Option<&Note>,
) -> Result<Report, JournalError> {
    let mut report =
        Report { events: 0, first_at: None, head: Head::EMPTY, segments: Vec::new(), tail: None };
    let mut end = (layout::log_dir(dir), 0);
    for segment in segments {
        let segment = segment?;
        let head = report.head;
        let damage = |finding| JournalError::damage(&segment.path, 1, 0, finding);
        // Made for an event that then went into the segment before it: earlier versions left that
        // behind on a full disk.
        if segment.first <= head.seq && segment.is_empty() {
            continue;
        }
        if segment.first != head.seq + 1 {
            return Err(damage(Finding::Gap { expected: head.seq + 1, found: segment.first }));
        }
        if let Some((prev, at)) = segment.start {
            let fault = if prev != head.hash {
                Some(LineFault::Prev { expected: head.hash, found: prev })
            } else {
                let last = head.at.filter(|last| at < *last);
                last.map(|last| LineFault::Time { last, found: at })
            };
            if let Some(fault) = fault {
                return Err(damage(Finding::Line(fault)));
            }
            report.first_at = report.first_at.or(Some(at));
        }
        report.head = segment.head.unwrap_or(head);
        report.events = report.head.seq;
        report.segments.push((segment.first, segment.bytes));
        if segment.tail > 0 {
            let (file, offset) = (segment.path.clone(), segment.bytes);
            report.tail = Some(Tail { file, offset, bytes: segment.tail });
        }
        end = (segment.path, segment.bytes);
    }
    match note {
        Some(note) if report.head.seq < note.seq => {
            let found = report.head.seq;
            let finding = Finding::Short { expected: note.seq, hash: note.hash, found };
            Err(JournalError::damage(&end.0, 1, end.1, finding))
        }
        _ => Ok(report),
    }
}

fn check_segment(
    path: &Path,
    first: u64,
    last: bool,
    rules: &Rules<'_>,
) -> Result<Checked, JournalError> {
    let mut lines = Lines::open(path, 0).map_err(JournalError::io("open", path))?;
    let mut done =
        Checked { path: path.to_owned(), first, start: None, head: None, bytes: 0, tail: 0 };
    loop {
        let finding = match lines.advance().map_err(JournalError::io("read", path))? {
            Step::End => return Ok(done),
            Step::Partial(bytes) => Finding::Unterminated { bytes },
            Step::TooLong => Finding::TooLong { limit: LINE_BYTES_MAX },
            Step::Line => match check_line(&lines, &mut done, rules) {
                Ok(()) => {
                    done.bytes = lines.next_offset();
                    continue;
                }
                Err(Verdict::Stop(error)) => return Err(error),
                Err(Verdict::Bad(finding)) => finding,
            },
        };
        if last && let Some(tail) = torn(path, done.bytes)? {
            done.tail = tail;
            return Ok(done);
        }
        let line = done.head.map_or(0, |head| head.seq + 1 - first) + 1;
        return Err(JournalError::damage(path, line, done.bytes, finding));
    }
}

enum Verdict {
    Bad(Finding),
    Stop(JournalError),
}

fn check_line(lines: &Lines, done: &mut Checked, rules: &Rules<'_>) -> Result<(), Verdict> {
    let bad = |fault| Verdict::Bad(Finding::Line(fault));
    let record = chain::verify_alone(lines.line()).map_err(bad)?;
    // The hash before a segment's first line is only known to its neighbour; `join` checks it.
    let before = Head { seq: done.first - 1, hash: record.prev, at: None };
    chain::follows(&record, &done.head.unwrap_or(before)).map_err(bad)?;
    let place = |finding| {
        Verdict::Stop(JournalError::damage(&done.path, lines.number(), lines.offset(), finding))
    };
    if let Some(note) = rules.note.filter(|note| note.seq == record.seq && note.hash != record.hash)
    {
        let (seq, expected, found) = (note.seq, note.hash, record.hash);
        return Err(place(Finding::Rewritten { seq, expected, found }));
    }
    if rules.deep
        && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(record.data)
    {
        return Err(place(Finding::Data { reason: error.to_string() }));
    }
    if rules.known.is_some_and(|known| !known(record.type_, record.v)) {
        return Err(Verdict::Stop(unknown(&done.path, lines.number(), &record)));
    }
    done.start = done.start.or(Some((record.prev, record.at)));
    done.head = Some(Head::after(&record));
    Ok(())
}

fn unknown(file: &Path, line: u64, record: &Record<'_>) -> error::JournalError {
    let (seq, type_, v) = (record.seq, record.type_.to_owned(), record.v);
    JournalError::Unknown { file: file.to_owned(), line, seq, type_, v }
}

/// The length of what follows byte `offset` if a crash can have left it there: no longer than a
/// batch, and without a whole line in it. A whole line after a broken one was durable before the
/// broken one could have been torn, so that is damage: `None`.
fn torn(path: &Path, offset: u64) -> Result<Option<u64>, JournalError> {
    let read = || -> std::io::Result<Option<Vec<u8>>> {
        let file = File::open(path)?;
        let length = file.metadata()?.len().saturating_sub(offset);
        if length > TAIL_BYTES_MAX {
            return Ok(None);
        }
        let mut rest = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let read = disk::read_at(&file, &mut rest, offset)?;
        rest.truncate(read);
        Ok(Some(rest))
    };
    let Some(rest) = read().map_err(JournalError::io("read", path))? else { return Ok(None) };
    // Not only at line starts: the newline before a whole line may be what was damaged.
    let whole = memchr::memmem::find_iter(&rest, "{\"seq\":").any(|start| {
        let line = &rest[start..];
        let end = memchr::memchr(b'\n', line);
        end.is_some_and(|end| chain::verify_alone(&line[..end]).is_ok())
    });
    Ok((!whole).then_some(rest.len() as u64))
}
