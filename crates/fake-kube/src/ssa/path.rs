//! Paths to the fields of an object, as `fieldsV1` spells them: what is there, and what is taken away.

use serde_json::{Map, Value};

/// One part of a path, as `fieldsV1` spells it.
pub(crate) type Path = Vec<String>;

/// Lists whose elements have keys, by the name of the field; all others are one value.
pub(super) const KEYED: &[(&str, &[&str])] = &[
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
pub(super) const SETS: &[&str] = &["finalizers"];

/// What the server writes and nobody owns.
pub(super) const UNOWNED: &[&str] = &[
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

pub(super) fn keyed(field: &str) -> Option<&'static [&'static str]> {
    KEYED.iter().find(|(name, _)| *name == field).map(|(_, keys)| *keys)
}

pub(super) fn element(item: &Value, keys: &[&str]) -> Option<String> {
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

pub(super) fn walk(value: &Value, field: &str, path: &mut Path, all: &mut Vec<(Path, Value)>) {
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

pub(super) fn at<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
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

pub(super) fn at_mut<'a>(object: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
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

pub(super) fn remove(object: &mut Value, path: &[String]) {
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
pub(super) fn tidy(object: &mut Value, path: &[String]) {
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
