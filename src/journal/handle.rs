//! The handle through which everything else appends.
//!
//! It never writes itself: it hands drafts to the writer's thread and waits for the disk.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};

use super::error::{AppendError, JournalError};
use super::open::{self, Opened, Options};
use super::writer::{Message, Outcome, Request, Waiter};
use crate::event::chain::{Head, LineHash};
use crate::event::envelope::Draft;

/// Where a draft landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Its place in the log.
    pub seq: u64,
    /// Its line's hash.
    pub hash: LineHash,
    /// Its recorded time.
    pub at: Timestamp,
}

/// A log open for appending. Clones share one writer; the last one dropped closes the log.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    queue: SyncSender<Message>,
    head: watch::Receiver<Head>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// Takes the writer's lock, checks the log, cuts off a torn tail and starts the writer.
    ///
    /// # Errors
    /// When another process writes the log, when it is damaged (nothing is changed then), when it
    /// holds events this trueup does not know, or when the disk refuses.
    pub fn open(dir: &Path, options: &Options) -> Result<(Self, Opened), JournalError> {
        Self::open_on(Box::new(super::disk::HostDisk), dir, options)
    }

    pub(super) fn open_on(
        disk: Box<dyn super::disk::Disk>,
        dir: &Path,
        options: &Options,
    ) -> Result<(Self, Opened), JournalError> {
        let (writer, head, opened) = open::open(disk, dir, options)?;
        let (queue, waiting) = mpsc::sync_channel(super::QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(&waiting))
            .map_err(JournalError::io("start the writer of", dir))?;
        let thread = Mutex::new(Some(thread));
        let inner = Inner { dir: dir.to_owned(), queue, head, thread };
        Ok((Self { inner: Arc::new(inner) }, opened))
    }

    /// Appends the drafts, in order and next to each other, and waits until they are durable.
    ///
    /// # Errors
    /// Then none of them is in the log.
    pub fn append(&self, now: Timestamp, drafts: Vec<Draft>) -> Outcome {
        self.wait(now, drafts, false)
    }

    /// Like [`Journal::append`], and may use the space set aside for a full disk: for the events
    /// that say so and the outcomes of what is already under way, and for nothing else.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn append_urgent(&self, now: Timestamp, drafts: Vec<Draft>) -> Outcome {
        self.wait(now, drafts, true)
    }

    /// Like [`Journal::append`], for tasks. The drafts are handed over at once; dropping the future
    /// does not take them back.
    pub fn append_async(
        &self,
        now: Timestamp,
        drafts: Vec<Draft>,
    ) -> impl Future<Output = Outcome> + Send + use<> {
        self.task(now, drafts, false)
    }

    /// Like [`Journal::append_urgent`], for tasks.
    pub fn append_urgent_async(
        &self,
        now: Timestamp,
        drafts: Vec<Draft>,
    ) -> impl Future<Output = Outcome> + Send + use<> {
        self.task(now, drafts, true)
    }

    /// Where the log durably stands.
    #[must_use]
    pub fn head(&self) -> Head {
        *self.inner.head.borrow()
    }

    /// The head, with news of every change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Head> {
        self.inner.head.clone()
    }

    /// The state directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Writes what is queued, trims the last segment and releases the lock; later appends on clones
    /// are refused. Dropping the last clone does the same.
    pub fn close(self) {
        self.inner.close();
    }

    fn wait(&self, now: Timestamp, drafts: Vec<Draft>, urgent: bool) -> Outcome {
        let (sender, answer) = mpsc::sync_channel(1);
        self.send(Request { now, drafts, urgent, waiter: Waiter::Thread(sender) });
        answer.recv().unwrap_or(Err(AppendError::Closed))
    }

    fn task(
        &self,
        now: Timestamp,
        drafts: Vec<Draft>,
        urgent: bool,
    ) -> impl Future<Output = Outcome> + Send + use<> {
        let (sender, answer) = oneshot::channel();
        self.send(Request { now, drafts, urgent, waiter: Waiter::Task(sender) });
        async move { answer.await.unwrap_or(Err(AppendError::Closed)) }
    }

    fn send(&self, request: Request) {
        // Without a writer the request comes back and is dropped, and with it the sender of the
        // answer: the waiter sees that as closed.
        if self.inner.queue.send(Message::Append(request)).is_err() {
            tracing::debug!("an append came after the log was closed");
        }
    }
}

impl Inner {
    fn close(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        if self.queue.send(Message::Close).is_err() {
            tracing::debug!("the log's writer had ended before it was closed");
        }
        if thread.join().is_err() {
            tracing::error!("the log's writer panicked");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}
