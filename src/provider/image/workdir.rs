//! Work directories that an interrupted build leaves nothing of.
//!
//! One is a directory `.trueup-work-*` beside the final file (same file system, so that finished
//! files are renamed out of it), with a lock file held while its owner lives. It is removed when
//! dropped; what a `kill -9` left is removed by [`reap`], processes first. A directory whose lock is
//! held, or whose name has another prefix, is never touched.

use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use super::child::MARK;
use super::error::ImageError;

/// Every work directory's name starts with it.
const PREFIX: &str = ".trueup-work-";

/// The lock file inside.
const LOCK: &str = "lock";

/// A directory that is locked while this value lives, and removed with it.
#[derive(Debug)]
pub(super) struct WorkDir {
    // Declared first: dropped, and so removed, while the lock below is still held.
    dir: tempfile::TempDir,
    _lock: File,
}

impl WorkDir {
    /// Makes one in `parent`, which is made too where it is missing.
    pub(super) fn new(parent: &Path) -> Result<Self, ImageError> {
        std::fs::create_dir_all(parent).map_err(ImageError::file("make", parent))?;
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(parent)
            .map_err(ImageError::file("make a work directory in", parent))?;
        let path = dir.path().join(LOCK);
        let lock = File::create(&path).map_err(ImageError::file("make", &path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|e| ImageError::file("lock", &path)(e.into()))?;
        Ok(Self { dir, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes what interrupted builds left in `parent`, and kills what still runs in it.
///
/// Returns the directories removed. Call it when the daemon starts; a missing `parent` is fine.
///
/// # Errors
/// [`ImageError::File`] where a directory cannot be listed or removed.
pub fn reap(parent: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let entries = match std::fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ImageError::file("list", parent)(error)),
    };
    let mut reaped = Vec::new();
    for entry in entries {
        let entry = entry.map_err(ImageError::file("list", parent))?;
        let ours = entry.file_name().as_bytes().starts_with(PREFIX.as_bytes());
        let path = entry.path();
        // Not following links: a link of that name is not something we made.
        let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
        if !ours || !is_dir || is_locked(&path)? {
            continue;
        }
        kill_marked(&path);
        std::fs::remove_dir_all(&path).map_err(ImageError::file("remove", &path))?;
        reaped.push(path);
    }
    Ok(reaped)
}

fn is_locked(dir: &Path) -> Result<bool, ImageError> {
    let path = dir.join(LOCK);
    match File::open(&path) {
        Ok(file) => Ok(flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()),
        // Killed between making the directory and its lock, or half removed.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(ImageError::file("open", path)(error)),
    }
}

/// Kills every process whose environment says that it works for `dir`.
fn kill_marked(dir: &Path) {
    let mut mark = MARK.as_bytes().to_vec();
    mark.push(b'=');
    mark.extend_from_slice(dir.as_os_str().as_bytes());
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return;
    };
    for entry in entries.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            continue;
        };
        // A process that ended meanwhile, or that is not ours to read, cannot be one of these.
        let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environ.split(|b| *b == 0).any(|var| var == mark)
            && let Err(error) = kill_process(pid, Signal::KILL)
        {
            tracing::debug!(pid = pid.as_raw_nonzero().get(), %error, "leftover not killed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_live_one_is_kept_a_dropped_one_is_gone_and_strangers_are_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let live = WorkDir::new(parent.path()).unwrap();
        let dropped = WorkDir::new(parent.path()).unwrap().path().to_owned();
        let stranger = parent.path().join("mine");
        std::fs::create_dir(&stranger).unwrap();
        assert_eq!(reap(parent.path()).unwrap(), Vec::<PathBuf>::new());
        assert!(live.path().exists() && stranger.exists() && !dropped.exists());
        assert!(reap(&parent.path().join("missing")).unwrap().is_empty());
    }

    #[test]
    fn what_a_killed_build_left_is_removed_and_its_processes_end() {
        let parent = tempfile::tempdir().unwrap();
        let left = parent.path().join(format!("{PREFIX}dead"));
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join(LOCK), "").unwrap();
        let mut child = Command::new("sleep").arg("1000").env(MARK, &left).spawn().unwrap();
        let mut other = Command::new("sleep").arg("1000").env(MARK, "/elsewhere").spawn().unwrap();
        assert_eq!(reap(parent.path()).unwrap(), std::slice::from_ref(&left));
        assert!(!left.exists());
        assert!(!child.wait().unwrap().success());
        assert_eq!(other.try_wait().unwrap(), None);
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
