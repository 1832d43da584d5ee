//! What a recovered log says is missing on the machine: disks whose data is in a backup, and secrets.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::model::resource::{self, BackupRemote};
use crate::model::{Kind, Name, Resource, ResourceId};
use crate::spec::{saved_by, saved_in_part};
use crate::state::{GoodSnapshot, State};

/// A disk whose data is in a backup and not on the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HeldDisk {
    pub(super) disk: ResourceId,
    /// Where its data is; of several backups the one with the newest. `None`: the log knows of none any
    /// more.
    pub(super) backup: Option<ResourceId>,
    /// Where it belongs.
    pub(super) path: String,
    /// Why it did not come back, where that was tried or cannot be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why_not: Option<String>,
    /// Nobody but a person brings it back.
    #[serde(skip)]
    pub(super) by_hand: bool,
}

impl HeldDisk {
    /// Where its data is, for people.
    pub(super) fn data_in(&self) -> String {
        self.backup
            .as_ref()
            .map_or_else(|| "no backup that is known".to_owned(), ToString::to_string)
    }

    /// What is in the backup, that it did not come back and why, and what to do then.
    pub(super) fn not_back(&self, why: &str) -> String {
        let (disk, backup) = (&self.disk, self.data_in());
        match self.by_hand {
            false => format!(
                "its data is in {backup} and did not come back: {why}; then `trueup recover disks`, \
                 or bring it back yourself and `trueup release {disk}`"
            ),
            true => format!(
                "only a part of its data is in {backup}: {why}; then `trueup release {disk}`"
            ),
        }
    }
}

/// What is ours, as the log has it.
fn claims(known: &State) -> impl Iterator<Item = (&ResourceId, &Resource)> + Clone {
    let claims = known.resources.iter();
    claims.filter_map(|(id, it)| Some((id, it.claim.as_ref()?.resource.as_ref()?)))
}

/// The disks that are not there and whose data is in a backup.
pub(super) fn held(known: &State) -> Vec<HeldDisk> {
    let mut held = Vec::new();
    for (id, claim) in claims(known) {
        let Resource::Disk(disk) = claim else { continue };
        // A link that leads nowhere has no data; what cannot be looked at may have.
        if Path::new(&disk.path).try_exists().unwrap_or(true) {
            continue;
        }
        let (disk, path) = (id.clone(), disk.path.clone());
        if let Some(backup) = backups_of(known, id).into_iter().next() {
            let backup = Some(backup);
            held.push(HeldDisk { disk, backup, path, why_not: None, by_hand: false });
        } else if let Some(backup) = part_in(known, id) {
            let why_not = Some(only_a_part(&backup, id, &path));
            let backup = Some(backup);
            held.push(HeldDisk { disk, backup, path, why_not, by_hand: true });
        }
    }
    held
}

/// Why the disk does not come back out of a backup that has its file and not its image, and what to do.
pub(super) fn only_a_part(backup: &ResourceId, disk: &ResourceId, path: &str) -> String {
    format!(
        "it lies on an image, which may be made of other bytes by now, and {backup} has what it has \
         over that: restore both out of one snapshot (`trueup backup restore {} --to DIR`), make one \
         file of them (`qemu-img convert`) and move it to {path}; from now on save it with `source: \
         {{disk: {}}}`",
        backup.name, disk.name
    )
}

/// The pools of these disks whose folders are not there: something may be mounted there later.
pub(super) fn pools_missing(known: &State, held: &[HeldDisk]) -> BTreeSet<ResourceId> {
    let pools = claims(known).filter_map(|(id, claim)| match claim {
        Resource::Disk(disk) if held.iter().any(|held| held.disk == *id) => {
            Some(ResourceId::new(Kind::StoragePool, disk.pool.clone()))
        }
        _ => None,
    });
    pools.filter(|pool| folder_of(known, pool).is_some_and(|folder| is_missing(&folder))).collect()
}

/// The folder of a pool, by the disks that lie in it.
pub(super) fn folder_of(known: &State, pool: &ResourceId) -> Option<PathBuf> {
    claims(known).find_map(|(_, claim)| match claim {
        Resource::Disk(disk) if disk.pool == pool.name => {
            Path::new(&disk.path).parent().map(Path::to_owned)
        }
        _ => None,
    })
}

/// Whether a folder is not there; one that cannot be looked at may be.
pub(super) fn is_missing(folder: &Path) -> bool {
    !folder.try_exists().unwrap_or(true)
}

/// The backups with a complete snapshot that has the disk, as far as the log knows: the newest first.
pub(super) fn backups_of(known: &State, disk: &ResourceId) -> Vec<ResourceId> {
    with_snapshots(known, |backup, good| {
        let whole = !saved_in_part(backup, claims(known)).contains(disk);
        whole && (good.of.contains(disk) || saved_by(backup, claims(known)).contains(disk))
    })
}

