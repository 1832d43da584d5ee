//! Content too large for an event, stored under its SHA-256; the event holds the digest.
//!
//! It never hands out bytes that do not have the digest asked for.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::JournalError;
use super::layout;
use super::read::Reader;
use crate::event::spill;
use crate::model::{Digest, Fault};
use crate::port::{BlobStore, BoxFuture};

/// Largest blob in bytes; a rendered plan of ten thousand resources has a tenth of it.
pub const BLOB_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The blobs of a state directory.
#[derive(Debug, Clone)]
pub struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    /// The blobs of the state directory `dir`.
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        Self { folder: dir.join("blobs") }
    }

    /// Stores `bytes`, durably, before their digest is recorded. Storing them again does nothing.
    ///
    /// # Errors
    /// When they are too many or the disk refuses.
    pub fn store(&self, bytes: &[u8]) -> Result<Digest, JournalError> {
        let digest = Digest::of(bytes);
        let path = self.path(&digest);
        if bytes.len() > BLOB_BYTES_MAX {
            let reason = format!("{} bytes, the limit is {BLOB_BYTES_MAX}", bytes.len());
            return Err(JournalError::io("store", &path)(io::Error::other(reason)));
        }
        if fs::read(&path).is_ok_and(|stored| stored == bytes) {
            return Ok(digest);
        }
        layout::create_dir(&self.folder)?;
        layout::replace(&path, bytes).map_err(JournalError::io("store", &path))?;
        Ok(digest)
    }

    /// Reads a blob and checks it; `None` when there is none.
    ///
    /// # Errors
    /// [`JournalError::Blob`] when its content is not what the digest says.
    pub fn read(&self, digest: &Digest) -> Result<Option<Vec<u8>>, JournalError> {
        let path = self.path(digest);
        match fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes) == *digest => Ok(Some(bytes)),
            Ok(_) => Err(JournalError::Blob { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(JournalError::io("read", &path)(error)),
        }
    }

    /// The one blob whose digest starts with `digits`; `None` where there is none, or more than one.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn find(&self, digits: &str) -> Result<Option<Digest>, JournalError> {
        let mut found = self.all()?.into_keys().filter(|blob| blob.to_string().starts_with(digits));
        Ok(found.next().filter(|_| found.next().is_none()))
    }

    /// Removes what no event names: stored for one that then was not appended. What was there when
    /// the log was last opened was judged then; `last_opened` is when, and the last event there was.
    /// The log itself is never cut, so whatever it names stays.
    ///
    /// # Errors
    /// When the log or the folder cannot be read.
    pub(crate) fn sweep(
        &self,
        reader: &Reader,
        last_opened: Option<(SystemTime, u64)>,
    ) -> Result<usize, JournalError> {
        let mut unnamed = self.all()?;
        if let Some((at, _)) = last_opened {
            unnamed.retain(|_, stored| *stored >= at);
        }
        // Its time is only a hint: clocks jump. Before anything is removed the whole log has a say.
        for from in [last_opened.map_or(1, |(_, seq)| seq), 1] {
            if unnamed.is_empty() {
                return Ok(0);
            }
            let mut cursor = reader.from(from)?;
            while let Some(line) = cursor.read()? {
                for blob in spill::digests(line.record.data) {
                    unnamed.remove(&blob);
                }
            }
        }
        for blob in unnamed.keys() {
            let path = self.path(blob);
            fs::remove_file(&path).map_err(JournalError::io("remove", &path))?;
        }
        Ok(unnamed.len())
    }

    /// Every blob with the time at which it was stored.
    fn all(&self) -> Result<BTreeMap<Digest, SystemTime>, JournalError> {
        let io = |error| JournalError::io("list", &self.folder)(error);
        let listed = match fs::read_dir(&self.folder) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(io(error)),
        };
        let mut all = BTreeMap::new();
        for entry in listed {
            let entry = entry.map_err(io)?;
            // Anything else in the folder, a half-written blob included, is written over in time.
            let Some(digest) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let stored = entry.metadata().and_then(|data| data.modified()).map_err(io)?;
            all.insert(digest, stored);
        }
        Ok(all)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(hex::encode(digest.bytes()))
    }
}

impl BlobStore for Blobs {
    fn get(&self, digest: Digest) -> BoxFuture<'_, Result<Option<Vec<u8>>, Fault>> {
        let blobs = self.clone();
        Box::pin(off_the_runtime(move || blobs.read(&digest)))
    }
}

async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, JournalError> + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| Fault::transient(error.to_string()))?;
    done.map_err(|error| Fault::transient(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_what_its_digest_says_or_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path());
        let digest = blobs.store(b"plan").unwrap();
        assert_eq!(blobs.store(b"plan").unwrap(), digest);
        assert_eq!(blobs.read(&digest).unwrap().as_deref(), Some(&b"plan"[..]));
        assert_eq!(blobs.read(&Digest::of(b"other")).unwrap(), None);
        fs::write(blobs.path(&digest), b"plam").unwrap();
        assert!(matches!(blobs.read(&digest), Err(JournalError::Blob { .. })));
        blobs.store(b"plan").unwrap();
        assert!(blobs.read(&digest).unwrap().is_some(), "putting it again mends it");
    }
}
