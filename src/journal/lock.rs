//! One writer at a time: an advisory lock (flock) on a file that says who holds it.
//!
//! It never waits, and never breaks another's lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::error::JournalError;

/// The held lock; dropping it releases it.
pub(crate) struct Lock {
    file: Held,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of the state directory `dir`.
    pub(crate) fn acquire(dir: &Path) -> Result<Self, JournalError> {
        let path = dir.join("lock");
        match try_lock(&path).map_err(JournalError::io("lock", &path))? {
            Ok(file) => Ok(Self { file, path }),
            Err(mut held) => {
                let mut text = String::new();
                held.read_to_string(&mut text).map_err(JournalError::io("read", &path))?;
                let holder = serde_json::from_str::<serde_json::Value>(&text).ok();
                let pid = holder.and_then(|holder| holder["pid"].as_u64());
                let pid = pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
                Err(JournalError::Busy { dir: dir.to_owned(), pid })
            }
        }
    }

    /// Writes who holds the lock into it, for people and for [`JournalError::Busy`].
    pub(crate) fn sign(&self, epoch: u64) -> Result<(), JournalError> {
        let text = format!("{{\"pid\":{},\"epoch\":{epoch}}}\n", std::process::id());
        let signed = self.file.set_len(0).and_then(|()| self.file.write_all_at(text.as_bytes(), 0));
        signed.map_err(JournalError::io("write", &self.path))
    }

    /// Whether the file locked is still the one that others would lock: somebody may have deleted
    /// it, and then a second writer could start.
    pub(crate) fn is_held(&self) -> io::Result<bool> {
        let ours = self.file.metadata()?;
        match std::fs::metadata(&self.path) {
            Ok(theirs) => Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A file that is locked as long as this is kept.
///
/// It is let go of by name: a process that is being started has copies of all open files for a moment, and
/// a lock that goes only with its last copy would outlive what held it.
pub(crate) struct Held(File);

impl std::ops::Deref for Held {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "a lock goes with its file");
        }
    }
}

/// Opens and locks a file: the locked file, or the file as held by somebody else.
pub(crate) fn try_lock(path: &Path) -> io::Result<Result<Held, File>> {
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Ok(Held(file))),
        Err(TryLockError::WouldBlock) => Ok(Err(file)),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_goes_with_its_holder_and_not_with_the_last_copy_of_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = try_lock(&path).unwrap().ok().unwrap();
        let copy = held.try_clone().unwrap();
        assert!(try_lock(&path).unwrap().is_err());
        drop(held);
        assert!(try_lock(&path).unwrap().is_ok());
        drop(copy);
    }
}
