//! Server-side apply and ownership of fields, as the API server has them for the kinds of the tests:
//! who set what, conflicts, and what goes when a manager no longer sets it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// One part of a path, as `fieldsV1` spells it.
pub(crate) type Path = Vec<String>;

/// Lists whose elements have keys, by the name of the field; all others are one value.
const KEYED: &[(&str, &[&str])] = &[
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("volumes", &["name"]),
    ("env", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("conditions", &["type"]),
    ("ownerReferences", &["uid"]),
    ("imagePullSecrets", &["name"]),
];
/// Lists that are sets of texts.
const SETS: &[&str] = &["finalizers"];

/// What the server writes and nobody owns.
const UNOWNED: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
];

fn keyed(field: &str) -> Option<&'static [&'static str]> {
    KEYED.iter().find(|(name, _)| *name == field).map(|(_, keys)| *keys)
}

fn element(item: &Value, keys: &[&str]) -> Option<String> {
    let mut map = Map::new();
    for key in keys {
        map.insert((*key).to_owned(), item.get(key)?.clone());
    }
    Some(format!("k:{}", Value::Object(map)))
}

/// The leaves of an object, by path.
pub(crate) fn leaves(object: &Value) -> Vec<(Path, Value)> {
    let mut all = Vec::new();
    let Some(map) = object.as_object() else { return all };
    for (key, value) in map {
        match key.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    if !UNOWNED.contains(&key.as_str()) {
                        let mut path = vec!["f:metadata".to_owned(), format!("f:{key}")];
                        walk(value, key, &mut path, &mut all);
                    }
                }
            }
            _ => walk(value, key, &mut vec![format!("f:{key}")], &mut all),
        }
    }
    all
}

fn walk(value: &Value, field: &str, path: &mut Path, all: &mut Vec<(Path, Value)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                path.push(format!("f:{key}"));
                walk(value, key, path, all);
                path.pop();
            }
        }
        Value::Array(items) if keyed(field).is_some() && !items.is_empty() => {
            for item in items {
                if let Some(segment) = keyed(field).and_then(|keys| element(item, keys)) {
                    path.push(segment);
                    walk(item, "", path, all);
                    path.pop();
                }
            }
        }
        Value::Array(items) if SETS.contains(&field) => {
            for item in items {
                path.push(format!("v:{item}"));
                all.push((path.clone(), item.clone()));
                path.pop();
            }
        }
        _ => all.push((path.clone(), value.clone())),
    }
}

/// A manager's part of the object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) manager: String,
    pub(crate) operation: String,
    pub(crate) subresource: String,
    pub(crate) api_version: String,
    pub(crate) paths: BTreeSet<Path>,
}

pub(crate) fn entries(object: &Value) -> Vec<Entry> {
    let all = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    all.into_iter()
        .flatten()
        .map(|one| {
            let mut paths = BTreeSet::new();
            collect(&one["fieldsV1"], &mut Vec::new(), &mut paths);
            Entry {
                manager: text(one, "manager"),
                operation: text(one, "operation"),
                subresource: text(one, "subresource"),
                api_version: text(one, "apiVersion"),
                paths,
            }
        })
        .collect()
}

fn collect(fields: &Value, path: &mut Path, all: &mut BTreeSet<Path>) {
    for (key, below) in fields.as_object().into_iter().flatten().filter(|(key, _)| *key != ".") {
        path.push(key.clone());
        match below.as_object().is_some_and(|map| map.keys().any(|key| key != ".")) {
            true => collect(below, path, all),
            false => {
                all.insert(path.clone());
            }
        }
        path.pop();
    }
}

pub(crate) fn store(object: &mut Value, entries: &[Entry]) {
    let all: Vec<Value> = entries
        .iter()
        .filter(|entry| !entry.paths.is_empty())
        .map(|entry| {
            let mut fields = json!({});
            for path in &entry.paths {
                let mut at = &mut fields;
                for segment in path {
                    at = &mut at[segment.as_str()];
                    if at.is_null() {
                        *at = json!({});
                    }
                }
            }
            let mut one = json!({"manager": entry.manager, "operation": entry.operation,
                "apiVersion": entry.api_version, "fieldsType": "FieldsV1", "fieldsV1": fields});
            if !entry.subresource.is_empty() {
                one["subresource"] = json!(entry.subresource);
            }
            one
        })
        .collect();
    object["metadata"]["managedFields"] = json!(all);
}

