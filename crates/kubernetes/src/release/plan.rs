//! From a release as wished and as seen to an ordered list of steps with reasons. Pure: no clock, no
//! network; the same input gives the same plan. Performing it is [`super::engine`]'s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::diff::{Disruption, FieldChange, changes};
use super::fields::{Extra, is_managed_by};
use super::health::{Health, health};
use super::inventory::{Inventory, KEEP, LABEL, OWNER, REPLACE, ReleaseName, owner};
use super::manifest::{Manifest, digest};
use super::order::rank;
use crate::MANAGER;
use crate::key::ObjectKey;

/// What should stand in a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// The release.
    pub release: ReleaseName,
    /// Its objects, settled ([`super::settle`]); none of them: the release shall be gone.
    pub manifests: Vec<Manifest>,
    /// Whether fields that others own are taken from them. Otherwise they hold the release.
    pub force: bool,
    /// Whether objects that are there already, and are nobody's, become ours.
    pub adopt: bool,
    /// Releases from which objects may be taken over, as `namespace/name`.
    pub takes_from: BTreeSet<String>,
    /// Whether objects go that it no longer has. Otherwise they stay, and stay known.
    pub prune: bool,
    /// Who asks for it, as the inventory says it; `None`: it is not said, and not looked at.
    pub holder: Option<String>,
    /// The holder from whom it may be taken over.
    pub takes_over_from: Option<String>,
}

impl Wish {
    /// A wish that takes fields from others, and no objects.
    pub fn new(release: ReleaseName, manifests: Vec<Manifest>) -> Self {
        let takes_from = BTreeSet::new();
        Self {
            release,
            manifests,
            force: true,
            adopt: false,
            takes_from,
            prune: true,
            holder: None,
            takes_over_from: None,
        }
    }

    /// Who else keeps the release, so that nothing of it is ours to change.
    pub fn held_by<'a>(&self, inventory: &'a Inventory) -> Option<&'a str> {
        let holder = inventory.holder.as_deref()?;
        let own = self.holder.as_deref()?;
        let given = self.takes_over_from.as_deref() == Some(holder);
        (holder != own && !given).then_some(holder)
    }

    /// The digest of all objects.
    pub fn digest(&self) -> String {
        let all: BTreeMap<String, &str> =
            self.manifests.iter().map(|m| (m.key.to_string(), m.digest.as_str())).collect();
        digest(&serde_json::json!(all))
    }

    /// The object of a manifest as it is applied: with the marks of its release.
    pub fn marked(&self, manifest: &Manifest) -> Value {
        let mut object = manifest.object.clone();
        object["metadata"]["labels"][LABEL] = Value::from(self.release.label());
        object["metadata"]["annotations"][OWNER] = Value::from(self.release.to_string());
        object
    }

    /// The manifest of an object.
    pub fn manifest(&self, key: &ObjectKey) -> Option<&Manifest> {
        self.manifests.iter().find(|m| m.key == *key)
    }
}

/// Who else owns a field that a manifest sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The field, as `.spec.replicas`.
    pub field: String,
    /// The server's words, which name the owner.
    pub words: String,
}

/// What the server says an apply would lead to.
#[derive(Debug, Clone, PartialEq)]
pub enum Would {
    /// Nothing: it was found to be so at this very version of the object.
    Same,
    /// This object.
    Object(Box<Value>),
    /// It cannot be asked yet: the kind or the namespace comes with the same release.
    Later,
    /// Others own fields, and they were not to be taken.
    Conflicts(Vec<Conflict>),
    /// It refuses.
    Refused {
        /// In its words.
        words: String,
        /// Whether because a field cannot change on an object that lives.
        immutable: bool,
    },
}

/// One wished object, as it is and would be.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// As it is.
    pub live: Option<Arc<Value>>,
    /// As it would be.
    pub would: Would,
    /// What others added to it ([`super::extras`]).
    pub extras: Vec<Extra>,
}

/// A release as seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// What it has made.
    pub inventory: Option<Inventory>,
    /// The wished objects.
    pub objects: BTreeMap<ObjectKey, Found>,
    /// What the inventory has and the wish has not; `None`: it is gone, or its kind is.
    pub left: BTreeMap<ObjectKey, Option<Arc<Value>>>,
    /// For definitions that would be removed: how many of their objects are not of this release.
    pub strangers: BTreeMap<ObjectKey, u64>,
}

