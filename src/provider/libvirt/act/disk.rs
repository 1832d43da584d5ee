//! Disks: create, grow, delete. A file outside its pool's directory is never touched, and neither is
//! one that a domain or another volume still lies on.

use std::path::Path;

use trueup_libvirt::{PoolRecord, VolumeRecord};

use super::super::xml::{domain, pool as pool_xml, volume as xml};
use super::{Act, LONG_CALL, already, done, found, other};
use crate::model::resource::Disk;
use crate::model::{Fault, Kind, Name, Resource};
use crate::port::Outcome;

impl Act<'_> {
    pub(super) async fn create_disk(&self, disk: &Disk) -> Result<Outcome, Fault> {
        let _one = self.provider.making.lock().await;
        let file = self.file_in_pool(&disk.pool, &disk.path).await?;
        if let Some(volume) = self.volume(&disk.pool, &file).await? {
            self.check_known(disk)?;
            self.check_same(&volume, disk)?;
            return Ok(already());
        }
        if let Some(backing) = &disk.backing
            && !Path::new(&backing.path).is_file()
        {
            return Err(Fault::transient(format!(
                "{} lies on {}, which is not there; its image has to be made first",
                self.id(),
                backing.path
            )));
        }
        let described = xml::create(disk).map_err(self.bad_xml("describing"))?;
        let client = self.client().with_limit(LONG_CALL);
        let created = client.create_volume(disk.pool.as_str(), &described).await;
        created.map_err(self.failed("creating"))?;
        match self.volume(&disk.pool, &file).await? {
            Some(volume) => self.check_same(&volume, disk).map(|()| done()),
            None => Err(self.not_taken("its file is not there")),
        }
    }

    /// The name of a disk's file, once it is sure that the file lies directly in its started pool,
    /// as of now.
    async fn file_in_pool(&self, pool: &Name, path: &str) -> Result<String, Fault> {
        let record = self.started_pool(pool).await?;
        let parsed = pool_xml::parse(&record.xml).map_err(self.bad_xml("finding the pool of"))?;
        let path = Path::new(path);
        let file = path.file_name().and_then(|file| file.to_str());
        match (path.parent(), file) {
            (Some(parent), Some(file)) if parent == Path::new(&parsed.path) => Ok(file.to_owned()),
            _ => Err(Fault::permanent(format!(
                "{} has the file {}, which does not lie in {} of {}: it is left alone",
                self.id(),
                path.display(),
                parsed.path,
                other(Kind::StoragePool, pool.as_str())
            ))),
        }
    }

    async fn started_pool(&self, pool: &Name) -> Result<PoolRecord, Fault> {
        let shown = other(Kind::StoragePool, pool.as_str());
        let record = found(self.client().pool(pool.as_str()).await)
            .map_err(self.failed("finding the pool of"))?;
        let Some(record) = record.filter(|record| record.active) else {
            return Err(Fault::transient(format!(
                "{} needs {shown}, which is not started; it has to be first",
                self.id()
            )));
        };
        let refreshed = self.client().refresh_pool(pool.as_str()).await;
        refreshed.map_err(self.failed("looking into the pool of"))?;
        Ok(record)
    }

    async fn volume(&self, pool: &Name, file: &str) -> Result<Option<VolumeRecord>, Fault> {
        found(self.client().volume(pool.as_str(), file).await).map_err(self.failed("looking at"))
    }

    /// Refuses a file that trueup did not make, however well it would fit: what is taken for ours is
    /// deleted with its resource. What an earlier try made is known by the claim written before it.
    fn check_known(&self, disk: &Disk) -> Result<(), Fault> {
        if self.scope.known.contains(self.id()) || self.adopts() {
            return Ok(());
        }
        Err(Fault::needs_human(
            format!("{} is not made: {} exists, but trueup did not make it", self.id(), disk.path),
            "move or delete that file, or set `lifecycle.adopt: true` to take it over",
        ))
    }

    /// Refuses to take another file for the disk.
    fn check_same(&self, volume: &VolumeRecord, disk: &Disk) -> Result<(), Fault> {
        let seen = xml::parse(&volume.xml).map_err(self.bad_xml("reading"))?;
        let difference = if seen.format != Some(disk.format) {
            format!("is no {} file", disk.format.as_str())
        } else if seen.backing.as_ref().map(|b| &b.path) != disk.backing.as_ref().map(|b| &b.path) {
            let below = seen.backing.map_or("nothing".to_owned(), |below| below.path);
            format!("lies on {below}")
        } else if seen.capacity != disk.size {
            format!("has {} bytes", seen.capacity)
        } else {
            return Ok(());
        };
        Err(Fault::needs_human(
            format!("{} exists, but {} {difference}", self.id(), disk.path),
            "move or delete that file, or make the spec say what is there",
        ))
    }

    pub(super) async fn grow_disk(
        &self,
        pool: &Name,
        path: &str,
        size: u64,
        live: Option<&(Name, String)>,
    ) -> Result<Outcome, Fault> {
        let file = self.file_in_pool(pool, path).await?;
        let capacity = self.capacity(pool, &file).await?;
        if capacity >= size {
            return Ok(already());
        }
        let running = match live {
            Some((vm, target)) => self.running_with(vm, target, path).await?,
            None => None,
        };
        match running {
            Some((vm, target)) => {
                let resized = self.client().block_resize(vm, target, size).await;
                resized.map_err(self.failed("growing, live,"))?;
            }
            None => {
                let client = self.client().with_limit(LONG_CALL);
                let resized = client.resize_volume(pool.as_str(), &file, size).await;
                resized.map_err(self.failed("growing"))?;
            }
        }
        self.started_pool(pool).await?;
        let capacity = self.capacity(pool, &file).await?;
        if capacity < size {
            return Err(self.not_taken(format!("it has {capacity} bytes")));
        }
        Ok(done())
    }

    async fn capacity(&self, pool: &Name, file: &str) -> Result<u64, Fault> {
        match self.volume(pool, file).await? {
            Some(volume) => {
                let seen = xml::parse(&volume.xml).map_err(self.bad_xml("reading the size of"))?;
                Ok(seen.capacity)
            }
            None => Err(Fault::transient(format!("{} is gone; it is looked at again", self.id()))),
        }
    }

    /// The running domain and target that have the file, if that is still so.
    async fn running_with<'v>(
        &self,
        vm: &'v Name,
        target: &'v str,
        path: &str,
    ) -> Result<Option<(&'v str, &'v str)>, Fault> {
        let record = found(self.client().domain(vm.as_str()).await)
            .map_err(self.failed("finding the domain of"))?;
        let Some(live) = record.and_then(|record| record.live_xml) else {
            return Ok(None);
        };
        let live = domain::parse(&live).map_err(self.bad_xml("finding the domain of"))?;
        let has = live
            .vm
            .disks
            .iter()
            .any(|disk| disk.target == target && disk.path.as_deref() == Some(path));
        Ok(has.then_some((vm.as_str(), target)))
    }

    pub(super) async fn delete_disk(&self, pool: &Name, path: &str) -> Result<Outcome, Fault> {
        let _one = self.provider.making.lock().await;
        let file = self.file_in_pool(pool, path).await?;
        if self.volume(pool, &file).await?.is_none() {
            return Ok(already());
        }
        self.check_unused(pool, path).await?;
        let deleted = self.client().delete_volume(pool.as_str(), &file).await;
        deleted.map_err(self.failed("deleting"))?;
        match self.volume(pool, &file).await? {
            None => Ok(done()),
            Some(_) => Err(self.not_taken("its file is still there")),
        }
    }

    /// Refuses to pull a file from under a domain or another volume.
    async fn check_unused(&self, pool: &Name, path: &str) -> Result<(), Fault> {
        let domains = self.client().domains().await;
        let domains = domains.map_err(self.failed("finding who uses"))?;
        if let Some((name, error)) = domains.failed.first() {
            return Err(Fault::transient(format!(
                "{} is not deleted: {} may use it and cannot be read ({})",
                self.id(),
                other(Kind::VirtualMachine, name),
                error.message
            )));
        }
        // A disk that is made anew at the same place is one that its domain, which is off, goes on naming.
        let wish = self.scope.desired.resources.get(self.id()).map(|wish| &wish.resource);
        let again = matches!(wish, Some(Resource::Disk(disk)) if disk.path == path);
        for record in &domains.items {
            let forms = [(!again).then_some(&record.inactive_xml), record.live_xml.as_ref()];
            for xml in forms.into_iter().flatten() {
                let parsed = domain::parse(xml).map_err(self.bad_xml("finding who uses"))?;
                if parsed.vm.disks.iter().any(|disk| disk.path.as_deref() == Some(path)) {
                    return Err(self.in_use(path, &other(Kind::VirtualMachine, &record.name)));
                }
            }
        }
        let volumes = self.client().volumes(pool.as_str()).await;
        let volumes = volumes.map_err(self.failed("finding what lies on"))?;
        for record in &volumes.items {
            let parsed = xml::parse(&record.xml).map_err(self.bad_xml("finding what lies on"))?;
            if parsed.backing.as_ref().is_some_and(|below| below.path == path) {
                return Err(self.in_use(path, &parsed.path));
            }
        }
        Ok(())
    }

    fn in_use(&self, path: &str, by: &str) -> Fault {
        Fault::needs_human(
            format!("{} is not deleted: {by} uses {path}", self.id()),
            format!("take it away from {by} first"),
        )
    }
}