/// The backup with the newest complete snapshot that has the disk's file and not its image.
pub(super) fn part_in(known: &State, disk: &ResourceId) -> Option<ResourceId> {
    let found =
        with_snapshots(known, |backup, _| saved_in_part(backup, claims(known)).contains(disk));
    found.into_iter().next()
}

/// The backups that `saves` is true of, those with the newest complete snapshot first.
fn with_snapshots(
    known: &State,
    saves: impl Fn(&resource::Backup, &GoodSnapshot) -> bool,
) -> Vec<ResourceId> {
    let mut found: Vec<_> = claims(known)
        .filter_map(|(of, claim)| {
            let Resource::Backup(backup) = claim else { return None };
            let good = known.backup(of).good?;
            saves(backup, &good).then(|| (good.at, of.clone()))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, of)| of).collect()
}

/// The secrets that backups need: no backup holds any.
pub(super) fn secrets(known: &State) -> Vec<Name> {
    let backups = claims(known).filter_map(|(_, claim)| match claim {
        Resource::Backup(backup) => Some(backup),
        _ => None,
    });
    let mut names: Vec<Name> = backups.flat_map(|backup| secrets_of(backup)).collect();
    names.sort();
    names.dedup();
    names
}

fn secrets_of(backup: &resource::Backup) -> impl Iterator<Item = Name> + use<> {
    let login = match &backup.remote {
        Some(BackupRemote::Rest { credentials, .. }) => credentials.clone(),
        Some(BackupRemote::Sftp { identity, .. }) => Some(identity.clone()),
        Some(BackupRemote::S3 { credentials, .. }) => Some(credentials.clone()),
        None => None,
    };
    std::iter::once(backup.key.clone()).chain(login)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::event::body::Claim;
    use crate::model::resource::{Backing, Backup, BackupPaths, BackupSource, Disk, VolumeFormat};
    use crate::state::{BackupState, ResourceState};

    fn claimed(resource: Resource) -> ResourceState {
        let claim = Claim {
            resource: Some(resource),
            prevent_destroy: false,
            orphan: false,
            depends_on: BTreeSet::new(),
        };
        ResourceState { claim: Some(claim), ..ResourceState::default() }
    }

    fn disk(name: &str, image: bool) -> ResourceState {
        let below = Backing { path: "/nowhere/image".into(), format: VolumeFormat::Qcow2 };
        claimed(Resource::Disk(Disk {
            pool: Name::new("fast").unwrap(),
            path: format!("/nowhere/{name}.qcow2"),
            format: VolumeFormat::Qcow2,
            size: 4,
            backing: image.then_some(below),
            on_image_change: None,
            way_back: None,
        }))
    }

    /// A backup of all files of the pool; the log says that its snapshot has both disks.
    fn of_files() -> ResourceState {
        let paths = vec!["/nowhere".to_owned()];
        let source =
            BackupSource::Paths(BackupPaths { paths, exclude: Vec::new(), one_file_system: false });
        let mut backup = claimed(Resource::Backup(Box::new(Backup::plain(source))));
        let of = ["disk/db", "disk/web"].map(|id| id.parse().unwrap()).to_vec();
        let good = Some(GoodSnapshot { id: "a".repeat(64), at: Timestamp::UNIX_EPOCH, of });
        backup.backup = Some(Box::new(BackupState { good, ..BackupState::default() }));
        backup
    }

    #[test]
    fn a_disk_on_an_image_is_held_and_never_taken_out_of_a_backup_of_files() {
        let id = |text: &str| text.parse::<ResourceId>().unwrap();
        let mut known = State::default();
        for (name, it) in [
            ("disk/db", disk("db", false)),
            ("disk/web", disk("web", true)),
            ("backup/pool", of_files()),
        ] {
            known.resources.insert(id(name), it);
        }
        assert_eq!(backups_of(&known, &id("disk/db")), [id("backup/pool")]);
        assert!(backups_of(&known, &id("disk/web")).is_empty(), "whatever an older log says");
        assert_eq!(part_in(&known, &id("disk/web")), Some(id("backup/pool")));
        assert_eq!(part_in(&known, &id("disk/db")), None);
        let held = held(&known);
        let shown: Vec<_> = held.iter().map(|it| (it.disk.to_string(), it.by_hand)).collect();
        assert_eq!(shown, [("disk/db".to_owned(), false), ("disk/web".to_owned(), true)]);
        let why = held[1].not_back(held[1].why_not.as_ref().unwrap());
        assert!(why.contains("only a part of its data is in backup/pool"), "{why}");
        assert!(why.contains("trueup backup restore pool") && !why.contains("recover"), "{why}");
        assert!(why.ends_with("then `trueup release disk/web`"), "{why}");
        assert_eq!(pools_missing(&known, &held), BTreeSet::from([id("pool/fast")]));
        assert_eq!(folder_of(&known, &id("pool/fast")).unwrap(), Path::new("/nowhere"));
        assert!(pools_missing(&known, &[]).is_empty(), "nothing in it waits");
    }
}
