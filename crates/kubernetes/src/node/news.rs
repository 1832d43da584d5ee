//! Which changes of nodes are news. Kubelets, and programs beside them, write to nodes all the time, and
//! little of it is for anybody to act on. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::watch::Lens;

/// Begins the names of our own marks.
const OURS: &str = "trueup.io/";
/// Labels that are written anew all the time and say nothing: GPU feature discovery's clock.
const CLOCKS: &[&str] = &["nvidia.com/gfd.timestamp"];

/// Nodes without what no look needs: the images that they have.
pub const NODES: Lens = Lens { name: "nodes", slim, is_news };

fn slim(node: &mut Value) {
    if let Some(status) = node.get_mut("status").and_then(Value::as_object_mut) {
        status.remove("images");
    }
}

fn is_news(old: Option<&Value>, new: Option<&Value>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => what_matters(old) != what_matters(new),
        _ => true,
    }
}

/// What a plan, or whoever looks at a cluster, goes by.
#[derive(PartialEq)]
struct Matters<'a> {
    labels: BTreeMap<&'a str, &'a Value>,
    marks: BTreeMap<&'a str, &'a Value>,
    /// Each type with its status.
    conditions: BTreeSet<(&'a str, &'a str)>,
    rest: [Option<&'a Value>; 6],
}

fn what_matters(node: &Value) -> Matters<'_> {
    let entries = |path: &str| {
        let map = node.pointer(path).and_then(Value::as_object);
        map.into_iter().flatten().map(|(key, value)| (key.as_str(), value))
    };
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    let conditions = conditions.into_iter().flatten();
    Matters {
        labels: entries("/metadata/labels").filter(|(key, _)| !CLOCKS.contains(key)).collect(),
        marks: entries("/metadata/annotations").filter(|(key, _)| key.starts_with(OURS)).collect(),
        conditions: conditions
            .filter_map(|one| Some((one.get("type")?.as_str()?, one.get("status")?.as_str()?)))
            .collect(),
        rest: [
            "/metadata/deletionTimestamp",
            "/spec/unschedulable",
            "/spec/taints",
            "/status/allocatable",
            "/status/capacity",
            "/status/nodeInfo/kubeletVersion",
        ]
        .map(|path| node.pointer(path)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_all_the_time_is_no_news_and_what_a_plan_goes_by_is() {
        let node = json!({
            "metadata": {"name": "g1", "resourceVersion": "1",
                "labels": {"pool": "gpu", "nvidia.com/gfd.timestamp": "1"},
                "annotations": {"cni.example.org/lease": "1", "trueup.io/cordon": "{}"}},
            "spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]},
            "status": {"images": [{"names": ["x"]}], "allocatable": {"cpu": "8"},
                "nodeInfo": {"kubeletVersion": "v1.33.1"}, "conditions": [
                    {"type": "Ready", "status": "True", "lastHeartbeatTime": "1", "message": "a"}]},
        });
        let changed = |path: &str, value: Value| {
            let mut other = node.clone();
            *other.pointer_mut(path).unwrap() = value;
            is_news(Some(&node), Some(&other))
        };
        for noise in [
            "/metadata/resourceVersion",
            "/metadata/labels/nvidia.com~1gfd.timestamp",
            "/metadata/annotations/cni.example.org~1lease",
            "/status/images",
            "/status/conditions/0/lastHeartbeatTime",
            "/status/conditions/0/message",
        ] {
            assert!(!changed(noise, json!("2")), "{noise}");
        }
        for news in [
            "/metadata/labels/pool",
            "/metadata/annotations/trueup.io~1cordon",
            "/spec/taints",
            "/status/allocatable/cpu",
            "/status/nodeInfo/kubeletVersion",
            "/status/conditions/0/status",
        ] {
            assert!(changed(news, json!("2")), "{news}");
        }
        let mut cordoned = node.clone();
        cordoned["spec"]["unschedulable"] = json!(true);
        assert!(is_news(Some(&node), Some(&cordoned)));
        assert!(is_news(None, Some(&node)) && is_news(Some(&node), None));
    }
}
