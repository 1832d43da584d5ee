//! The journal behind the port: events in, recorded events out, with the port's clock.
//!
//! It never decides what a fault means to a pass.

use std::sync::Arc;

use super::blob::Blobs;
use super::error::AppendError;
use super::handle::{Journal, Sealed};
use crate::event::chain::Head;
use crate::event::{Entry, Recorded};
use crate::port::{self, BoxFuture, Clock, JournalFault};

/// Appends to a [`Journal`], stamping each append with the clock's time.
pub struct LogPort {
    journal: Journal,
    clock: Arc<dyn Clock>,
    urgent: bool,
}

impl LogPort {
    /// A port to `journal`.
    #[must_use]
    pub fn new(journal: Journal, clock: Arc<dyn Clock>) -> Self {
        Self { journal, clock, urgent: false }
    }

    /// A port that may use the space set aside for a full disk ([`Journal::append_urgent`]).
    #[must_use]
    pub fn urgent(&self) -> Self {
        Self { journal: self.journal.clone(), clock: Arc::clone(&self.clock), urgent: true }
    }
}

impl LogPort {
    /// Stores what the entries bring, durably, before any of them names it. The outcome of what was
    /// done must not be lost for want of space for its details: those are then missing.
    async fn store(&self, entries: &[Entry]) -> Result<(), JournalFault> {
        let contents: Vec<_> = entries.iter().flat_map(|entry| entry.brought.0.clone()).collect();
        if contents.is_empty() {
            return Ok(());
        }
        let blobs = Blobs::open(self.journal.dir());
        let stored = tokio::task::spawn_blocking(move || {
            contents.iter().try_for_each(|content| blobs.store(content).map(|_| ()))
        });
        match stored.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if self.urgent => {
                tracing::error!(%error, "what an event names could not be stored beside the log");
                Ok(())
            }
            Ok(Err(error)) if error.is_full() => {
                Err(JournalFault::Full { message: error.to_string() })
            }
            Ok(Err(error)) => Err(JournalFault::Broken { message: error.to_string() }),
            Err(error) => Err(JournalFault::Broken { message: error.to_string() }),
        }
    }
}

impl port::Journal for LogPort {
    fn append(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<Vec<Recorded>, JournalFault>> {
        Box::pin(async move {
            self.store(&entries).await?;
            let drafts = entries.iter().map(Entry::draft).collect::<Result<Vec<_>, _>>();
            let drafts = drafts.map_err(|error| fault(&AppendError::Envelope(error)))?;
            let now = self.clock.now();
            let sealed = if self.urgent {
                self.journal.append_urgent_async(now, drafts).await
            } else {
                self.journal.append_async(now, drafts).await
            };
            let sealed = sealed.map_err(|error| fault(&error))?;
            let recorded = |(Sealed { seq, at, .. }, entry)| Recorded { seq, at, entry };
            Ok(sealed.into_iter().zip(entries).map(recorded).collect())
        })
    }

    fn head(&self) -> Head {
        self.journal.head()
    }
}

fn fault(error: &AppendError) -> JournalFault {
    let message = error.to_string();
    match error {
        AppendError::Full { .. } => JournalFault::Full { message },
        AppendError::Envelope(_) | AppendError::TooLarge { .. } => {
            JournalFault::Rejected { message }
        }
        AppendError::Poisoned { .. } | AppendError::Closed => JournalFault::Broken { message },
    }
}
