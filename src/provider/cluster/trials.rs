//! The folders of trials: taken one lock at a time, so that what a program which was killed left is swept, and
//! what another one works in is not.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use trueup_slurm::Machine;

/// The file by which whoever tries files and whoever sweeps keep apart; it is never removed.
const LOCK: &str = "trial.lock";

/// Makes the folder for trials, which nobody else may look into, and keeps it from being swept.
///
/// # Errors
/// It cannot be made or locked; the path is in the error.
pub(super) fn take(folder: &Path) -> io::Result<File> {
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot take {}: {error}", folder.display()))
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(named)?;
    let lock = open(folder).map_err(named)?;
    // Whoever sweeps does so in a moment.
    lock.lock_shared().map_err(named)?;
    Ok(lock)
}

/// Removes what trials of programs that were killed left below `work` of a machine. Whether it was looked for:
/// while anything is tried it is not.
///
/// # Errors
/// It cannot be looked for or removed.
pub(super) fn sweep(folder: &Path, machine: &dyn Machine, work: &Path) -> io::Result<bool> {
    if !folder.exists() {
        return Ok(true);
    }
    let lock = open(folder)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let swept = machine.sweep(work)?;
    if swept > 0 {
        tracing::info!(folder = %work.display(), swept, "what trials of files left is removed");
    }
    Ok(true)
}

fn open(folder: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(folder.join(LOCK))
}

#[cfg(test)]
mod tests {
    use trueup_slurm::Here;

    use super::*;

    #[test]
    fn what_is_tried_now_is_not_swept() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("cluster");
        assert!(sweep(&folder, &Here, &folder).unwrap() && !folder.exists());
        let first = take(&folder).unwrap();
        let second = take(&folder).unwrap();
        let trial = Here.new_folder(&folder).unwrap();
        drop(first);
        assert!(!sweep(&folder, &Here, &folder).unwrap() && trial.exists());
        // As a kill leaves it.
        drop(second);
        assert!(sweep(&folder, &Here, &folder).unwrap() && !trial.exists());
    }
}
