//! What trueup knows, and the only way to change it: append, then fold.
//!
//! It never changes the state by anything but an event that is already durable.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::event::{Entry, Recorded};
use crate::port::{Journal, JournalFault};
use crate::state::State;

/// The state and the journal behind it. Shared between the loop and the operators' commands.
pub struct Ledger {
    journal: Arc<dyn Journal>,
    state: Mutex<State>,
    // Held over append and fold together, so that the state is folded in the order of the log.
    order: tokio::sync::Mutex<()>,
}

impl Ledger {
    /// A ledger whose `state` is the fold of everything that is in `journal`.
    pub fn new(journal: Arc<dyn Journal>, state: State) -> Self {
        Self { journal, state: Mutex::new(state), order: tokio::sync::Mutex::new(()) }
    }

    /// Appends `entries` durably and folds them in.
    ///
    /// # Errors
    /// A [`JournalFault`]; then nothing is known that was not known before.
    pub async fn append(&self, entries: Vec<Entry>) -> Result<Vec<Recorded>, JournalFault> {
        let _order = self.order.lock().await;
        self.append_in_order(entries).await
    }

    /// Decides on the newest state and appends what was decided, with nothing in between.
    ///
    /// # Errors
    /// What `decide` refuses with, or a [`JournalFault`].
    pub async fn decide<E>(
        &self,
        decide: impl FnOnce(&State) -> Result<Vec<Entry>, E>,
    ) -> Result<Vec<Recorded>, LedgerError<E>> {
        let _order = self.order.lock().await;
        let entries = self.read(decide).map_err(LedgerError::Refused)?;
        self.append_in_order(entries).await.map_err(LedgerError::Journal)
    }

    async fn append_in_order(&self, entries: Vec<Entry>) -> Result<Vec<Recorded>, JournalFault> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let recorded = self.journal.append(entries).await?;
        let mut state = self.lock();
        for event in &recorded {
            state.apply(event);
        }
        Ok(recorded)
    }

    /// Reads the state. `look` must be short: appends wait for it.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
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
