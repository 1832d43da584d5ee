//! Who owns which field of an object, from its `managedFields`. Pure.
//!
//! Server-side apply does not make an object exactly what a manifest says: keys that others added and
//! own stay, even when an apply is forced. They are found here and shown as drift.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::key::ObjectKey;

/// Parts of Kubernetes that write into objects as part of running them. What they write outside of
/// `status` (a revision, a node's name) is their work and no drift.
const CONTROL_PLANE: &[&str] = &[
    "cloud-controller-manager",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "k3s",
];
/// Most keys that are named for one object; more are counted by nobody.
pub const EXTRAS_MAX: usize = 50;

/// A key that somebody else added to an object of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extra {
    /// Where: `.data.color`, `.spec.containers[name=web].env`.
    pub path: String,
    /// Who, by the name that they write under.
    pub manager: String,
    /// What stands there, where that may be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// One part of a path (`FieldsV1` in the API's reference).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    /// `f:name`.
    Field(String),
    /// `k:{"name":"web"}`: the element of a list that has these fields.
    Key(String),
    /// `v:"text"`: that very element of a set.
    Element(String),
    /// `i:0`.
    Index(String),
}

type Path = Vec<Segment>;

/// What others than `manager` added to an object, as far as it is theirs alone.
pub fn extras(key: &ObjectKey, live: &Value, manager: &str) -> Vec<Extra> {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    let entries = entries.map(Vec::as_slice).unwrap_or_default();
    let of = |entry: &Value, field: &str| {
        entry.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let (mut ours, mut others) = (BTreeSet::new(), Vec::new());
    for entry in entries.iter().filter(|entry| of(entry, "subresource").is_empty()) {
        let name = of(entry, "manager");
        let Some(fields) = entry.get("fieldsV1").and_then(Value::as_object) else { continue };
        let mut leaves = Vec::new();
        walk(fields, &mut Vec::new(), &mut leaves);
        if name == manager && of(entry, "operation") == "Apply" {
            ours.extend(leaves);
        } else if !CONTROL_PLANE.contains(&name.as_str()) {
            others.extend(leaves.into_iter().map(|path| (path, name.clone())));
        }
    }
    others.sort();
    others.dedup_by(|a, b| a.0 == b.0);
    others
        .into_iter()
        .filter(|(path, _)| !ours.contains(path) && !is_servers_own(path))
        // What is inside of what we own whole, or around it, is part of our wish.
        .filter(|(path, _)| !ours.iter().any(|own| own.starts_with(path)))
        .take(EXTRAS_MAX)
        .filter_map(|(path, manager)| {
            let value = find(live, &path)?;
            let value = (!key.is_secret()).then(|| value.clone());
            Some(Extra { path: Shown(&path).to_string(), manager, value })
        })
        .collect()
}

/// Whether somebody applies under this name to the object.
pub fn is_managed_by(live: &Value, manager: &str) -> bool {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries.is_some_and(|all| {
        all.iter().any(|entry| entry["manager"] == manager && entry["operation"] == "Apply")
    })
}

fn walk(fields: &Map<String, Value>, path: &mut Path, leaves: &mut Vec<Path>) {
    for (name, below) in fields {
        let segment = match name.split_at_checked(2) {
            Some(("f:", rest)) => Segment::Field(rest.to_owned()),
            Some(("k:", rest)) => Segment::Key(rest.to_owned()),
            Some(("v:", rest)) => Segment::Element(rest.to_owned()),
            Some(("i:", rest)) => Segment::Index(rest.to_owned()),
            // `.` is the thing itself: that it is there, not what is in it.
            _ => continue,
        };
        path.push(segment);
        match below.as_object() {
            Some(below) if below.keys().any(|key| key != ".") => walk(below, path, leaves),
            _ => leaves.push(path.clone()),
        }
        path.pop();
    }
}

/// `status` is written by who runs the object; some metadata by the server.
fn is_servers_own(path: &Path) -> bool {
    let field = |at: usize| match path.get(at) {
        Some(Segment::Field(name)) => name.as_str(),
        _ => "",
    };
    match field(0) {
        "status" => true,
        "metadata" => matches!(field(1), "generation" | "resourceVersion" | "managedFields"),
        _ => false,
    }
}

fn find<'a>(value: &'a Value, path: &[Segment]) -> Option<&'a Value> {
    let mut at = value;
    for segment in path {
        at = match segment {
            Segment::Field(name) => at.get(name)?,
            Segment::Index(index) => at.get(index.parse::<usize>().ok()?)?,
            Segment::Element(text) => {
                let wanted: Value = serde_json::from_str(text).ok()?;
                at.as_array()?.iter().find(|item| **item == wanted)?
            }
            Segment::Key(text) => {
                let keys: Map<String, Value> = serde_json::from_str(text).ok()?;
                // A key that was left to its default (a port's protocol) is not in the element.
                let has = |item: &&Value| {
                    keys.iter().all(|(key, want)| item.get(key).is_none_or(|have| have == want))
                };
                at.as_array()?.iter().find(has)?
            }
        };
    }
    Some(at)
}

struct Shown<'a>(&'a [Segment]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in self.0 {
            match segment {
                Segment::Field(name) if name.contains(['.', '/']) => write!(f, "[{name}]")?,
                Segment::Field(name) => write!(f, ".{name}")?,
                Segment::Index(text) | Segment::Element(text) => write!(f, "[{text}]")?,
                Segment::Key(text) => {
                    let keys: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
                    let shown = keys.iter().map(|(key, value)| match value.as_str() {
                        Some(text) => format!("{key}={text}"),
                        None => format!("{key}={value}"),
                    });
                    write!(f, "[{}]", shown.collect::<Vec<_>>().join(","))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_of_others_are_found_and_our_own_are_not() {
        let live = json!({
            "metadata": {"annotations": {"deployment.kubernetes.io/revision": "1", "note": "x"}, "managedFields": [
                {"manager": "trueup", "operation": "Apply", "fieldsV1": {
                    "f:data": {"f:a": {}}, "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:name": {}, "f:image": {}}}}}},
                {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {
                    "f:data": {"f:a": {}, "f:c": {}},
                    "f:metadata": {"f:annotations": {".": {}, "f:note": {}}},
                    "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {"f:tty": {}}}},
                    "f:status": {"f:x": {}}}},
                {"manager": "kube-controller-manager", "operation": "Update", "fieldsV1": {
                    "f:metadata": {"f:annotations": {"f:deployment.kubernetes.io/revision": {}}}}},
                {"manager": "kubelet-of-others", "operation": "Update", "subresource": "status",
                    "fieldsV1": {"f:data": {"f:d": {}}}},
            ]},
            "data": {"a": "1", "c": "extra"},
            "spec": {"containers": [{"name": "web", "image": "i", "tty": true}]},
        });
        let key = ObjectKey::new("", "ConfigMap", Some("shop"), "a");
        let found = extras(&key, &live, "trueup");
        let shown: Vec<_> = found.iter().map(|e| format!("{} {}", e.path, e.manager)).collect();
        assert_eq!(
            shown,
            [
                ".data.c kubectl-edit",
                ".metadata.annotations.note kubectl-edit",
                ".spec.containers[name=web].tty kubectl-edit",
            ]
        );
        assert_eq!(found[0].value, Some(json!("extra")));
        let secret = ObjectKey::new("", "Secret", Some("shop"), "a");
        assert!(extras(&secret, &live, "trueup").iter().all(|extra| extra.value.is_none()));
        assert!(is_managed_by(&live, "trueup"));
        assert!(!is_managed_by(&live, "kubectl-edit"));
    }
}
