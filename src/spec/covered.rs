//! Which disks a backup saves, as far as its source says so for certain.
//!
//! Pure. Where it is not certain (a pattern may leave the file out, the file may lie on another file
//! system) the answer is no: whoever relies on a backup has to know.

use std::collections::BTreeSet;
use std::path::Path;

use crate::model::resource::{Backup, BackupGuest, BackupPaths, BackupSource, GuestPart};
use crate::model::{Resource, ResourceId};

/// The disks among `resources` that `backup` saves.
#[must_use]
pub fn saved_by<'a>(
    backup: &Backup,
    resources: impl Iterator<Item = (&'a ResourceId, &'a Resource)>,
) -> BTreeSet<ResourceId> {
    let all: Vec<_> = resources.collect();
    let machine = |id: ResourceId| {
        all.iter().find_map(|(of, resource)| match resource {
            Resource::VirtualMachine(machine) if **of == id => Some(machine),
            _ => None,
        })
    };
    let writes_to = match &backup.source {
        BackupSource::Guest(BackupGuest { part: part @ GuestPart::Machine { .. }, .. }) => {
            machine(part.id()).map(|machine| &machine.disks)
        }
        _ => None,
    };
    let saved = all.iter().filter(|(id, resource)| match (&backup.source, resource) {
        (BackupSource::Paths(paths), Resource::Disk(disk)) => holds(paths, Path::new(&disk.path)),
        (BackupSource::Guest(guest), Resource::Disk(disk)) => {
            guest.part.id() == **id
                || writes_to.into_iter().flatten().any(|attached| {
                    !attached.read_only && attached.path.as_ref() == Some(&disk.path)
                })
        }
        _ => false,
    });
    saved.map(|(id, _)| (*id).clone()).collect()
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
