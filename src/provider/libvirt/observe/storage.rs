//! Pools, and the disks in them.
//!
//! A pool that cannot be looked into hides its disks; hidden is not absent.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use trueup_libvirt::{Client, Code, PoolRecord, VolumeRecord};
use uuid::Uuid;

use super::super::fault;
use super::super::xml::pool;
use super::memory::Look;
use super::{id, unreadable};
use crate::model::resource::{Disk, StoragePool, VolumeFormat};
use crate::model::{Fault, Kind, Name, Observation, Observed, Ownership, Resource, ResourceId};
use crate::port::Scope;

/// Prefixes of files in a pool that are other providers' business: images and cloud-init media.
const OTHERS: [&str; 2] = ["image-", "seed-"];

/// Suffixes of files in a pool that are no disks: consoles and unfinished downloads.
const NO_DISKS: [&str; 3] = [".log", ".partial", ".part"];

pub(super) async fn look_at_pools(
    client: &Client,
    scope: &Scope,
    look: &mut Look<'_>,
    seen: &mut Observed,
    records: &[PoolRecord],
) -> Result<(), Fault> {
    let mut found = BTreeMap::new();
    let mut disks = Disks { look, asked: asked_for(scope) };
    for record in records {
        let parsed = match pool::parse(&record.xml) {
            Ok(parsed) => parsed,
            Err(error) => {
                unreadable(seen, Kind::StoragePool, &record.name, error);
                continue;
            }
        };
        let id = id(Kind::StoragePool, &record.name);
        let ours_to_be = parsed.kind == "dir" && record.persistent;
        let observation = Observation {
            ownership: if ours_to_be { Ownership::Unmarked } else { Ownership::Foreign },
            config: Resource::StoragePool(StoragePool {
                path: parsed.path.clone(),
                autostart: record.autostart,
            }),
            live: None,
            active: record.active,
            uuid: Uuid::parse_str(&record.uuid).ok(),
            unplugged: Vec::new(),
        };
        seen.resources.insert(id.clone(), observation);
        if ours_to_be && id.name.as_str() == record.name {
            look_into_pool(client, scope, &mut disks, seen, record, &id.name, &mut found).await?;
        }
    }
    let hidden: Vec<Name> = seen
        .unreadable
        .keys()
        .filter(|id| id.kind == Kind::StoragePool)
        .map(|id| id.name.clone())
        .collect();
    for pool in hidden {
        for id in wanted_in(scope, &pool, None) {
            let why = format!("its pool `{pool}` cannot be read");
            seen.unreadable.insert(id, why);
        }
    }
    seen.unreadable.extend(without_pool(scope, seen));
    // What one pool hides, another may have shown.
    seen.unreadable.retain(|id, _| !found.contains_key(id));
    seen.resources.extend(found);
    Ok(())
}

/// Files the disks of one pool into `found`; those of a pool that cannot be looked into are
/// unreadable rather than absent.
async fn look_into_pool(
    client: &Client,
    scope: &Scope,
    disks: &mut Disks<'_, '_>,
    seen: &mut Observed,
    record: &PoolRecord,
    pool: &Name,
    found: &mut BTreeMap<ResourceId, Observation>,
) -> Result<(), Fault> {
    let volumes = if record.active {
        match client.refresh_pool(&record.name).await {
            Ok(()) => client.volumes(&record.name).await,
            Err(error) => Err(error),
        }
        .map_err(|error| {
            let lost = matches!(error.code, Code::ConnectionLost | Code::Timeout | Code::Closed);
            (lost, fault::observation(&error), error.message)
        })
    } else {
        let why = format!("its pool `{pool}` is not started");
        Err((false, Fault::unobservable(why.clone()), why))
    };
    match volumes {
        Ok(volumes) => {
            for (name, error) in &volumes.failed {
                for id in wanted_in(scope, pool, Some(name)) {
                    seen.unreadable.insert(id, error.message.clone());
                }
            }
            for volume in &volumes.items {
                look_at_volume(scope, disks, seen, pool, volume, found);
            }
        }
        Err((true, fault, _)) => return Err(fault),
        Err((false, _, why)) => {
            for id in wanted_in(scope, pool, None) {
                seen.unreadable.insert(id, why.clone());
            }
        }
    }
    Ok(())
}