impl Seen {
    /// How each wished object does.
    pub fn health(&self) -> impl Iterator<Item = (&ObjectKey, Health)> {
        self.objects.iter().map(|(key, found)| {
            let absent = || Health::Progressing("is not there".to_owned());
            (key, found.live.as_deref().map_or_else(absent, |live| health(key, live)))
        })
    }
}

/// What is to be done with an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "what", content = "why")]
pub enum Action {
    /// It is made.
    Create,
    /// It is changed in place.
    Change,
    /// It is destroyed and made anew, as its annotation allows.
    Replace,
    /// Nothing.
    Unchanged,
    /// It is removed: the wish has it no more.
    Prune,
    /// It stays although the wish has it no more.
    Leave(String),
    /// It cannot be as wished; nothing of the release is done.
    Refused(String),
}

/// One object of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The object.
    pub key: ObjectKey,
    /// What is done.
    pub action: Action,
    /// How much that disturbs.
    pub disruption: Disruption,
    /// Whether data may go with it: a namespace, a definition, a volume.
    pub loses_data: bool,
    /// What differs.
    pub changes: Vec<FieldChange>,
    /// What others added to it, which an apply leaves there.
    pub extras: Vec<Extra>,
}

/// One step, which can be repeated and written down; see [`super::engine::Engine::perform`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "step")]
pub enum Step {
    /// Applies an object.
    Apply {
        /// The object.
        key: ObjectKey,
        /// The digest of its manifest.
        digest: String,
    },
    /// Waits until an object is ready.
    AwaitReady {
        /// The object.
        key: ObjectKey,
    },
    /// Writes the inventory.
    Record {
        /// The objects, with the version of their API.
        members: Vec<(ObjectKey, String)>,
        /// The digest of the wish.
        digest: String,
        /// Whether that is all, and all is done.
        complete: bool,
    },
    /// Deletes an object, if it is that very one.
    Delete {
        /// The object.
        key: ObjectKey,
        /// The version of its API.
        version: String,
        /// Its uid: another of the same name is left alone.
        uid: String,
    },
    /// Waits until an object is gone.
    AwaitGone {
        /// The object.
        key: ObjectKey,
        /// The version of its API.
        version: String,
        /// Its uid.
        uid: String,
    },
    /// Deletes the inventory.
    Forget,
}

/// What is to be done, in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Each object.
    pub items: Vec<Item>,
    /// What is done, in order. Empty where an item is refused.
    pub steps: Vec<Step>,
}

impl Plan {
    /// The worst that any item does.
    pub fn disruption(&self) -> Disruption {
        self.items.iter().map(|item| item.disruption).max().unwrap_or_default()
    }

    /// What is refused, with its reasons.
    pub fn refused(&self) -> impl Iterator<Item = (&ObjectKey, &str)> {
        self.items.iter().filter_map(|item| match &item.action {
            Action::Refused(why) => Some((&item.key, why.as_str())),
            _ => None,
        })
    }

    /// What is not as the manifests say: by change, by absence, or by what others added.
    pub fn drift(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.action != Action::Unchanged || !item.extras.is_empty())
    }
}

/// Plans the way from what is seen to what is wished.
pub fn plan(wish: &Wish, seen: &Seen) -> Plan {
    let mut items: Vec<Item> = wish.manifests.iter().map(|m| wished(wish, m, seen)).collect();
    items.extend(seen.left.iter().map(|(key, live)| left(wish, key, live.as_deref(), seen)));
    items.sort_by(|a, b| (rank(&a.key), &a.key).cmp(&(rank(&b.key), &b.key)));
    let refused = items.iter().any(|item| matches!(item.action, Action::Refused(_)));
    let steps = if refused { Vec::new() } else { steps(wish, seen, &items) };
    Plan { items, steps }
}

