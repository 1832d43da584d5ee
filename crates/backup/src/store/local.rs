//! A repository in a folder, with restic's layout and modes.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rustix::fs::Advice;
use rustix::io::Errno;

use super::{Kind, Store, StoreFault, Stored};

/// What a file is called while it is written, as with restic.
const UNFINISHED: &str = "-tmp-";

pub(crate) struct Local {
    root: PathBuf,
    /// Folders with names that may not be on the disk yet.
    touched: Mutex<BTreeSet<PathBuf>>,
}

impl Local {
    pub(crate) fn new(root: PathBuf) -> Self {
        Local { root, touched: Mutex::default() }
    }

    fn folder(&self, kind: Kind, name: &str) -> PathBuf {
        match kind {
            Kind::Config => self.root.clone(),
            // restic spreads packs over folders by the first byte of their name.
            Kind::Pack => self.root.join("data").join(name.get(..2).unwrap_or("00")),
            _ => self.root.join(kind.folder()),
        }
    }

    fn path(&self, kind: Kind, name: &str) -> PathBuf {
        let name = if kind == Kind::Config { "config" } else { name };
        self.folder(kind, name).join(name)
    }

    fn files(&self, folder: &Path, found: &mut Vec<(String, u64)>) -> Stored<()> {
        for entry in fs::read_dir(folder).map_err(|error| fault(&error))? {
            let entry = entry.map_err(|error| fault(&error))?;
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                // Removed between the listing and the look.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(fault(&error)),
            };
            if meta.is_dir() {
                self.files(&entry.path(), found)?;
            } else if let Ok(name) = entry.file_name().into_string() {
                found.push((name, meta.len()));
            }
        }
        Ok(())
    }

    fn everything(&self, kind: Kind) -> Stored<Vec<(String, u64)>> {
        let mut found = Vec::new();
        self.files(&self.root.join(kind.folder()), &mut found)?;
        Ok(found)
    }

    /// What it means that a file cannot be read: a disk that still reads others has lost this one, and
    /// one that reads nothing may be back later.
    fn unreadable(&self, kind: Kind, name: &str, error: &std::io::Error) -> StoreFault {
        let lost = matches!(Errno::from_io_error(error), Some(Errno::IO | Errno::UCLEAN));
        if lost && kind != Kind::Config && self.reads() {
            let (name, why) = (name.to_owned(), error.to_string());
            return StoreFault::Unreadable { kind, name, why };
        }
        fault(error)
    }

    /// Whether the disk gives the repository's first file: not memory, which keeps what it was.
    fn reads(&self) -> bool {
        let read = || {
            let mut config = File::open(self.root.join("config"))?;
            rustix::fs::fadvise(&config, 0, None, Advice::DontNeed)?;
            config.read_to_end(&mut Vec::new())
        };
        read().is_ok()
    }

    /// Whether the repository itself is there, asked when something of it is not.
    fn absent(&self, kind: Kind, name: &str) -> StoreFault {
        let name = match self.root.join("config").try_exists() {
            Ok(true) => name.to_owned(),
            Ok(false) => return StoreFault::Missing { kind: Kind::Config, name: String::new() },
            Err(error) => return fault(&error),
        };
        StoreFault::Missing { kind, name }
    }
}

/// What an error of the file system means.
fn fault(error: &std::io::Error) -> StoreFault {
    let why = error.to_string();
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT) => StoreFault::Full,
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => StoreFault::Refused { why },
        Some(Errno::NOENT | Errno::NOTDIR) => {
            StoreFault::Missing { kind: Kind::Config, name: String::new() }
        }
        _ => StoreFault::Offline { why },
    }
}

