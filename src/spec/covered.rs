//! Which disks a backup saves, as far as its source says so for certain.
//!
//! Pure. Where it is not certain (a pattern may leave the file out, the file may lie on another file
//! system) the answer is no: whoever relies on a backup has to know.

use std::collections::BTreeSet;
use std::path::Path;

use crate::model::resource::{Backup, BackupGuest, BackupPaths, BackupSource, Disk, GuestPart};
use crate::model::{Kind, Resource, ResourceId};

/// The disks among `resources` that `backup` saves.
#[must_use]
pub fn saved_by<'a>(
    backup: &Backup,
    resources: impl Iterator<Item = (&'a ResourceId, &'a Resource)>,
) -> BTreeSet<ResourceId> {
    let all: Vec<_> = resources.collect();
    let machine = match &backup.source {
        BackupSource::Guest(BackupGuest { part: GuestPart::Machine { name }, .. }) => {
            let id = ResourceId::new(Kind::VirtualMachine, name.clone());
            all.iter().find(|(other, _)| **other == id).map(|(_, machine)| *machine)
        }
        _ => None,
    };
    let saved = all.iter().filter(|(id, resource)| match (&backup.source, resource) {
        (BackupSource::Paths(paths), Resource::Disk(disk)) => holds(paths, Path::new(&disk.path)),
        (BackupSource::Guest(guest), Resource::Disk(disk)) => match &guest.part {
            GuestPart::Disk { path, .. } => guest.part.id() == **id && *path == disk.path,
            GuestPart::Machine { .. } => machine.is_some_and(|machine| writes(machine, disk)),
        },
        _ => false,
    });
    saved.map(|(id, _)| (*id).clone()).collect()
}

/// Whether a machine writes to a disk: what it only reads is not saved with it.
fn writes(machine: &Resource, disk: &Disk) -> bool {
    let Resource::VirtualMachine(vm) = machine else { return false };
    vm.disks.iter().any(|it| !it.read_only && it.path.as_deref() == Some(disk.path.as_str()))
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
