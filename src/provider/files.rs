//! Finding content-addressed files of ours: `<prefix>-<name>-<12 digits>.<ending>`.
//!
//! Shared by the providers of images and of cloud-init media. It only looks, and never follows a
//! symbolic link.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::model::{
    Fault, Kind, Name, Observation, Observed, Ownership, Resource, ResourceId, Stale,
};
use crate::port::Scope;

/// Digits of a digest in a file name; as many as [`crate::model::Digest::short`] gives.
const DIGITS: usize = 12;

/// How the files of one kind are named, and what one of them stands for.
pub(super) struct Naming {
    /// The kind they belong to.
    pub(super) kind: Kind,
    /// The first word of their names.
    pub(super) prefix: &'static str,
    /// The endings of the files themselves; companions have others.
    pub(super) endings: &'static [&'static str],
}

impl Naming {
    /// The resource a file belongs to, by its name.
    pub(super) fn owner(&self, path: &Path) -> Option<ResourceId> {
        let ending = path.extension()?.to_str()?;
        let stem = path.file_stem()?.to_str()?;
        let rest = stem.strip_prefix(self.prefix)?.strip_prefix('-')?;
        let (name, digits) = rest.rsplit_once('-')?;
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let ours =
            self.endings.contains(&ending) && digits.len() == DIGITS && digits.bytes().all(hex);
        Name::new(name).ok().filter(|_| ours).map(|name| ResourceId::new(self.kind, name))
    }

    /// Everything of this kind in the folders where it may lie. `there` says what a file that is
    /// asked for is, or that it is not whole.
    pub(super) fn observe(
        &self,
        scope: &Scope,
        path_of: impl Fn(&Resource) -> Option<&str>,
        there: impl Fn(&Resource) -> Option<Resource>,
    ) -> Result<Observed, Fault> {
        let mut observed = Observed::default();
        let mut wanted = BTreeSet::new();
        for (id, wish) in &scope.desired.resources {
            let Some(path) = path_of(&wish.resource) else { continue };
            wanted.insert(PathBuf::from(path));
            if let Some(config) = there(&wish.resource) {
                observed.resources.insert(id.clone(), seen(config));
            }
        }
        for folder in folders(scope, &path_of) {
            for path in files_in(&folder)? {
                let Some(resource) = self.owner(&path) else { continue };
                if !wanted.contains(&path) {
                    let path = path.to_string_lossy().into_owned();
                    observed.stale.push(Stale { resource, path });
                }
            }
        }
        observed.stale.sort();
        Ok(observed)
    }
}

fn seen(config: Resource) -> Observation {
    Observation {
        ownership: Ownership::Unmarked,
        config,
        live: None,
        active: true,
        uuid: None,
        unplugged: Vec::new(),
    }
}

/// The folders of the pools, and those that files were made in before.
fn folders(scope: &Scope, path_of: impl Fn(&Resource) -> Option<&str>) -> BTreeSet<PathBuf> {
    let desired = scope.desired.resources.values().map(|wish| &wish.resource);
    let folder = |resource: &Resource| match resource {
        Resource::StoragePool(pool) => Some(PathBuf::from(&pool.path)),
        other => Path::new(path_of(other)?).parent().map(Path::to_path_buf),
    };
    desired.chain(scope.claims.values()).filter_map(folder).collect()
}

/// The plain files of a folder; none where there is no such folder yet.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let unreadable = |error: std::io::Error| {
        Fault::unobservable(format!("{}: cannot be listed: {error}", folder.display()))
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        if entry.file_type().map_err(unreadable)?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Removes a file; whether it was there.
pub(super) fn remove(path: &Path) -> Result<bool, Fault> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => {
            Err(Fault::transient(format!("{}: cannot be removed: {error}", path.display())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_ours() {
        let naming = Naming { kind: Kind::Image, prefix: "image", endings: &["qcow2", "raw"] };
        let owner = |name: &str| naming.owner(Path::new(name)).map(|id| id.to_string());
        assert_eq!(
            owner("/p/image-debian-12-0123456789ab.qcow2").as_deref(),
            Some("image/debian-12")
        );
        for other in [
            "/p/image-debian-0123456789ab.vmlinuz",
            "/p/image-debian-0123456789AB.qcow2",
            "/p/image-debian-0123.qcow2",
            "/p/image-0123456789ab.qcow2",
            "/p/seed-debian-0123456789ab.raw",
            "/p/image-De-0123456789ab.raw",
            "/p/.qcow2",
        ] {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