fn wished(wish: &Wish, manifest: &Manifest, seen: &Seen) -> Item {
    let key = &manifest.key;
    let refused = |why: String| Item {
        key: key.clone(),
        action: Action::Refused(why),
        disruption: Disruption::None,
        loses_data: false,
        changes: Vec::new(),
        extras: Vec::new(),
    };
    let Some(found) = seen.objects.get(key) else {
        return refused("was not looked at".to_owned());
    };
    if let Some(live) = &found.live
        && let Some(why) = foreign(wish, key, live)
    {
        return refused(why);
    }
    let live = found.live.as_deref();
    let mut item = refused(String::new());
    item.extras = found.extras.clone();
    item.action = match (&found.would, live) {
        (Would::Same, Some(_)) => Action::Unchanged,
        (Would::Same | Would::Later | Would::Object(_), None) => Action::Create,
        // What cannot be asked yet is known once what it waits for is there.
        (Would::Later, Some(_)) => Action::Change,
        (Would::Object(would), Some(live)) => {
            item.changes = changes(key, live, would);
            let same = item.changes.is_empty() && is_managed_by(live, MANAGER);
            if same { Action::Unchanged } else { Action::Change }
        }
        (Would::Refused { immutable: true, words }, Some(_)) if may_replace(manifest) => {
            item.disruption = Disruption::Replace;
            item.loses_data = loses_data(key);
            item.changes = vec![FieldChange {
                path: String::new(),
                from: None,
                to: Some(Value::from(words.as_str())),
                disruption: Disruption::Replace,
            }];
            Action::Replace
        }
        (Would::Refused { immutable: true, words }, Some(_)) => Action::Refused(format!(
            "{words}; it would have to be made anew: allow that by the annotation `{REPLACE}: \"true\"`"
        )),
        (Would::Refused { words, .. }, _) => Action::Refused(words.clone()),
        (Would::Conflicts(all), _) => {
            let shown: Vec<_> = all.iter().map(|c| format!("{} ({})", c.field, c.words)).collect();
            Action::Refused(format!(
                "others own fields of it: {}; leave these to them, or let the release take them",
                shown.join(", ")
            ))
        }
    };
    if item.action == Action::Change {
        item.disruption = item.changes.iter().map(|c| c.disruption).max().unwrap_or_default();
    }
    item
}

fn may_replace(manifest: &Manifest) -> bool {
    annotation(&manifest.object, REPLACE) == Some("true")
}

fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get("metadata")?.get("annotations")?.get(name)?.as_str()
}

/// Why an object that is there is not ours to change.
fn foreign(wish: &Wish, key: &ObjectKey, live: &Value) -> Option<String> {
    match owner(live) {
        Some(other) if other == wish.release.to_string() || wish.takes_from.contains(other) => None,
        Some(other) => Some(format!(
            "{key} belongs to the release {other}: remove it there, or let this one take over from it"
        )),
        None if wish.adopt || is_managed_by(live, MANAGER) => None,
        None => Some(format!(
            "{key} is there already and no release made it: let this one adopt it, or remove it"
        )),
    }
}

/// Kinds with which data goes.
fn loses_data(key: &ObjectKey) -> bool {
    let kinds = ["PersistentVolume", "PersistentVolumeClaim"];
    key.is_namespace()
        || key.is_definition()
        || (key.group.is_empty() && kinds.contains(&key.kind.as_str()))
}

fn left(wish: &Wish, key: &ObjectKey, live: Option<&Value>, seen: &Seen) -> Item {
    let mut item = Item {
        key: key.clone(),
        action: Action::Leave("is gone already".to_owned()),
        disruption: Disruption::None,
        loses_data: false,
        changes: Vec::new(),
        extras: Vec::new(),
    };
    let Some(live) = live else { return item };
    let strangers = seen.strangers.get(key).copied().unwrap_or(0);
    item.action = match owner(live) {
        Some(other) if other != wish.release.to_string() => {
            Action::Leave(format!("belongs to the release {other} now"))
        }
        None => Action::Leave("bears no mark of this release any more".to_owned()),
        Some(_) if annotation(live, KEEP) == Some("false") => {
            Action::Leave(format!("`{KEEP}` says to keep it"))
        }
        Some(_) if !wish.prune => Action::Leave("nothing of this release is removed".to_owned()),
        Some(_) if strangers > 0 => Action::Leave(format!(
            "{strangers} objects of its kind are not of this release and would be destroyed with it: remove these first"
        )),
        Some(_) => Action::Prune,
    };
    if item.action == Action::Prune {
        item.disruption = Disruption::Destroy;
        item.loses_data = loses_data(key);
    }
    item
}

/// Whether an object that stays must stay in the inventory too: it is held, not given up.
fn is_held(wish: &Wish, seen: &Seen, item: &Item) -> bool {
    let Some(live) = seen.left.get(&item.key).and_then(Option::as_deref) else { return false };
    let kept = !wish.prune
        && owner(live) == Some(&*wish.release.to_string())
        && annotation(live, KEEP) != Some("false");
    let strangers = seen.strangers.get(&item.key).is_some_and(|count| *count > 0);
    matches!(item.action, Action::Leave(_)) && (kept || strangers)
}

