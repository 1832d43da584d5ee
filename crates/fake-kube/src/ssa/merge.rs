//! Two values made one: as an apply has it, and as a merge patch does.

use serde_json::{Value, json};

use super::path::{SETS, element, keyed};

pub(super) fn merge(into: &mut Value, from: &Value, field: &str) {
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
