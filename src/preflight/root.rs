//! The one reader: files below a root, bounded, and never outside of it.
//!
//! A root may be a stranger's tree, sent with a bug report. Symbolic links are therefore followed by
//! hand and lead no further than the root; only plain files are opened for reading, so that neither a
//! FIFO nor a device is ever touched; and everything has a limit. What was read is remembered, and is
//! all that a recording holds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::Errno;
use serde::Serialize;

/// Largest file read whole, in bytes; the longest of them, `/proc/modules`, has some 20 KiB.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Largest file that is read only to pick lines from it (`dpkg/status`, `modules.dep`), in bytes.
const PICKED_BYTES_MAX: usize = 16 << 20;
/// As much as is read of a file of which the beginning says all (`/proc/cpuinfo`), in bytes.
const HEAD_BYTES: usize = 16 << 10;
/// Most names read from one folder: more than the processes of a busy host.
const NAMES_MAX: usize = 1 << 16;
/// Most symbolic links followed for one path, as in the kernel.
const LINKS_MAX: usize = 40;
/// Deepest path below the root; `/sys` nests some 20 deep.
const DEPTH_MAX: usize = 64;
/// Most openings in all, so that a tree made to waste time ends.
const STEPS_MAX: u64 = 4_000_000;
/// Most files told of that could not be read.
const UNREAD_MAX: usize = 64;

/// The root cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: cannot be opened as the root of a tree")]
pub struct RootError {
    /// The folder.
    pub path: String,
    /// What the system said.
    pub source: std::io::Error,
}

/// A file that is there and was not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// The path, from the root.
    pub path: String,
    /// Why.
    pub why: String,
}

/// What was seen at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// A file, and as much of it as was used.
    File(Vec<u8>),
    /// A symbolic link, by its text.
    Link(String),
    /// Something that is there; what, does not matter.
    Node,
}

#[derive(Debug, Default)]
struct Log {
    seen: BTreeMap<String, Seen>,
    unread: Vec<Unread>,
    steps: u64,
}

/// A tree: the machine's own, or a recorded one.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    live: bool,
    log: RefCell<Log>,
}

impl Root {
    /// Opens a folder as the root of a tree.
    ///
    /// # Errors
    /// Where it is no folder, or may not be opened.
    pub fn open(path: &Path) -> Result<Self, RootError> {
        let failed = |source| RootError { path: path.display().to_string(), source };
        let real = path.canonicalize().map_err(failed)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, &real, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        Ok(Self { dir, live: real == Path::new("/"), log: RefCell::default() })
    }

