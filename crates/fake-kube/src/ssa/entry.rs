//! What `managedFields` says: which manager has which fields.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::path::Path;

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
