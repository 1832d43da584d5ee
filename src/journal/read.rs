//! Reading the log: forward from a seq or a position, in bounded memory, also while it is written.
//!
//! It never needs a lock, and hands out no line whose hash it has not checked.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use notify::Watcher as _;

use super::error::{Finding, JournalError};
use super::layout;
use super::lines::{Lines, Step};
use crate::event::chain::{self, Head};
use crate::event::envelope::{LINE_BYTES_MAX, Record};

/// How long a [`Follower`] goes without looking, should the filesystem report no changes (network
/// filesystems do not).
const POLL: Duration = Duration::from_millis(500);

/// Where a line starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The segment, by its first seq.
    pub segment: u64,
    /// Byte in the segment.
    pub offset: u64,
}

/// A line as read.
#[derive(Debug)]
pub struct StoredLine<'a> {
    /// The parsed envelope.
    pub record: Record<'a>,
    /// The exact bytes, without the newline.
    pub bytes: &'a [u8],
    /// Where it stands.
    pub position: Position,
}

/// A log to read.
#[derive(Debug, Clone)]
pub struct Reader {
    dir: PathBuf,
}

impl Reader {
    /// The log of the state directory `dir`; it may not exist yet.
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Starts at event `seq`, or at the end of the log if that is nearer.
    ///
    /// # Errors
    /// When the log cannot be listed or does not reach back to `seq`.
    pub fn from(&self, seq: u64) -> Result<Cursor, JournalError> {
        let seq = seq.max(1);
        let firsts = layout::segments(&self.dir)?;
        if let Some(found) = firsts.first().filter(|first| **first > seq) {
            let path = layout::segment_path(&self.dir, *found);
            let finding = Finding::Gap { expected: 1, found: *found };
            return Err(JournalError::damage(&path, 1, 0, finding));
        }
        // A segment that holds nothing may be a misplaced one; the one before it leads on.
        let start = firsts.iter().rev().filter(|first| **first <= seq);
        let mut start = start.filter(|first| !layout::is_empty(&self.dir, **first));
        let first = start.next().or(firsts.first()).copied().unwrap_or(1);
        let mut cursor = self.cursor(Position { segment: first, offset: 0 }, first);
        cursor.from = seq;
        Ok(cursor)
    }

    /// Starts at event `from`, going forward from event `seq`, which stands at `position`.
    #[must_use]
    pub fn at(&self, position: Position, seq: u64, from: u64) -> Cursor {
        let mut cursor = self.cursor(position, seq);
        cursor.from = from.max(seq);
        cursor
    }

    fn cursor(&self, position: Position, seq: u64) -> Cursor {
        let before = Before { seq: seq - 1, head: (seq == 1).then_some(Head::EMPTY) };
        Cursor { dir: self.dir.clone(), position, lines: None, before, from: seq }
    }
}

/// What is known of the line before the next one; its hash only once one line was read.
#[derive(Debug, Clone, Copy)]
struct Before {
    seq: u64,
    head: Option<Head>,
}

/// A place in the log that moves forward.
pub struct Cursor {
    dir: PathBuf,
    /// The segment being read, and where in it reading began.
    position: Position,
    lines: Option<Lines>,
    before: Before,
    /// Lines before this one are read but not handed out.
    from: u64,
}

