//! The writer: one thread that turns waiting appends into one write and one sync.
//!
//! It never answers an append before its bytes are durable, and after a failure that leaves the
//! disk's content unknown it never writes again: a failed sync may have dropped the pages, and a
//! second sync that succeeds would say nothing about them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};

use super::disk::{self, Disk, Segment};
use super::error::AppendError;
use super::handle::Sealed;
use super::lock::Lock;
use super::{APPEND_BYTES_MAX, BATCH_BYTES_MAX, layout};
use crate::event::chain::Head;
use crate::event::envelope::Draft;

/// The answer to an append.
pub(super) type Outcome = Result<Vec<Sealed>, AppendError>;

/// Who waits for it.
pub(super) enum Waiter {
    Thread(SyncSender<Outcome>),
    Task(oneshot::Sender<Outcome>),
}

impl Waiter {
    pub(super) fn answer(self, outcome: Outcome) {
        let heard = match self {
            Self::Thread(sender) => sender.send(outcome).is_ok(),
            Self::Task(sender) => sender.send(outcome).is_ok(),
        };
        if !heard {
            tracing::debug!("nobody waits for this append any more");
        }
    }
}

/// One append.
pub(super) struct Request {
    pub(super) now: Timestamp,
    pub(super) drafts: Vec<Draft>,
    /// Whether it may use the reserve.
    pub(super) urgent: bool,
    pub(super) waiter: Waiter,
}

pub(super) enum Message {
    Append(Request),
    Close,
}

/// An append that was turned into lines and waits for the disk.
struct Waiting {
    request: Request,
    sealed: Vec<Sealed>,
}

/// Whether a batch is written on the space of the released reserve.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spend {
    Never,
    Reserve,
}

pub(super) struct Writer {
    pub(super) dir: PathBuf,
    pub(super) disk: Box<dyn Disk>,
    pub(super) lock: Lock,
    pub(super) epoch: u64,
    pub(super) segment: Box<dyn Segment>,
    pub(super) segment_path: PathBuf,
    /// Bytes of whole, durable lines in the segment.
    pub(super) offset: u64,
    pub(super) head: Head,
    pub(super) segment_bytes: u64,
    pub(super) reserve_bytes: u64,
    /// Whether the reserve stands ready.
    pub(super) reserved: bool,
    pub(super) poison: Option<Arc<str>>,
    pub(super) published: watch::Sender<Head>,
}

impl Writer {
    /// Serves appends until the journal is closed.
    pub(super) fn run(mut self, queue: &Receiver<Message>) {
        let mut buffer = Vec::new();
        let mut open = true;
        while open {
            let Ok(first) = queue.recv() else { break };
            let mut batch = Vec::new();
            let mut bytes = 0;
            let mut message = Some(first);
            while let Some(Message::Append(request)) = message {
                bytes += weight(&request.drafts);
                batch.push(request);
                message = if bytes < BATCH_BYTES_MAX { queue.try_recv().ok() } else { None };
            }
            open = message.is_none();
            self.commit(batch, &mut buffer, Spend::Never);
            // One very large append must not cost memory for ever.
            buffer.shrink_to(BATCH_BYTES_MAX);
        }
        self.close();
    }

    fn commit(&mut self, batch: Vec<Request>, buffer: &mut Vec<u8>, spend: Spend) {
        if batch.is_empty() {
            return;
        }
        if let Err(error) = self.may_write() {
            return refuse(batch, &error);
        }
        let batch = match spend {
            Spend::Never => self.keep_reserve(batch),
            Spend::Reserve => batch,
        };
        buffer.clear();
        let (waiting, head) = seal(batch, self.head, buffer);
        if waiting.is_empty() {
            return;
        }
        match self.write(buffer, &head) {
            Ok(()) => {
                self.published.send_replace(head);
                for Waiting { request, sealed } in waiting {
                    request.waiter.answer(Ok(sealed));
                }
            }
            Err(error @ AppendError::Full { .. }) => {
                let requests = waiting.into_iter().map(|waiting| waiting.request);
                let (urgent, normal): (Vec<_>, Vec<_>) =
                    requests.partition(|request| request.urgent && spend == Spend::Never);
                refuse(normal, &error);
                if !urgent.is_empty() {
                    self.release();
                    self.commit(urgent, buffer, Spend::Reserve);
                }
            }
            Err(error) => {
                refuse(waiting.into_iter().map(|waiting| waiting.request).collect(), &error);
            }
        }
    }

