//! The steps of a release performed: what changes a cluster, and what waits for it to follow.

use std::time::Duration;

use futures_util::StreamExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use serde_json::Value;

use super::{Done, Engine, EngineError, defines};
use crate::api::{Apply, Resource};
use crate::fault::{About, Fault};
use crate::key::{Kind, ObjectKey};
use crate::release::health::{Health, health, stuck_by};
use crate::release::inventory::{Inventory, ReleaseName, owner};
use crate::release::manifest::Manifest;
use crate::release::plan::{Step, Wish};
use crate::watch::{dynamic, explain_watch, plain};

impl Engine {
    /// Performs one step of a plan for this wish.
    ///
    /// # Errors
    /// [`EngineError`]; the same step may be performed again.
    pub async fn perform(&mut self, wish: &Wish, step: &Step) -> Result<Done, EngineError> {
        // Another host may have taken it over since it was planned.
        if matches!(step, Step::Record { .. } | Step::Delete { .. } | Step::Forget) {
            self.own_inventory(wish).await?;
        }
        match step {
            Step::Apply { key, digest } => {
                let manifest = wish.manifest(key).filter(|m| m.digest == *digest);
                let manifest = manifest.ok_or_else(|| EngineError::Stale(key.clone()))?;
                self.apply(wish, manifest).await?;
                Ok(Done::Done)
            }
            Step::AwaitReady { key } => {
                let manifest = wish.manifest(key);
                let manifest = manifest.ok_or_else(|| EngineError::Stale(key.clone()))?;
                self.ready(key, &manifest.kind).await?;
                Ok(Done::Done)
            }
            Step::Record { members, digest, complete } => {
                let inventory = Inventory {
                    members: members.iter().cloned().collect(),
                    digest: digest.clone(),
                    complete: *complete,
                    holder: wish.holder.clone(),
                };
                self.record(&wish.release, &inventory).await?;
                Ok(Done::Done)
            }
            Step::Delete { key, version, uid } => self.delete(wish, key, version, uid).await,
            Step::AwaitGone { key, version, uid } => {
                self.gone(key, version, uid).await?;
                Ok(Done::Done)
            }
            Step::Forget => {
                let (of, key) = self.inventory_place(&wish.release).await?;
                if let Some(map) = self.api.get(&of, &key).await?
                    && owner(&map) == Some(&wish.release.to_string())
                {
                    let uid = map.pointer("/metadata/uid").and_then(Value::as_str);
                    self.api.delete(&of, &key, uid.unwrap_or_default()).await?;
                }
                Ok(Done::Done)
            }
        }
    }

