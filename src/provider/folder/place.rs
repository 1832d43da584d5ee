//! From the path of a folder to the folder that it is made in, opened: below one that the host's config
//! allows, through no link, and with nobody but us who may write to any part of the way.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, open, openat2};

use super::FolderProvider;
use crate::model::Name;
use crate::model::resource::ReleasePlace;

/// How folders are opened: to be listed and written to, never through a link.
pub(super) const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A path below a folder, and nowhere else, whatever is put in its way.
pub(super) const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Where a folder is made.
#[derive(Debug)]
pub(super) struct Place {
    /// The folder that it is in.
    pub(super) parent: OwnedFd,
    /// Its own name.
    pub(super) name: String,
    /// Name of the folder with its versions.
    pub(super) store: String,
    /// The whole path, for people.
    pub(super) path: PathBuf,
}

impl FolderProvider {
    /// Opens the place of a release.
    ///
    /// # Errors
    /// In words: it is not allowed, not there, or others may write to it.
    pub(super) fn place(&self, place: &ReleasePlace) -> Result<Place, String> {
        let (cluster, name) = (&place.cluster, place.name.clone());
        let parent = Path::new(&place.namespace);
        let path = parent.join(&name);
        let plain =
            parent.components().all(|it| matches!(it, Component::RootDir | Component::Normal(_)));
        if !plain || name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(format!("{} is no plain path", path.display()));
        }
        let root = self.allowed(cluster, parent, &path)?;
        let below = parent.strip_prefix(root).map_err(|error| error.to_string())?;
        let mut at = root.to_owned();
        let failed = |at: &Path, error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => {
                format!("{} is not there: make it, for root alone to write to", at.display())
            }
            _ => format!("{} cannot be used: {error} (links are not followed)", at.display()),
        };
        // The host's own config may name it by a link; nothing below it is one.
        let opened = open(root, FOLDER.difference(OFlags::NOFOLLOW), Mode::empty());
        let mut folder = opened.map_err(|error| failed(&at, error.into()))?;
        guarded(&folder, &at)?;
        for part in below.components() {
            at.push(part);
            let next = openat2(&folder, part.as_os_str(), FOLDER, Mode::empty(), BENEATH);
            folder = next.map_err(|error| failed(&at, error.into()))?;
            guarded(&folder, &at)?;
        }
        let store = format!(".trueup-{name}");
        Ok(Place { parent: folder, name, store, path })
    }

    /// The folder of the config that allows this one: the closest.
    fn allowed(&self, cluster: &Name, parent: &Path, path: &Path) -> Result<&Path, String> {
        let all = self.setup.shared.get(cluster).map(Vec::as_slice).unwrap_or_default();
        let fitting = all.iter().filter(|folder| parent.starts_with(folder));
        fitting.max_by_key(|folder| folder.as_os_str().len()).map(PathBuf::as_path).ok_or_else(
            || {
                format!(
                    "the config of this host does not allow {}: name a folder above it in \
                 `clusters.{cluster}.shared`",
                    path.display()
                )
            },
        )
    }
}

/// Refuses a folder that others than us may write to: they could put anything in our way.
///
/// # Errors
/// In words, what is wrong with it.
pub(super) fn guarded(folder: &OwnedFd, path: &Path) -> Result<(), String> {
    let seen = fstat(folder).map_err(|error| format!("{}: {error}", path.display()))?;
    let own = rustix::process::geteuid().as_raw();
    if seen.st_uid != own && seen.st_uid != 0 {
        return Err(format!(
            "{} belongs to the user {}: `chown root` it, or whoever that is decides what is run from it",
            path.display(),
            seen.st_uid
        ));
    }
    let mode = seen.st_mode & 0o7777;
    if mode & 0o022 != 0 {
        return Err(format!(
            "{} may be written to by others (mode {mode:04o}): `chmod go-w` it, or they decide what is run \
             from it",
            path.display()
        ));
    }
    Ok(())
}