impl Store for Local {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn create(&self) -> Stored<()> {
        let make = |path: PathBuf| {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|error| fault(&error))
        };
        for kind in [Kind::Key, Kind::Snapshot, Kind::Index, Kind::Lock] {
            make(self.root.join(kind.folder()))?;
        }
        (0..=255u8).try_for_each(|n| make(self.root.join("data").join(format!("{n:02x}"))))
    }

    fn list(&self, kind: Kind) -> Stored<Vec<(String, u64)>> {
        if kind == Kind::Config {
            return match fs::metadata(self.root.join("config")) {
                Ok(meta) => Ok(vec![(String::new(), meta.len())]),
                // The folder alone is an empty place; one that is not there may be a lost mount,
                // which is for the caller to tell from a new repository.
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(vec![]),
                Err(error) => Err(fault(&error)),
            };
        }
        let mut found = self.everything(kind)?;
        found.retain(|(name, _)| !name.contains(UNFINISHED));
        Ok(found)
    }

    fn read(&self, kind: Kind, name: &str) -> Stored<Bytes> {
        match fs::read(self.path(kind, name)) {
            Ok(content) => Ok(content.into()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(self.absent(kind, name)),
            Err(error) => Err(self.unreadable(kind, name, &error)),
        }
    }

    fn read_range(&self, kind: Kind, name: &str, offset: u64, length: usize) -> Stored<Bytes> {
        let file = match File::open(self.path(kind, name)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(self.absent(kind, name));
            }
            Err(error) => return Err(self.unreadable(kind, name, &error)),
        };
        let mut content = vec![0; length];
        match file.read_exact_at(&mut content, offset) {
            Ok(()) => Ok(content.into()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(StoreFault::Short { kind, name: name.to_owned() })
            }
            Err(error) => Err(self.unreadable(kind, name, &error)),
        }
    }

    fn write(&self, kind: Kind, name: &str, parts: &[Bytes], fresh: bool) -> Stored<()> {
        let path = self.path(kind, name);
        let folder = self.folder(kind, name);
        let whole = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let unfinished = format!("{}{UNFINISHED}{}", whole.unwrap_or_default(), std::process::id());
        let unfinished = folder.join(unfinished);
        let placed = (|| {
            if let Err(error) = fs::create_dir(&folder)
                && error.kind() != ErrorKind::AlreadyExists
            {
                return Err(error);
            }
            let mut options = OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            for part in parts {
                file.write_all(part)?;
            }
            file.sync_all()?;
            if fresh {
                fs::hard_link(&unfinished, &path)?;
                fs::remove_file(&unfinished)
            } else {
                fs::rename(&unfinished, &path)
            }
        })();
        match placed {
            Ok(()) => {
                self.touched.lock().unwrap_or_else(PoisonError::into_inner).insert(folder);
                Ok(())
            }
            Err(error) => {
                // Best effort: a disk that is full may get room by it, and a sweep takes the rest.
                drop(fs::remove_file(&unfinished));
                if fresh && error.kind() == ErrorKind::AlreadyExists {
                    return Err(StoreFault::Exists);
                }
                Err(fault(&error))
            }
        }
    }

    fn remove(&self, kind: Kind, name: &str) -> Stored<()> {
        match fs::remove_file(self.path(kind, name)) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(self.absent(kind, name)),
            Err(error) => Err(fault(&error)),
        }
    }

    fn settle(&self) -> Stored<()> {
        // The files are on the disk already; this is for their names.
        let touched =
            std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner));
        for folder in touched {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(|error| fault(&error))?;
        }
        Ok(())
    }

    fn sweep(&self) -> Stored<u64> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.root).map_err(|error| fault(&error))? {
            let entry = entry.map_err(|error| fault(&error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("config") && name.contains(UNFINISHED) {
                fs::remove_file(entry.path()).map_err(|error| fault(&error))?;
                removed += 1;
            }
        }
        for kind in [Kind::Key, Kind::Snapshot, Kind::Index, Kind::Pack, Kind::Lock] {
            for (name, _) in self.everything(kind)? {
                if name.contains(UNFINISHED) {
                    self.remove(kind, &name)?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    fn remote(&self) -> bool {
        false
    }
}

/// A file that only its owner may read, up to its first line's end; also a pipe of this process.
pub(crate) fn private_line(path: &Path) -> Result<String, String> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    /// A password or `user:password`; longer is a mistake.
    const LINE_MAX: u64 = 4096;
    let file = File::open(path).map_err(|error| error.to_string())?;
    let meta = file.metadata().map_err(|error| error.to_string())?;
    if !meta.file_type().is_fifo() && meta.mode() & 0o077 != 0 {
        return Err("others than its owner may read it: `chmod 600` it".into());
    }
    let mut text = String::new();
    file.take(LINE_MAX).read_to_string(&mut text).map_err(|error| error.to_string())?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err("its first line is empty".into());
    }
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_the_disk_does_not_give_is_damaged_while_it_gives_others() {
        let folder = tempfile::tempdir().unwrap();
        let local = Local::new(folder.path().to_owned());
        let of = |errno: Errno, kind| local.unreadable(kind, "a", &errno.into());
        let offline = |fault: &StoreFault| matches!(fault, StoreFault::Offline { .. });
        assert!(offline(&of(Errno::IO, Kind::Pack)), "nothing can be read there");
        fs::write(folder.path().join("config"), "{}").unwrap();
        for errno in [Errno::IO, Errno::UCLEAN] {
            let fault = of(errno, Kind::Pack);
            assert!(matches!(fault, StoreFault::Unreadable { kind: Kind::Pack, .. }), "{fault}");
        }
        assert!(offline(&of(Errno::IO, Kind::Config)));
        // A server that serves an older file under this name, or none any more.
        assert!(offline(&of(Errno::STALE, Kind::Pack)));
        assert!(matches!(of(Errno::ACCESS, Kind::Pack), StoreFault::Refused { .. }));
    }
}
