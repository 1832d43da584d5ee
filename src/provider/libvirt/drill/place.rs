//! Who may look at what a drill brought back: root, and for the time of a boot QEMU.
//!
//! Nothing is ever followed that is no plain file: what came back may hold links to anywhere.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use crate::provider::paths::named;

/// The attribute that an access control list is kept in (acl(5)).
const ACL: &str = "system.posix_acl_access";

/// Whom QEMU runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl User {
    /// The first folder on the way to `folder` that does not let it through. One that is not there yet
    /// will be made so that it does.
    pub(super) fn barred(self, folder: &Path) -> io::Result<Option<PathBuf>> {
        if self.uid == 0 {
            return Ok(None);
        }
        // The folder itself is given to it.
        for above in folder.ancestors().skip(1).filter(|it| !it.as_os_str().is_empty()) {
            let seen = match fs::metadata(above) {
                Ok(seen) => seen,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(named(above, &error)),
            };
            if !self.passes(&seen) && !has_list(above) {
                return Ok(Some(above.to_owned()));
            }
        }
        Ok(None)
    }

    fn passes(self, folder: &Metadata) -> bool {
        let bit = if folder.uid() == self.uid {
            0o100
        } else if folder.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        folder.mode() & bit != 0
    }

    /// Gives it a file or a folder, and takes it from everybody else.
    pub(super) fn given(self, path: &Path, mode: u32) -> io::Result<()> {
        let give = || {
            chown(path, Some(self.uid), Some(self.gid))?;
            fs::set_permissions(path, Permissions::from_mode(mode))
        };
        give().map_err(|error| named(path, &error))
    }

    /// Lets it through a folder, in which it can change nothing.
    pub(super) fn let_through(self, folder: &Path) -> io::Result<()> {
        let give = || {
            chown(folder, None, Some(self.gid))?;
            fs::set_permissions(folder, Permissions::from_mode(0o710))
        };
        give().map_err(|error| named(folder, &error))
    }
}

/// Whether somebody gave a folder a list of who may do what: then its mode does not say.
fn has_list(folder: &Path) -> bool {
    rustix::fs::getxattr(folder, ACL, &mut [0_u8; 1024]).is_ok_and(|length| length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_lets_nobody_through_bars_the_way() {
        let host = tempfile::tempdir().unwrap();
        let folder = host.path().join("a/b/trueup-drill-web");
        fs::create_dir_all(&folder).unwrap();
        let mode = |path: &str, mode| {
            fs::set_permissions(host.path().join(path), Permissions::from_mode(mode)).unwrap();
        };
        fs::set_permissions(host.path(), Permissions::from_mode(0o711)).unwrap();
        let (of, other) = (fs::metadata(&folder).unwrap(), User { uid: 64_055, gid: 64_055 });
        mode("a", 0o711);
        mode("a/b", 0o711);
        mode("a/b/trueup-drill-web", 0o700);
        assert_eq!(other.barred(&folder).unwrap(), None);
        mode("a", 0o750);
        assert_eq!(other.barred(&folder).unwrap(), Some(host.path().join("a")));
        assert_eq!(User { gid: of.gid(), ..other }.barred(&folder).unwrap(), None);
        assert_eq!(User { uid: 0, gid: 0 }.barred(&folder).unwrap(), None);
        // What is not there yet bars nobody.
        mode("a", 0o711);
        assert_eq!(other.barred(&host.path().join("a/new/trueup-drill-web")).unwrap(), None);
    }
}