    async fn apply(&mut self, wish: &Wish, manifest: &Manifest) -> Result<(), EngineError> {
        let object = wish.marked(manifest);
        let how = Apply { force: wish.force, dry_run: false };
        let began = tokio::time::Instant::now();
        let mut wait = Duration::from_millis(50);
        loop {
            let done = match self.api.resource(&manifest.kind).await {
                Ok(of) => self.api.apply(&of, &manifest.key, &object, how).await,
                Err(fault) => Err(fault),
            };
            match done {
                Ok(_) => break,
                // A kind is served a moment after its definition is established, and nothing tells when.
                Err(fault)
                    if fault.is_absent()
                        && defines(wish, &manifest.kind)
                        && began.elapsed() + wait < self.waits.definition =>
                {
                    self.api.forget();
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                Err(fault) => return Err(fault.into()),
            }
        }
        if manifest.key.is_definition() {
            self.api.forget();
        }
        self.known.remove(&manifest.key);
        Ok(())
    }

    async fn record(&self, release: &ReleaseName, inventory: &Inventory) -> Result<(), Fault> {
        let (of, key) = self.inventory_place(release).await?;
        let how = Apply { force: true, dry_run: false };
        self.api.apply(&of, &key, &inventory.manifest(release), how).await.map(drop)
    }

    async fn delete(
        &mut self,
        wish: &Wish,
        key: &ObjectKey,
        version: &str,
        uid: &str,
    ) -> Result<Done, EngineError> {
        let kind = Kind::new(&key.group, version, &key.kind);
        let of = match self.api.resource(&kind).await {
            Err(Fault::UnknownKind { .. }) => return Ok(Done::Done),
            other => other?,
        };
        let Some(live) = self.api.get(&of, key).await? else { return Ok(Done::Done) };
        // Whose it is may have changed since it was planned.
        let ours = owner(&live) == Some(&wish.release.to_string());
        let taken = owner(&live).is_some_and(|other| wish.takes_from.contains(other));
        if !ours && !taken {
            let whose = owner(&live).unwrap_or("nobody");
            return Ok(Done::Left(format!("{key} is marked as of {whose} now")));
        }
        self.api.delete(&of, key, uid).await?;
        if key.is_definition() {
            self.api.forget();
        }
        self.known.remove(key);
        Ok(Done::Done)
    }

    async fn ready(&self, key: &ObjectKey, kind: &Kind) -> Result<(), EngineError> {
        let of = self.api.resource(kind).await?;
        let limit = if key.is_definition() { self.waits.definition } else { self.waits.ready };
        let (mut words, mut last) = ("is not there".to_owned(), None);
        let judge = |live: Option<Value>| match live.map(|live| health(key, &live)) {
            Some(Health::Ready) => Some(Ok(())),
            // Names that are taken may be given up by another definition, which is then at work.
            Some(Health::Failed(why)) if !key.is_definition() => Some(Err(why)),
            Some(Health::Failed(why) | Health::Progressing(why) | Health::Terminating(why)) => {
                words = why;
                None
            }
            None => None,
        };
        match tokio::time::timeout(limit, self.until(&of, key, judge, &mut last)).await {
            Ok(done) => done?.map_err(|words| EngineError::Failed { key: key.clone(), words }),
            Err(_) => {
                if let Some(fault) = last {
                    return Err(fault.into());
                }
                let seconds = limit.as_secs();
                Err(EngineError::NotReady { key: key.clone(), seconds, words })
            }
        }
    }

    async fn gone(&self, key: &ObjectKey, version: &str, uid: &str) -> Result<(), EngineError> {
        let kind = Kind::new(&key.group, version, &key.kind);
        let of = match self.api.resource(&kind).await {
            Err(Fault::UnknownKind { .. }) => return Ok(()),
            other => other?,
        };
        let (mut words, mut last) = ("is still there".to_owned(), None);
        let judge = |live: Option<Value>| match live {
            Some(live) if live.pointer("/metadata/uid").and_then(Value::as_str) == Some(uid) => {
                words = stuck_by(&live);
                None
            }
            _ => Some(()),
        };
        match tokio::time::timeout(self.waits.gone, self.until(&of, key, judge, &mut last)).await {
            // The definition went with it.
            Ok(Err(fault)) if fault.is_absent() => {
                self.api.forget();
                Ok(())
            }
            Ok(done) => Ok(done?),
            Err(_) => {
                if let Some(fault) = last {
                    return Err(fault.into());
                }
                let seconds = self.waits.gone.as_secs();
                Err(EngineError::Stuck { key: key.clone(), seconds, words })
            }
        }
    }

    /// Follows one object until it is judged; what passes by itself is waited out. `last` is why nothing
    /// is known of the object now, so that whoever gives up does not take silence for an answer.
    async fn until<T>(
        &self,
        of: &Resource,
        key: &ObjectKey,
        mut judge: impl FnMut(Option<Value>) -> Option<T>,
        last: &mut Option<Fault>,
    ) -> Result<T, Fault> {
        let what = format!("watch {key}");
        let about = About { server: self.api.server(), what: &what, hide: key.is_secret() };
        let objects = dynamic(&self.api, of, key.namespace.as_deref());
        let mut events = std::pin::pin!(watch_object(objects, &key.name).default_backoff());
        while let Some(event) = events.next().await {
            let live = match event {
                Ok(live) => {
                    *last = None;
                    live.and_then(|object| plain(object, of))
                }
                Err(error) => {
                    let fault = explain_watch(&error, &about);
                    let passes =
                        fault.is_transient() || matches!(fault, Fault::Refused { code: 410, .. });
                    if passes {
                        *last = Some(fault);
                        continue;
                    }
                    return Err(fault);
                }
            };
            if let Some(judged) = judge(live) {
                return Ok(judged);
            }
        }
        let (server, words) = (self.api.server().to_owned(), "the watch ended".to_owned());
        Err(Fault::Unreachable { server, what, words })
    }
}
