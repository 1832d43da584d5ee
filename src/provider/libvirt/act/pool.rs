//! Storage pools: define, start, undefine. Files in them are never touched.
//!
//! Pools carry no mark: whose they are, the log knows, and the plan has asked it.

use std::path::Path;

use trueup_libvirt::PoolRecord;
use uuid::Uuid;

use super::super::xml::{canonical, pool as xml};
use super::{Act, already, done, found};
use crate::model::Fault;
use crate::model::resource::StoragePool;
use crate::port::Outcome;

impl Act<'_> {
    pub(super) async fn define_pool(
        &self,
        pool: &StoragePool,
        uuid: Uuid,
    ) -> Result<Outcome, Fault> {
        let existing = self.pool().await?;
        let mut changed = false;
        let (mut active, mut autostart) = (false, false);
        let mut current = None;
        if let Some(record) = &existing {
            let parsed = self.check_pool(record)?;
            self.check_uuid(parsed.uuid, uuid)?;
            active = record.active;
            autostart = record.autostart;
            if active && parsed.path != pool.path {
                // A running pool keeps looking into its old directory.
                let stopped = self.client().destroy_pool(self.name()).await;
                stopped.map_err(self.failed("stopping"))?;
                active = false;
            }
            current = Some(record.xml.as_str());
        }
        let merged =
            xml::merge(current, &pool.path, self.name(), uuid).map_err(self.bad_xml("defining"))?;
        if !self.same_pool(current, &merged)? {
            let defined = self.client().define_pool(&merged).await;
            defined.map_err(self.failed("defining"))?;
            changed = true;
        }
        if !Path::new(&pool.path).is_dir() {
            let built = self.client().build_pool(self.name()).await;
            built.map_err(self.failed("making the directory of"))?;
            changed = true;
        }
        if !active {
            let started = self.client().start_pool(self.name()).await;
            started.map_err(self.failed("starting"))?;
            changed = true;
        }
        if autostart != pool.autostart {
            let set = self.client().set_pool_autostart(self.name(), pool.autostart);
            set.await.map_err(self.failed("setting the autostart of"))?;
            changed = true;
        }
        self.verify_pool(pool).await?;
        Ok(if changed { done() } else { already() })
    }

    async fn pool(&self) -> Result<Option<PoolRecord>, Fault> {
        found(self.client().pool(self.name()).await).map_err(self.failed("looking at"))
    }

    fn check_pool(&self, record: &PoolRecord) -> Result<xml::ParsedPool, Fault> {
        let parsed = xml::parse(&record.xml).map_err(self.bad_xml("reading"))?;
        if parsed.kind == "dir" && record.persistent {
            return Ok(parsed);
        }
        Err(Fault::needs_human(
            format!("{} is a pool of type `{}`", self.id(), parsed.kind),
            "trueup manages persistent pools of type `dir` only: give the resource another name",
        ))
    }

    /// Whether defining `merged` would change nothing, measured values aside.
    fn same_pool(&self, current: Option<&str>, merged: &str) -> Result<bool, Fault> {
        let Some(current) = current else {
            return Ok(false);
        };
        let seen = xml::parse(current).map_err(self.bad_xml("reading"))?;
        let kept = xml::merge(Some(current), &seen.path, &seen.name, seen.uuid);
        let kept = kept.map_err(self.bad_xml("reading"))?;
        let same = canonical(&kept, "pool").map_err(self.bad_xml("reading"))? == merged;
        Ok(same)
    }

    async fn verify_pool(&self, pool: &StoragePool) -> Result<(), Fault> {
        let Some(record) = self.pool().await? else {
            return Err(self.not_taken("it is not there"));
        };
        let parsed = xml::parse(&record.xml).map_err(self.bad_xml("reading"))?;
        if parsed.path != pool.path {
            return Err(self.not_taken(format!("its directory is {}", parsed.path)));
        }
        if !record.active {
            return Err(self.not_taken("it does not run"));
        }
        Ok(())
    }

    pub(super) async fn start_pool(&self) -> Result<Outcome, Fault> {
        let Some(record) = self.pool().await? else {
            return Err(Fault::transient(format!("{} is gone; it is looked at again", self.id())));
        };
        if record.active {
            return Ok(already());
        }
        let parsed = self.check_pool(&record)?;
        if !Path::new(&parsed.path).is_dir() {
            let built = self.client().build_pool(self.name()).await;
            built.map_err(self.failed("making the directory of"))?;
        }
        let started = self.client().start_pool(self.name()).await;
        started.map_err(self.failed("starting"))?;
        match self.pool().await? {
            Some(record) if record.active => Ok(done()),
            _ => Err(self.not_taken("it does not run")),
        }
    }

    pub(super) async fn undefine_pool(&self) -> Result<Outcome, Fault> {
        let Some(record) = self.pool().await? else {
            return Ok(already());
        };
        self.check_pool(&record)?;
        if record.active {
            let stopped = self.client().destroy_pool(self.name()).await;
            stopped.map_err(self.failed("stopping"))?;
        }
        let undefined = self.client().undefine_pool(self.name()).await;
        undefined.map_err(self.failed("undefining"))?;
        match self.pool().await? {
            None => Ok(done()),
            Some(_) => Err(self.not_taken("it is still there")),
        }
    }
}
