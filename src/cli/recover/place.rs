//! The files of a state directory that comes back: made ready beside its place, put there by one rename. What
//! comes back of a config is put in its place by `config`.
//!
//! Nothing is written over: what is there stays, or the whole is refused.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use super::super::exit::{CliError, ErrorKind};
use crate::provider::backup::OwnState;
use crate::provider::paths::{named, private};

/// What of a state directory is saved beside the log. The indexes are not: what is known follows from the
/// log, and from nothing that somebody may have put beside it.
const SAVED: [&str; 2] = ["blobs", "mirror.git"];

/// That nothing is there yet, and that what is put together can be moved there.
pub(super) fn is_free(state: &Path) -> Result<(), CliError> {
    let empty = match fs::read_dir(state) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(CliError::machine(named(state, &error))),
    };
    match empty {
        true => takes_a_rename(state),
        false => Err(CliError::new(
            ErrorKind::Held,
            format!("{} is not empty, and nothing is written over", state.display()),
        )
        .hint("a recovery that was interrupted goes on with `trueup recover disks`, then `trueup apply`")
        .hint("where it is of no use any more, move it away; else name another with --state-dir")),
    }
}

/// That a folder can be renamed to there: neither a link nor a mount can be replaced so.
fn takes_a_rename(state: &Path) -> Result<(), CliError> {
    // A slash at the end would lead through a link.
    let state: PathBuf = state.components().collect();
    let failed = |error: &io::Error| CliError::machine(named(&state, error));
    let there = match state.symlink_metadata() {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(&error)),
    };
    let refused = |what: String, hint: &str| {
        let message = format!("{what}, and the state is put in place as a whole, by one rename");
        Err(CliError::new(ErrorKind::Held, message).hint(hint))
    };
    if there.is_symlink() {
        let to = fs::read_link(&state).map_err(|error| failed(&error))?;
        return refused(
            format!("{} is a link to {}", state.display(), to.display()),
            "remove the link; or name a folder with --state-dir, and as `stateDirectory` in the config",
        );
    }
    if is_mount(&state).map_err(|error| failed(&error))? {
        return refused(
            format!("{} is a mount point", state.display()),
            "unmount it, recover, then move what came back onto it; or name a folder in it with \
             --state-dir, and as `stateDirectory` in the config",
        );
    }
    Ok(())
}

fn is_mount(folder: &Path) -> io::Result<bool> {
    let told = statx(CWD, folder, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
    if told.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(told.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    }
    let around = folder.parent().unwrap_or(folder);
    Ok(fs::metadata(folder)?.dev() != fs::metadata(around)?.dev())
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

/// Makes it, private, where nothing is: what is made ready must not go to somebody else's folder.
pub(super) fn fresh(folder: &Path) -> io::Result<()> {
    let made = DirBuilder::new().mode(0o700).create(folder);
    made.map_err(|error| named(folder, &error))
}

/// That the snapshot names nothing but plain paths: whoever can write to the repository chose them.
pub(super) fn plain(own: &OwnState) -> Result<(), CliError> {
    let plain = |path: &Path| {
        let mut parts = path.components();
        let absolute = parts.next() == Some(Component::RootDir);
        absolute && parts.all(|part| matches!(part, Component::Normal(_)))
    };
    match own.snapshot.paths.iter().find(|path| !plain(Path::new(path))) {
        None => Ok(()),
        Some(odd) => Err(CliError::machine(format!(
            "the snapshot names the path {odd:?}, which trueup never saves: nothing of it is used"
        ))
        .hint("take an older one with --snapshot, and find out who wrote this one")),
    }
}

/// A file of the snapshot that is none of the state directory's: the config, if it is one.
#[derive(Debug)]
pub(super) struct Beside {
    /// Where it was saved from.
    pub(super) origin: PathBuf,
    /// Where it is now.
    pub(super) at: PathBuf,
}

/// Makes a state directory of what was restored; what else there is.
pub(super) fn assemble(own: &OwnState, raw: &Path, staged: &Path) -> io::Result<Vec<Beside>> {
    private(staged)?;
    let mut beside = Vec::new();
    for path in own.snapshot.paths.iter().map(PathBuf::from) {
        let from = restored(raw, &path)?;
        let to = match path.strip_prefix(&own.state) {
            _ if path == own.log => {
                // Nor is it a link itself.
                restored(raw, &path.join("segment"))?;
                staged.join("log")
            }
            Ok(inside) if SAVED.iter().any(|saved| inside == Path::new(saved)) => {
                staged.join(inside)
            }
            Ok(_) | Err(_) => {
                if from.symlink_metadata().is_ok_and(|it| it.is_file()) {
                    beside.push(Beside { origin: path, at: from });
                }
                continue;
            }
        };
        fs::rename(&from, &to).map_err(|error| named(&from, &error))?;
    }
    only_files(staged)?;
    Ok(beside)
}

/// That there are only folders and plain files: whatever reads the state, or goes on writing it, would
/// follow a link and wait for a pipe.
fn only_files(folder: &Path) -> io::Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| named(&folder, &error))? {
            let entry = entry.map_err(|error| named(&folder, &error))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(|error| named(&path, &error))?;
            if kind.is_dir() {
                folders.push(path);
            } else if !kind.is_file() {
                let why = "what came back is a link or a special file, which trueup never saves";
                return Err(io::Error::other(format!("{}: {why}", path.display())));
            }
        }
    }
    Ok(())
}

