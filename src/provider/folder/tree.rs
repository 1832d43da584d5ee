//! Folders of files below an open folder: written, compared and removed, through no link.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::ops::Bound;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, fchmod, fchown, fstat, fsync, mkdirat, openat,
    openat2, statat, unlinkat,
};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::place::{BENEATH, FOLDER};
use crate::model::Digest;
use crate::model::resource::{SharedDifference, SharedFolder};

/// Deepest folder below one of ours; a commit has none deeper.
const DEPTH_MAX: usize = 32;
/// Entries of a folder that are looked at: ten times what a commit may have.
const ENTRIES_MAX: usize = 500_000;
/// Files whose digests are remembered.
const DIGESTS_MAX: usize = 200_000;

/// Digests by what a file is known by: nobody but root can give a changed file the same mark.
pub(super) type Digests = HashMap<Mark, Digest>;

/// What a file is known by, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mark {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Mark {
    fn of(seen: &Metadata) -> Self {
        Self {
            device: seen.dev(),
            inode: seen.ino(),
            bytes: seen.len(),
            modified: (seen.mtime(), seen.mtime_nsec()),
            changed: (seen.ctime(), seen.ctime_nsec()),
        }
    }
}

/// Writes a folder of these files as `name` in `parent`, where nothing of that name is; all of it is on the
/// disk at the end.
///
/// # Errors
/// It cannot be written.
pub(super) fn write(
    parent: &OwnedFd,
    name: &str,
    folder: &SharedFolder,
    group: Option<u32>,
) -> io::Result<()> {
    let group = group.map(Gid::from_raw);
    let top = make(parent, name)?;
    let mut folders: BTreeMap<&str, OwnedFd> = BTreeMap::new();
    for file in &folder.files {
        let bytes = folder.content.0.get(&file.path);
        let bytes =
            bytes.ok_or_else(|| io::Error::other(format!("{} has no content", file.path)))?;
        if Digest::of(bytes) != file.digest {
            return Err(io::Error::other(format!("{} has another content", file.path)));
        }
        let (at, own) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        for (end, _) in at.match_indices('/').chain((!at.is_empty()).then_some((at.len(), ""))) {
            let path = &at[..end];
            if !folders.contains_key(path) {
                let (above, last) = path.rsplit_once('/').unwrap_or(("", path));
                let made = make(folders.get(above).unwrap_or(&top), last)?;
                folders.insert(path, made);
            }
        }
        let into = folders.get(at).unwrap_or(&top);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut made = File::from(openat(into, plain(own)?, flags, Mode::from(0o600))?);
        made.write_all(bytes)?;
        // The owner first: the kernel clears rights with it.
        fchown(&made, None, group)?;
        fchmod(&made, Mode::from(folder.mode_of(file)))?;
        made.sync_all()?;
    }
    for made in folders.values().chain([&top]) {
        fchown(made, None, group)?;
        fchmod(made, Mode::from(folder.folder_mode()))?;
        fsync(made)?;
    }
    Ok(())
}

/// A new folder, which nobody else enters until it is done.
fn make(parent: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    mkdirat(parent, plain(name)?, Mode::from(0o700))?;
    Ok(openat2(parent, name, FOLDER, Mode::empty(), BENEATH)?)
}

/// A name that leads nowhere else.
fn plain(name: &str) -> io::Result<&str> {
    match name.is_empty() || name == "." || name == ".." || name.contains('/') {
        true => Err(io::Error::other(format!("`{}` is no name of a file", name.escape_debug()))),
        false => Ok(name),
    }
}

