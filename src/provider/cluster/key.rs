//! Munge keys of clusters that trueup makes: files of this host that only root may read. A key is never in
//! an event, a plan, an error or a line; an event says which one by its number.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::model::Name;
use crate::private;
use crate::provider::paths::{self, KEYS};

/// Bytes of a key: 1,024 bits, as munge's own mungekey makes (mungekey(8), `--bits`).
const BYTES: usize = 128;

/// A key. It is shown to nobody.
pub(super) struct Key(Vec<u8>);

impl Key {
    /// The bytes, for the machines of the cluster alone.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What sha256sum(1) says of a file with it.
    pub(super) fn digest(&self) -> String {
        hex::encode(Sha256::digest(&self.0))
    }
}

/// The key of that number; `None`: there is none yet.
///
/// # Errors
/// It cannot be read, or is not whole.
pub(super) fn there(folder: &Path, cluster: &Name, number: u32) -> io::Result<Option<Key>> {
    match fs::read(file(folder, cluster, number)) {
        Ok(bytes) if bytes.len() == BYTES => Ok(Some(Key(bytes))),
        Ok(bytes) => Err(io::Error::other(format!(
            "{} has {} bytes and not {BYTES}: remove it, and another key is made",
            file(folder, cluster, number).display(),
            bytes.len()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The key of that number, made where there is none yet. It is durable before anybody gets it.
///
/// # Errors
/// It cannot be made or read.
pub(super) fn get(folder: &Path, cluster: &Name, number: u32) -> io::Result<Key> {
    if let Some(key) = there(folder, cluster, number)? {
        return Ok(key);
    }
    let path = file(folder, cluster, number);
    paths::private(path.parent().unwrap_or(folder))?;
    let bytes = private::random::<BYTES>()?;
    private::keep(&path, &bytes)?;
    Ok(Key(bytes.into()))
}

/// Removes the keys that came before that number.
///
/// # Errors
/// One of them cannot be removed.
pub(super) fn forget_before(folder: &Path, cluster: &Name, number: u32) -> io::Result<()> {
    let own = file(folder, cluster, number);
    let parent = own.parent().unwrap_or(folder);
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        if path != own && path.extension().is_some_and(|ending| ending == "key") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// The clusters of which there are keys.
///
/// # Errors
/// They cannot be looked for.
pub(super) fn clusters(folder: &Path) -> io::Result<Vec<Name>> {
    let entries = match fs::read_dir(folder.join(KEYS)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut clusters = Vec::new();
    for entry in entries {
        // What is called otherwise is not ours.
        clusters.extend(entry?.file_name().to_str().and_then(|name| Name::new(name).ok()));
    }
    Ok(clusters)
}

/// Removes the munge keys of a cluster that is gone for good, and its folder where nothing else is in it.
///
/// # Errors
/// One of them cannot be removed.
pub(super) fn forget(folder: &Path, cluster: &Name) -> io::Result<()> {
    let own = folder.join(KEYS).join(cluster.as_str());
    for entry in fs::read_dir(&own)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("munge-")) {
            fs::remove_file(entry.path())?;
        }
    }
    match fs::remove_dir(&own) {
        Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
        Ok(()) | Err(_) => fs::File::open(folder.join(KEYS))?.sync_all(),
    }
}

fn file(folder: &Path, cluster: &Name, number: u32) -> PathBuf {
    folder.join(KEYS).join(cluster.as_str()).join(format!("munge-{number}.key"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let name = Name::new("hpc").unwrap();
        assert!(there(folder.path(), &name, 1).unwrap().is_none());
        let first = get(folder.path(), &name, 1).unwrap();
        assert_eq!(first.bytes().len(), 128);
        assert_eq!(get(folder.path(), &name, 1).unwrap().bytes(), first.bytes());
        let path = file(folder.path(), &name, 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let second = get(folder.path(), &name, 2).unwrap();
        assert_ne!(second.digest(), first.digest());
        forget_before(folder.path(), &name, 2).unwrap();
        assert!(!path.exists() && there(folder.path(), &name, 2).unwrap().is_some());
    }

    #[test]
    fn a_key_that_is_not_whole_is_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let name = Name::new("hpc").unwrap();
        get(folder.path(), &name, 1).unwrap();
        fs::write(file(folder.path(), &name, 1), "half").unwrap();
        let error = get(folder.path(), &name, 1).err().unwrap().to_string();
        assert!(error.contains("munge-1.key has 4 bytes"), "{error}");
    }
}