/// Where a path of the snapshot lies among what was restored. A link on the way to it would lead to the
/// machine's own files.
fn restored(raw: &Path, path: &Path) -> io::Result<PathBuf> {
    let inside = path.strip_prefix("/").unwrap_or(path);
    let mut at = raw.to_owned();
    for part in inside.parent().into_iter().flat_map(Path::components) {
        at.push(part);
        if !at.symlink_metadata().map_err(|error| named(&at, &error))?.is_dir() {
            let why = format!("{}: the snapshot has no folder there", path.display());
            return Err(io::Error::other(why));
        }
    }
    Ok(raw.join(inside))
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
pub(super) mod tests {
    use super::*;
    use crate::provider::backup::fixture::snapshot;

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

    #[test]
    fn what_no_rename_can_replace_is_refused_before_anything_is_restored() {
        let host = tempfile::tempdir().unwrap();
        let (state, link) = (host.path().join("state"), host.path().join("link"));
        fs::create_dir(&state).unwrap();
        std::os::unix::fs::symlink(&state, &link).unwrap();
        for link in [link.clone(), host.path().join("link/")] {
            let refused = is_free(&link).unwrap_err();
            assert_eq!(refused.kind, ErrorKind::Held);
            assert!(refused.source.to_string().contains("is a link to"), "{refused:?}");
            assert!(refused.hints[0].contains("--state-dir"), "{refused:?}");
        }
        fs::remove_dir(&state).unwrap();
        assert!(is_free(&link).is_err(), "also where it leads nowhere");
        let refused = takes_a_rename(Path::new("/proc")).unwrap_err();
        assert!(refused.source.to_string().contains("/proc is a mount point"), "{refused:?}");
        assert!(refused.hints[0].contains("unmount it"), "{refused:?}");
    }

    pub(in super::super) fn own(paths: &[&str]) -> OwnState {
        let snapshot = snapshot(paths);
        let log = "/var/lib/trueup/backup/state/own/log".into();
        OwnState { snapshot, state: "/var/lib/trueup".into(), log }
    }

    const LOG: &str = "/var/lib/trueup/backup/state/own/log";

    #[test]
    fn paths_of_the_repository_lead_nowhere_else() {
        plain(&own(&[LOG, "/etc/trueup/config.yaml"])).unwrap();
        for odd in ["/var/lib/trueup/../../../etc/cron.d", "../etc", "var", ""] {
            let refused = plain(&own(&[LOG, odd])).unwrap_err();
            assert!(refused.source.to_string().contains(&format!("{odd:?}")), "{refused:?}");
        }
        // What was restored leads to the machine's own files.
        let host = tempfile::tempdir().unwrap();
        let (raw, there) = (host.path().join("restored"), host.path().join("there"));
        fs::create_dir_all(raw.join("var/lib")).unwrap();
        fs::create_dir_all(there.join("backup/state/own/log")).unwrap();
        std::os::unix::fs::symlink(&there, raw.join("var/lib/trueup")).unwrap();
        let refused = assemble(&own(&[LOG]), &raw, &host.path().join("staged")).unwrap_err();
        assert!(refused.to_string().contains("no folder there"), "{refused}");
        assert!(there.join("backup/state/own/log").exists());
    }

    #[test]
    fn of_a_state_directory_only_what_is_saved_comes_back_and_only_as_files() {
        let host = tempfile::tempdir().unwrap();
        let (raw, staged) = (host.path().join("restored"), host.path().join("staged"));
        let state = raw.join("var/lib/trueup");
        let restored = |links: bool| {
            for folder in ["backup/state/own/log", "blobs", "mirror.git/objects", "index"] {
                fs::create_dir_all(state.join(folder)).unwrap();
            }
            fs::write(state.join("backup/state/own/log/00000000000000000001.jsonl"), "x").unwrap();
            fs::write(state.join("index/db"), "what never happened").unwrap();
            if links {
                std::os::unix::fs::symlink("/etc/hosts", state.join("blobs/link")).unwrap();
            }
            let at = |name: &str| format!("/var/lib/trueup/{name}");
            let paths =
                [LOG.to_owned(), at("blobs"), at("mirror.git"), at("index"), at("own.yaml")];
            let paths: Vec<_> = paths.iter().map(String::as_str).collect();
            fs::write(state.join("own.yaml"), "host: node1\n").unwrap();
            assemble(&own(&paths), &raw, &staged)
        };
        let beside = restored(false).unwrap();
        let mut there: Vec<_> =
            fs::read_dir(&staged).unwrap().map(|it| it.unwrap().file_name()).collect();
        there.sort();
        assert_eq!(there, ["blobs", "log", "mirror.git"]);
        // A config may lie there.
        assert_eq!(beside.len(), 1);
        assert_eq!(beside[0].origin, Path::new("/var/lib/trueup/own.yaml"));
        for folder in [&raw, &staged] {
            fs::remove_dir_all(folder).unwrap();
        }
        let refused = restored(true).unwrap_err().to_string();
        assert!(refused.contains("blobs/link") && refused.contains("is a link"), "{refused}");
    }
}
