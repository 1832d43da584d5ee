//! The port to what is too large for an event.

use super::BoxFuture;
use crate::model::{Digest, Fault};

/// Content stored under its digest, beside the log.
pub trait BlobStore: Send + Sync {
    /// Stores `bytes`, durably, before their digest is recorded. Storing them again does nothing.
    ///
    /// # Errors
    /// A fault when they are too many or the disk refuses.
    fn put(&self, bytes: Vec<u8>) -> BoxFuture<'_, Result<Digest, Fault>>;

    /// Reads a blob; `None` when there is none.
    ///
    /// # Errors
    /// A fault when its content is not what the digest says, or it cannot be read.
    fn get(&self, digest: Digest) -> BoxFuture<'_, Result<Option<Vec<u8>>, Fault>>;
}