fn steps(wish: &Wish, seen: &Seen, items: &[Item]) -> Vec<Step> {
    let digest = wish.digest();
    let old = seen.inventory.clone().unwrap_or_default();
    let mut members: BTreeMap<ObjectKey, String> =
        wish.manifests.iter().map(|m| (m.key.clone(), m.kind.version.clone())).collect();
    for item in items.iter().filter(|item| is_held(wish, seen, item)) {
        members.extend(old.members.get_key_value(&item.key).map(|(k, v)| (k.clone(), v.clone())));
    }
    let applied =
        |item: &Item| matches!(item.action, Action::Create | Action::Change | Action::Replace);
    let nothing = !items.iter().any(|item| applied(item) || item.action == Action::Prune);
    let gone = wish.manifests.is_empty() && members.is_empty();
    let same_holder = wish.holder.is_none() || old.holder == wish.holder;
    let settled = old.members == members && old.complete && old.digest == digest && same_holder;
    if nothing && (settled || (gone && seen.inventory.is_none())) {
        return Vec::new();
    }
    let mut steps = Vec::new();
    let home = |item: &Item| {
        item.key.is_namespace() && item.key.name == wish.release.namespace() && applied(item)
    };
    // The inventory needs its namespace; all else comes after it is written.
    for item in items.iter().filter(|item| home(item)) {
        apply(wish, seen, item, &mut steps);
    }
    if !nothing {
        let mut union = old.members.clone();
        union.extend(members.clone());
        let members = union.into_iter().collect();
        steps.push(Step::Record { members, digest: digest.clone(), complete: false });
    }
    for item in items.iter().filter(|item| applied(item) && !home(item)) {
        apply(wish, seen, item, &mut steps);
    }
    // What runs has to stand before what it follows goes.
    for item in items.iter().filter(|item| runs(&item.key)) {
        let live = seen.objects.get(&item.key).and_then(|found| found.live.as_deref());
        let unwell = !old.complete && live.is_some_and(|live| !health(&item.key, live).is_ready());
        if applied(item) || (unwell && item.action == Action::Unchanged) {
            steps.push(Step::AwaitReady { key: item.key.clone() });
        }
    }
    prune(seen, items, &old, &mut steps);
    let members: Vec<_> = members.into_iter().collect();
    steps.push(match members.is_empty() {
        true => Step::Forget,
        false => Step::Record { members, digest, complete: true },
    });
    steps
}

/// Kinds that are waited for once they were applied.
fn runs(key: &ObjectKey) -> bool {
    matches!(
        (key.group.as_str(), key.kind.as_str()),
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet") | ("batch", "Job") | ("", "Pod")
    )
}

fn apply(wish: &Wish, seen: &Seen, item: &Item, steps: &mut Vec<Step>) {
    let Some(manifest) = wish.manifest(&item.key) else { return };
    let (key, version) = (item.key.clone(), manifest.kind.version.clone());
    if item.action == Action::Replace
        && let Some(live) = seen.objects.get(&key).and_then(|found| found.live.as_deref())
    {
        let uid = uid(live);
        let gone = Step::AwaitGone { key: key.clone(), version: version.clone(), uid: uid.clone() };
        steps.push(Step::Delete { key: key.clone(), version, uid });
        steps.push(gone);
    }
    steps.push(Step::Apply { key: key.clone(), digest: manifest.digest.clone() });
    if key.is_definition() {
        steps.push(Step::AwaitReady { key });
    }
}

/// Removes in the reverse order, and waits for each rank before the next: a definition goes once its
/// objects are gone, or what would finish them could no longer be reached.
fn prune(seen: &Seen, items: &[Item], old: &Inventory, steps: &mut Vec<Step>) {
    let mut going: Vec<&Item> = items.iter().filter(|i| i.action == Action::Prune).collect();
    going.reverse();
    for group in going.chunk_by(|a, b| rank(&a.key) == rank(&b.key)) {
        let mut waits = Vec::new();
        for item in group {
            let live = seen.left.get(&item.key).and_then(Option::as_deref);
            let (Some(live), Some(version)) = (live, old.members.get(&item.key)) else { continue };
            let (key, version, uid) = (item.key.clone(), version.clone(), uid(live));
            steps.push(Step::Delete {
                key: key.clone(),
                version: version.clone(),
                uid: uid.clone(),
            });
            waits.push(Step::AwaitGone { key, version, uid });
        }
        steps.extend(waits);
    }
}

fn uid(live: &Value) -> String {
    live.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
