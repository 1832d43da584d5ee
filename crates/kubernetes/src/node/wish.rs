//! Labels and taints of a node as wished. What was set by us is noted on the node, so that what the wish
//! drops goes and what others set stays. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::view::Taint;

/// The annotation that says which labels and taints are ours.
pub const NODE_WISH: &str = "trueup.io/node";

/// What a node should bear.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeWish {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Taints.
    pub taints: BTreeSet<Taint>,
}

/// What is ours on a node.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Own {
    labels: BTreeSet<String>,
    /// Key and effect, which name a taint.
    taints: BTreeSet<(String, String)>,
}

/// What has to change.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeChange {
    /// In words, one line each.
    pub lines: Vec<String>,
    /// Whether pods that are on the node would have to leave it.
    pub evicts: bool,
    /// The merge patch, for the node as it was seen and no other.
    pub patch: Value,
}

/// Makes a node bear what is wished; `None`: it does. Labels and taints of others that are in the way
/// are overwritten, and named.
pub fn change(node: &Value, wish: &NodeWish) -> Option<NodeChange> {
    let meta = node.get("metadata")?;
    let note = meta.get("annotations").and_then(|all| all.get(NODE_WISH)).and_then(Value::as_str);
    let old: Own = note.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let own = Own {
        labels: wish.labels.keys().cloned().collect(),
        taints: wish.taints.iter().map(name).collect(),
    };
    let mut lines = Vec::new();
    let labels = labels(meta, wish, &old, &mut lines);
    let (taints, evicts) = taints(node, wish, &old, &mut lines);
    if lines.is_empty() && own == old {
        return None;
    }
    let note = match own == Own::default() {
        true => Value::Null,
        false => Value::from(json!(own).to_string()),
    };
    let mut patch = json!({
        "metadata": {
            "resourceVersion": meta.get("resourceVersion"),
            "annotations": {NODE_WISH: note},
        }
    });
    if !labels.is_empty() {
        patch["metadata"]["labels"] = Value::Object(labels);
    }
    if let Some(taints) = taints {
        patch["spec"] = json!({"taints": taints});
    }
    Some(NodeChange { lines, evicts, patch })
}

fn name(taint: &Taint) -> (String, String) {
    (taint.key.clone(), taint.effect.clone())
}

fn labels(meta: &Value, wish: &NodeWish, old: &Own, lines: &mut Vec<String>) -> Map<String, Value> {
    let mut patch = Map::new();
    let now = |key: &str| meta.get("labels").and_then(|all| all.get(key)).and_then(Value::as_str);
    for (key, value) in &wish.labels {
        match now(key) {
            Some(have) if have == value => continue,
            Some(have) => lines.push(format!("label {key}: {have} > {value}")),
            None => lines.push(format!("label {key}: > {value}")),
        }
        patch.insert(key.clone(), Value::from(value.as_str()));
    }
    for key in old.labels.iter().filter(|key| !wish.labels.contains_key(*key)) {
        if let Some(have) = now(key) {
            lines.push(format!("label {key}: {have} >"));
            patch.insert(key.clone(), Value::Null);
        }
    }
    patch
}

/// All taints anew, as the list of them is one field.
fn taints(
    node: &Value,
    wish: &NodeWish,
    old: &Own,
    lines: &mut Vec<String>,
) -> (Option<Vec<Value>>, bool) {
    let now = node.pointer("/spec/taints").and_then(Value::as_array);
    let now = now.map(Vec::as_slice).unwrap_or_default();
    let named = |value: &Value| {
        let text =
            |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        Taint { key: text("key"), value: text("value"), effect: text("effect") }
    };
    let before = lines.len();
    let mut evicts = false;
    let wished: BTreeMap<_, _> = wish.taints.iter().map(|taint| (name(taint), taint)).collect();
    // Those of others stay as they are, with fields that are not known here (`timeAdded`).
    let mut all: Vec<Value> = Vec::new();
    for value in now {
        let taint = named(value);
        match wished.get(&name(&taint)) {
            Some(want) if want.value == taint.value => all.push(value.clone()),
            Some(_) => {}
            None if old.taints.contains(&name(&taint)) => {
                lines.push(format!("taint {}: gone", shown(&taint)));
            }
            None => all.push(value.clone()),
        }
    }
    for taint in &wish.taints {
        if !all.iter().any(|value| named(value) == *taint) {
            lines.push(format!("taint {}", shown(taint)));
            evicts |= taint.effect == "NoExecute";
            all.push(json!(taint));
        }
    }
    ((lines.len() > before).then_some(all), evicts)
}

fn shown(taint: &Taint) -> String {
    match taint.value.as_str() {
        "" => format!("{}:{}", taint.key, taint.effect),
        value => format!("{}={value}:{}", taint.key, taint.effect),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(key: &str, effect: &str) -> Taint {
        Taint { key: key.to_owned(), value: String::new(), effect: effect.to_owned() }
    }

    #[test]
    fn ours_comes_and_goes_and_others_stay() {
        let mut node = json!({"metadata": {"resourceVersion": "7", "labels": {"a": "1", "theirs": "x"}},
            "spec": {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "t"}]}});
        let wish = NodeWish {
            labels: BTreeMap::from([
                ("a".to_owned(), "2".to_owned()),
                ("pool".to_owned(), "gpu".to_owned()),
            ]),
            taints: BTreeSet::from([taint("gpu", "NoSchedule")]),
        };
        let first = change(&node, &wish).unwrap();
        assert_eq!(first.lines, ["label a: 1 > 2", "label pool: > gpu", "taint gpu:NoSchedule"]);
        assert!(!first.evicts);
        assert_eq!(
            first.patch["spec"]["taints"],
            json!([
            {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "t"},
            {"key": "gpu", "effect": "NoSchedule"}])
        );

        node["metadata"]["labels"] = json!({"a": "2", "pool": "gpu", "theirs": "x"});
        node["metadata"]["annotations"] = first.patch["metadata"]["annotations"].clone();
        node["spec"]["taints"] = first.patch["spec"]["taints"].clone();
        assert_eq!(change(&node, &wish), None);

        let last = change(&node, &NodeWish::default()).unwrap();
        assert_eq!(last.lines, ["label a: 2 >", "label pool: gpu >", "taint gpu:NoSchedule: gone"]);
        assert_eq!(last.patch["metadata"]["labels"], json!({"a": null, "pool": null}));
        assert_eq!(last.patch["metadata"]["annotations"][NODE_WISH], Value::Null);
        assert_eq!(last.patch["spec"]["taints"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_taint_that_drives_pods_away_is_told() {
        let node = json!({"metadata": {}, "spec": {}});
        let wish =
            NodeWish { taints: BTreeSet::from([taint("x", "NoExecute")]), ..NodeWish::default() };
        assert!(change(&node, &wish).unwrap().evicts);
        assert_eq!(change(&node, &NodeWish::default()), None);
    }
}
