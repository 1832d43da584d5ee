//! Files inside a tree that is not trusted to be tame: every path is resolved as if the tree were the
//! whole world, so that a link to `/etc/passwd` in it leads to the tree's own.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid, fchown, mkdirat, open, openat2, unlinkat,
};
use rustix::io::Errno;

use super::super::error::ImageError;

/// A directory that acts as `/`.
pub(super) struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

impl Root {
    pub(super) fn open(path: &Path) -> Result<Self, ImageError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = open(path, flags, Mode::empty())
            .map_err(|e| ImageError::file("open", path)(e.into()))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// For `map_err`: what failed, at which path inside.
    fn failed<E: Into<io::Error>>(
        &self,
        doing: &'static str,
        inside: &str,
    ) -> impl FnOnce(E) -> ImageError {
        let path = self.path.join(inside.trim_start_matches('/'));
        move |e| ImageError::file(doing, path)(e.into())
    }

    fn at(&self, inside: &str, flags: OFlags, mode: u32) -> Result<OwnedFd, Errno> {
        openat2(
            &self.fd,
            inside,
            flags | OFlags::CLOEXEC,
            Mode::from_raw_mode(mode),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    }

    fn dir(&self, inside: &str) -> Result<OwnedFd, Errno> {
        let inside = if inside.is_empty() { "/" } else { inside };
        self.at(inside, OFlags::PATH | OFlags::DIRECTORY, 0)
    }

    /// Makes a directory and those above it, 0755 and root's, where they are missing.
    pub(super) fn make_dir(&self, inside: &str) -> Result<(), ImageError> {
        let mut done = String::new();
        for part in inside.split('/').filter(|part| !part.is_empty()) {
            let above = self.dir(&done).map_err(self.failed("open", &done))?;
            done = format!("{done}/{part}");
            match self.dir(&done) {
                Ok(_) => {}
                Err(Errno::NOENT) => mkdirat(&above, part, Mode::from_raw_mode(0o755))
                    .map_err(self.failed("make", &done))?,
                Err(error) => return Err(self.failed("open", &done)(error)),
            }
        }
        Ok(())
    }

    /// Writes a file, replacing what is there; a link at its end is replaced, not followed.
    pub(super) fn write(
        &self,
        inside: &str,
        content: &[u8],
        mode: u32,
        owner: (u32, u32),
    ) -> Result<(), ImageError> {
        let (dir, name) = inside.rsplit_once('/').unwrap_or(("", inside));
        self.make_dir(dir)?;
        self.remove(inside)?;
        let parent = self.dir(dir).map_err(self.failed("open", dir))?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600))
            .map_err(self.failed("make", inside))?;
        let mut file = File::from(fd);
        file.write_all(content).map_err(self.failed("write", inside))?;
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        // Owner first: changing it clears the set-user-ID bits of the mode.
        fchown(&file, Some(uid), Some(gid)).map_err(self.failed("give away", inside))?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))
            .map_err(self.failed("set the mode of", inside))
    }

    /// Reads a file of the tree.
    pub(super) fn read(&self, inside: &str) -> Result<String, ImageError> {
        let fd = self.at(inside, OFlags::RDONLY, 0).map_err(self.failed("open", inside))?;
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).map_err(self.failed("read", inside))?;
        Ok(text)
    }

    /// Removes a file or link; a missing one is fine.
    pub(super) fn remove(&self, inside: &str) -> Result<(), ImageError> {
        let (dir, name) = inside.rsplit_once('/').unwrap_or(("", inside));
        let parent = match self.dir(dir) {
            Ok(parent) => parent,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(self.failed("open", dir)(error)),
        };
        match unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed("remove", inside)(error)),
        }
    }

    /// Gives a directory another owner and mode.
    pub(super) fn own_dir(
        &self,
        inside: &str,
        mode: u32,
        owner: (u32, u32),
    ) -> Result<(), ImageError> {
        let dir = self
            .at(inside, OFlags::RDONLY | OFlags::DIRECTORY, 0)
            .map_err(self.failed("open", inside))?;
        let dir = File::from(dir);
        fchown(&dir, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))
            .map_err(self.failed("give away", inside))?;
        dir.set_permissions(std::fs::Permissions::from_mode(mode))
            .map_err(self.failed("set the mode of", inside))
    }

    /// The names in a directory, sorted; none where it is missing.
    pub(super) fn list(&self, inside: &str) -> Result<Vec<String>, ImageError> {
        let fd = match self.at(inside, OFlags::RDONLY | OFlags::DIRECTORY, 0) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(error) => return Err(self.failed("list", inside)(error)),
        };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&fd).map_err(self.failed("list", inside))? {
            let entry = entry.map_err(self.failed("list", inside))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn me() -> (u32, u32) {
        (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
    }

    #[test]
    fn links_in_the_tree_never_lead_out_of_it() {
        let outer = tempfile::tempdir().unwrap();
        let victim = outer.path().join("victim");
        std::fs::create_dir(&victim).unwrap();
        std::fs::write(victim.join("f"), "old").unwrap();
        let tree = outer.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        symlink(&victim, tree.join("abs")).unwrap();
        symlink("../victim", tree.join("rel")).unwrap();
        symlink(victim.join("f"), tree.join("file")).unwrap();
        let root = Root::open(&tree).unwrap();

        // An absolute link is followed inside the tree, where its target does not exist.
        assert!(root.write("/abs/f", b"new", 0o644, me()).is_err());
        // `..` stops at the tree's top.
        assert!(root.write("/rel/f", b"new", 0o644, me()).is_err());
        // The link itself is replaced.
        root.write("/file", b"new", 0o640, me()).unwrap();
        assert!(root.read("/abs/f").is_err());

        assert_eq!(std::fs::read_to_string(victim.join("f")).unwrap(), "old");
        let meta = std::fs::symlink_metadata(tree.join("file")).unwrap();
        assert!(meta.is_file() && meta.mode() & 0o7777 == 0o640);
    }

    #[test]
    fn links_within_the_tree_are_followed() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("usr")).unwrap();
        symlink("/usr", tree.path().join("lib")).unwrap();
        let root = Root::open(tree.path()).unwrap();
        root.write("/lib/a/b", b"x", 0o644, me()).unwrap();
        assert_eq!(std::fs::read(tree.path().join("usr/a/b")).unwrap(), b"x");
        assert_eq!(root.list("/lib").unwrap(), ["a"]);
        assert_eq!(root.list("/missing").unwrap(), Vec::<String>::new());
        root.remove("/lib/a/b").unwrap();
        root.remove("/lib/a/b").unwrap();
    }
}
