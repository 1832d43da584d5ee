//! Which disks a backup saves, as far as its source says so for certain.
//!
//! Pure. Where it is not certain (a pattern may leave the file out, the file may lie on another file
//! system) the answer is no: whoever relies on a backup has to know.

use std::collections::BTreeSet;
use std::path::Path;

use crate::model::resource::{Backup, BackupPaths, BackupSource};
use crate::model::{Resource, ResourceId};

/// The disks among `resources` that `backup` saves.
#[must_use]
pub fn saved_by<'a>(
    backup: &Backup,
    resources: impl Iterator<Item = (&'a ResourceId, &'a Resource)>,
) -> BTreeSet<ResourceId> {
    let all: Vec<_> = resources.collect();
    let guest = match &backup.source {
        BackupSource::Guest(guest) => Some(guest.part.id()),
        _ => None,
    };
    let machine = all.iter().find(|it| Some(it.0) == guest.as_ref()).map(|it| it.1);
    let saved = all.iter().filter(|(id, resource)| match (&backup.source, resource) {
        (BackupSource::Paths(paths), Resource::Disk(disk)) => {
            disk.backing.is_none() && holds(paths, Path::new(&disk.path))
        }
        (BackupSource::Guest(_), Resource::Disk(disk)) => {
            guest.as_ref() == Some(*id) || machine.is_some_and(|it| writes_to(it, &disk.path))
        }
        _ => false,
    });
    saved.map(|(id, _)| (*id).clone()).collect()
}

/// The disks among `resources` of which `backup` saves the file, and not what they are together with the
/// image that they lie on: an image of that name may be made of other bytes later, and such a disk on it
/// is damaged.
#[must_use]
pub fn saved_in_part<'a>(
    backup: &Backup,
    resources: impl Iterator<Item = (&'a ResourceId, &'a Resource)>,
) -> BTreeSet<ResourceId> {
    let BackupSource::Paths(paths) = &backup.source else { return BTreeSet::new() };
    let part = resources.filter(|(_, resource)| match resource {
        Resource::Disk(disk) => disk.backing.is_some() && holds(paths, Path::new(&disk.path)),
        _ => false,
    });
    part.map(|(id, _)| id.clone()).collect()
}

/// Whether it is a machine with this file as a disk that it may write to.
fn writes_to(resource: &Resource, file: &str) -> bool {
    let Resource::VirtualMachine(machine) = resource else { return false };
    let mut disks = machine.disks.iter().filter(|disk| !disk.read_only);
    disks.any(|disk| disk.path.as_deref() == Some(file))
}

fn holds(paths: &BackupPaths, file: &Path) -> bool {
    let mut folders = paths.paths.iter().map(Path::new);
    paths.exclude.is_empty()
        && folders.any(|path| file == path || (!paths.one_file_system && file.starts_with(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_saved_for_certain_counts() {
        let paths = |paths: &[&str]| BackupPaths {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            exclude: Vec::new(),
            one_file_system: false,
        };
        let file = Path::new("/srv/pool/db.qcow2");
        assert!(holds(&paths(&["/etc", "/srv/pool"]), file));
        assert!(holds(&paths(&["/srv/pool/db.qcow2"]), file));
        assert!(!holds(&paths(&["/srv/poo"]), file));
        let excluding = BackupPaths { exclude: vec!["*.tmp".into()], ..paths(&["/srv"]) };
        assert!(!holds(&excluding, file), "a pattern may mean it");
        let one = |path: &str| BackupPaths { one_file_system: true, ..paths(&[path]) };
        assert!(!holds(&one("/srv"), file) && holds(&one("/srv/pool/db.qcow2"), file));
    }
}
