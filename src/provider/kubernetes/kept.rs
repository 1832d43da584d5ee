//! Credentials for the clusters that trueup builds: a file of this host for each, that only root may read. They
//! are never in an event, a plan, an error or a line.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::Name;
use crate::private;
use crate::provider::paths::{self, kept_kubeconfig};

/// Longest kubeconfig that a control plane may give: its own has some kilobytes.
const BYTES_MAX: usize = 256 << 10;

/// Where the credentials of a cluster are kept, by its name. `folder`: that of clusters.
pub fn kept_kubeconfigs(folder: PathBuf) -> impl Fn(&str) -> Option<PathBuf> + Send + Sync {
    move |cluster| Some(kept_kubeconfig(&folder, &Name::new(cluster).ok()?))
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

#[cfg(test)]
mod tests {
    use std::fs;
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
}
