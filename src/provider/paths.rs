//! Folders of our own, and errors that say which path they are about.
//!
//! Nothing outside the path that is given is ever touched.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::model::Name;

/// The folder of keys and credentials of clusters, in that of clusters.
pub(crate) const KEYS: &str = "keys";

/// An error that begins with the path it is about.
pub(crate) fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Makes a folder, and those above it, that only its owner may enter; one that is there stays as it is.
///
/// # Errors
/// It cannot be made.
pub(crate) fn private(folder: &Path) -> io::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| named(folder, &error))
}

/// Where the credentials for a Kubernetes cluster that trueup built are kept; `folder`: that of clusters.
pub(crate) fn kept_kubeconfig(folder: &Path, cluster: &Name) -> PathBuf {
    folder.join(KEYS).join(cluster.as_str()).join("admin.conf")
}

/// Removes a folder of ours with all that is in it; that it is not there is well.
///
/// # Errors
/// It cannot be removed.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(folder, &error)),
        Err(_) | Ok(()) => Ok(()),
    }
}

/// Whether it is a file of its own: no link, and no second name of another one.
///
/// # Errors
/// It cannot be looked at.
pub(crate) fn is_plain(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(seen) => Ok(seen.is_file() && seen.nlink() == 1),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(named(path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_of_its_own_is_plain() {
        let host = tempfile::tempdir().unwrap();
        let at = |name: &str| host.path().join(name);
        fs::write(at("file"), "x").unwrap();
        assert!(is_plain(&at("file")).unwrap());
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        assert!(!is_plain(&at("link")).unwrap() && !is_plain(host.path()).unwrap());
        assert!(!is_plain(&at("none")).unwrap());
        fs::hard_link(at("file"), at("twin")).unwrap();
        assert!(!is_plain(&at("file")).unwrap());
    }
}