impl Cursor {
    /// The next event; `None` at the end of the log, after which more may come.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] with the place.
    pub fn read(&mut self) -> Result<Option<StoredLine<'_>>, JournalError> {
        if self.ready()? { self.take() } else { Ok(None) }
    }

    /// The seq of the event handed out last, or of the one before the start.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.before.seq
    }

    /// Where the log stood after the event handed out last; none before the first.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.before.head
    }

    /// Moves to the next line to hand out; whether there is one.
    fn ready(&mut self) -> Result<bool, JournalError> {
        while self.step()? {
            if self.before.seq + 1 >= self.from {
                return Ok(true);
            }
            self.take()?;
        }
        Ok(false)
    }

    /// Moves to the next line; whether there is one.
    fn step(&mut self) -> Result<bool, JournalError> {
        loop {
            // The usual case, without any name being made.
            if let Some(lines) = &mut self.lines
                && lines.advance().is_ok_and(|step| step == Step::Line)
            {
                return Ok(true);
            }
            let path = self.path();
            let Some(lines) = self.open(&path)? else { return Ok(false) };
            let mut step = lines.advance().map_err(JournalError::io("read", &path))?;
            let mut next = None;
            if step != Step::Line {
                // The writer may have added lines between our read and its turn to the next
                // segment, so once there is a next one, this one is read again.
                next = self.following()?;
                if let (Some(_), Some(lines)) = (next, &mut self.lines) {
                    step = lines.advance().map_err(JournalError::io("read", &path))?;
                }
            }
            match (step, next) {
                (Step::Line, _) => return Ok(true),
                (Step::TooLong, _) => {
                    return Err(self.damage(&path, Finding::TooLong { limit: LINE_BYTES_MAX }));
                }
                (Step::Partial(bytes), Some(_)) => {
                    return Err(self.damage(&path, Finding::Unterminated { bytes }));
                }
                (Step::End, Some(next)) => self.turn(next)?,
                (Step::End | Step::Partial(_), None) => return Ok(false),
            }
        }
    }

    fn path(&self) -> PathBuf {
        layout::segment_path(&self.dir, self.position.segment)
    }

    fn open(&mut self, path: &Path) -> Result<Option<&mut Lines>, JournalError> {
        if self.lines.is_none() {
            match Lines::open(path, self.position.offset) {
                Ok(lines) => self.lines = Some(lines),
                // A log that has no events yet has no segment either.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.is_fresh() => {}
                Err(error) => return Err(JournalError::io("open", path)(error)),
            }
        }
        Ok(self.lines.as_mut())
    }

    fn is_fresh(&self) -> bool {
        self.position == Position { segment: 1, offset: 0 }
    }

    /// The current line, checked against what came before it.
    fn take(&mut self) -> Result<Option<StoredLine<'_>>, JournalError> {
        let Some(lines) = &self.lines else { return Ok(None) };
        let (segment, offset, bytes) = (self.position.segment, lines.offset(), lines.line());
        let checked = chain::verify_alone(bytes).and_then(|record| {
            let unknown = Head { seq: self.before.seq, hash: record.prev, at: None };
            chain::follows(&record, &self.before.head.unwrap_or(unknown))?;
            Ok(record)
        });
        match checked {
            Ok(record) => {
                self.before = Before { seq: record.seq, head: Some(Head::after(&record)) };
                let position = Position { segment, offset };
                Ok(Some(StoredLine { record, bytes, position }))
            }
            Err(fault) => {
                let line = self.before.seq + 2 - segment;
                Err(JournalError::damage(&self.path(), line, offset, Finding::Line(fault)))
            }
        }
    }

    /// The segment after the current one, but for a misplaced one that holds nothing.
    fn following(&self) -> Result<Option<u64>, JournalError> {
        let here = self.position.segment;
        let misplaced = |first: u64| first <= self.before.seq && layout::is_empty(&self.dir, first);
        let firsts = layout::segments(&self.dir)?.into_iter();
        Ok(firsts.skip_while(|first| *first <= here).find(|first| !misplaced(*first)))
    }

    fn turn(&mut self, next: u64) -> Result<(), JournalError> {
        let expected = self.before.seq + 1;
        if next != expected {
            let path = layout::segment_path(&self.dir, next);
            return Err(JournalError::damage(&path, 1, 0, Finding::Gap { expected, found: next }));
        }
        self.position = Position { segment: next, offset: 0 };
        self.lines = None;
        Ok(())
    }

    /// Damage behind the last whole line.
    fn damage(&self, path: &Path, finding: Finding) -> JournalError {
        let line = self.before.seq + 2 - self.position.segment;
        let offset = self.lines.as_ref().map_or(0, Lines::next_offset);
        JournalError::damage(path, line, offset, finding)
    }
}

/// A [`Cursor`] that waits for what is not written yet.
pub struct Follower {
    cursor: Cursor,
    changed: Receiver<()>,
    /// Kept: dropping it ends the reports.
    _watcher: notify::RecommendedWatcher,
}

impl Follower {
    /// Follows `cursor`.
    ///
    /// # Errors
    /// When the log's folder cannot be watched; it must exist.
    pub fn new(cursor: Cursor) -> Result<Self, JournalError> {
        let folder = layout::log_dir(&cursor.dir);
        let (sender, changed) = mpsc::sync_channel(1);
        let failed = |error| JournalError::io("watch", &folder)(std::io::Error::other(error));
        let mut watcher =
            notify::recommended_watcher(move |seen: notify::Result<notify::Event>| {
                // Reading the log is no news, least of all one's own.
                if seen.is_ok_and(|seen| seen.kind.is_access()) {
                    return;
                }
                // A full channel already holds the news.
                if let Err(mpsc::TrySendError::Disconnected(())) = sender.try_send(()) {
                    tracing::trace!("nobody follows the log any more");
                }
            })
            .map_err(failed)?;
        watcher.watch(&folder, notify::RecursiveMode::NonRecursive).map_err(failed)?;
        Ok(Self { cursor, changed, _watcher: watcher })
    }

    /// The next event; waits for it no longer than `patience`, then `None`.
    ///
    /// # Errors
    /// As [`Cursor::read`].
    pub fn wait(&mut self, patience: Duration) -> Result<Option<StoredLine<'_>>, JournalError> {
        let deadline = Instant::now() + patience;
        while !self.cursor.ready()? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            if self.changed.recv_timeout(left.min(POLL))
                == Err(mpsc::RecvTimeoutError::Disconnected)
            {
                tracing::warn!("the log's folder is no longer watched");
                return Ok(None);
            }
        }
        self.cursor.take()
    }
}
