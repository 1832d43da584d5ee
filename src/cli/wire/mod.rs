//! The wiring: from settings and folders to what the commands work with.
//!
//! It only puts things together; what they do is theirs.

mod crash;
mod engine;
mod key;
mod memory;
mod pair;
mod providers;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub(super) use engine::{Engine, engine, source};
use memory::Memory;
pub(super) use providers::{Wakes, backups, gpus, vault};

use super::exit::{CliError, ErrorKind};
use crate::event::{Entry, Event, Recorded, body};
use crate::journal::index::Index;
use crate::journal::{Journal, LogPort, Opened, Options, Reader};
use crate::port::{self, BoxFuture, Clock};
use crate::state::State;

/// Time blocking threads get at the end of a command: what hangs there is left to the kernel.
pub(super) const LEFTOVERS: Duration = Duration::from_secs(1);

/// Time there is at the end to take away what a backup has in a guest: libvirt ends a job within a
/// moment, and waiting for a guest's agent that hangs would delay a shutdown of the host.
pub(super) const CLOSING: Duration = Duration::from_secs(5);

/// Digits by which logs are told apart where several hosts write to one cluster.
const LOG_MARK_DIGITS: usize = 12;

/// Name of the state among the index's snapshots.
pub(super) const STATE_VIEW: &str = "state";
/// Version of the state's form; to be raised with every change of `state::State`.
pub(super) const STATE_VIEW_VERSION: u32 = 38;

/// The machine's clocks.
#[derive(Debug)]
pub(super) struct HostClock(Instant);

impl Default for HostClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for HostClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Up to where a log is folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum Until {
    /// All of it.
    End,
    /// Up to and with this event.
    Seq(u64),
    /// Up to and with this time.
    Time(Timestamp),
}

impl Until {
    pub(super) fn covers(self, seq: u64, at: Timestamp) -> bool {
        match self {
            Self::End => true,
            Self::Seq(last) => seq <= last,
            Self::Time(last) => at <= last,
        }
    }
}

/// Shows `visit` every event of the log in `dir` up to `until`, opened.
pub(super) fn each_event(
    dir: &Path,
    until: Until,
    mut visit: impl FnMut(&Recorded),
) -> Result<(), CliError> {
    let mut cursor = Reader::open(dir).from(1)?;
    while let Some(line) = cursor.read()? {
        if !until.covers(line.record.seq, line.record.at) {
            return Ok(());
        }
        visit(&Recorded::open(&line.record)?);
    }
    Ok(())
}

/// The fold of the log in `dir` up to `until`, from the newest snapshot on that helps. Without one,
/// or beside a process that has the index, the whole log is folded and comes to the same.
pub(super) fn fold(dir: &Path, until: Until) -> Result<State, CliError> {
    let reader = Reader::open(dir);
    let index = Index::peek(dir, &reader);
    let folded = memory::fold_from(&reader, &index, until);
    index.close();
    folded
}

/// The fold of the whole log, which must hold something.
pub(super) fn known(dir: &Path) -> Result<State, CliError> {
    let state = fold(dir, Until::End)?;
    if state.seq == 0 {
        let message = format!("there is no log in {}", dir.display());
        return Err(CliError::input(message)
            .hint("name the state directory with --state-dir, or start the daemon: trueup run"));
    }
    Ok(state)
}

/// What tells the log in `dir` from all others: some digits of the hash of its first event. A copy of it has
/// the same.
pub(super) fn log_mark(dir: &Path) -> Result<String, CliError> {
    let mut cursor = Reader::open(dir).from(1)?;
    let first = cursor.read()?.map(|line| line.record.hash.to_string());
    let hash = first.ok_or_else(|| {
        let message = format!("the log in {} has no first event", dir.display());
        CliError::new(ErrorKind::Machine, message)
    })?;
    Ok(hash.chars().take(LOG_MARK_DIGITS).collect())
}

/// Whether this program can read an event.
pub(super) fn knows(type_: &str, v: u32) -> bool {
    Event::TYPES.contains(&(type_, v))
}

/// A log opened for writing, with the fold of it.
pub(super) struct Written {
    /// The log.
    pub(super) journal: Journal,
    /// The log behind its port.
    pub(super) port: Arc<dyn port::Journal>,
    /// The same, for outcomes: it may use the space set aside for a full disk.
    pub(super) urgent: Arc<dyn port::Journal>,
    /// The fold, the opening included.
    pub(super) state: State,
    /// What makes the next start faster.
    pub(super) memory: Memory,
}

impl Written {
    /// Keeps `state` for the next start and closes the log.
    pub(super) fn close(self) {
        drop(self.port);
        self.journal.close();
        self.memory.keep(&self.state);
    }
}

/// Opens the log in `dir` for writing, as `host`, and says so in it.
pub(super) async fn open_log(
    dir: &Path,
    host: &str,
    clock: Arc<dyn Clock>,
) -> Result<Written, CliError> {
    let options = Options { known: knows, ..Options::default() };
    let (journal, opened) = Journal::open(dir, &options)?;
    let port = LogPort::new(journal.clone(), clock);
    let urgent: Arc<dyn port::Journal> = Arc::new(port.urgent());
    let port: Arc<dyn port::Journal> = Arc::new(port);
    let (memory, mut state) = Memory::recall(dir)?;
    for recorded in append(&*port, opening(&opened, host)).await? {
        state.apply(&recorded);
    }
    Ok(Written { journal, port, urgent, state, memory })
}

fn opening(opened: &Opened, host: &str) -> Vec<Entry> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let first = body::LogOpened { version, epoch: opened.epoch, host: host.to_owned() };
    let name = |path: &Path| {
        path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let cut = opened.tail_cut.as_ref().map(|cut| {
        Event::LogTailCut(body::LogTailCut {
            file: name(&cut.file),
            offset: cut.offset,
            bytes: cut.bytes,
            kept_in: name(&cut.saved_to),
        })
    });
    std::iter::once(Event::LogOpened(first)).chain(cut).map(Entry::new).collect()
}

/// Appends, or says why not.
pub(super) async fn append(
    port: &dyn port::Journal,
    entries: Vec<Entry>,
) -> Result<Vec<Recorded>, CliError> {
    port.append(entries).await.map_err(|fault| CliError::new(ErrorKind::Machine, fault))
}

/// Runs `work` to its end on this thread; blocking parts have threads of their own.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(CliError::machine)?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(LEFTOVERS);
    Ok(done)
}