    /// Refuses when the journal is poisoned or has lost its place to another writer.
    fn may_write(&mut self) -> Result<(), AppendError> {
        if let Some(reason) = &self.poison {
            return Err(AppendError::Poisoned { reason: Arc::clone(reason) });
        }
        match self.lock.is_held() {
            Ok(true) => {}
            Ok(false) => return Err(self.poisoned("its lock file was removed or replaced")),
            Err(error) => return Err(self.poisoned(&format!("its lock cannot be read: {error}"))),
        }
        match self.segment.size() {
            Ok(size) if size == self.offset => Ok(()),
            Ok(size) => {
                let (path, offset) = (self.segment_path.display(), self.offset);
                let reason =
                    format!("{path} has {size} bytes, {offset} were written: another writer");
                Err(self.poisoned(&reason))
            }
            Err(error) => Err(self.poisoned(&format!("its segment cannot be read: {error}"))),
        }
    }

    fn poisoned(&mut self, reason: &str) -> AppendError {
        tracing::error!(dir = %self.dir.display(), reason, "the log takes no more events");
        let reason: Arc<str> = reason.into();
        self.poison = Some(Arc::clone(&reason));
        AppendError::Poisoned { reason }
    }

    /// While the reserve is gone, ordinary appends are refused until it can be set aside again.
    fn keep_reserve(&mut self, batch: Vec<Request>) -> Vec<Request> {
        if self.reserved || self.reserve_bytes == 0 {
            return batch;
        }
        match self.disk.reserve(&reserve_path(&self.dir), self.reserve_bytes) {
            Ok(()) => {
                self.reserved = true;
                batch
            }
            Err(error) => {
                tracing::debug!(%error, "no space for the reserve yet");
                let (urgent, normal) = batch.into_iter().partition(|request| request.urgent);
                refuse(normal, &AppendError::Full { dir: self.dir.clone() });
                // A reserve that is only half there would keep the space from those who may use it.
                self.release();
                urgent
            }
        }
    }

    fn release(&mut self) {
        if self.reserve_bytes == 0 {
            return;
        }
        self.reserved = false;
        if let Err(error) = self.disk.release(&reserve_path(&self.dir)) {
            tracing::warn!(%error, "the reserve cannot be released");
        }
    }

    /// Writes the batch and makes it durable. On an error the log ends where it ended before.
    fn write(&mut self, bytes: &[u8], head: &Head) -> Result<(), AppendError> {
        if self.offset > 0 && self.offset + bytes.len() as u64 > self.segment_bytes {
            self.rotate()?;
        }
        let mut written = 0;
        while written < bytes.len() {
            let offset = self.offset + written as u64;
            match self.segment.write_at(&bytes[written..], offset) {
                Ok(0) => {
                    return Err(self.failed("write", &io::Error::from(io::ErrorKind::WriteZero)));
                }
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if disk::is_full(&error) => return Err(self.take_back()),
                Err(error) => return Err(self.failed("write", &error)),
            }
        }
        if let Err(error) = self.segment.sync() {
            return Err(self.failed("sync", &error));
        }
        self.offset += bytes.len() as u64;
        self.head = *head;
        Ok(())
    }

    /// The disk is full: nothing was acknowledged, so what was written of the batch goes.
    fn take_back(&mut self) -> AppendError {
        match self.segment.truncate(self.offset) {
            Ok(()) => AppendError::Full { dir: self.dir.clone() },
            Err(error) => self.failed("take back a partial write to", &error),
        }
    }

    /// The disk's content is unknown. What was not acknowledged is cut off as well as can be, so
    /// that no reader takes pages from memory for events that are not on the disk.
    fn failed(&mut self, doing: &str, error: &io::Error) -> AppendError {
        let path = self.segment_path.display();
        let mut reason = format!("cannot {doing} {path}: {error}");
        if let Err(error) = self.segment.truncate(self.offset) {
            reason = format!("{reason}; cutting off what was not durable failed too: {error}");
        }
        self.poisoned(&reason)
    }

