//! The one way to the files: below a root, bounded, and never outside of it.
//!
//! Paths are resolved by the kernel as after a chroot(2) into the root (`openat2` with
//! `RESOLVE_IN_ROOT`, Linux 5.6), so a test's tree and the machine's own are walked alike and no link
//! leads out. Only plain files are opened, so that neither a device nor a FIFO is ever touched.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat,
};
use rustix::io::Errno;

/// Largest file read, in bytes: sysfs attributes have at most one page, `/proc/PID/cgroup` and
/// `mig-minors` some tens of KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most tries to open a path while the host renames and mounts: each takes microseconds, and even on
/// a busy host few in a row meet a rename.
const OPEN_TRIES_MAX: u32 = 1000;
/// Most names taken from one folder: more than a busy host has processes, or a process open files.
const NAMES_MAX: usize = 1 << 20;

/// The root cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: cannot be opened as the root of a tree")]
pub struct RootError {
    /// The folder.
    pub path: String,
    /// What the system said.
    pub source: std::io::Error,
}

/// A tree with `/sys`, `/proc` and `/dev` in it: the machine's own, or one for tests.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    live: bool,
}

impl Root {
    /// Opens a folder as the root; `/` is the running machine.
    ///
    /// # Errors
    /// Where it is no folder, or may not be opened.
    pub fn open(path: &Path) -> Result<Self, RootError> {
        let failed = |source| RootError { path: path.display().to_string(), source };
        let real = path.canonicalize().map_err(failed)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, &real, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        Ok(Self { dir, live: real == Path::new("/") })
    }

    /// Whether this is the running machine, on which commands may be run.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// A small text, without blanks at its ends; none where there is no such file, or its device went
    /// away while it was read.
    pub(crate) fn text(&self, path: &str) -> Result<Option<String>, Errno> {
        let read = || {
            let file = self.plain(path, OFlags::RDONLY)?;
            let mut bytes = Vec::new();
            let read = file.take(FILE_BYTES_MAX).read_to_end(&mut bytes);
            read.map_err(|error| errno(&error))?;
            Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        absent(read())
    }

    /// The names in a folder, sorted; none where there is no such folder.
    pub(crate) fn names(&self, path: &str) -> Result<Option<Vec<String>>, Errno> {
        absent(self.folder(path).and_then(|dir| names_in(dir.as_fd())))
    }

    /// Opens a folder to look into it more than once.
    pub(crate) fn folder(&self, path: &str) -> Result<OwnedFd, Errno> {
        self.at(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Where a symbolic link points to, as it says itself; none where there is no link.
    pub(crate) fn link(&self, path: &str) -> Result<Option<String>, Errno> {
        let read = || {
            let fd = self.at(path, OFlags::PATH | OFlags::NOFOLLOW)?;
            match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
                FileType::Symlink => link_in(fd.as_fd(), ""),
                _ => Err(Errno::NOENT),
            }
        };
        absent(read())
    }

    /// The last word of where a link points to.
    pub(crate) fn link_name(&self, path: &str) -> Result<Option<String>, Errno> {
        Ok(self.link(path)?.and_then(|target| last_word(&target)))
    }

    /// Whether something is there.
    pub(crate) fn exists(&self, path: &str) -> Result<bool, Errno> {
        Ok(absent(self.at(path, OFlags::PATH))?.is_some())
    }

    /// Opens a plain file that is there for writing; it is never created.
    pub(crate) fn writable(&self, path: &str) -> Result<File, Errno> {
        self.plain(path, OFlags::WRONLY | OFlags::TRUNC)
    }

    fn at(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // A `..` in a link is given up with EAGAIN while anything on the host is renamed or mounted,
        // since the kernel can then not be sure of staying below the root; openat2(2) says to retry.
        let mut tries = 0;
        loop {
            tries += 1;
            match openat2(&self.dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN) if tries < OPEN_TRIES_MAX => {}
                other => return other,
            }
        }
    }

    fn plain(&self, path: &str, flags: OFlags) -> Result<File, Errno> {
        let fd = self.at(path, OFlags::PATH)?;
        // Opening a FIFO waits, and opening a device can start something: only plain files.
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        // The very file that was looked at, whatever stands at its path by now.
        let same = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(File::from(openat(CWD, same, flags, Mode::empty())?))
    }
}

/// The names in an open folder, sorted.
pub(crate) fn names_in(dir: BorrowedFd<'_>) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name == "." || name == ".." {
            continue;
        }
        if names.len() == NAMES_MAX {
            return Err(Errno::OVERFLOW);
        }
        names.push(name);
    }
    names.sort_unstable();
    Ok(names)
}

/// The text of a link by its name in an open folder.
pub(crate) fn link_in(dir: BorrowedFd<'_>, name: &str) -> Result<String, Errno> {
    Ok(readlinkat(dir, name, Vec::new())?.to_string_lossy().into_owned())
}

/// The last word of a path.
pub(crate) fn last_word(path: &str) -> Option<String> {
    path.rsplit('/').next().filter(|name| !name.is_empty()).map(ToOwned::to_owned)
}

/// The number of an I/O error; `EIO` for those that have none.
pub(crate) fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Nothing there is an answer, also where a device or a process goes away while it is looked at.
pub(crate) fn absent<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NODEV | Errno::NXIO | Errno::SRCH) => Ok(None),
        Err(error) => Err(error),
    }
}