/// As messages spell a path.
pub(crate) fn shown(path: &Path) -> String {
    let mut text = String::new();
    for segment in path {
        match segment.split_at(2) {
            ("f:", name) => text.push_str(&format!(".{name}")),
            ("k:", keys) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap();
                let all: Vec<_> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
                text.push_str(&format!("[{}]", all.join(",")));
            }
            (_, rest) => text.push_str(&format!("[{rest}]")),
        }
    }
    text
}

fn at<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    let mut now = object;
    for segment in path {
        now = match segment.split_at(2) {
            ("f:", name) => now.get(name)?,
            ("k:", keys) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).ok()?;
                let has = |item: &&Value| keys.iter().all(|(k, v)| item.get(k) == Some(v));
                now.as_array()?.iter().find(has)?
            }
            (_, rest) => {
                let wanted: Value = serde_json::from_str(rest).ok()?;
                now.as_array()?.iter().find(|item| **item == wanted)?
            }
        };
    }
    Some(now)
}

fn at_mut<'a>(object: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    let mut now = object;
    for segment in path {
        now = match segment.split_at(2) {
            ("f:", name) => now.get_mut(name)?,
            ("k:", keys) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).ok()?;
                let has = |item: &&mut Value| keys.iter().all(|(k, v)| item.get(k) == Some(v));
                now.as_array_mut()?.iter_mut().find(has)?
            }
            _ => return None,
        };
    }
    Some(now)
}

fn remove(object: &mut Value, path: &[String]) {
    let Some((last, parents)) = path.split_last() else { return };
    let Some(now) = at_mut(object, parents) else { return };
    match last.split_at(2) {
        ("f:", name) => drop(now.as_object_mut().and_then(|map| map.remove(name))),
        ("v:", text) => {
            let wanted: Value = serde_json::from_str(text).unwrap();
            if let Some(items) = now.as_array_mut() {
                items.retain(|item| *item != wanted);
            }
        }
        ("k:", keys) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap();
            if let Some(items) = now.as_array_mut() {
                items.retain(|item| !keys.iter().all(|(k, v)| item.get(k) == Some(v)));
            }
        }
        _ => {}
    }
}

/// Elements of lists of which nothing but their key is left, and maps that are empty, go with their last
/// field.
fn tidy(object: &mut Value, path: &[String]) {
    for length in (1..path.len()).rev() {
        let (parent, last) = (&path[..length - 1], &path[length - 1]);
        let Some(value) = at(object, &path[..length]) else { continue };
        let empty = match last.split_at(2) {
            ("k:", keys) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap();
                value.as_object().is_none_or(|map| map.keys().all(|key| keys.contains_key(key)))
            }
            _ => {
                value.as_object().is_some_and(Map::is_empty)
                    || value.as_array().is_some_and(Vec::is_empty)
            }
        };
        if !empty || parent.is_empty() && last == "f:metadata" {
            return;
        }
        remove(object, &path[..length]);
    }
}

fn merge(into: &mut Value, from: &Value, field: &str) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                match into.get_mut(key) {
                    Some(old) => merge(old, value, key),
                    None => drop(into.insert(key.clone(), value.clone())),
                }
            }
        }
        (Value::Array(into), Value::Array(from)) if keyed(field).is_some() => {
            let keys = keyed(field).unwrap();
            for item in from {
                let same = |old: &&mut Value| element(old, keys) == element(item, keys);
                match into.iter_mut().find(same) {
                    Some(old) => merge(old, item, ""),
                    None => into.push(item.clone()),
                }
            }
        }
        (Value::Array(into), Value::Array(from)) if SETS.contains(&field) => {
            for item in from {
                if !into.contains(item) {
                    into.push(item.clone());
                }
            }
        }
        (into, from) => *into = from.clone(),
    }
}

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
    let before: std::collections::BTreeMap<Path, Value> = leaves(live).into_iter().collect();
    let after: std::collections::BTreeMap<Path, Value> = leaves(object).into_iter().collect();
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

/// RFC 7396.
pub(crate) fn merge_patch(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => drop(into.as_object_mut().unwrap().remove(key)),
            value => merge_patch(&mut into[key.as_str()], value),
        }
    }
}
