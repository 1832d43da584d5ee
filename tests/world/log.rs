//! A log in memory, in the real format, with the real chain; it can be made to fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use trueup::event::body::LogOpened;
use trueup::event::chain::{Head, verify_line};
use trueup::event::{Entry, Event, Recorded};
use trueup::model::{Digest, Fault};
use trueup::port::{BlobStore, BoxFuture, Clock, Journal, JournalFault};
use trueup::state::State;

use super::FakeClock;

/// A log in memory.
pub(crate) struct MemoryLog {
    clock: Arc<FakeClock>,
    inner: Mutex<Inner>,
}

struct Inner {
    lines: Vec<String>,
    head: Head,
    epoch: u64,
    full: bool,
    /// Appends that still fit before it is full.
    room: Option<usize>,
    // What entries brought, by digest.
    blobs: BTreeMap<Digest, Arc<[u8]>>,
}

impl BlobStore for MemoryLog {
    fn get(&self, digest: Digest) -> BoxFuture<'_, Result<Option<Vec<u8>>, Fault>> {
        let found = self.inner.lock().unwrap().blobs.get(&digest).map(|content| content.to_vec());
        Box::pin(async { Ok(found) })
    }
}

impl MemoryLog {
    pub(crate) fn new(clock: Arc<FakeClock>) -> Self {
        let inner = Inner {
            lines: Vec::new(),
            head: Head::EMPTY,
            epoch: 0,
            full: false,
            room: None,
            blobs: BTreeMap::new(),
        };
        Self { clock, inner: Mutex::new(inner) }
    }

    /// Opens it for a new writer.
    pub(crate) async fn open(&self) {
        let epoch = {
            let mut inner = self.inner.lock().unwrap();
            inner.epoch += 1;
            inner.epoch
        };
        let opened = LogOpened { version: "0".into(), epoch, host: "world".into() };
        self.append(vec![Entry::new(Event::LogOpened(opened))]).await.unwrap();
    }

    /// Makes every append fail for want of space, or not.
    pub(crate) fn set_full(&self, full: bool) {
        let mut inner = self.inner.lock().unwrap();
        (inner.full, inner.room) = (full, None);
    }

    /// Makes it full once `appends` more were taken.
    pub(crate) fn full_after(&self, appends: usize) {
        self.inner.lock().unwrap().room = Some(appends);
    }

    /// Everything in it, checked line by line.
    pub(crate) fn events(&self) -> Vec<Recorded> {
        let inner = self.inner.lock().unwrap();
        let mut head = Head::EMPTY;
        let mut events = Vec::new();
        for line in &inner.lines {
            let record = verify_line(line.as_bytes(), &head).unwrap();
            head = Head::after(&record);
            events.push(Recorded::open(&record).unwrap());
        }
        events
    }

    /// The fold of everything in it.
    pub(crate) fn replay(&self) -> State {
        let mut state = State::default();
        for event in self.events() {
            state.apply(&event);
        }
        state
    }

    /// The last lines, for a failed test.
    pub(crate) fn tail(&self, lines: usize) -> String {
        let inner = self.inner.lock().unwrap();
        inner.lines[inner.lines.len().saturating_sub(lines)..].join("\n")
    }
}

impl Journal for MemoryLog {
    fn append(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<Vec<Recorded>, JournalFault>> {
        let full = {
            let mut inner = self.inner.lock().unwrap();
            inner.full |= inner.room == Some(0);
            inner.room = inner.room.map(|room| room.saturating_sub(1));
            inner.full
        };
        if full {
            let message = "the disk is full".to_owned();
            return Box::pin(async { Err(JournalFault::Full { message }) });
        }
        self.write(entries)
    }

    fn head(&self) -> Head {
        self.inner.lock().unwrap().head
    }
}

/// The way to a [`MemoryLog`] for outcomes: the space set aside is there when nothing else is.
pub(crate) struct Reserve(pub(crate) Arc<MemoryLog>);

impl Journal for Reserve {
    fn append(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<Vec<Recorded>, JournalFault>> {
        self.0.write(entries)
    }

    fn head(&self) -> Head {
        self.0.head()
    }
}

impl MemoryLog {
    fn write(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<Vec<Recorded>, JournalFault>> {
        let mut inner = self.inner.lock().unwrap();
        let mut recorded = Vec::new();
        for entry in entries {
            let mut line = Vec::new();
            let draft = entry.draft().unwrap();
            let before = inner.head;
            inner.head = before.seal_into(&draft, self.clock.now(), &mut line).unwrap();
            let text = String::from_utf8(line).unwrap().trim_end().to_owned();
            // What is known is what can be read back, never what was meant.
            let record = verify_line(text.as_bytes(), &before).unwrap();
            recorded.push(Recorded::open(&record).unwrap());
            assert_eq!(recorded.last().unwrap().entry, entry, "an event reads back as another");
            inner.lines.push(text);
            let brought = entry.brought.0.iter();
            let brought = brought.map(|content| (Digest::of(content), Arc::clone(content)));
            inner.blobs.extend(brought);
        }
        Box::pin(async { Ok(recorded) })
    }
}