/// How the folder `name` differs from what is asked for; `None`: it is not there.
///
/// # Errors
/// It cannot be looked at.
pub(super) fn compare(
    parent: &OwnedFd,
    name: &str,
    folder: &SharedFolder,
    group: Option<u32>,
    digests: &mut Digests,
) -> io::Result<Option<Vec<SharedDifference>>> {
    let top = match openat2(parent, name, FOLDER, Mode::empty(), BENEATH) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(None),
        // Something else stands there: it is exchanged.
        Err(Errno::LOOP | Errno::NOTDIR) => return Ok(Some(vec![other("", "no folder")])),
        Err(error) => return Err(error.into()),
    };
    let own = rustix::process::geteuid().as_raw();
    let mut found = Vec::new();
    let mut left: BTreeSet<&str> = folder.files.iter().map(|file| file.path.as_str()).collect();
    let wanted: BTreeMap<&str, _> = folder.files.iter().map(|it| (it.path.as_str(), it)).collect();
    let judge = |path: &str, seen: &Stat, mode: u32, found: &mut Vec<SharedDifference>| {
        if seen.st_uid != own {
            found.push(other(path, &format!("owner {}", seen.st_uid)));
        }
        if group.is_some_and(|group| group != seen.st_gid) {
            found.push(other(path, &format!("group {}", seen.st_gid)));
        }
        let is = seen.st_mode & 0o7777;
        if is != mode {
            found.push(other(path, &format!("mode {is:04o}")));
        }
    };
    judge("", &fstat(&top)?, folder.folder_mode(), &mut found);
    let mut open = vec![(String::new(), top, 0)];
    let mut entries = 0;
    while let Some((path, at, depth)) = open.pop() {
        for entry in Dir::read_from(&at)? {
            let entry = entry?;
            let bytes = entry.file_name().to_bytes();
            if matches!(bytes, b"." | b"..") {
                continue;
            }
            entries += 1;
            if entries > ENTRIES_MAX {
                return Err(io::Error::other(format!("it has more than {ENTRIES_MAX} entries")));
            }
            let name = String::from_utf8_lossy(bytes).into_owned();
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            let seen = statat(&at, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
            match (FileType::from_raw_mode(seen.st_mode), wanted.get(path.as_str())) {
                (FileType::Directory, None) => {
                    let prefix = format!("{path}/");
                    let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
                    let below = wanted.range::<str, _>(from).next();
                    if below.is_none_or(|(path, _)| !path.starts_with(&prefix))
                        || depth >= DEPTH_MAX
                    {
                        found.push(other(&path, "not in the commit"));
                        continue;
                    }
                    judge(&path, &seen, folder.folder_mode(), &mut found);
                    let next = openat2(&at, entry.file_name(), FOLDER, Mode::empty(), BENEATH)?;
                    open.push((path, next, depth + 1));
                }
                (FileType::RegularFile, Some(file)) => {
                    left.remove(path.as_str());
                    judge(&path, &seen, folder.mode_of(file), &mut found);
                    let same = u64::try_from(seen.st_size) == Ok(file.bytes)
                        && digest_at(&at, entry.file_name(), digests)? == file.digest;
                    if !same {
                        found.push(other(&path, "content"));
                    }
                }
                (_, Some(_)) => {
                    left.remove(path.as_str());
                    found.push(other(&path, "no file"));
                }
                (_, None) => found.push(other(&path, "not in the commit")),
            }
        }
    }
    found.extend(left.into_iter().map(|path| other(path, "missing")));
    found.sort();
    Ok(Some(found))
}

fn other(path: &str, what: &str) -> SharedDifference {
    SharedDifference { path: path.to_owned(), what: what.to_owned() }
}

/// The digest of a file, read where it is not the one of before.
fn digest_at(at: &OwnedFd, name: &std::ffi::CStr, digests: &mut Digests) -> io::Result<Digest> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(openat(at, name, flags, Mode::empty())?);
    let mark = Mark::of(&file.metadata()?);
    if let Some(known) = digests.get(&mark) {
        return Ok(*known);
    }
    let (mut hash, mut file, mut part) = (Sha256::new(), file, vec![0; 64 << 10]);
    loop {
        match file.read(&mut part)? {
            0 => break,
            read => hash.update(&part[..read]),
        }
    }
    let digest = Digest::from(<[u8; 32]>::from(hash.finalize()));
    // What changed while it was read has another mark, and is read again.
    if Mark::of(&file.metadata()?) == mark {
        if digests.len() >= DIGESTS_MAX {
            digests.clear();
        }
        digests.insert(mark, digest);
    }
    Ok(digest)
}

/// Removes a file, a link or a folder with all that is in it; that it is not there is well.
///
/// # Errors
/// It cannot be removed.
pub(super) fn remove(parent: &OwnedFd, name: &str) -> io::Result<()> {
    remove_at(parent.as_fd(), &std::ffi::CString::new(plain(name)?)?, 0)
}

fn remove_at(
    parent: std::os::fd::BorrowedFd<'_>,
    name: &std::ffi::CStr,
    depth: usize,
) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    if depth > DEPTH_MAX {
        return Err(io::Error::other("folders in it are nested too deep to be removed"));
    }
    let folder = openat2(parent, name, FOLDER, Mode::empty(), BENEATH)?;
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            remove_at(folder.as_fd(), entry.file_name(), depth + 1)?;
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)?;
    Ok(())
}
