//! What a change would change, field by field, and how much that disturbs. Pure.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::key::ObjectKey;

/// Most changes that are named for one object: nobody reads more.
pub const CHANGES_MAX: usize = 100;
/// What stands for a value that must not be shown.
pub const HIDDEN: &str = "(hidden)";

/// How much a change disturbs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub enum Disruption {
    /// Nobody notices.
    #[default]
    None,
    /// Visible, without an interruption.
    Live,
    /// Something running is interrupted: pods are made anew, one after another or at once.
    Restart,
    /// Something is destroyed and made anew.
    Replace,
    /// Something is destroyed.
    Destroy,
}

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Where, as a JSON pointer in which elements of lists go by their name.
    pub path: String,
    /// What is there; `None`: nothing.
    pub from: Option<Value>,
    /// What would be there; `None`: nothing.
    pub to: Option<Value>,
    /// How much changing it disturbs.
    pub disruption: Disruption,
}

/// Metadata that the server writes with every change, or never lets anybody change.
const SERVERS_OWN: &[&str] =
    &["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"];

/// What differs between an object as it is and as it would be. Nothing of `status` is compared.
pub fn changes(key: &ObjectKey, from: &Value, to: &Value) -> Vec<FieldChange> {
    let mut found = Vec::new();
    compare(Some(from), Some(to), &mut String::new(), &mut |path, from, to| {
        if found.len() < CHANGES_MAX {
            let hide = key.is_secret() && is_secret_part(path);
            let shown = |value: Option<&Value>| {
                value.map(|v| if hide { Value::from(HIDDEN) } else { v.clone() })
            };
            let disruption = disruption(key, path, from, to);
            found.push(FieldChange {
                path: path.to_owned(),
                from: shown(from),
                to: shown(to),
                disruption,
            });
        }
    });
    found
}

/// Annotations of a Secret may hold it too (`kubectl.kubernetes.io/last-applied-configuration`).
fn is_secret_part(path: &str) -> bool {
    ["/data", "/stringData", "/metadata/annotations"].iter().any(|part| path.starts_with(part))
}

fn compare<'a>(
    from: Option<&'a Value>,
    to: Option<&'a Value>,
    path: &mut String,
    tell: &mut impl FnMut(&str, Option<&'a Value>, Option<&'a Value>),
) {
    match (from, to) {
        (Some(a), Some(b)) if a == b => {}
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            keys.retain(|key| !is_skipped(path, key));
            for key in keys {
                below(path, key, |path| compare(a.get(key), b.get(key), path, tell));
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => match (named(a), named(b)) {
            (Some(a), Some(b)) => {
                let mut names: Vec<&str> = a.iter().chain(&b).map(|(name, _)| *name).collect();
                names.sort_unstable();
                names.dedup();
                let of = |all: &[(&'a str, &'a Value)], name: &str| {
                    all.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
                };
                for name in names {
                    below(path, name, |path| compare(of(&a, name), of(&b, name), path, tell));
                }
            }
            _ if a.len() == b.len() => {
                for (index, (a, b)) in a.iter().zip(b).enumerate() {
                    below(path, &index.to_string(), |path| {
                        compare(Some(a), Some(b), path, tell);
                    });
                }
            }
            _ => tell(path, from, to),
        },
        (from, to) => tell(path, from, to),
    }
}

fn is_skipped(path: &str, key: &str) -> bool {
    match path {
        "" => key == "status",
        "/metadata" => SERVERS_OWN.contains(&key),
        _ => false,
    }
}

fn below(path: &mut String, key: &str, act: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push('/');
    path.push_str(&key.replace('~', "~0").replace('/', "~1"));
    act(path);
    path.truncate(length);
}

/// The elements of a list by their names, where all have one of their own.
fn named(items: &[Value]) -> Option<Vec<(&str, &Value)>> {
    let of = |item: &Value| item.as_object().map(Map::len).filter(|count| *count > 0);
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        of(item)?;
        let name = item.get("name")?.as_str()?;
        if all.iter().any(|(other, _)| *other == name) {
            return None;
        }
        all.push((name, item));
    }
    (!all.is_empty()).then_some(all)
}

/// Kinds whose pods follow their template.
const WORKLOADS: &[&str] = &["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"];

fn disruption(key: &ObjectKey, path: &str, from: Option<&Value>, to: Option<&Value>) -> Disruption {
    if path.starts_with("/metadata/") {
        return Disruption::None;
    }
    let is_workload = key.group == "apps" && WORKLOADS.contains(&key.kind.as_str());
    if is_workload && path.starts_with("/spec/template/") {
        return Disruption::Restart;
    }
    if is_workload && path == "/spec/replicas" {
        let count = |value: Option<&Value>| value.and_then(Value::as_u64).unwrap_or(1);
        return if count(to) < count(from) { Disruption::Restart } else { Disruption::Live };
    }
    // Whether a template's change moves what runs is not known for kinds of others.
    let custom = key.group.contains('.') && !key.group.ends_with(".k8s.io");
    if custom && path.starts_with("/spec") { Disruption::Restart } else { Disruption::Live }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(key: &ObjectKey, from: &Value, to: &Value) -> Vec<String> {
        changes(key, from, to)
            .into_iter()
            .map(|c| {
                let text = |v: Option<Value>| v.map_or("-".to_owned(), |v| v.to_string());
                format!("{} {} > {} {:?}", c.path, text(c.from), text(c.to), c.disruption)
            })
            .collect()
    }

    #[test]
    fn fields_are_compared_by_name_and_judged() {
        let key = ObjectKey::new("apps", "Deployment", Some("shop"), "front");
        let object = |image: &str, replicas: u32, version: &str| {
            json!({"metadata": {"resourceVersion": version, "labels": {"a/b": version}},
                "spec": {"replicas": replicas, "template": {"spec": {"containers": [
                    {"name": "side", "image": "s"}, {"name": "web", "image": image}]}}},
                "status": {"replicas": replicas}})
        };
        assert_eq!(
            shown(&key, &object("a", 3, "1"), &object("b", 2, "2")),
            [
                r#"/metadata/labels/a~1b "1" > "2" None"#,
                "/spec/replicas 3 > 2 Restart",
                r#"/spec/template/spec/containers/web/image "a" > "b" Restart"#,
            ]
        );
        assert_eq!(
            shown(&key, &object("a", 2, "1"), &object("a", 3, "1")),
            ["/spec/replicas 2 > 3 Live"]
        );
    }

    #[test]
    fn secrets_are_never_shown() {
        let key = ObjectKey::new("", "Secret", Some("shop"), "login");
        let found = shown(&key, &json!({"data": {"p": "eA=="}}), &json!({"data": {"p": "eQ=="}}));
        assert_eq!(found, [r#"/data/p "(hidden)" > "(hidden)" Live"#]);
        let whole = shown(&key, &json!({}), &json!({"stringData": {"p": "y"}}));
        assert_eq!(whole, [r#"/stringData - > "(hidden)" Live"#]);
    }

    #[test]
    fn lists_without_names_go_by_place_or_whole() {
        let key = ObjectKey::new("", "ConfigMap", None, "a");
        assert_eq!(shown(&key, &json!({"a": [1, 2]}), &json!({"a": [1, 3]})), ["/a/1 2 > 3 Live"]);
        assert_eq!(shown(&key, &json!({"a": [1]}), &json!({"a": []})), ["/a [1] > [] Live"]);
    }
}
