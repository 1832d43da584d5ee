//! The files of a state directory that comes back: made ready beside its place, put there by one rename.
//!
//! Nothing is written over: what is there stays, or the whole is refused.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::super::context::Context;
use super::super::exit::{CliError, ErrorKind};
use crate::provider::backup::OwnState;
use crate::provider::paths::{named, private};

/// That nothing is there yet.
pub(super) fn is_free(state: &Path) -> Result<(), CliError> {
    let mut entries = match fs::read_dir(state) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(CliError::machine(format!("{}: {error}", state.display()))),
    };
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(CliError::new(
            ErrorKind::Held,
            format!("{} is not empty, and nothing is written over", state.display()),
        )
        .hint("a recovery that was interrupted goes on with `trueup recover disks`, then `trueup apply`")
        .hint("where it is of no use any more, move it away; else name another with --state-dir")),
    }
}

/// Whose turn it is to bring a state directory back, as long as the file is open: another one would take
/// what is made ready for a leftover.
pub(super) fn turn(state: &Path) -> Result<File, CliError> {
    let around = state.parent().unwrap_or(Path::new("/"));
    let failed = |error: &io::Error| CliError::machine(named(around, error));
    fs::create_dir_all(around).map_err(|error| failed(&error))?;
    let folder = File::open(around).map_err(|error| failed(&error))?;
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => Err(CliError::new(
            ErrorKind::Held,
            format!("{} is being brought back by another process", state.display()),
        )
        .hint("wait until that has ended")),
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}

/// The folder in which everything is made ready.
pub(super) fn beside(state: &Path) -> PathBuf {
    let mut name = state.file_name().unwrap_or_default().to_owned();
    name.push(".recovering");
    state.with_file_name(name)
}

/// Makes a state directory of what was restored; the config, if there is one.
pub(super) fn assemble(own: &OwnState, raw: &Path, staged: &Path) -> io::Result<Option<PathBuf>> {
    private(staged)?;
    let restored = |path: &Path| raw.join(path.strip_prefix("/").unwrap_or(path));
    let mut config = None;
    for path in own.snapshot.paths.iter().map(PathBuf::from) {
        let from = restored(&path);
        let to = match path.strip_prefix(&own.state) {
            _ if path == own.log => staged.join("log"),
            Ok(inside) => staged.join(inside),
            Err(_) => {
                if from.is_file() {
                    config = Some(from);
                }
                continue;
            }
        };
        if let Some(parent) = to.parent() {
            private(parent)?;
        }
        fs::rename(&from, &to).map_err(|error| named(&from, &error))?;
    }
    Ok(config)
}

/// Puts the config in its place; where another one is, it goes to the state directory. Where it is, and
/// whether another one was kept.
pub(super) fn install(
    context: &Context,
    own: &OwnState,
    from: &Path,
    staged: &Path,
) -> io::Result<(Option<PathBuf>, bool)> {
    let text = fs::read(from).map_err(|error| named(from, &error))?;
    let origin =
        own.snapshot.paths.iter().map(PathBuf::from).find(|path| from.ends_with(inside(path)));
    let to = match (context.named_config(), origin) {
        (Some(named), _) => std::path::absolute(named)?,
        (None, Some(origin)) => origin,
        (None, None) => context.config_path(),
    };
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(|error| named(parent, &error))?;
    }
    let same = fs::read(&to).is_ok_and(|there| there == text);
    if same {
        return Ok((Some(to), false));
    }
    if to.symlink_metadata().is_ok() {
        let kept = staged.join("recovered-config.yaml");
        fs::rename(from, &kept).map_err(|error| named(&kept, &error))?;
        return Ok((Some(kept), true));
    }
    // It may be on another file system; a crash in between leaves one that is not whole beside it.
    let fresh = to.with_extension("recovering");
    fs::copy(from, &fresh).map_err(|error| named(&fresh, &error))?;
    File::open(&fresh)?.sync_all()?;
    fs::rename(&fresh, &to).map_err(|error| named(&to, &error))?;
    Ok((Some(to), false))
}

fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// One rename: the state directory is there whole, or not at all. An empty one may be in its place.
pub(super) fn put_in_place(staged: &Path, state: &Path) -> io::Result<()> {
    // What was put together of it has to be on the disk before it is found there.
    File::open(staged)
        .and_then(|folder| Ok(rustix::fs::syncfs(&folder)?))
        .map_err(|error| named(staged, &error))?;
    fs::rename(staged, state).map_err(|error| named(state, &error))?;
    let parent = state.parent().unwrap_or(Path::new("/"));
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(|error| named(parent, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_never_written_over() {
        let host = tempfile::tempdir().unwrap();
        let state = host.path().join("state");
        is_free(&state).unwrap();
        fs::create_dir(&state).unwrap();
        is_free(&state).unwrap();
        let first = turn(&state).unwrap();
        assert_eq!(turn(&state).unwrap_err().kind, ErrorKind::Held);
        drop(first);
        turn(&state).unwrap();
        assert_eq!(beside(&state), host.path().join("state.recovering"));
        fs::write(state.join("head"), "x").unwrap();
        assert_eq!(is_free(&state).unwrap_err().kind, ErrorKind::Held);
    }
}