    /// Ends the segment and starts the next.
    fn rotate(&mut self) -> Result<(), AppendError> {
        let path = layout::segment_path(&self.dir, self.head.seq + 1);
        let next = match self.next_segment(&path) {
            Ok(next) => next,
            Err(error) if disk::is_full(&error) => return Err(self.unmade(&path)),
            // Nothing was written, but a disk that cannot create a file is not to be trusted.
            Err(error) => return Err(self.failed("create the segment after", &error)),
        };
        if let Err(error) = self.segment.truncate(self.offset) {
            tracing::warn!(%error, "the space behind a closed segment is not given back");
        }
        self.segment = next;
        self.segment_path = path;
        self.offset = 0;
        self.note();
        Ok(())
    }

    /// Makes the next segment ready beside the log, and only then part of it: what fails on the way
    /// must leave no segment behind, as a smaller append may still fit into the one before.
    fn next_segment(&self, path: &Path) -> io::Result<Box<dyn Segment>> {
        let beside = layout::next_path(&self.dir);
        self.disk.release(&beside)?;
        let segment = self.disk.open_segment(&beside)?;
        // With the reserve released there is no space for a whole segment either.
        if self.reserved || self.reserve_bytes == 0 {
            segment.allocate(self.segment_bytes)?;
        }
        self.disk.publish(&beside, path)?;
        Ok(segment)
    }

    /// There is no space for the next segment: what is there of it goes.
    fn unmade(&mut self, path: &Path) -> AppendError {
        let beside = layout::next_path(&self.dir);
        match self.disk.release(&beside).and_then(|()| self.disk.release(path)) {
            Ok(()) => AppendError::Full { dir: self.dir.clone() },
            Err(error) => self.failed("remove the unfinished segment after", &error),
        }
    }

    /// Tells the next writer how far the log is known to reach. It only adds to the chain's proof,
    /// so a failure is not one of the append.
    fn note(&self) {
        if let Err(error) = layout::write_note(&self.dir, self.epoch, &self.head) {
            tracing::warn!(%error, "the head note is not updated");
        }
    }

    fn close(self) {
        if self.poison.is_none() {
            if let Err(error) = self.segment.truncate(self.offset) {
                tracing::warn!(%error, "the space behind the last segment is not given back");
            }
            self.note();
        }
    }
}

/// Where the reserve lies.
pub(super) fn reserve_path(dir: &Path) -> PathBuf {
    dir.join("reserve")
}

/// About how many bytes the lines of these drafts take.
fn weight(drafts: &[Draft]) -> usize {
    /// The members besides data: hashes, time and names.
    const ENVELOPE: usize = 320;
    drafts.iter().map(|draft| draft.data.as_str().len() + ENVELOPE).sum()
}

/// Turns each append into lines, all or nothing; answers those that cannot be.
fn seal(batch: Vec<Request>, mut head: Head, buffer: &mut Vec<u8>) -> (Vec<Waiting>, Head) {
    let mut waiting = Vec::with_capacity(batch.len());
    for request in batch {
        let start = buffer.len();
        match seal_one(&request, head, buffer) {
            Ok((sealed, after)) => {
                head = after;
                waiting.push(Waiting { request, sealed });
            }
            Err(error) => {
                buffer.truncate(start);
                request.waiter.answer(Err(error));
            }
        }
    }
    (waiting, head)
}

fn seal_one(
    request: &Request,
    mut head: Head,
    buffer: &mut Vec<u8>,
) -> Result<(Vec<Sealed>, Head), AppendError> {
    let start = buffer.len();
    let mut sealed = Vec::with_capacity(request.drafts.len());
    for draft in &request.drafts {
        head = head.seal_into(draft, request.now, buffer).map_err(AppendError::Envelope)?;
        let at = head.at.unwrap_or(request.now);
        sealed.push(Sealed { seq: head.seq, hash: head.hash, at });
        let bytes = buffer.len() - start;
        if bytes > APPEND_BYTES_MAX {
            return Err(AppendError::TooLarge { bytes, limit: APPEND_BYTES_MAX });
        }
    }
    Ok((sealed, head))
}

fn refuse(batch: Vec<Request>, error: &AppendError) {
    for request in batch {
        request.waiter.answer(Err(error.clone()));
    }
}
