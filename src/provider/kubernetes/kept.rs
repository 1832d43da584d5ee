//! Credentials for the clusters that trueup builds: a file of this host for each, that only root may read. They
//! are never in an event, a plan, an error or a line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::Name;
use crate::private;
use crate::provider::paths::{self, KEYS, kept_kubeconfig};

/// Longest kubeconfig that a control plane may give: its own has some kilobytes.
const BYTES_MAX: usize = 256 << 10;

/// Where the credentials of a cluster are kept, by its name. `folder`: that of clusters.
pub fn kept_kubeconfigs(folder: PathBuf) -> impl Fn(&str) -> Option<PathBuf> + Send + Sync {
    move |cluster| Some(kept_kubeconfig(&folder, &Name::new(cluster).ok()?))
}

/// What they are called where they cannot be read.
pub(super) const OF_THIS_HOST: &str = "the credentials that are kept on this host";

/// The credentials of a cluster that are kept; `None`: there are none.
///
/// # Errors
/// They cannot be read.
pub(super) fn read(folder: &Path, cluster: &Name) -> io::Result<Option<String>> {
    match fs::read_to_string(kept_kubeconfig(folder, cluster)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Keeps the credentials of a cluster, durably before anybody uses them.
///
/// # Errors
/// They are none, or cannot be written.
pub(super) fn keep(folder: &Path, cluster: &Name, kubeconfig: &[u8]) -> io::Result<()> {
    if kubeconfig.is_empty() || kubeconfig.len() > BYTES_MAX {
        let words = format!("a kubeconfig of {} bytes is none", kubeconfig.len());
        return Err(io::Error::other(words));
    }
    let path = kept_kubeconfig(folder, cluster);
    paths::private(path.parent().unwrap_or(folder))?;
    private::keep(&path, kubeconfig)
}

/// Removes the credentials of clusters that are gone for good: another one of that name is another one.
///
/// # Errors
/// A folder cannot be read, or a file not be removed.
pub(super) fn forget(folder: &Path, is_gone: impl Fn(&Name) -> bool) -> io::Result<()> {
    let all = match fs::read_dir(folder.join(KEYS)) {
        Ok(all) => all,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in all {
        let own = entry?.file_name();
        let Some(cluster) = own.to_str().and_then(|name| Name::new(name).ok()) else { continue };
        let path = kept_kubeconfig(folder, &cluster);
        if !path.exists() || !is_gone(&cluster) {
            continue;
        }
        fs::remove_file(&path)?;
        let above = path.parent().unwrap_or(folder);
        // Keys of others may be beside it.
        if let Err(error) = fs::remove_dir(above)
            && error.kind() != io::ErrorKind::DirectoryNotEmpty
        {
            return Err(error);
        }
        fs::File::open(folder.join(KEYS))?.sync_all()?;
        tracing::info!(%cluster, "the cluster is gone, and its credentials with it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn credentials_are_for_root_alone() {
        let folder = tempfile::tempdir().unwrap();
        let name = Name::new("cloud").unwrap();
        keep(folder.path(), &name, b"first").unwrap();
        keep(folder.path(), &name, b"second").unwrap();
        let path = kept_kubeconfig(folder.path(), &name);
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let above = path.parent().unwrap();
        assert_eq!(fs::metadata(above).unwrap().permissions().mode() & 0o777, 0o700);
        keep(folder.path(), &name, b"").unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"second", "what is none takes no one's place");
    }

    #[test]
    fn what_is_kept_of_a_cluster_goes_with_it_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        forget(folder.path(), |_| true).unwrap();
        let names = ["cloud", "lab", "old"].map(|name| Name::new(name).unwrap());
        for name in &names {
            keep(folder.path(), name, b"kubeconfig").unwrap();
        }
        let munge = folder.path().join(KEYS).join("old/munge-1.key");
        fs::write(&munge, "key").unwrap();
        forget(folder.path(), |name| name.as_str() != "lab").unwrap();
        let there = names.map(|name| kept_kubeconfig(folder.path(), &name).exists());
        assert_eq!(there, [false, true, false]);
        assert!(munge.exists() && !folder.path().join(KEYS).join("cloud").exists());
    }
}
