//! One change of a GPU at a time, whoever makes it.
//!
//! Within one program the log's own lock is enough, and steps on one GPU follow each other. This lock
//! is for programs that share a machine and not a log. It is held for one step, and never waited for.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::model::{Digest, Fault};

/// Where the locks are, below the machine's root: gone with a reboot, as is whoever had them.
const FOLDER: &str = "run/trueup/gpu";

/// Letters of a digest that tell the libraries of one machine apart.
const DIGITS: usize = 16;

/// Where the locks are of GPUs that are reached by this library; `None`: by the driver's own. Two
/// libraries have the same GPUs only if they are the same: others are simulated.
pub(super) fn folder(root: &Path, library: Option<&Path>) -> PathBuf {
    let folder = root.join(FOLDER);
    match library {
        None => folder,
        Some(library) => {
            let digest = Digest::of(library.to_string_lossy().as_bytes()).to_string();
            folder.join(digest.chars().take(DIGITS).collect::<String>())
        }
    }
}

/// A lock that is held as long as this is kept; the kernel frees it with the process as well.
#[derive(Debug)]
pub(super) struct Held {
    file: File,
}

impl Drop for Held {
    /// Closing is not enough: a process that another thread is just starting has the same handle until
    /// it becomes its program.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "the lock of a GPU is not given back before its file is closed");
        }
    }
}

/// Takes the lock of one GPU; blocks only for the file. `None`: who may not write there may not change
/// a GPU either, and is told so by the driver.
///
/// # Errors
/// Somebody else has it, or its file cannot be made.
pub(super) fn take(folder: &Path, gpu: &str) -> Result<Option<Held>, Fault> {
    let path = folder.join(format!("{}.lock", gpu.replace(['/', '.'], "-")));
    let failed = |error: std::io::Error| {
        Fault::transient(format!(
            "the lock of GPU {gpu}, {}, cannot be had: {error}",
            path.display()
        ))
    };
    let opened = std::fs::create_dir_all(folder)
        .and_then(|()| File::options().create(true).append(true).open(&path));
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            tracing::warn!(%error, path = %path.display(), "the GPU is changed without a lock");
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(Held { file })),
        Err(TryLockError::WouldBlock) => Err(Fault::transient(format!(
            "another program changes GPU {gpu} ({} is locked): end it, or wait for it",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_program_at_a_time_has_a_gpu() {
        let root = tempfile::tempdir().unwrap();
        let real = folder(root.path(), None);
        let held = take(&real, "GPU-1").unwrap();
        let other = take(&real, "GPU-1").unwrap_err().to_string();
        assert!(other.contains("another program changes GPU GPU-1"), "{other}");
        drop(take(&real, "0000:07:00.0").unwrap());
        // One of the same name that is simulated is another one.
        drop(take(&folder(root.path(), Some(Path::new("/tmp/x.so"))), "GPU-1").unwrap());
        drop(held);
        drop(take(&real, "GPU-1").unwrap());
    }
}
