//! A release looked at, and its steps performed, one at a time. What is to be done is decided by
//! [`super::plan()`]; nothing is chosen here. Every step can be repeated: performing it twice is
//! performing it once.

mod steps;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use super::diff::changes;
use super::fields::{Extra, extras, is_managed_by};
use super::inventory::{BadInventory, Inventory, LABEL, ReleaseName, owner};
use super::manifest::{Manifest, ManifestError, settle};
use super::plan::{Found, Seen, Wish, Would};
use crate::MANAGER;
use crate::api::{Api, Apply, Resource, Selector};
use crate::fault::Fault;
use crate::key::{Kind, ObjectKey, Scopes};
use crate::watch::Watches;

/// Requests that are made at once. Sixteen are about 1.5 times as fast as one on an API server of our
/// own machine, and far below what one client may do (`--max-requests-inflight` is 400).
const AT_ONCE: usize = 16;

/// How long steps wait for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// For an object to become ready.
    pub ready: Duration,
    /// For an object to be gone.
    pub gone: Duration,
    /// For a definition, and for its kind to be served.
    pub definition: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            // Twice the time after which a Deployment says itself that it failed (600 s) is too long for
            // one that will never be.
            ready: Duration::from_secs(660),
            gone: Duration::from_secs(300),
            definition: Duration::from_secs(60),
        }
    }
}

/// Why a release could not be looked at, or a step not be performed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The server.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The manifests.
    #[error("the manifests of the release {release} cannot be used: {}", shown(.errors))]
    Manifests {
        /// The release.
        release: String,
        /// All that is wrong.
        errors: Vec<ManifestError>,
    },
    /// The inventory.
    #[error(transparent)]
    Inventory(#[from] BadInventory),
    /// Another's ConfigMap has its name.
    #[error(
        "the ConfigMap {map} belongs to {owner}, and the release needs that name: rename the release, or remove the ConfigMap"
    )]
    InventoryTaken {
        /// `namespace/name` of it.
        map: String,
        /// Whose it is.
        owner: String,
    },
    /// Another host keeps the release.
    #[error(
        "the release {release} is kept by the host `{holder}`: take it out there and set `takesOverFrom: {holder}` here, or give this one another name or namespace"
    )]
    Held {
        /// The release.
        release: String,
        /// Who keeps it.
        holder: String,
    },
    /// The step is of another wish.
    #[error("the step for {0} is of another wish: plan anew")]
    Stale(ObjectKey),
    /// It did not become ready.
    #[error(
        "{key} is not ready after {seconds} s ({words}): look at its events; the release goes on from here once it is"
    )]
    NotReady {
        /// The object.
        key: ObjectKey,
        /// How long was waited.
        seconds: u64,
        /// How it does.
        words: String,
    },
    /// It will not become ready.
    #[error(
        "{key} failed ({words}): mend what it says; nothing more of the release is done until then"
    )]
    Failed {
        /// The object.
        key: ObjectKey,
        /// What it says.
        words: String,
    },
    /// It is not gone.
    #[error(
        "{key} is not gone after {seconds} s ({words}): what it waits for has to let it go; what comes after it stays until then"
    )]
    Stuck {
        /// The object.
        key: ObjectKey,
        /// How long was waited.
        seconds: u64,
        /// What it waits for.
        words: String,
    },
}

fn shown(errors: &[ManifestError]) -> String {
    const SHOWN: usize = 10;
    let mut text =
        errors.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if errors.len() > SHOWN {
        text.push_str(&format!("; and {} more", errors.len() - SHOWN));
    }
    text
}

/// What performing a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// It was done, or was done already.
    Done,
    /// It was left alone, for this reason; nothing was changed.
    Left(String),
}

/// What was found of an object at one version of it.
struct Known {
    release: ReleaseName,
    digest: String,
    version: String,
    extras: Vec<Extra>,
}

/// Looks at releases of one cluster, and performs their steps.
pub struct Engine {
    api: Api,
    waits: Waits,
    watches: Option<Watches>,
    known: HashMap<ObjectKey, Known>,
}

impl Engine {
    /// One that asks for everything each time.
    pub fn new(api: Api, waits: Waits) -> Self {
        Self { api, waits, watches: None, known: HashMap::new() }
    }

