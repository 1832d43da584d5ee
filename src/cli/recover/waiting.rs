//! What a recovered log says is missing on the machine: disks whose data is in a backup, and secrets.

use std::path::Path;

use serde::Serialize;

use crate::model::resource::{self, BackupRemote};
use crate::model::{Name, Resource, ResourceId};
use crate::spec::saved_by;
use crate::state::State;

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
    /// Why it did not come back, where that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why_not: Option<String>,
}

impl HeldDisk {
    /// Where its data is, for people.
    pub(super) fn data_in(&self) -> String {
        self.backup
            .as_ref()
            .map_or_else(|| "no backup that is known".to_owned(), ToString::to_string)
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
        if let Some(backup) = backups_of(known, id).into_iter().next() {
            let path = disk.path.clone();
            let (disk, backup) = (id.clone(), Some(backup));
            held.push(HeldDisk { disk, backup, path, why_not: None });
        }
    }
    held
}

/// The backups with a complete snapshot that has the disk, as far as the log knows: the newest first.
pub(super) fn backups_of(known: &State, disk: &ResourceId) -> Vec<ResourceId> {
    let mut found: Vec<_> = claims(known)
        .filter_map(|(of, claim)| {
            let Resource::Backup(backup) = claim else { return None };
            let good = known.backup(of).good?;
            let saves = good.of.contains(disk) || saved_by(backup, claims(known)).contains(disk);
            saves.then(|| (good.at, of.clone()))
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
