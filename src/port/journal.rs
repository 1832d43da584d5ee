//! The port to the log.

use super::BoxFuture;
use crate::event::chain::Head;
use crate::event::{Entry, Recorded};

/// Why nothing was appended. What was asked for did not happen, and nothing may be done on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalFault {
    /// No space is left. The machine is only observed until there is some.
    #[error("no space is left for the log: {message}")]
    Full {
        /// Where, and what to do.
        message: String,
    },
    /// What was to be appended breaks the log's format: a bug of its maker. The log is whole.
    #[error("the log refuses an event: {message}")]
    Rejected {
        /// Which, and why.
        message: String,
    },
    /// The log cannot be trusted to keep what it is given; the program has to end.
    #[error("the log cannot be written: {message}")]
    Broken {
        /// Where, and what to do.
        message: String,
    },
}

/// Appends events, durably and in one total order.
pub trait Journal: Send + Sync {
    /// Appends `entries` together. When it returns they survive a power cut.
    ///
    /// # Errors
    /// A [`JournalFault`]; then none of them happened.
    fn append(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<Vec<Recorded>, JournalFault>>;

    /// Where the log durably stands.
    fn head(&self) -> Head;
}
