//! A look at every folder that is asked for or known of.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, openat2, readlinkat, statat};
use rustix::io::Errno;
use trueup_kubernetes::run::ask;

use super::inventory::{Inventory, is_version};
use super::place::{BENEATH, FOLDER, Place, guarded};
use super::{FolderProvider, Job, tree};
use crate::model::resource::{Release, SharedFolder, SharedSeen};
use crate::model::{Fault, Kind, Observation, Observed, Ownership, Resource, ResourceId};
use crate::port::Scope;
use crate::provider::files::blocking;

/// How long a directory service may take to name a group.
const GROUP_LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

impl FolderProvider {
    /// Looks at every folder of `scope`.
    pub(super) async fn look(&self, scope: &Scope) -> Result<Observed, Fault> {
        let mut observed = Observed::default();
        let asked = scope.desired.resources.iter().map(|(id, wish)| (id, &wish.resource));
        let gone = scope.claims.iter().filter(|(id, _)| !scope.desired.resources.contains_key(*id));
        for (id, resource) in asked.chain(gone) {
            let Resource::Release(release) = resource else { continue };
            let Some(folder) = &release.folder else { continue };
            let is_asked = scope.desired.resources.contains_key(id);
            let job = Job {
                place: release.place.clone(),
                folder: is_asked.then(|| (**folder).clone()),
                takes_over_from: release.takes_over_from.clone(),
            };
            match self.seen(&job).await {
                Err(words) => drop(observed.unreadable.insert(id.clone(), words)),
                Ok(seen) if !is_asked && seen.versions.is_empty() && seen.link.is_none() => {}
                Ok(seen) => {
                    let is_made = !seen.versions.is_empty();
                    let mut config: Release = (**release).clone();
                    config.folder = Some(Box::new(SharedFolder {
                        seen: Some(Arc::new(seen)),
                        ..(**folder).clone()
                    }));
                    observed.resources.insert(id.clone(), observation(config, is_made, scope));
                }
            }
        }
        Ok(observed)
    }

    async fn seen(&self, job: &Job) -> Result<SharedSeen, String> {
        let group = match job.folder.as_ref().and_then(|folder| folder.group.as_deref()) {
            None => job.folder.as_ref().map(|_| own_group()),
            Some(name) => Some(group(name).await?),
        };
        let (own, job) = (self.clone(), job.clone());
        let looked =
            blocking("look at a shared folder", move || Ok::<_, Fault>(own.seen_now(&job, group)));
        looked.await.map_err(|fault| fault.to_string())?
    }

    fn seen_now(&self, job: &Job, group: Option<u32>) -> Result<SharedSeen, String> {
        let place = self.place(&job.place)?;
        let named = |error: io::Error| format!("{}: {error}", place.path.display());
        let mut seen = SharedSeen { complete: true, ..SharedSeen::default() };
        match link(&place).map_err(named)? {
            At::Nothing => {}
            At::Ours(version) => seen.link = Some(version),
            At::Foreign(what) => {
                seen.foreign = Some(format!(
                    "{} is {what} that no release made: move it away, or name another path",
                    place.path.display()
                ));
            }
        }
        let Some(store) = store(&place)? else { return Ok(seen) };
        let inventory = Inventory::read(&store).map_err(|error| {
            let at = place.path.with_file_name(&place.store);
            format!(
                "the inventory in {} cannot be read ({error}): restore it, or remove that folder once no \
                 job uses it",
                at.display()
            )
        })?;
        if let Some(inventory) = inventory {
            if let Some(holder) = self.other_holder(job, &inventory) {
                // Here it is gone, where nothing asks for it any more.
                return match job.folder {
                    None => Ok(SharedSeen::default()),
                    Some(_) => Err(held_words(&place, holder)),
                };
            }
            seen.complete = inventory.complete && inventory.holder == self.setup.host;
            seen.holder = Some(inventory.holder);
            seen.versions = inventory.versions;
        }
        if let Some(folder) = &job.folder {
            let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
            let name = folder.version();
            seen.wished =
                tree::compare(&store, &name, folder, group, &mut digests).map_err(named)?;
        }
        Ok(seen)
    }

    /// The other host that keeps a folder, unless it is given up to us.
    pub(super) fn other_holder<'a>(&self, job: &Job, known: &'a Inventory) -> Option<&'a str> {
        let given = job.takes_over_from.as_deref() == Some(&known.holder);
        (known.holder != self.setup.host && !given).then_some(&known.holder)
    }
}

pub(super) fn held_words(place: &Place, holder: &str) -> String {
    format!(
        "{} is kept by the host `{holder}`: take it out there and set `takesOverFrom: {holder}` here, or \
         name another path",
        place.path.display()
    )
}

fn observation(config: Release, is_made: bool, scope: &Scope) -> Observation {
    Observation {
        ownership: Ownership::Ours { environment: scope.desired.environment.clone() },
        config: Resource::Release(Box::new(config)),
        live: None,
        active: is_made,
        uuid: None,
        unplugged: Vec::new(),
    }
}

/// What stands at the path of a folder.
pub(super) enum At {
    /// Nothing.
    Nothing,
    /// Our link, to this version.
    Ours(String),
    /// Something else.
    Foreign(&'static str),
}

/// Looks at the path of a folder.
pub(super) fn link(place: &Place) -> io::Result<At> {
    let seen = match statat(&place.parent, &*place.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(seen) => seen,
        Err(Errno::NOENT) => return Ok(At::Nothing),
        Err(error) => return Err(error.into()),
    };
    Ok(match FileType::from_raw_mode(seen.st_mode) {
        FileType::Symlink => {
            let to = readlinkat(&place.parent, &*place.name, Vec::new())?;
            let to = to.to_string_lossy();
            let version = to.strip_prefix(&*place.store).and_then(|rest| rest.strip_prefix('/'));
            match version.filter(|version| is_version(version)) {
                Some(version) => At::Ours(version.to_owned()),
                None => At::Foreign("a link"),
            }
        }
        FileType::Directory => At::Foreign("a folder"),
        _ => At::Foreign("a file"),
    })
}

/// The folder with the versions; `None`: there is none.
pub(super) fn store(place: &Place) -> Result<Option<OwnedFd>, String> {
    let path = place.path.with_file_name(&place.store);
    match openat2(&place.parent, &*place.store, FOLDER, Mode::empty(), BENEATH) {
        Ok(store) => {
            guarded(&store, &path)?;
            Ok(Some(store))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(format!("{}: {error} (links are not followed)", path.display())),
    }
}

/// The group of what nobody gave one: our own.
pub(super) fn own_group() -> u32 {
    rustix::process::getegid().as_raw()
}

/// The number of a group, by the host's own files or its directory service.
pub(super) async fn group(name: &str) -> Result<u32, String> {
    let args = ["group".into(), name.into()];
    let said = ask(Path::new("/usr/bin/getent"), &args, &[], GROUP_LIMIT).await;
    let unknown =
        || format!("this host knows no group `{name}`: make it (groupadd), or name another");
    let said = said.map_err(|error| match error {
        trueup_kubernetes::run::RunError::Failed { .. } => unknown(),
        other => format!("{}: {}", unknown(), trueup_kubernetes::chain(&other)),
    })?;
    let line = String::from_utf8_lossy(&said);
    let number = line.split(':').nth(2).and_then(|number| number.trim().parse().ok());
    number.ok_or_else(unknown)
}

/// The id of a release, for faults.
pub(super) fn told(id: &ResourceId, words: &str) -> String {
    debug_assert_eq!(id.kind, Kind::Release);
    format!("{id}: {words}")
}
