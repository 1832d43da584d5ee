//! Server-side apply and ownership of fields, as the API server has them for the kinds of the tests:
//! who set what, conflicts, and what goes when a manager no longer sets it.

mod entry;
mod merge;
mod path;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use entry::{Entry, entries, store};
use merge::merge;
pub(crate) use merge::merge_patch;
pub(crate) use path::{Path, shown};
use path::{UNOWNED, at, leaves, remove, tidy};

/// A field that another manager owns.
pub(crate) struct Clash {
    pub(crate) manager: String,
    pub(crate) operation: String,
    pub(crate) path: Path,
}

/// Applies `wish` to `live`.
pub(crate) fn apply(
    live: &Value,
    wish: &Value,
    manager: &str,
    force: bool,
) -> Result<Value, Vec<Clash>> {
    let mut all = entries(live);
    let wished = leaves(wish);
    let api_version = wish["apiVersion"].as_str().unwrap_or_default().to_owned();
    let mut clashes = Vec::new();
    for (path, value) in &wished {
        let differs = at(live, path) != Some(value);
        for entry in all.iter_mut().filter(|e| e.manager != manager || e.operation != "Apply") {
            if !differs || !entry.paths.contains(path) {
                continue;
            }
            if force {
                entry.paths.remove(path);
            } else {
                let (manager, operation) = (entry.manager.clone(), entry.operation.clone());
                clashes.push(Clash { manager, operation, path: path.clone() });
            }
        }
    }
    if !clashes.is_empty() {
        return Err(clashes);
    }
    let new: BTreeSet<Path> = wished.into_iter().map(|(path, _)| path).collect();
    let ours = all.iter().position(|e| e.manager == manager && e.operation == "Apply");
    let old = ours.map(|index| all[index].paths.clone()).unwrap_or_default();
    let mut object = live.clone();
    for path in old.difference(&new) {
        let others = all.iter().enumerate().any(|(i, e)| Some(i) != ours && e.paths.contains(path));
        // A leaf that became a branch is still there.
        if !others && !new.iter().any(|longer| longer.starts_with(path)) {
            remove(&mut object, path);
            tidy(&mut object, path);
        }
    }
    let mut wish = wish.clone();
    if let Some(meta) = wish.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.retain(|key, _| {
            key == "name" || key == "namespace" || !UNOWNED.contains(&key.as_str())
        });
    }
    merge(&mut object, &wish, "");
    match ours {
        Some(index) => all[index].paths = new,
        None => all.push(Entry {
            manager: manager.to_owned(),
            operation: "Apply".to_owned(),
            subresource: String::new(),
            api_version,
            paths: new,
        }),
    }
    store(&mut object, &all);
    Ok(object)
}

/// Gives what an update changed to its manager.
pub(crate) fn update(live: &Value, object: &mut Value, manager: &str, subresource: &str) {
    let mut all = entries(live);
    let before: BTreeMap<Path, Value> = leaves(live).into_iter().collect();
    let after: BTreeMap<Path, Value> = leaves(object).into_iter().collect();
    let changed: BTreeSet<Path> = after
        .iter()
        .filter(|(path, value)| before.get(*path) != Some(value))
        .map(|(path, _)| path.clone())
        .collect();
    for entry in &mut all {
        entry.paths.retain(|path| after.contains_key(path) && !changed.contains(path));
    }
    let ours = all
        .iter_mut()
        .find(|e| e.manager == manager && e.operation == "Update" && e.subresource == subresource);
    match ours {
        Some(entry) => entry.paths.extend(changed),
        None => all.push(Entry {
            manager: manager.to_owned(),
            operation: "Update".to_owned(),
            subresource: subresource.to_owned(),
            api_version: object["apiVersion"].as_str().unwrap_or_default().to_owned(),
            paths: changed,
        }),
    }
    store(object, &all);
}
