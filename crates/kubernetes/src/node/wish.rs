//! Labels and taints of a node as wished. What was set by us is noted on the node, so that what the wish
//! drops goes and what others set stays. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::view::Taint;

/// The label by which NVIDIA's MIG manager cuts the GPUs of a node: when it changes, what uses them ends.
pub const CUTS_GPUS: &str = "nvidia.com/mig.config";
/// The label in which the MIG manager says how far it is: `pending`, `rebooting`, `success`, `failed`.
pub const CUT_STATE: &str = "nvidia.com/mig.config.state";
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
    /// The same in parts.
    pub fields: Vec<NodeField>,
    /// Whether pods that are on the node would have to leave it.
    pub evicts: bool,
    /// Whether the node should be empty first: pods that it has now would leave, would not come there any
    /// more, or would lose their GPUs.
    pub moves_work: bool,
    /// The merge patch, for the node as it was seen and no other.
    pub patch: Value,
}

/// One label or taint that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeField {
    /// `label KEY` or `taint KEY`.
    pub what: String,
    /// What is there; `None`: nothing.
    pub from: Option<String>,
    /// What will be; `None`: nothing.
    pub to: Option<String>,
}

impl NodeField {
    fn line(&self) -> String {
        match (&self.from, &self.to) {
            (None, Some(to)) => format!("{}: > {to}", self.what),
            (Some(from), Some(to)) => format!("{}: {from} > {to}", self.what),
            (Some(from), None) => format!("{}: {from} >", self.what),
            (None, None) => self.what.clone(),
        }
    }
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
    let mut fields = Vec::new();
    let labels = labels(meta, wish, &old, &mut fields);
    let (taints, new) = taints(node, wish, &old, &mut fields);
    let evicts = new.contains("NoExecute");
    let cuts = labels.contains_key(CUTS_GPUS);
    let moves_work = evicts || new.contains("NoSchedule") || cuts;
    if fields.is_empty() && own == old {
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
    let lines = fields.iter().map(NodeField::line).collect();
    Some(NodeChange { lines, fields, evicts, moves_work, patch })
}

fn name(taint: &Taint) -> (String, String) {
    (taint.key.clone(), taint.effect.clone())
}

fn labels(
    meta: &Value,
    wish: &NodeWish,
    old: &Own,
    fields: &mut Vec<NodeField>,
) -> Map<String, Value> {
    let mut patch = Map::new();
    let now = |key: &str| meta.get("labels").and_then(|all| all.get(key)).and_then(Value::as_str);
    for (key, value) in &wish.labels {
        let from = now(key);
        if from == Some(value.as_str()) {
            continue;
        }
        let (from, to) = (from.map(str::to_owned), Some(value.clone()));
        fields.push(NodeField { what: format!("label {key}"), from, to });
        patch.insert(key.clone(), Value::from(value.as_str()));
    }
    for key in old.labels.iter().filter(|key| !wish.labels.contains_key(*key)) {
        if let Some(have) = now(key) {
            let from = Some(have.to_owned());
            fields.push(NodeField { what: format!("label {key}"), from, to: None });
            patch.insert(key.clone(), Value::Null);
        }
    }
    patch
}

/// All taints anew, as the list of them is one field; and the effects of those that the node had not.
fn taints<'a>(
    node: &Value,
    wish: &'a NodeWish,
    old: &Own,
    fields: &mut Vec<NodeField>,
) -> (Option<Vec<Value>>, BTreeSet<&'a str>) {
    let now = node.pointer("/spec/taints").and_then(Value::as_array);
    let now = now.map(Vec::as_slice).unwrap_or_default();
    let named = |value: &Value| {
        let text =
            |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        Taint { key: text("key"), value: text("value"), effect: text("effect") }
    };
    let before = fields.len();
    let mut new = BTreeSet::new();
    let wished: BTreeMap<_, _> = wish.taints.iter().map(|taint| (name(taint), taint)).collect();
    // Those of others stay as they are, with fields that are not known here (`timeAdded`).
    let mut all: Vec<Value> = Vec::new();
    for value in now {
        let taint = named(value);
        match wished.get(&name(&taint)) {
            Some(want) if want.value == taint.value => all.push(value.clone()),
            Some(want) => fields.push(differs(Some(&taint), Some(*want))),
            None if old.taints.contains(&name(&taint)) => {
                fields.push(differs(Some(&taint), None));
            }
            None => all.push(value.clone()),
        }
    }
    for taint in &wish.taints {
        if !all.iter().any(|value| named(value) == *taint) {
            if !now.iter().any(|value| name(&named(value)) == name(taint)) {
                fields.push(differs(None, Some(taint)));
            }
            new.insert(taint.effect.as_str());
            all.push(json!(taint));
        }
    }
    ((fields.len() > before).then_some(all), new)
}

fn differs(from: Option<&Taint>, to: Option<&Taint>) -> NodeField {
    let key = from.or(to).map(|taint| taint.key.as_str()).unwrap_or_default();
    let shown = |taint: Option<&Taint>| taint.map(shown);
    NodeField { what: format!("taint {key}"), from: shown(from), to: shown(to) }
}

/// What stands behind a taint's key.
fn shown(taint: &Taint) -> String {
    match taint.value.as_str() {
        "" => taint.effect.clone(),
        value => format!("{value}:{}", taint.effect),
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
        assert_eq!(first.lines, ["label a: 1 > 2", "label pool: > gpu", "taint gpu: > NoSchedule"]);
        assert!(!first.evicts && first.moves_work);
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
        assert_eq!(last.lines, ["label a: 2 >", "label pool: gpu >", "taint gpu: NoSchedule >"]);
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
        let label = |key: &str| NodeWish {
            labels: BTreeMap::from([(key.to_owned(), "all-1g.10gb".to_owned())]),
            ..NodeWish::default()
        };
        assert!(!change(&node, &label("pool")).unwrap().moves_work);
        assert!(change(&node, &label(CUTS_GPUS)).unwrap().moves_work);
        assert_eq!(change(&node, &NodeWish::default()), None);
    }
}