    /// One that follows what it was asked about, so that a look at a release at rest asks for little.
    /// Has to be used within one runtime.
    pub fn watching(api: Api, waits: Waits) -> Self {
        let watches = Watches::new(api.clone());
        Self::with_watches(api, waits, watches)
    }

    /// The same with watches of the same cluster that were made before, so that they tell whom they are
    /// meant to tell.
    pub fn with_watches(api: Api, waits: Waits, watches: Watches) -> Self {
        Self { watches: Some(watches), ..Self::new(api, waits) }
    }

    /// The watches, where there are any.
    pub fn watches(&self) -> Option<&Watches> {
        self.watches.as_ref()
    }

    /// Gives each manifest its namespace; kinds of others are looked up.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn settle(
        &self,
        release: &ReleaseName,
        manifests: Vec<Manifest>,
    ) -> Result<Vec<Manifest>, EngineError> {
        let bad = |errors| EngineError::Manifests { release: release.to_string(), errors };
        let mut scopes = Scopes::default();
        let (_, unknown) = settle(manifests.clone(), release.namespace(), &scopes).map_err(bad)?;
        for kind in unknown {
            let of = self.api.resource(&kind).await?;
            scopes.learn(&kind.group, &kind.kind, of.namespaced);
        }
        Ok(settle(manifests, release.namespace(), &scopes).map_err(bad)?.0)
    }

    /// Looks at everything that a release is about.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn look(&mut self, wish: &Wish) -> Result<Seen, EngineError> {
        let inventory = self.own_inventory(wish).await?;
        let resources = self.resources(wish).await?;
        let mut stock = self.stock(wish, &resources).await?;
        let mut seen = Seen { inventory, ..Seen::default() };
        let mut open = Vec::new();
        for manifest in &wish.manifests {
            let live = stock.remove(&manifest.key);
            match live.as_ref().and_then(|live| self.remembered(wish, manifest, live)) {
                Some(found) => {
                    seen.objects.insert(manifest.key.clone(), found);
                }
                None => open.push(manifest),
            }
        }
        let mut tries = Vec::new();
        for manifest in open {
            tries.push(self.tried(wish, manifest, &resources));
        }
        let tries = futures_util::stream::iter(tries).buffer_unordered(AT_ONCE);
        let tried: Vec<(&Manifest, Found)> = tries.try_collect().await?;
        for (manifest, found) in tried {
            self.remember(wish, manifest, &found);
            seen.objects.insert(manifest.key.clone(), found);
        }
        self.left(wish, &mut seen).await?;
        if wish.manifests.is_empty() {
            // Nothing is remembered of a release that is gone.
            self.known.retain(|_, known| known.release != wish.release);
        }
        Ok(seen)
    }

    /// The release's inventory, if it is not another host's.
    async fn own_inventory(&self, wish: &Wish) -> Result<Option<Inventory>, EngineError> {
        let inventory = self.inventory(&wish.release).await?;
        match inventory.as_ref().and_then(|it| wish.held_by(it)) {
            None => Ok(inventory),
            Some(holder) => {
                let (release, holder) = (wish.release.to_string(), holder.to_owned());
                Err(EngineError::Held { release, holder })
            }
        }
    }

    /// The release's inventory; `None`: it has none.
    async fn inventory(&self, release: &ReleaseName) -> Result<Option<Inventory>, EngineError> {
        let (of, key) = self.inventory_place(release).await?;
        let Some(map) = self.api.get(&of, &key).await? else { return Ok(None) };
        match owner(&map) {
            Some(name) if name == release.to_string() => {}
            other => {
                return Err(EngineError::InventoryTaken {
                    map: format!("{}/{}", release.namespace(), release.inventory()),
                    owner: other.unwrap_or("somebody else").to_owned(),
                });
            }
        }
        Ok(Some(Inventory::read(release, &map)?))
    }

    async fn inventory_place(&self, release: &ReleaseName) -> Result<(Resource, ObjectKey), Fault> {
        let of = self.api.resource(&Kind::new("", "v1", "ConfigMap")).await?;
        let namespace = Some(release.namespace());
        Ok((of, ObjectKey::new("", "ConfigMap", namespace, &release.inventory())))
    }

    /// Where each kind of the wish is; `None`: the server has none (yet).
    async fn resources(&self, wish: &Wish) -> Result<BTreeMap<Kind, Option<Resource>>, Fault> {
        let mut all = BTreeMap::new();
        for manifest in &wish.manifests {
            if all.contains_key(&manifest.kind) {
                continue;
            }
            let of = match self.api.resource(&manifest.kind).await {
                Ok(of) => Some(of),
                Err(Fault::UnknownKind { .. }) => None,
                Err(fault) => return Err(fault),
            };
            all.insert(manifest.kind.clone(), of);
        }
        Ok(all)
    }

    /// The objects that bear the release's label, kind by kind: from a watch where it is current.
    async fn stock(
        &self,
        wish: &Wish,
        resources: &BTreeMap<Kind, Option<Resource>>,
    ) -> Result<HashMap<ObjectKey, Arc<Value>>, Fault> {
        let mut wanted: Vec<(Kind, Selector)> = wish
            .manifests
            .iter()
            .map(|m| {
                let labels = Some(format!("{LABEL}={}", wish.release.label()));
                let namespace = m.key.namespace.clone();
                (m.kind.clone(), Selector { namespace, labels, fields: None })
            })
            .collect();
        wanted.sort();
        wanted.dedup();
        // A kind that is not there (any more) cannot be followed.
        wanted.retain(|(kind, _)| matches!(resources.get(kind), Some(Some(_))));
        let mut all = HashMap::new();
        for (kind, which) in &wanted {
            let Some(Some(of)) = resources.get(kind) else { continue };
            if let Some(watches) = &self.watches {
                watches.follow(of, which);
                if let Some(stock) = watches.stock(kind, which) {
                    all.extend(stock.iter().map(|(key, object)| (key.clone(), object.clone())));
                    continue;
                }
            }
            let listed = match self.api.list(of, which).await {
                // Somebody took the definition away, and the kind with it.
                Err(Fault::NotFound { .. }) => {
                    self.api.forget();
                    continue;
                }
                other => other?,
            };
            for object in listed {
                if let Some(key) = ObjectKey::of(&object) {
                    all.insert(key, Arc::new(object));
                }
            }
        }
        Ok(all)
    }

    /// What was found before, where neither the manifest nor the object has changed since.
    fn remembered(&self, wish: &Wish, manifest: &Manifest, live: &Arc<Value>) -> Option<Found> {
        let known = self.known.get(&manifest.key)?;
        let same = known.digest == manifest.digest
            && known.version == version(live)
            && known.release == wish.release;
        same.then(|| Found {
            live: Some(live.clone()),
            would: Would::Same,
            extras: known.extras.clone(),
        })
    }

    fn remember(&mut self, wish: &Wish, manifest: &Manifest, found: &Found) {
        match (&found.would, &found.live) {
            (Would::Same, Some(live)) => {
                let known = Known {
                    release: wish.release.clone(),
                    digest: manifest.digest.clone(),
                    version: version(live).to_owned(),
                    extras: found.extras.clone(),
                };
                self.known.insert(manifest.key.clone(), known);
            }
            _ => drop(self.known.remove(&manifest.key)),
        }
    }

    /// Asks the server what an apply would lead to. The object is read anew: what a watch holds may be a
    /// moment old, and the difference would be taken for a change.
    async fn tried<'a>(
        &self,
        wish: &Wish,
        manifest: &'a Manifest,
        resources: &BTreeMap<Kind, Option<Resource>>,
    ) -> Result<(&'a Manifest, Found), Fault> {
        let key = &manifest.key;
        let Some(of) = resources.get(&manifest.kind).and_then(Option::as_ref) else {
            let would = if defines(wish, &manifest.kind) {
                Would::Later
            } else {
                let fault = Fault::UnknownKind { kind: manifest.kind.clone() };
                Would::Refused { words: fault.to_string(), immutable: false }
            };
            return Ok((manifest, Found { live: None, would, extras: Vec::new() }));
        };
        let live = self.api.get(of, key).await?.map(Arc::new);
        let how = Apply { force: wish.force, dry_run: true };
        let extras = live.as_deref().map(|live| extras(key, live, MANAGER)).unwrap_or_default();
        let would = match self.api.apply(of, key, &wish.marked(manifest), how).await {
            Ok(would) => match live.as_deref() {
                Some(live)
                    if changes(key, live, &would).is_empty() && is_managed_by(live, MANAGER) =>
                {
                    Would::Same
                }
                _ => Would::Object(Box::new(would)),
            },
            // Its namespace, or the kind itself, comes with the same release.
            Err(Fault::NotFound { words, .. }) => {
                let home = key.namespace.as_deref().unwrap_or_default();
                let own = wish.manifests.iter().any(|m| m.key.is_namespace() && m.key.name == home);
                match own || defines(wish, &manifest.kind) {
                    true => Would::Later,
                    false => Would::Refused { words, immutable: false },
                }
            }
            Err(Fault::Conflict { fields, .. }) if !fields.is_empty() => Would::Conflicts(fields),
            Err(Fault::Invalid { words, immutable, .. }) => Would::Refused { words, immutable },
            Err(Fault::Refused { code: 400, words, .. } | Fault::Forbidden { words, .. }) => {
                Would::Refused { words, immutable: false }
            }
            Err(fault) => return Err(fault),
        };
        Ok((manifest, Found { live, would, extras }))
    }

    /// What the inventory has and the wish has not.
    async fn left(&self, wish: &Wish, seen: &mut Seen) -> Result<(), Fault> {
        let Some(inventory) = &seen.inventory else { return Ok(()) };
        for (key, version) in &inventory.members {
            if wish.manifest(key).is_some() {
                continue;
            }
            let kind = Kind::new(&key.group, version, &key.kind);
            let live = match self.api.resource(&kind).await {
                Ok(of) => self.api.get(&of, key).await?.map(Arc::new),
                // With its definition all its objects went.
                Err(Fault::UnknownKind { .. }) => None,
                Err(fault) => return Err(fault),
            };
            seen.left.insert(key.clone(), live);
        }
        let definitions: Vec<_> = seen
            .left
            .iter()
            .filter(|(key, live)| key.is_definition() && live.is_some())
            .filter_map(|(key, live)| Some((key.clone(), live.clone()?)))
            .collect();
        for (key, definition) in definitions {
            let count = self.strangers(&definition, &seen.left).await?;
            seen.strangers.insert(key, count);
        }
        Ok(())
    }

    /// How many objects of a definition's kind would go with it without being meant.
    async fn strangers(
        &self,
        definition: &Value,
        left: &BTreeMap<ObjectKey, Option<Arc<Value>>>,
    ) -> Result<u64, Fault> {
        let Some(kind) = defined(definition).into_iter().next() else { return Ok(0) };
        let of = match self.api.resource(&kind).await {
            Ok(of) => of,
            Err(Fault::UnknownKind { .. }) => return Ok(0),
            Err(fault) => return Err(fault),
        };
        let all = match self.api.list(&of, &Selector::default()).await {
            Ok(all) => all,
            Err(Fault::NotFound { .. }) => return Ok(0),
            Err(fault) => return Err(fault),
        };
        let stranger =
            |object: &&Value| ObjectKey::of(object).is_none_or(|k| !left.contains_key(&k));
        Ok(all.iter().filter(stranger).count() as u64)
    }
}

fn version(live: &Value) -> &str {
    live.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default()
}

/// The kinds that a definition defines, served ones.
fn defined(definition: &Value) -> Vec<Kind> {
    let text = |path: &str| definition.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let (group, kind) = (text("/spec/group"), text("/spec/names/kind"));
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    versions
        .into_iter()
        .flatten()
        .filter(|version| version.get("served") != Some(&Value::Bool(false)))
        .filter_map(|version| Some(Kind::new(group, version.get("name")?.as_str()?, kind)))
        .collect()
}

/// Whether a release brings the definition of a kind.
fn defines(wish: &Wish, kind: &Kind) -> bool {
    let definitions = wish.manifests.iter().filter(|m| m.key.is_definition());
    definitions.flat_map(|m| defined(&m.object)).any(|one| one == *kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Step;

    /// Callers spawn these; whether they can shows only when somebody does.
    #[expect(dead_code, reason = "compiling it is the test")]
    fn futures_can_move(engine: &mut Engine, wish: &Wish, step: &Step) {
        fn moves(_: impl Send) {}
        moves(engine.look(wish));
        moves(engine.perform(wish, step));
    }
}