    /// Whether this is the running machine, which may be asked more than its files tell.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// A small text file, whole and without blanks at its ends.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        self.picked(path, FILE_BYTES_MAX, |text| text.trim().to_owned())
    }

    /// A file that need not be text.
    pub(super) fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        let (bytes, _) = self.noted(path, self.load(path, FILE_BYTES_MAX))?;
        self.note(path, Seen::File(bytes.clone()));
        Some(bytes)
    }

    /// The lines of the beginning of a file that `keep` wants.
    pub(super) fn head(&self, path: &str, keep: impl FnMut(&str) -> bool) -> Option<String> {
        let (mut bytes, cut) = self.noted(path, self.load(path, HEAD_BYTES))?;
        if cut {
            let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            bytes.truncate(whole);
        }
        let text = lines(&String::from_utf8_lossy(&bytes), keep);
        self.note(path, Seen::File(text.clone().into_bytes()));
        Some(text)
    }

    /// The lines of a file that `keep` wants.
    pub(super) fn lines(&self, path: &str, keep: impl Fn(&str) -> bool) -> Option<String> {
        self.picked(path, PICKED_BYTES_MAX, |text| lines(text, keep))
    }

    /// What `pick` takes out of a large file.
    pub(super) fn pick(&self, path: &str, pick: impl FnOnce(&str) -> String) -> Option<String> {
        self.picked(path, PICKED_BYTES_MAX, pick)
    }

    fn picked(&self, path: &str, max: usize, pick: impl FnOnce(&str) -> String) -> Option<String> {
        let (bytes, cut) = self.noted(path, self.load(path, max))?;
        if cut {
            self.unread(path, format!("longer than {max} bytes; only its beginning was read"));
        }
        let text = pick(&String::from_utf8_lossy(&bytes));
        self.note(path, Seen::File(text.clone().into_bytes()));
        Some(text)
    }

    /// A text that is looked at and not remembered, so that it never gets into a recording.
    pub(super) fn peek(&self, path: &str) -> Option<String> {
        let (bytes, _) = self.load(path, HEAD_BYTES).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// Whether something is there, a dangling link too.
    pub(super) fn exists(&self, path: &str) -> bool {
        let there = self.noted(path, self.walk(path, false)).is_some();
        if there {
            self.note(path, Seen::Node);
        }
        there
    }

    /// Where a symbolic link points to, as it says itself.
    pub(super) fn link(&self, path: &str) -> Option<String> {
        let target = self.noted(path, self.target(path))?;
        self.note(path, Seen::Link(target.clone()));
        Some(target)
    }

    /// The last word of where a symbolic link points to.
    pub(super) fn link_name(&self, path: &str) -> Option<String> {
        let target = self.link(path)?;
        target.rsplit('/').next().filter(|name| !name.is_empty()).map(ToOwned::to_owned)
    }

    /// Where a symbolic link points to, without remembering it.
    pub(super) fn peek_link(&self, path: &str) -> Option<String> {
        self.target(path).ok()
    }

    /// The names in a folder, sorted; they get into a recording.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let names = self.noted(path, self.scan(path)).unwrap_or_default();
        for name in &names {
            self.note(&format!("{path}/{name}"), Seen::Node);
        }
        names
    }

    /// The names in a folder, sorted, without remembering them.
    ///
    /// # Errors
    /// What the system says; a missing folder is an error too.
    pub(super) fn scan(&self, path: &str) -> Result<Vec<String>, Errno> {
        let fd = self.walk(path, true)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(&fd, ".", flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name == "." || name == ".." {
                continue;
            }
            if names.len() == NAMES_MAX {
                self.unread(path, format!("more than {NAMES_MAX} names; the rest was left out"));
                break;
            }
            names.push(name);
        }
        names.sort();
        Ok(names)
    }

    /// The folder of a path, or the nearest one above it that is there.
    pub(super) fn nearest(&self, path: &str) -> Option<OwnedFd> {
        let mut at = path;
        loop {
            if let Ok(fd) = self.walk(at, true) {
                return Some(fd);
            }
            at = at.rsplit_once('/')?.0;
        }
    }

    /// What is there and was not read.
    pub(super) fn take_unread(&self) -> Vec<Unread> {
        std::mem::take(&mut self.log.borrow_mut().unread)
    }

    /// Everything that was seen, by path from the root.
    pub(super) fn seen(&self) -> BTreeMap<String, Seen> {
        self.log.borrow().seen.clone()
    }

    /// Remembers that a file could not be read.
    pub(super) fn unread(&self, path: &str, why: impl Into<String>) {
        let unread = &mut self.log.borrow_mut().unread;
        let path = format!("/{}", path.trim_start_matches('/'));
        if unread.len() < UNREAD_MAX && !unread.iter().any(|one| one.path == path) {
            unread.push(Unread { path, why: why.into() });
        }
    }

    fn note(&self, path: &str, seen: Seen) {
        let path = path.trim_start_matches('/').to_owned();
        let mut log = self.log.borrow_mut();
        // That something is there says less than what it is.
        match seen {
            Seen::Node => {
                log.seen.entry(path).or_insert(Seen::Node);
            }
            known => {
                log.seen.insert(path, known);
            }
        }
    }

    /// The value; none where nothing is there, and none with a word about it where it is not read.
    fn noted<T>(&self, path: &str, result: Result<T, Errno>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Err(error) => {
                self.unread(path, std::io::Error::from(error).to_string());
                None
            }
        }
    }

    /// Up to `max` bytes of a plain file, and whether it has more.
    fn load(&self, path: &str, max: usize) -> Result<(Vec<u8>, bool), Errno> {
        let fd = self.walk(path, true)?;
        // Opening a FIFO waits, and opening a device can start something: only plain files.
        if kind(&fd)? != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        // The very file that was looked at, whatever stands at its path by now.
        let same = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(openat(CWD, same, flags, Mode::empty())?);
        let mut bytes = Vec::new();
        let limit = u64::try_from(max).unwrap_or(u64::MAX);
        let read = file.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))?;
        let cut = bytes.len() > max;
        bytes.truncate(max);
        Ok((bytes, cut))
    }

    fn target(&self, path: &str) -> Result<String, Errno> {
        let fd = self.walk(path, false)?;
        match kind(&fd)? {
            FileType::Symlink => link_text(&fd),
            _ => Err(Errno::NOENT),
        }
    }

    /// Opens what is at `path`, for looking only. Links are followed below the root, as they would be
    /// after a chroot(2) into it.
    fn walk(&self, path: &str, follow_last: bool) -> Result<OwnedFd, Errno> {
        let mut todo = parts(path);
        let mut stack: Vec<OwnedFd> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == ".." {
                stack.pop();
                continue;
            }
            self.step()?;
            let here: BorrowedFd<'_> = stack.last().map_or(self.dir.as_fd(), |fd| fd.as_fd());
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = openat(here, part.as_str(), flags, Mode::empty())?;
            let follow = follow_last || !todo.is_empty();
            if follow && kind(&fd)? == FileType::Symlink {
                links += 1;
                let target = link_text(&fd)?;
                if target.starts_with('/') {
                    stack.clear();
                }
                todo.extend(parts(&target));
                if links > LINKS_MAX || todo.len() > DEPTH_MAX {
                    return Err(Errno::LOOP);
                }
                continue;
            }
            stack.push(fd);
            if stack.len() > DEPTH_MAX {
                return Err(Errno::LOOP);
            }
        }
        match stack.pop() {
            Some(fd) => Ok(fd),
            None => self.dir.try_clone().map_err(|_| Errno::MFILE),
        }
    }

    fn step(&self) -> Result<(), Errno> {
        let steps = &mut self.log.borrow_mut().steps;
        *steps += 1;
        if *steps > STEPS_MAX { Err(Errno::NOBUFS) } else { Ok(()) }
    }
}

/// The parts of a path, last first.
fn parts(path: &str) -> Vec<String> {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.rev().map(ToOwned::to_owned).collect()
}

fn kind(fd: &OwnedFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode))
}

fn link_text(fd: &OwnedFd) -> Result<String, Errno> {
    Ok(readlinkat(fd, "", Vec::new())?.to_string_lossy().into_owned())
}

fn lines(text: &str, mut keep: impl FnMut(&str) -> bool) -> String {
    text.lines().filter(|line| keep(line)).flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests;
