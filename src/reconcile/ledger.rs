//! What trueup knows, and the only way to change it: append, then fold.
//!
//! It never changes the state by anything but an event that is already durable, and never misses
//! one: whoever asked for an append may go away, the fold follows all the same.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::event::chain::Head;
use crate::event::{Entry, Recorded};
use crate::port::{Journal, JournalFault};
use crate::state::State;

/// Events appended together at most. With every event bounded in size (its field changes are), a
/// batch stays well below what the journal takes at once.
const BATCH_EVENTS_MAX: usize = 64;

/// The state and the journal behind it. Shared between the loop and the operators' commands.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    journal: Arc<dyn Journal>,
    // May use the space that is set aside for a full disk.
    urgent: Arc<dyn Journal>,
    state: Mutex<State>,
    // Held over append and fold together, so that the state is folded in the order of the log.
    order: Arc<tokio::sync::Mutex<()>>,
}

type Turn = tokio::sync::OwnedMutexGuard<()>;

impl Ledger {
    /// A ledger whose `state` is the fold of everything that is in `journal`. Outcomes of what was
    /// already done go through `urgent`.
    pub fn new(journal: Arc<dyn Journal>, urgent: Arc<dyn Journal>, state: State) -> Self {
        let (state, order) = (Mutex::new(state), Arc::default());
        Self { inner: Arc::new(Inner { journal, urgent, state, order }) }
    }

    /// Appends `entries` durably and folds them in.
    ///
    /// # Errors
    /// A [`JournalFault`]; then nothing is known that was not known before.
    pub async fn append(&self, entries: Vec<Entry>) -> Result<Vec<Recorded>, JournalFault> {
        let turn = self.turn().await;
        self.append_in_turn(turn, entries, false).await
    }

    /// As [`Ledger::append`], for what has already happened: it may use the space set aside.
    ///
    /// # Errors
    /// A [`JournalFault`].
    pub async fn append_outcome(&self, entries: Vec<Entry>) -> Result<Vec<Recorded>, JournalFault> {
        let turn = self.turn().await;
        self.append_in_turn(turn, entries, true).await
    }

    /// Decides on the newest state and appends what was decided, with nothing in between.
    ///
    /// # Errors
    /// What `decide` refuses with, or a [`JournalFault`].
    pub async fn decide<E>(
        &self,
        decide: impl FnOnce(&State) -> Result<Vec<Entry>, E>,
    ) -> Result<Vec<Recorded>, LedgerError<E>> {
        let turn = self.turn().await;
        let entries = self.read(decide).map_err(LedgerError::Refused)?;
        self.append_in_turn(turn, entries, false).await.map_err(LedgerError::Journal)
    }

    async fn turn(&self) -> Turn {
        Arc::clone(&self.inner.order).lock_owned().await
    }

    /// On a task of its own: a caller that is cut off must not come between append and fold.
    async fn append_in_turn(
        &self,
        turn: Turn,
        entries: Vec<Entry>,
        urgent: bool,
    ) -> Result<Vec<Recorded>, JournalFault> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let inner = Arc::clone(&self.inner);
        let work = tokio::spawn(async move {
            let _turn = turn;
            inner.append(entries, urgent).await
        });
        work.await.unwrap_or_else(|error| {
            Err(JournalFault::Broken { message: format!("appending did not end: {error}") })
        })
    }

    /// Where the log stands: what was said up to here holds the hash of all before it.
    pub fn head(&self) -> Head {
        self.inner.journal.head()
    }

    /// Reads the state. `look` must be short: appends wait for it.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.inner.lock())
    }
}

impl Inner {
    async fn append(
        &self,
        entries: Vec<Entry>,
        urgent: bool,
    ) -> Result<Vec<Recorded>, JournalFault> {
        let journal = if urgent { &self.urgent } else { &self.journal };
        let mut recorded = Vec::with_capacity(entries.len());
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let batch: Vec<_> = entries.by_ref().take(BATCH_EVENTS_MAX).collect();
            let batch = journal.append(batch).await?;
            let mut state = self.lock();
            for event in &batch {
                if event.seq != state.seq + 1 {
                    let message = format!(
                        "event {} follows event {} of what is known: another writer is at work, \
                         or a bug; start again to read the log anew",
                        event.seq, state.seq
                    );
                    return Err(JournalFault::Broken { message });
                }
                state.apply(event);
            }
            drop(state);
            recorded.extend(batch);
        }
        Ok(recorded)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A fold cannot panic half-way through an event that matters more than going on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a decision did not become events.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError<E> {
    /// It was refused.
    #[error("{0}")]
    Refused(E),
    /// It could not be written.
    #[error(transparent)]
    Journal(JournalFault),
}
