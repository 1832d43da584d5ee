//! The port to what is too large for an event.

use super::BoxFuture;
use crate::model::{Digest, Fault};

/// Content stored under its digest, beside the log. Entries bring what is to be stored.
pub trait BlobStore: Send + Sync {
    /// Reads a blob; `None` when there is none.
    ///
    /// # Errors
    /// A fault when its content is not what the digest says, or it cannot be read.
    fn get(&self, digest: Digest) -> BoxFuture<'_, Result<Option<Vec<u8>>, Fault>>;
}