/// Disks that are ours, no longer asked for, and were made in a pool that libvirt does not have: their
/// files may well be there. One that is asked for is looked for again once its pool is.
fn without_pool(scope: &Scope, seen: &Observed) -> BTreeMap<ResourceId, String> {
    let claimed = scope.claims.iter().filter_map(|(id, claim)| {
        let Resource::Disk(disk) = claim else {
            return None;
        };
        let pool = ResourceId::new(Kind::StoragePool, disk.pool.clone());
        let hidden = !scope.desired.resources.contains_key(id)
            && !seen.resources.contains_key(&pool)
            && !seen.unreadable.contains_key(&pool);
        let why = || {
            format!(
                "its pool `{}` is not defined in libvirt, so nobody can say whether {} is still \
                 there; define the pool again, and it is looked for and removed",
                disk.pool, disk.path
            )
        };
        hidden.then(|| (id.clone(), why()))
    });
    claimed.collect()
}

/// Disks asked for in `pool`, or known and no longer asked for: any pool may hold those. With a
/// `file`, only those whose file it is.
fn wanted_in(scope: &Scope, pool: &Name, file: Option<&str>) -> BTreeSet<ResourceId> {
    let asked = scope.desired.resources.iter().filter_map(|(id, want)| {
        let Resource::Disk(disk) = &want.resource else {
            return None;
        };
        let here = disk.pool == *pool && file.is_none_or(|file| file_name(&disk.path) == file);
        here.then(|| id.clone())
    });
    let known = scope.known.iter().filter(|id| {
        id.kind == Kind::Disk
            && !scope.desired.resources.contains_key(id)
            && file.is_none_or(|file| stem(file) == id.name.as_str())
    });
    asked.chain(known.cloned()).collect()
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn stem(file: &str) -> &str {
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}

/// What volumes are looked at with.
struct Disks<'a, 'm> {
    look: &'a mut Look<'m>,
    asked: HashMap<&'a str, &'a ResourceId>,
}

/// The disks that are asked for, by their file; of two for one file, the first. Also those that were
/// made and are no longer asked for: a disk that was renamed keeps its file, so the file's name may
/// be an older one than its own.
fn asked_for(scope: &Scope) -> HashMap<&str, &ResourceId> {
    let desired = &scope.desired.resources;
    let made = scope.claims.iter().filter(|(id, _)| !desired.contains_key(*id));
    let asked = desired.iter().rev().map(|(id, want)| (id, &want.resource));
    let disks = made.chain(asked).filter_map(|(id, resource)| match resource {
        Resource::Disk(disk) => Some((disk.path.as_str(), id)),
        _ => None,
    });
    disks.collect()
}

/// Whose disk a file is: that of the resource that asks for this path, else the one of its name.
fn disk_id(asked: &HashMap<&str, &ResourceId>, path: &str) -> Option<(ResourceId, bool)> {
    if let Some(id) = asked.get(path) {
        return Some(((*id).clone(), true));
    }
    let file = file_name(path);
    let other = OTHERS.iter().any(|prefix| file.starts_with(prefix))
        || NO_DISKS.iter().any(|suffix| file.ends_with(suffix));
    if other {
        return None;
    }
    let name = Name::new(stem(file)).ok()?;
    Some((ResourceId::new(Kind::Disk, name), false))
}

fn look_at_volume(
    scope: &Scope,
    disks: &mut Disks<'_, '_>,
    seen: &mut Observed,
    pool: &Name,
    record: &VolumeRecord,
    found: &mut BTreeMap<ResourceId, Observation>,
) {
    let parsed = match disks.look.volume(&record.xml) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Its path is not known, but what is asked for under that name is.
            for id in wanted_in(scope, pool, Some(&record.name)) {
                seen.unreadable.insert(id, error.to_string());
            }
            return;
        }
    };
    let Some((id, exact)) = disk_id(&disks.asked, &parsed.path) else {
        return;
    };
    // The file that is asked for wins over one of the same name in another place.
    if !exact && found.contains_key(&id) {
        return;
    }
    let format = match parsed.format {
        Some(format) => format,
        // Nobody's file of another kind is no disk; one that is asked for is a broken one.
        None if !exact => return,
        None => VolumeFormat::Raw,
    };
    let disk = Disk {
        pool: pool.clone(),
        path: parsed.path.clone(),
        format,
        size: parsed.capacity,
        backing: parsed.backing.clone(),
        on_image_change: None,
        way_back: None,
    };
    let observation = Observation {
        ownership: Ownership::Unmarked,
        config: Resource::Disk(disk),
        live: None,
        active: true,
        uuid: None,
        unplugged: Vec::new(),
    };
    found.insert(id, observation);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::spec::{Desired, SyncSettings};

    #[test]
    fn a_renamed_disk_is_found_by_the_file_that_it_kept() {
        let disk = Disk {
            pool: Name::new("fast").unwrap(),
            path: "/srv/fast/data.qcow2".to_owned(),
            format: VolumeFormat::Qcow2,
            size: 1,
            backing: None,
            on_image_change: None,
            way_back: None,
        };
        let desired = Desired {
            environment: Name::new("lab").unwrap(),
            sync: SyncSettings::default(),
            resources: BTreeMap::new(),
        };
        let archive = id(Kind::Disk, "archive");
        let claims = BTreeMap::from([(archive.clone(), Resource::Disk(disk))]);
        let scope = Scope {
            desired: Arc::new(desired),
            known: Arc::new(claims.keys().cloned().collect()),
            claims: Arc::new(claims),
            awaited: Arc::default(),
            fresh: false,
        };
        assert_eq!(disk_id(&asked_for(&scope), "/srv/fast/data.qcow2"), Some((archive, true)));
        let by_name = Some((id(Kind::Disk, "other"), false));
        assert_eq!(disk_id(&asked_for(&scope), "/srv/fast/other.qcow2"), by_name);
    }

    #[test]
    fn a_disk_whose_pool_is_gone_is_not_absent() {
        let name = |text| Name::new(text).unwrap();
        let disk = |pool| {
            Resource::Disk(Disk {
                pool: name(pool),
                path: format!("/srv/{pool}/a.qcow2"),
                format: VolumeFormat::Qcow2,
                size: 1,
                backing: None,
                on_image_change: None,
                way_back: None,
            })
        };
        let claims = BTreeMap::from([
            (id(Kind::Disk, "hidden"), disk("gone")),
            (id(Kind::Disk, "absent"), disk("fast")),
        ]);
        let desired = Desired {
            environment: name("lab"),
            sync: SyncSettings::default(),
            resources: BTreeMap::new(),
        };
        let scope = Scope {
            desired: Arc::new(desired),
            known: Arc::new(claims.keys().cloned().collect()),
            claims: Arc::new(claims),
            awaited: Arc::default(),
            fresh: false,
        };
        let mut seen = Observed::default();
        let pool = Observation {
            ownership: Ownership::Unmarked,
            config: Resource::StoragePool(StoragePool {
                path: "/srv/fast".to_owned(),
                autostart: true,
            }),
            live: None,
            active: true,
            uuid: None,
            unplugged: Vec::new(),
        };
        seen.resources.insert(id(Kind::StoragePool, "fast"), pool);
        let hidden = without_pool(&scope, &seen);
        assert_eq!(hidden.keys().collect::<Vec<_>>(), [&id(Kind::Disk, "hidden")]);
        assert!(hidden.values().all(|why| why.contains("`gone`")), "{hidden:?}");
    }
}
