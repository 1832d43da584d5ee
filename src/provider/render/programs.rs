//! The programs that render: copies of our own, each by its digest, so that what runs is what was noted.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::{Digest, digest_of};
use crate::provider::paths;

/// Largest program, bytes: four times what Helm has.
const PROGRAM_MAX: u64 = 256 << 20;

/// A program.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// Our copy of it.
    pub(super) file: PathBuf,
    /// Its digest.
    pub(super) digest: Digest,
    /// What is said of it: its name, its version and its digest.
    pub(super) by: String,
    /// Whether it is `kubectl`, of which Kustomize is a part.
    pub(super) is_kubectl: bool,
}

impl Program {
    /// The key of what it makes of a request.
    pub(super) fn key(&self, request: Digest) -> Digest {
        digest_of(&(self.digest, request))
    }
}

/// What a file is known by, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

/// Programs that were looked at.
#[derive(Debug)]
pub(super) struct Programs {
    folder: PathBuf,
    known: Mutex<HashMap<PathBuf, (Mark, Digest)>>,
    versions: Mutex<HashMap<Digest, String>>,
}

impl Programs {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, known: Mutex::default(), versions: Mutex::default() }
    }

    /// The program at a path, copied where it is another one than before.
    pub(super) async fn get(&self, path: &Path) -> io::Result<Program> {
        let is_kubectl = path.file_name().is_some_and(|name| name == "kubectl");
        let seen = fs::metadata(path)?;
        let mark = Mark {
            device: seen.dev(),
            inode: seen.ino(),
            bytes: seen.len(),
            changed: (seen.ctime(), seen.ctime_nsec()),
        };
        let known = held(&self.known).get(path).copied();
        let known = known.filter(|(before, _)| *before == mark).map(|(_, digest)| digest);
        let digest = match known {
            Some(digest) if self.file(digest).exists() => digest,
            _ => {
                let (from, folder) = (path.to_owned(), self.folder.clone());
                let copying = tokio::task::spawn_blocking(move || copy(&from, &folder));
                let digest = copying.await.map_err(io::Error::other)??;
                held(&self.known).insert(path.to_owned(), (mark, digest));
                digest
            }
        };
        Ok(Program { file: self.file(digest), digest, by: String::new(), is_kubectl })
    }

    /// What was learnt of it.
    pub(super) fn version(&self, program: &Program) -> Option<String> {
        held(&self.versions).get(&program.digest).cloned()
    }

    /// Notes what it says of itself.
    pub(super) fn learn(&self, program: &Program, by: &str) {
        held(&self.versions).insert(program.digest, by.to_owned());
    }

    fn file(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }
}

fn copy(from: &Path, folder: &Path) -> io::Result<Digest> {
    let seen = fs::metadata(from)?;
    if !seen.is_file() || seen.len() > PROGRAM_MAX {
        return Err(io::Error::other(format!("it is no program of at most {PROGRAM_MAX} bytes")));
    }
    let bytes = fs::read(from)?;
    if !is_whole(&bytes) {
        return Err(io::Error::other(
            "it needs other files of this machine, which it will not see: take the one that its project \
             publishes, which is whole by itself",
        ));
    }
    let digest = Digest::of(&bytes);
    paths::private(folder)?;
    let new = tempfile::NamedTempFile::new_in(folder)?;
    fs::write(new.path(), &bytes)?;
    new.as_file().set_permissions(fs::Permissions::from_mode(0o755))?;
    new.persist(folder.join(digest.to_string())).map_err(|error| error.error)?;
    Ok(digest)
}

/// Whether a program runs without an interpreter and without libraries: an ELF file whose program headers
/// name no loader (elf(5), `PT_INTERP`).
fn is_whole(bytes: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let word = |at: usize, size: usize| {
        let part = bytes.get(at..at.checked_add(size)?)?;
        Some(part.iter().rev().fold(0_u64, |all, byte| all << 8 | u64::from(*byte)))
    };
    let headers = || {
        // ELF, 64 bits, little endian; the others are no machines of ours.
        (bytes.get(..6)? == [0x7f, b'E', b'L', b'F', 2, 1]).then_some(())?;
        let (start, size, count) = (word(32, 8)?, word(54, 2)?, word(56, 2)?);
        let kinds = (0..count).map(|nth| {
            let at = usize::try_from(start.checked_add(nth.checked_mul(size)?)?).ok()?;
            word(at, 4)
        });
        kinds.collect::<Option<Vec<u64>>>()
    };
    headers().is_some_and(|kinds| !kinds.contains(&u64::from(PT_INTERP)))
}

fn held<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_others_is_told_apart() {
        assert!(!is_whole(b"#!/bin/sh\n"));
        assert!(!is_whole(&[0x7f, b'E', b'L', b'F', 2, 1]));
        // Debian's shell has a loader, its static busybox none.
        assert!(!is_whole(&fs::read("/bin/sh").unwrap()));
        assert!(is_whole(&fs::read("/bin/busybox").unwrap()));
    }

    #[tokio::test]
    async fn a_program_is_copied_once_and_again_when_it_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubectl");
        fs::copy("/bin/busybox", &path).unwrap();
        let programs = Programs::new(folder.path().join("copies"));
        let one = programs.get(&path).await.unwrap();
        assert!(one.is_kubectl);
        assert_eq!(Digest::of(fs::read(&one.file).unwrap()), one.digest);
        assert_eq!(programs.get(&path).await.unwrap().digest, one.digest);
        let mut bytes = fs::read(&path).unwrap();
        bytes.push(0);
        fs::write(&path, bytes).unwrap();
        let other = programs.get(&path).await.unwrap();
        assert_ne!(other.digest, one.digest);
        assert_ne!(other.key(Digest::of("x")), one.key(Digest::of("x")));
    }
}
